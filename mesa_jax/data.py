"""Offline data: how they are made, and those of a random policy.

Data of a learning agent: `collector`.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from mesa_jax import sharding
from mesa_jax.settings import setting, validate
from mesa_jax.simulation import data_episodes
from mesa_jax.types import Array, Domain, Key, Task, Transition


@dataclasses.dataclass(frozen=True)
class CollectConfig:
    """Says who makes the offline data, and how."""

    collector: str = setting(
        "random",
        "random: the domain's generator or uniform actions; sticky: uniform actions, "
        "each held; sac: a learning agent without safety; mixed: a share by sac, the "
        "rest by uniform directions of any size, each held",
        choices=("random", "sticky", "sac", "mixed"),
        flag="collector",
    )
    hold: int = setting(10, "steps a sticky or mixed action is held", "[1, 100_000]")
    sac_share: float = setting(0.5, "of mixed rows, by sac", "[0, 1]")
    calm: float = setting(
        0.25, "share of the others' held actions that are zero", "[0, 1]"
    )
    environments: int = setting(16, "copies of a body that sac steps", "[1, 10_000]")
    updates: int = setting(8, "sac updates for each of their steps", "[0, 10_000]")
    start_steps: int = setting(
        1000, "first transitions of a body, with uniform actions", "[0, 100_000_000]"
    )
    batch_size: int = setting(256, "rows of a sac update", "[1, 1_000_000]")
    at_violation: str = setting(
        "ends",
        "an episode of data ends at a violation, or goes on where physics does (the "
        "published buffers)",
        choices=("ends", "goes_on"),
    )

    def __post_init__(self):
        validate(self)

    @property
    def learns(self) -> bool:
        """Returns whether an agent learns while it collects."""
        return self.collector in ("sac", "mixed")

    @property
    def learning_environments(self) -> int:
        """Returns in how many of the copies of a body the agent acts that learns."""
        share = self.sac_share if self.collector == "mixed" else 1.0
        return round(share * self.environments)


def of_data(domain: Domain, config: CollectConfig) -> Domain:
    """Returns the domain whose episodes end where those of the data do."""
    goes_on = domain.spec.continues and config.at_violation == "goes_on"
    return domain._replace(spec=domain.spec._replace(continues=goes_on))


def varied_action(key: Key, size: int, calm: float) -> Array:
    """Draws an action [A]: zero, or a uniform direction of a size U(0, 1).

    The size is its largest entry.

    Args:
      key: consumed.
      size: A.
      calm: probability of zero.
    """
    direction_key, size_key, calm_key = jax.random.split(key, 3)
    direction = jax.random.uniform(direction_key, (size,), minval=-1.0)
    largest = jnp.abs(direction).max()
    action = direction / largest * jax.random.uniform(size_key)
    return jnp.where(jax.random.bernoulli(calm_key, calm), 0.0, action)


def begins_in_violation(rows: Transition) -> np.ndarray:
    """Returns which rows [T, N] set out from a state that a violation reached.

    Such a state is told by its observation, which two states hardly share.

    Args:
      rows: [T, N, ...], all that were made of T bodies.
    """
    begins = np.zeros(rows.cost.shape, bool)
    for body, violating in enumerate(np.asarray(rows.cost) > 0.5):
        reached = np.asarray(rows.next_observation[body])[violating]
        fallen = {observation.tobytes() for observation in reached}
        seen = np.asarray(rows.observation[body])
        begins[body] = [observation.tobytes() in fallen for observation in seen]
    return begins


PUBLISHED_LENGTH = 4  # transitions that an episode of a published generator makes, or
RANDOM_LENGTH = 15  # one of a random policy, on average: how many are tried at first


def episodes_of(domain: Domain, config: CollectConfig, count: int) -> Callable:
    """Compiles episodes of a random policy that usually hold `count` transitions.

    It takes keys [T] and tasks [T, ...]; it returns transitions [T, E, L, ...], and
    which of them are valid [T, E, L].

    Args:
      domain: has the published generator, or the reference policy, that acts.
      config: says whether actions are held ("sticky"), and where episodes end.
      count: transitions a body.
    """
    domain, sticky = of_data(domain, config), config.collector == "sticky"
    hold = config.hold if sticky else 1
    published = domain.episode is not None and not sticky
    longest = min(RANDOM_LENGTH, domain.spec.horizon)
    episodes = -(-count // (PUBLISHED_LENGTH if published else longest))
    return jax.jit(
        sharding.vmap(lambda k, task: data_episodes(k, domain, task, episodes, hold))
    )


def by_policy(key: Key, make: Callable, tasks: Task, count: int) -> Transition:
    """Collects transitions of bodies by a random policy, episode after episode.

    Args:
      key: consumed.
      make: `episodes_of` so many transitions.
      tasks: [T, ...] bodies.
      count: transitions a body.

    Returns:
      NumPy arrays [T, count, ...] in the order they were made.
    """
    bodies = jax.tree.leaves(tasks)[0].shape[0]

    def join(a, b):
        return jnp.concatenate([a, b], axis=1)

    padded, valid = make(jax.random.split(key, bodies), tasks)
    while (short := int(valid.sum(axis=(1, 2)).min())) < count:
        key = jax.random.fold_in(key, short)
        more, more_valid = make(jax.random.split(key, bodies), tasks)
        padded, valid = jax.tree.map(join, padded, more), join(valid, more_valid)
    padded, valid = sharding.read((padded, valid))
    taken = [
        take_valid(jax.tree.map(lambda x: x[i], padded), valid[i], count)  # noqa: B023
        for i in range(bodies)
    ]
    return jax.tree.map(lambda *x: np.stack(x), *taken)


def take_valid(padded: Transition, valid: Array, count: int) -> Transition | None:
    """Takes the first valid transitions of padded episodes.

    Args:
      padded: [E, L, ...]
      valid: [E, L] bool.
      count: how many are wanted.

    Returns:
      NumPy arrays [count, ...], or None if there are too few.
    """
    index = np.flatnonzero(np.asarray(valid).reshape(-1))[:count]
    if len(index) < count:
        return None
    flat = jax.tree.map(lambda x: np.asarray(x).reshape(-1, *x.shape[2:]), padded)
    return jax.tree.map(lambda x: x[index], flat)
