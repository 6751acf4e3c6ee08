"""Closed rectangles x0, x1, y0, y1 in a plane."""

import jax
import jax.numpy as jnp

from mesa_jax.types import Array, Key

Rectangle = tuple[float, float, float, float]


def inside(point: Array, rectangles: tuple[Rectangle, ...]) -> Array:
    """Returns whether a point lies in any rectangle, [] bool.

    Args:
      point: [2] x and y.
      rectangles: at least one.
    """
    x0, x1, y0, y1 = jnp.asarray(rectangles).T
    x, y = point
    return jnp.any((x0 <= x) & (x <= x1) & (y0 <= y) & (y <= y1))


def uniform_in(key: Key, rectangles: Array) -> Array:
    """Draws a point in each rectangle, [..., 2].

    Args:
      key: consumed.
      rectangles: [..., 4]
    """
    low, high = rectangles[..., ::2], rectangles[..., 1::2]
    return jax.random.uniform(key, low.shape, minval=low, maxval=high)
