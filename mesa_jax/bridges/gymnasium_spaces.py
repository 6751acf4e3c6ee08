"""Spaces of Gymnasium as the vectors that agents see. Extra `gymnasium`."""

from collections.abc import Callable
from typing import Any

import numpy as np

from mesa_jax.bridges import needed
from mesa_jax.settings import SettingError
from mesa_jax.types import Array

gymnasium = needed("gymnasium", "gymnasium")
spaces = gymnasium.spaces
UNBOUNDED = 1e6  # a bound of an observation that is none


def sizes_of(env: gymnasium.Env) -> tuple[int, int]:
    """Returns how many numbers an environment's observation and action have.

    Raises:
      SettingError: on a space that is no vector, or an action without bounds.
    """
    seen = spaces.flatten_space(env.observation_space)
    if not isinstance(seen, spaces.Box):
        allowed = "one that flattens to a Box"
        raise SettingError("observation_space", env.observation_space, allowed)
    acts = env.action_space
    if not (isinstance(acts, spaces.Box) and np.isfinite([acts.low, acts.high]).all()):
        raise SettingError("action_space", acts, "a Box with finite bounds")
    return seen.shape[0], acts.low.size


def to_box(box: Any, action: Array) -> np.ndarray:
    """Returns an action [A] in [-1, 1] as one of a Box."""
    share = (np.clip(np.asarray(action, np.float64), -1.0, 1.0) + 1.0) / 2.0
    found = box.low + share.reshape(box.shape) * (box.high - box.low)
    return np.clip(found, box.low, box.high).astype(box.dtype)


def from_box(box: Any, action: Array) -> np.ndarray:
    """Returns an action of a Box as one in [-1, 1], [A]."""
    low, high = box.low.ravel(), box.high.ravel()
    share = (np.asarray(action, np.float64).ravel() - low) / np.maximum(
        high - low, 1e-12
    )
    return np.clip(2.0 * share - 1.0, -1.0, 1.0).astype(np.float32)


def observing(space: Any) -> Callable[[Any], np.ndarray]:
    """Makes `(observation) -> [D]`: what agents see of an observation of a space.

    It is flat, and in [-1, 1] where the space has bounds.
    """
    box = spaces.flatten_space(space)
    ends = np.array([box.low, box.high], np.float64)
    bounded = (np.abs(ends) < UNBOUNDED).all(0) & (ends[0] < ends[1])
    low, high = np.where(bounded, ends, [[-1.0], [1.0]])
    middle, half = (low + high) / 2.0, (high - low) / 2.0

    def observed(observation):
        flat = np.asarray(spaces.flatten(space, observation), np.float64)
        return ((flat - middle) / half).astype(np.float32)

    return observed
