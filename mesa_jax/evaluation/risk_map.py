"""Risk on a grid over a plane: the simulator's own, a critic's, and the error."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mesa_jax.evaluation.metrics import squared_error
from mesa_jax.evaluation.truth import DecisionSet, true_risk
from mesa_jax.types import Array, Domain, Key, Plane, Task

MOVES = 64  # simulated to say which way a command moves a body


class Grid(NamedTuple):
    """Holds the cells of a plane's region, row after row from below."""

    states: Array  # [C, 2] their centres
    free: np.ndarray  # [C] bool: outside obstacles
    shape: tuple[int, int]  # cells in y and in x

    def image(self, values) -> np.ndarray:
        """Returns values [..., C] as images [..., Y, X]."""
        return np.reshape(values, (*np.shape(values)[:-1], *self.shape))


def grid(plane: Plane, cells: tuple[int, int]) -> Grid:
    """Returns the cells of a plane's region.

    Args:
      cells: their number in x and in y.
    """
    x0, x1, y0, y1 = plane.region
    axes = (
        low + (high - low) * (np.arange(count) + 0.5) / count
        for (low, high), count in zip(((x0, x1), (y0, y1)), cells, strict=True)
    )
    x, y = (values.ravel() for values in np.meshgrid(*axes))
    hits = [(a <= x) & (x <= b) & (c <= y) & (y <= d) for a, b, c, d in plane.obstacles]
    states = jnp.asarray(np.stack([x, y], 1), jnp.float32)
    return Grid(states, ~np.any(hits, axis=0), cells[::-1])


def truth(
    key: Key,
    domain: Domain,
    task: Task,
    states: Array,
    commands: Array,
    discount: float,
    rollouts: int,
) -> Array:
    """Simulates the risk of commands, two independent halves [2, K, C].

    Args:
      states: [C, D] in which a command is given.
      commands: [K, A] actions; the reference policy acts after them.
      rollouts: of a state and command, in both halves together.
    """

    def one(key, command):
        actions = jnp.broadcast_to(command, (len(states), len(command)))
        asked = DecisionSet(states, actions)
        return true_risk(key, domain, task, asked, discount, rollouts)

    keys = jax.random.split(key, len(commands))
    return jax.vmap(one, out_axes=1)(keys, commands)


def estimates(
    risk: Callable[[Array, Array], Array], observations: Array, commands: Array
) -> Array:
    """Returns a critic's risk [K, C] of commands [K, A].

    Args:
      risk: (observations [C, D], actions [C, A]) -> [C].
      observations: [C, D] of the cells.
      commands: [K, A] actions.
    """

    def of_command(command):
        return risk(
            observations, jnp.broadcast_to(command, (len(observations), len(command)))
        )

    return jax.vmap(of_command)(commands)


def errors(values: np.ndarray, halves: np.ndarray, free: np.ndarray) -> Array:
    """Returns squared errors [K] over free cells, without the truth's noise.

    Args:
      values: [K, C] estimates.
      halves: [2, K, C] of the truth.
      free: [C] bool, the cells that count.
    """
    over = jax.vmap(squared_error, (0, 1))
    return over(jnp.asarray(values[:, free]), halves[:, :, free])


def moves(domain: Domain, commands: Array, task: Task) -> Array:
    """Simulates the mean move [K, 2] of a body at its start, for commands [K, A]."""
    start = jnp.array(domain.spec.plane.start)

    def one(key, command):
        transition = domain.step(key, start, command, task)[1]
        return transition.next_observation - transition.observation

    keys = jax.random.split(jax.random.key(0), MOVES)
    every = jax.vmap(jax.vmap(one, (0, None)), (None, 0))
    return every(keys, commands).mean(1)
