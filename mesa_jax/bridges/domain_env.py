"""Our domains as Gymnasium environments, for agents from outside; extra `gymnasium`."""

import jax
import numpy as np

from mesa_jax.bridges import needed
from mesa_jax.domains.fault_notation import parse
from mesa_jax.domains.faults import afflict, faulty
from mesa_jax.simulation import checked_step
from mesa_jax.types import Array, Domain, Key, Task

gymnasium = needed("gymnasium", "gymnasium")
Box = gymnasium.spaces.Box


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
