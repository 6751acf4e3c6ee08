"""Gymnasium: a guard around any environment's `step`, and our domains as environments.

Extra `gymnasium`. Agents keep their code: they propose actions of the environment's
Box, and what is executed, and why, is in `info`.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from mesa_jax.bridges import needed
from mesa_jax.domains.fault_notation import parse
from mesa_jax.domains.faults import afflict, faulty
from mesa_jax.guard import Guard
from mesa_jax.settings import SettingError
from mesa_jax.simulation import checked_step
from mesa_jax.types import Array, Domain, Key, Task

gymnasium = needed("gymnasium", "gymnasium")
Box = gymnasium.spaces.Box
Cost = Callable[[np.ndarray, np.ndarray, np.ndarray, dict], Any]
# observation, executed action, next observation, info -> 1 where it violates, else 0


def to_unit(box: Box, action: Array) -> np.ndarray:
    """Returns actions of a Box as actions in [-1, 1], clipped to it.

    Args:
      box: finite.
      action: [..., A]
    """
    low, high = np.array([box.low, box.high], np.float64)
    return np.clip(2.0 * (action - low) / (high - low) - 1.0, -1.0, 1.0)


def to_box(box: Box, action: Array) -> np.ndarray:
    """Returns actions in [-1, 1] as actions of a Box.

    Args:
      box: finite.
      action: [..., A] in [-1, 1].
    """
    low, high = np.array([box.low, box.high], np.float64)
    scaled = low + (np.asarray(action, np.float64) + 1.0) * (high - low) / 2.0
    return np.clip(scaled, low, high).astype(box.dtype)


def _require_spaces(env, seen: gymnasium.Space, acts: gymnasium.Space, sizes) -> None:
    """Raises SettingError unless a filter of these sizes fits an environment."""
    if not isinstance(seen, Box) or seen.shape != sizes[:1]:
        allowed = f"a Box of shape {sizes[:1]} (wrappers.FlattenObservation makes one)"
        raise SettingError(f"observation space of {env}", seen, allowed)
    finite = isinstance(acts, Box) and np.isfinite([acts.low, acts.high]).all()
    if not finite or acts.shape != sizes[1:] or not (acts.low < acts.high).all():
        allowed = f"a Box with finite ends, of shape {sizes[1:]}"
        raise SettingError(f"action space of {env}", acts, allowed)


def _cost(guard: Guard, cost: Cost | None, info: dict, *step) -> Any:
    """Returns a step's cost, by the caller's function or `info`; None: not known."""
    found = info.get("cost") if cost is None else cost(*step, info)
    if found is None and guard.rereading is not None:
        allowed = (
            "given, as a function of (observation, action, next observation, info)"
        )
        raise SettingError("cost", "none, and no info['cost']", allowed)
    return found


class GuardedEnv(gymnasium.Wrapper):
    """Executes what a guard makes of each proposed action.

    `info` gets `proposed` and `executed`, in the environment's units, `recovered`,
    `risk`, `novelty` and `fell_back` as in `FilterInfo`, and `cost` where it is known.
    An action that passes reaches the environment as it was.
    """

    def __init__(self, env: gymnasium.Env, guard: Guard, cost: Cost | None = None):
        """Puts a guard of one body around an environment.

        Args:
          env: with Boxes of the filter's sizes.
          guard: keeps what it has seen over episodes; each environment needs its own.
          cost: (observation, action, next observation, info) -> 0 or 1; None:
            `info["cost"]` says so. A guard that reads its body again takes one.

        Raises:
          SettingError: if the guard does not fit the environment.
        """
        super().__init__(env)
        _require_spaces(env, env.observation_space, env.action_space, guard.sizes)
        if guard.steps.shape != ():
            bodies = len(guard.steps)
            raise SettingError("guard", f"one of {bodies} bodies", "of one body")
        self.guard, self._cost, self._seen = guard, cost, None

    def reset(self, **options) -> tuple[np.ndarray, dict]:
        """Starts an episode; returns the observation [D], and info."""
        self._seen, info = self.env.reset(**options)
        return self._seen, info

    def step(self, action: Array) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Takes a step; returns what the environment does, with more in `info`.

        Args:
          action: [A] proposed, in the environment's Box.
        """
        decided = self.guard(self._seen, to_unit(self.action_space, action))
        told, seen = self.guard.info, self._seen
        executed = np.asarray(action)
        if told.recovered or told.fell_back:
            executed = to_box(self.action_space, decided)
        reached, reward, terminated, truncated, info = self.env.step(executed)
        cost = _cost(self.guard, self._cost, info, seen, executed, reached)
        known = 0.0 if cost is None else cost
        self.guard.observe(reached, known, terminated, reward)
        self._seen = reached
        more = {} if cost is None else {"cost": float(cost)}
        more |= {"proposed": action, "executed": executed}
        more |= {"recovered": bool(told.recovered), "fell_back": bool(told.fell_back)}
        more |= {"risk": float(told.risk), "novelty": float(told.novelty)}
        return reached, reward, terminated, truncated, info | more


