"""Offline data: by a random policy, or by SAC that learns in every body.

The second is how the published buffers were made (MESA's code: SAC without safety,
whose replay is the dataset): the agent learns its task, falls on the way, and goes on
where physics allows.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mesa_jax import equations, replay
from mesa_jax.settings import setting, validate
from mesa_jax.simulation import checked_step, data_episodes, ends_data
from mesa_jax.types import Array, Domain, Key, State, Task, Transition


@dataclasses.dataclass(frozen=True)
class CollectConfig:
    """Says who makes the offline data, and how."""

    collector: str = setting(
        "random",
        "random: the domain's generator or uniform actions; sticky: uniform actions, "
        "each held; sac: a learning agent without safety",
        choices=("random", "sticky", "sac"),
        flag="collector",
    )
    hold: int = setting(10, "steps a sticky action is held", "[1, 100_000]")
    environments: int = setting(16, "copies of a body that sac steps", "[1, 10_000]")
    updates: int = setting(8, "sac updates for each of their steps", "[0, 10_000]")
    start_steps: int = setting(
        1000, "first transitions of a body, with uniform actions", "[0, 100_000_000]"
    )
    batch_size: int = setting(256, "rows of a sac update", "[1, 1_000_000]")

    def __post_init__(self):
        validate(self)


PUBLISHED_LENGTH = 4  # transitions that an episode of a published generator makes, or
RANDOM_LENGTH = 15  # one of a random policy, on average: how many are tried at first


def by_policy(
    key: Key, domain: Domain, config: CollectConfig, tasks: Task, count: int
) -> Transition:
    """Collects transitions of bodies by a random policy, episode after episode.

    Args:
      key: consumed.
      domain: has the published generator, or the reference policy, that acts.
      config: says whether actions are held ("sticky").
      tasks: [T, ...] bodies.
      count: transitions a body.

    Returns:
      NumPy arrays [T, count, ...] in the order they were made.
    """
    bodies, sticky = jax.tree.leaves(tasks)[0].shape[0], config.collector == "sticky"
    hold = config.hold if sticky else 1
    published = domain.episode is not None and not sticky
    longest = min(RANDOM_LENGTH, domain.spec.horizon)
    episodes = -(-count // (PUBLISHED_LENGTH if published else longest))
    make = jax.jit(
        jax.vmap(lambda k, task: data_episodes(k, domain, task, episodes, hold))
    )

    def join(a, b):
        return jnp.concatenate([a, b], axis=1)

    padded, valid = make(jax.random.split(key, bodies), tasks)
    while (short := int(valid.sum(axis=(1, 2)).min())) < count:
        key = jax.random.fold_in(key, short)
        more, more_valid = make(jax.random.split(key, bodies), tasks)
        padded, valid = jax.tree.map(join, padded, more), join(valid, more_valid)
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


class CollectState(NamedTuple):
    """Holds one body's collector (keys are counted, not carried)."""

    task: Task
    learner: State
    bodies: State  # [E, ...]
    length: Array  # [E] of the running episodes
    replay: replay.Replay
    non_finite: Array  # steps left out, not being finite, until the replay was full
    step: Array


def init_collect(
    key: Key, domain: Domain, sac: Any, config: CollectConfig, task: Task, count: int
) -> CollectState:
    """Returns the collector of one body before its first step.

    Args:
      key: consumed.
      domain: where the body moves.
      sac: the task policy (agents.sac).
      config: how many copies of the body are stepped.
      task: one body.
      count: transitions that its replay takes, the first finite ones.
    """
    sac_key, reset_key = jax.random.split(key)
    reset_keys = jax.random.split(reset_key, config.environments)
    spec, zero = domain.spec, jnp.zeros((), jnp.int32)
    number, seen = jnp.zeros(()), jnp.zeros(spec.observation_size)
    row = Transition(seen, jnp.zeros(spec.action_size), number, number, number, seen)
    return CollectState(
        task=task,
        learner=sac.init(sac_key),
        bodies=jax.vmap(domain.reset, (0, None))(reset_keys, task),
        length=jnp.zeros(config.environments, jnp.int32),
        replay=replay.init(count, row),
        non_finite=zero,
        step=zero,
    )


