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
    if not is_finite_box(acts):
        raise SettingError("action_space", acts, "a Box with finite bounds")
    return seen.shape[0], acts.low.size


def is_finite_box(space: spaces.Space) -> bool:
    """Tells whether a space is a Box with finite bounds, and room between them."""
    if not isinstance(space, spaces.Box):
        return False
    bounds = np.array([space.low, space.high])
    return bool(np.isfinite(bounds).all() and (space.low < space.high).all())


def to_unit(box: spaces.Box, action: Array) -> np.ndarray:
    """Returns actions of a Box, clipped to it, as actions in [-1, 1].

    What is not finite becomes NaN.

    Args:
      box: finite.
      action: [..., A]
    """
    low, high = np.array([box.low, box.high], np.float64)
    action = np.where(np.isfinite(action), action, np.nan)
    return np.clip(2.0 * (action - low) / (high - low) - 1.0, -1.0, 1.0)


def to_box(box: spaces.Box, action: Array) -> np.ndarray:
    """Returns actions in [-1, 1] as actions of a Box.

    Args:
      box: finite.
      action: [..., A] in [-1, 1].
    """
    low, high = np.array([box.low, box.high], np.float64)
    scaled = low + (np.asarray(action, np.float64) + 1.0) * (high - low) / 2.0
    return np.clip(scaled, low, high).astype(box.dtype)


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