class GuardedVectorEnv(gymnasium.vector.VectorWrapper):
    """Executes what a guard of S bodies makes of the actions of S environments.

    `info` gets the arrays [S, ...] that `GuardedEnv` gives one by one. Steps on which
    the environment resets itself are no decisions.
    """

    def __init__(self, env, guard: Guard, cost: Cost | None = None):
        """Puts a guard of S bodies around a vector environment.

        Args:
          env: of S environments, with Boxes of the filter's sizes.
          guard: of S bodies (`TrainedPrior.guard` with `copies`).
          cost: as in `GuardedEnv`, of arrays [S, ...] and returning [S].

        Raises:
          SettingError: if the guard does not fit the environment.
        """
        super().__init__(env)
        spaces = env.single_observation_space, env.single_action_space
        _require_spaces(env, *spaces, guard.sizes)
        if guard.steps.shape != (env.num_envs,):
            allowed = f"of {env.num_envs} bodies"
            raise SettingError("guard", f"one of {guard.steps.shape}", allowed)
        self.guard, self._cost, self._seen = guard, cost, None
        self._mode = env.metadata.get("autoreset_mode")
        self._reset_next = np.zeros(env.num_envs, bool)

    def reset(self, **options) -> tuple[np.ndarray, dict]:
        """Starts episodes; returns observations [S, D], and info."""
        self._seen, info = self.env.reset(**options)
        self._reset_next = np.zeros(self.num_envs, bool)
        return self._seen, info

    def step(self, actions: Array) -> tuple:
        """Takes a step of each; returns what the environment does, more in `info`.

        Args:
          actions: [S, A] proposed, in the environments' Box.
        """
        box, seen = self.single_action_space, np.array(self._seen)
        decided = self.guard(seen, to_unit(box, actions))
        told, moved = self.guard.info, ~self._reset_next
        altered = (told.recovered | told.fell_back)[:, None]
        executed = np.where(altered, to_box(box, decided), actions)
        found, rewards, terminated, truncated, info = self.env.step(executed)
        modes, ended = gymnasium.vector.AutoresetMode, terminated | truncated
        reached, about = np.array(found), info
        if self._mode == modes.SAME_STEP and ended.any():
            reached[ended] = np.stack(list(info["final_obs"][ended]))
            if "cost" in (last := info["final_info"]):
                both = np.where(ended, last["cost"], info.get("cost", 0.0))
                about = info | {"cost": both}
        step = self.guard, self._cost, about, seen, executed, reached
        cost = _cost(*step) if moved.any() else None
        known = np.where(moved, 0.0 if cost is None else cost, 0.0)
        self.guard.observe(reached, known, terminated, rewards, moved)
        self._seen = found
        self._reset_next = ended & (self._mode == modes.NEXT_STEP)
        more = {} if cost is None else {"cost": known}
        more |= {"proposed": actions, "executed": executed, "risk": told.risk}
        more |= {"recovered": told.recovered & moved, "novelty": told.novelty}
        more |= {"fell_back": told.fell_back & moved}
        return found, rewards, terminated, truncated, info | more


class DomainEnv(gymnasium.Env):
    """Plays one body of a mesa_jax domain, for agents from outside.

    Actions are in [-1, 1]; `info` has `cost`, and `is_success` where an episode ends.
    """

    def __init__(self, domain: Domain, body: Task, fault: str = "", key=None):
        """Makes an environment of a body.

        Args:
          domain: `system.domain`, or one of your own.
          body: as one of `domain.test_tasks`, without a leading axis.
          fault: that strikes it, as in `mesa_jax.faulty`; onsets count the steps of
            all episodes together.
          key: consumed, where a fault draws its onset; None: that of seed 0.

        Raises:
          SettingError: on a fault that the domain does not have.
        """
        if fault:
            faults = parse(fault, domain.changes)
            domain = faulty(domain, faults)
            body = afflict(faults, jax.random.key(0) if key is None else key, body)
        self.body, self.steps, self._spec = body, 0, domain.spec
        size, acts = domain.spec.observation_size, domain.spec.action_size
        self.observation_space = Box(-np.inf, np.inf, (size,), np.float32)
        self.action_space = Box(-1.0, 1.0, (acts,), np.float32)
        self._state, self._length, self._return = None, 0, 0.0

        @jax.jit
        def start(key, task, steps):
            state = domain.reset(key, domain.task_at(task, steps))
            return state, domain.observe(state)

        @jax.jit
        def move(key, state, action, task, steps, so_far):
            task = domain.task_at(task, steps)
            state, made, finite = checked_step(domain, key, state, action, task)
            success = domain.success(made, so_far + made.reward)
            return state, made, success & finite & (made.cost < 0.5)

        self._start, self._move = start, move

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        """Starts an episode; returns the observation [D], and info."""
        super().reset(seed=seed)
        self._length, self._return = 0, 0.0
        self._state, seen = self._start(self._key(), self.body, self.steps)
        return np.array(seen, np.float32), {}

    def step(self, action: Array) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Takes a step of the body.

        Args:
          action: [A] in [-1, 1].
        """
        given = np.asarray(action, np.float32), self.body, self.steps, self._return
        self._state, made, success = self._move(self._key(), self._state, *given)
        self.steps, self._length = self.steps + 1, self._length + 1
        self._return += float(made.reward)
        terminated = bool(made.discount == 0.0)
        truncated = not terminated and self._length >= self._spec.horizon
        info = {"cost": float(made.cost)}
        if terminated or truncated:
            info["is_success"] = bool(success)
        seen = np.array(made.next_observation, np.float32)
        return seen, float(made.reward), terminated, truncated, info

    def _key(self) -> Key:
        return jax.random.key(int(self.np_random.integers(2**31)))
