"""Gymnasium environments as bodies: what varies, what violates, and their data.

Extra `gymnasium`. The physics stays in Python, so no compiled program moves such a
body; learning, adaptation and the filter are compiled as for any other. Agents see
observations and actions scaled to [-1, 1]; the user's own functions see the
environment's.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mesa_jax.bridges import needed
from mesa_jax.bridges.gymnasium_spaces import observing, sizes_of, to_box, to_unit
from mesa_jax.domains.base import PhysicsConfig
from mesa_jax.domains.recorded import NoSimulatorError, recorded
from mesa_jax.settings import SettingError
from mesa_jax.system import System
from mesa_jax.types import Array, Domain, DomainSpec, Key, Transition

gymnasium = needed("gymnasium", "gymnasium")


class Family(NamedTuple):
    """Describes a family of bodies."""

    make: Callable[[Any], gymnasium.Env]  # body -> environment
    train: Any  # bodies: a list, or a pytree of arrays [T, ...]
    test: Any
    violates: Callable[[Any, np.ndarray, Any, dict], bool]
    # (observation, action, next_observation, info), all as the environment has them;
    # info also has `terminated`


def bodies_of(family: Any) -> list[Any]:
    """Returns bodies one by one, of a list or of a pytree of arrays [T, ...]."""
    if isinstance(family, list) or type(family) is tuple:
        return list(family)
    leaves = jax.tree.leaves(family)
    counts = {len(x) if np.ndim(x) else 0 for x in leaves}
    if len(counts) != 1 or 0 in counts:
        allowed = "a list, or a pytree of arrays with as many entries each"
        raise SettingError("bodies", family, allowed)
    return [jax.tree.map(lambda x: x[i], family) for i in range(counts.pop())]  # noqa: B023


def maker(family: Family, horizon: int) -> Callable[[str, PhysicsConfig], Domain]:
    """Makes the maker of a family's domain, for `mesa.configure("module:maker")`.

    Args:
      family: of the bodies.
      horizon: steps of an episode, a time limit; that of the environment holds too.
    """

    usual = PhysicsConfig(horizon=horizon)

    def make(tasks: str = "bodies", physics: PhysicsConfig = usual) -> Domain:
        if tasks != "bodies":
            raise SettingError("tasks", tasks, "bodies (the family's own)")
        env = family.make(bodies_of(family.train)[0])
        try:
            sizes = sizes_of(env)
        finally:
            env.close()
        return _domain(DomainSpec("gymnasium", *sizes, horizon=physics.horizon))

    return make


def _domain(spec: DomainSpec) -> Domain:
    """A domain whose state is what was observed; a body is its first observation."""

    def absent(*arguments):
        del arguments
        raise NoSimulatorError(
            "These bodies live in Python, where no compiled program steps them: "
            "collect with bridges.gymnasium_bodies, run with bridges.gymnasium_online."
        )

    names = ("train_tasks", "test_tasks", "step", "solvable", "decision_states")
    return recorded(spec)._replace(
        reset=lambda key, task: task,
        observe=lambda state: state,
        success=lambda transition, episode_return: jnp.zeros((), bool),
        **dict.fromkeys(names, absent),
    )


class Stepped(NamedTuple):
    """Holds what a step of an environment gave; [...] over bodies."""

    reward: Any
    cost: Any  # 1 where it violates
    discount: Any  # 0 where the episode terminated or violates; a time limit does not
    next_observation: Any  # [..., D]
    out_of_time: Any  # bool
    start: Any  # [..., D] what is seen next: of a new episode where one has ended


class Body:
    """Moves one environment, and begins an episode where one ends."""

    def __init__(self, family: Family, body: Any, horizon: int, seed: int):
        self.env, self.horizon, self._violates = family.make(body), horizon, family[3]
        sizes_of(self.env)
        self._observed = observing(self.env.observation_space)
        self.given: Any = None  # the observation as the environment has it
        self.observation = self._begin(seed)  # [D]

    def _begin(self, seed: int | None = None) -> np.ndarray:
        self.given, _ = self.env.reset(seed=seed)
        self.length = 0
        return self._observed(self.given)

    def step(self, action: Array) -> Stepped:
        """Returns what an action [A] in [-1, 1] gave; the episode ends at a violation.

        A step that is not finite comes as it is, and ends the episode.
        """
        box, before = self.env.action_space, self.given
        command = to_box(box, np.clip(action, -1.0, 1.0).reshape(box.shape))
        after, reward, terminated, truncated, info = self.env.step(command)
        info = {**info, "terminated": terminated}
        violates = bool(self._violates(before, command, after, info))
        reached = self._observed(after)
        self.given, self.length = after, self.length + 1
        out_of_time = bool(truncated) or self.length >= self.horizon
        stops = bool(terminated) or violates
        broken = not (np.isfinite(reached).all() and np.isfinite(reward))
        ended = stops or out_of_time or broken
        self.observation = self._begin() if ended else reached
        numbers = (np.float32(x) for x in (reward, violates, not stops))
        return Stepped(*numbers, reached, np.bool_(out_of_time), self.observation)


def seed_of(key: Key) -> int:
    """Returns a seed of an environment."""
    return int(jax.random.bits(key, dtype=jnp.uint32)) >> 1


def collect(
    key: Key,
    system: System,
    family: Family,
    bodies: Any,
    count: int,
    policy: Callable[[Any], Any] | None = None,
) -> Transition:
    """Collects offline transitions of bodies, as `mesa.collect` does.

    Steps that are not finite are left out.

    Args:
      key: consumed.
      system: its `collect` says which random policy acts: "random" or "sticky".
      family: of the bodies.
      bodies: T of them, as `Family` has them.
      count: transitions a body.
      policy: acts in place of the random one: the environment's observation -> its
        action.

    Returns:
      [T, count, ...]

    Raises:
      SettingError: on another collector, or no count.
      FloatingPointError: where more than half of a body's steps are not finite.
    """
    config, spec = system.configuration.collect, system.domain.spec
    if count < 1:
        raise SettingError("count", count, "at least 1")
    if policy is None and config.learns:
        allowed = "random or sticky, or a policy given (an environment is in Python)"
        raise SettingError("collector", config.collector, allowed)
    hold = config.hold if config.collector == "sticky" else 1

    def of_body(key, body):
        seed_key, act_key = jax.random.split(key)
        shape = (2 * count, spec.action_size)
        drawn = np.asarray(jax.random.uniform(act_key, shape, minval=-1.0))
        moving = Body(family, body, spec.horizon, seed_of(seed_key))
        try:
            return _rows(moving, drawn, hold, policy, count)
        finally:
            moving.env.close()

    listed = bodies_of(bodies)
    keys = jax.random.split(key, len(listed))
    rows = [of_body(key, body) for key, body in zip(keys, listed, strict=True)]
    return jax.tree.map(lambda *x: jnp.stack(x), *rows)


def _rows(
    moving: Body, drawn: np.ndarray, hold: int, policy: Any, count: int
) -> Transition:
    """Transitions [count, ...] of one body in the order they were made."""
    rows: list[Transition] = []
    turn = -1  # of what was drawn
    for _ in drawn:
        turn += moving.length % hold == 0
        seen, action = moving.observation, drawn[turn]
        if policy is not None:
            asked = to_unit(moving.env.action_space, policy(moving.given))
            action = asked.ravel().astype(np.float32)
        gave = moving.step(action)
        row = Transition(seen, action, *gave[:4])
        if all(np.isfinite(x).all() for x in row):
            rows.append(row)
        if len(rows) == count:
            return jax.tree.map(lambda *x: np.stack(x), *rows)
    broken = len(drawn) - len(rows)
    raise FloatingPointError(
        f"{broken} of {len(drawn)} steps of a body were not finite"
    )