def _advance(domain, key, body, length, action, task):
    """Moves one copy of a body; starts it anew where its episode has ended."""
    step_key, reset_key = jax.random.split(key)
    reached, transition, finite = checked_step(domain, step_key, body, action, task)
    length = length + 1
    out_of_time = length >= domain.spec.horizon
    ended = ends_data(domain, transition) | out_of_time
    fresh = domain.reset(reset_key, task)
    body, length = equations.select(
        ended, (fresh, jnp.zeros_like(length)), (reached, length)
    )
    return body, length, transition, finite


def collect_steps(
    domain: Domain, sac: Any, config: CollectConfig, steps: int
) -> Callable[[Key, CollectState], CollectState]:
    """Makes `chunk(key, state) -> state`: `steps` steps of one body's environments.

    Args:
      domain: where the body moves.
      sac: the task policy's `init`, `sample` and `update` (agents.sac).
      config: copies of the body, updates a step, batch size.
      steps: of a chunk.
    """
    count = config.environments
    advance = jax.vmap(functools.partial(_advance, domain), (0, 0, 0, 0, None))

    def learn(key, learner, memory):
        def update(learner, i):
            draw_key, update_key = jax.random.split(jax.random.fold_in(key, i))
            batch = replay.sample(draw_key, memory, config.batch_size)
            return sac.update(update_key, learner, batch)[0], None

        return jax.lax.scan(update, learner, jnp.arange(config.updates))[0]

    def remember(memory, row):
        """Adds a finite row while there is room: what is kept is never overwritten."""
        transition, finite = row
        room = memory.added < replay.capacity(memory)
        return replay.add(memory, transition, finite & room), room & ~finite

    def step(key, state):
        act_key, uniform_key, move_key, learn_key = jax.random.split(
            jax.random.fold_in(key, state.step), 4
        )
        seen = jax.vmap(domain.observe)(state.bodies)
        actions = sac.sample(act_key, state.learner, seen)
        uniform = jax.random.uniform(uniform_key, actions.shape, minval=-1.0)
        first = state.step * count < config.start_steps
        actions = jnp.where(first, uniform, actions)
        bodies, length, transitions, finite = advance(
            jax.random.split(move_key, count),
            state.bodies,
            state.length,
            actions,
            state.task,
        )
        rows = transitions, finite
        memory, left_out = jax.lax.scan(remember, state.replay, rows)
        ready = ~first & (replay.size(memory) > config.batch_size)
        learned = learn(learn_key, state.learner, memory)
        return state._replace(
            learner=equations.select(ready, learned, state.learner),
            bodies=bodies,
            length=length,
            replay=memory,
            non_finite=state.non_finite + jnp.sum(left_out),
            step=state.step + 1,
        )

    def chunk(key, state):
        return jax.lax.scan(lambda s, _: (step(key, s), None), state, length=steps)[0]

    return chunk


def by_learner(
    init: Callable, chunk: Callable, key: Key, tasks: Task, count: int
) -> Iterator[CollectState]:
    """Yields the collectors [T, ...] of bodies after every chunk, until all are full.

    It ends early where a chunk has added nothing to any: no step of it was finite.

    Args:
      init: (keys [T], tasks) -> collectors; `init_collect` over bodies.
      chunk: (keys [T], collectors) -> collectors; `collect_steps` over bodies.
      key: consumed.
      tasks: [T, ...] bodies.
      count: transitions that a collector takes.
    """
    bodies = jax.tree.leaves(tasks)[0].shape[0]
    init_key, key = jax.random.split(key)
    states = init(jax.random.split(init_key, bodies), tasks)
    keys = jax.random.split(key, bodies)
    held = np.array(states.replay.added)
    while held.min() < count:
        states = chunk(keys, states)
        before, held = held, np.array(states.replay.added)
        yield states
        if (held == before).all():
            return
