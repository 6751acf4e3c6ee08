"""Bodies of the point robot: what differs between them, and how they are drawn.

A body moves by s' = s + B a + w: B is its gain, w its drift. The distribution
`published` is the released code's (protocol: bodies). Least squares tells B and w from
a few transitions.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mesa_jax.types import Array, Key, Parametrisation, Transition

NOISE_STD = 0.05  # of each step, on both axes


class PointTask(NamedTuple):
    """Describes one body."""

    gain: Array  # [2, 2] B
    drift: Array  # [2] w, units a step


class Distribution(NamedTuple):
    """Says where bodies come from; each sampler draws one."""

    train: Callable[[Key], PointTask]
    test: Callable[[Key], PointTask]


def _diagonal(low: float, high: float) -> Callable[[Key], PointTask]:
    """Each axis is driven by its own action, at a gain U(low, high)."""

    def draw(key):
        gains = jax.random.uniform(key, (2,), minval=low, maxval=high)
        return PointTask(jnp.diag(gains), jnp.zeros(2))

    return draw


_published = _diagonal(0.5, 1.5)


def _flipped(key: Key) -> PointTask:
    """Published gains, each with a random sign."""
    body_key, sign_key = jax.random.split(key)
    body = _published(body_key)
    signs = jax.random.rademacher(sign_key, (2,), float)
    return body._replace(gain=body.gain * signs)


def _blown(key: Key) -> PointTask:
    """Published gains in a steady wind."""
    body_key, drift_key = jax.random.split(key)
    drift = jax.random.uniform(drift_key, (2,), minval=-0.8, maxval=0.8)
    return _published(body_key)._replace(drift=drift)


def _rotated(key: Key) -> PointTask:
    """Published gains, then turned: R diag(b)."""
    body_key, angle_key = jax.random.split(key)
    body = _published(body_key)
    angle = jax.random.uniform(angle_key, minval=-jnp.pi, maxval=jnp.pi)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    turn = jnp.array([[cos, -sin], [sin, cos]])
    return body._replace(gain=turn @ body.gain)


DISTRIBUTIONS = {
    "published": Distribution(_published, _published),
    "flip": Distribution(_flipped, _flipped),
    "wind": Distribution(_blown, _blown),
    "rotation": Distribution(_rotated, _rotated),
    "out_of_support": Distribution(_diagonal(0.5, 1.0), _diagonal(1.5, 2.0)),
}


TURNING = ("flip", "rotation")  # a command may move a body against itself


def identify(transitions: Transition) -> Array:
    """Finds gain and drift [6] of a body in its transitions, by least squares.

    s' - s = B a + w, with the step's noise and a standard normal prior: it is the
    posterior's mean, so that fewer than three transitions give finite numbers.

    Args:
      transitions: [n, ...] of one body.
    """
    actions = transitions.action
    inputs = jnp.concatenate([actions, jnp.ones_like(actions[:, :1])], axis=1)
    moved = transitions.next_observation - transitions.observation
    precision = inputs.T @ inputs + NOISE_STD**2 * jnp.eye(inputs.shape[1])
    found = jnp.linalg.solve(precision, inputs.T @ moved)  # [3, 2]
    return jnp.concatenate([found[:2].T.ravel(), found[2]])


PARAMETRISATION = Parametrisation(
    names=("gain xx", "gain xy", "gain yx", "gain yy", "drift x", "drift y"),
    of=lambda task: jnp.concatenate([task.gain.ravel(), task.drift]),
    identify=identify,
)


def travel_time(task: PointTask, displacement: Array) -> Array:
    """Returns the fewest steps in which a body can make a displacement on average, [].

    Mean velocities that it can hold are B [-1, 1]^2 + w. The time is 1 / s for the
    largest s at which s d is one, thus a = B^-1 (s d - w) an action; infinite if no s >
    0 is. B must be invertible.

    Args:
      task: one body.
      displacement: [2] d.
    """
    columns = jnp.stack([displacement, task.drift], axis=1)
    heading, upwind = jnp.linalg.solve(task.gain, columns).T
    bounds = jnp.stack([upwind - 1.0, upwind + 1.0]) / heading  # of s, by action
    slowest, fastest = jnp.max(bounds.min(0)), jnp.min(bounds.max(0))
    possible = (slowest <= fastest) & (fastest > 0.0)
    return jnp.where(possible, 1.0 / fastest, jnp.inf)


def legs_through(points: Sequence[tuple[float, float]], short: float) -> np.ndarray:
    """Makes straight legs [L, 2] through points; the last one ends `short` of its."""
    legs = np.diff(points, axis=0)
    legs[-1] *= 1.0 - short / np.linalg.norm(legs[-1])
    return legs


def solvable(routes: np.ndarray, horizon: int, task: PointTask) -> Array:
    """Returns whether a body can follow a route within the horizon, [] bool.

    The state *before* the last step must lie at the end of the route.

    Args:
      routes: [R, L, 2] legs.
      horizon: in steps.
      task: one body.
    """
    over_legs = jax.vmap(travel_time, (None, 0))
    times = jax.vmap(over_legs, (None, 0))(task, jnp.asarray(routes, jnp.float32))
    return jnp.any(times.sum(1) <= horizon - 1)
