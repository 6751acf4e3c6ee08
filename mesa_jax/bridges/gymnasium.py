"""Gymnasium: a guard around any environment's `step`; `DomainEnv` of our own domains.

Extra `gymnasium`. Agents keep their code: they propose actions of the environment's
Box, and what is executed, and why, is in `info`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from mesa_jax.bridges import needed
from mesa_jax.bridges.domain_env import DomainEnv
from mesa_jax.bridges.gymnasium_spaces import is_finite_box, to_box, to_unit
from mesa_jax.guard import Guard
from mesa_jax.settings import SettingError
from mesa_jax.types import Array

__all__ = ["DomainEnv", "GuardedEnv", "GuardedVectorEnv"]
gymnasium = needed("gymnasium", "gymnasium")
Box = gymnasium.spaces.Box
Cost = Callable[[np.ndarray, np.ndarray, np.ndarray, dict], Any]
# observation, executed action, next observation, info -> 1 where it violates, else 0


def _require_spaces(env, seen: gymnasium.Space, acts: gymnasium.Space, sizes) -> None:
    """Raises SettingError unless a filter of these sizes fits an environment."""
    if not isinstance(seen, Box) or seen.shape != sizes[:1]:
        allowed = f"a Box of shape {sizes[:1]} (wrappers.FlattenObservation makes one)"
        raise SettingError(f"observation space of {env}", seen, allowed)
    if not is_finite_box(acts) or acts.shape != sizes[1:]:
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


def _told(guard: Guard, proposed, executed, cost, moved=True) -> dict:
    """What `info` gets of the last decision."""
    of = guard.info
    more = {} if cost is None else {"cost": cost}
    more |= {"proposed": proposed, "executed": executed, "risk": of.risk}
    more |= {"recovered": of.recovered & moved, "fell_back": of.fell_back & moved}
    return more | {"novelty": of.novelty}


class GuardedEnv(gymnasium.Wrapper):
    """Passes each proposed action through a guard; what it decides is executed.

    `info` gets `proposed` and `executed`, in the environment's units, `recovered`,
    `risk`, `novelty` and `fell_back` as in `FilterInfo`, and `cost` where it is known.
    An action of the Box that passes reaches the environment as it was.
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
        """Starts an episode."""
        self._seen, info = self.env.reset(**options)
        return self._seen, info

    def step(self, action: Array) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Takes a step; returns what the environment does, with more in `info`.

        Args:
          action: [A] proposed, in the environment's Box.
        """
        box, seen = self.action_space, np.array(self._seen)
        decided = self.guard(seen, to_unit(box, action))
        executed = np.clip(action, box.low, box.high)
        if self.guard.info.recovered or self.guard.info.fell_back:
            executed = to_box(box, decided)
        reached, reward, terminated, truncated, info = self.env.step(executed)
        cost = _cost(self.guard, self._cost, info, seen, executed, reached)
        known = 0.0 if cost is None else cost
        self.guard.observe(reached, known, terminated, reward)
        self._seen = reached
        more = _told(self.guard, action, executed, cost)
        return reached, reward, terminated, truncated, info | more


class GuardedVectorEnv(gymnasium.vector.VectorWrapper):
    """Passes the actions of S environments through a guard of S bodies.

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
        altered = (self.guard.info.recovered | self.guard.info.fell_back)[:, None]
        passed = np.clip(actions, box.low, box.high)
        executed = np.where(altered, to_box(box, decided), passed)
        found, rewards, terminated, truncated, info = self.env.step(executed)
        modes, ended = gymnasium.vector.AutoresetMode, terminated | truncated
        reached, about = np.array(found), info
        if self._mode == modes.SAME_STEP and ended.any():
            reached[ended] = np.stack(list(info["final_obs"][ended]))
            if "cost" in (last := info["final_info"]):
                both = np.where(ended, last["cost"], info.get("cost", 0.0))
                about = info | {"cost": both}
        step, moved = (seen, executed, reached), ~self._reset_next
        cost = _cost(self.guard, self._cost, about, *step) if moved.any() else None
        known = np.where(moved, 0.0 if cost is None else cost, 0.0)
        self.guard.observe(reached, known, terminated, rewards, moved)
        self._seen = found
        self._reset_next = ended & (self._mode == modes.NEXT_STEP)
        cost = None if cost is None else known
        more = _told(self.guard, actions, executed, cost, moved)
        return found, rewards, terminated, truncated, info | more
