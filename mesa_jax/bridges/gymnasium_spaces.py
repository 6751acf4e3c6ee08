"""Spaces of Gymnasium as the vectors that agents see. Extra `gymnasium`."""

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


def observed(space: Any, observation: Any) -> np.ndarray:
    """Returns an observation as agents see it, [D].

    It is flat, and in [-1, 1] where its space has bounds.
    """
    box = spaces.flatten_space(space)
    flat = np.asarray(spaces.flatten(space, observation), np.float64)
    low, high = box.low.astype(np.float64), box.high.astype(np.float64)
    bounded = (np.abs([low, high]) < UNBOUNDED).all(0) & (low < high)
    middle = np.where(bounded, (low + high) / 2.0, 0.0)
    half = np.where(bounded, (high - low) / 2.0, 1.0)
    return ((flat - middle) / half).astype(np.float32)
