"""A body's parameters from its transitions, where its equations of motion are known."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mesa_jax.types import Array

ROUNDS = 20
NOISE_STD = 1e-3  # of an entry of the state reached, in its own units


def least_squares(
    expected: Callable[[Array], Array], observed: Array, mean: Array, std: Array
) -> Array:
    """Finds the parameters [P] that explain what was observed, by Gauss-Newton.

    The most likely ones under a normal prior, so that observations which say little
    give finite numbers:

        argmin over p of |observed - expected(p)|^2 / noise^2 + |(p - mean) / std|^2.

    The noise begins at 1 and halves every round down to `NOISE_STD`: early on the prior
    weighs more, so that a start far off converges.

    Args:
      expected: what is observed [...] under parameters [P]; differentiable.
      observed: [...]
      mean: [P] of the prior.
      std: [P] of the prior.
    """

    def closer(i, found):
        noise = jnp.maximum(0.5**i, NOISE_STD)
        slope = jax.jacfwd(expected)(found).reshape(-1, found.size) / noise
        missed = (observed - expected(found)).ravel() / noise
        precision = slope.T @ slope + jnp.diag(std**-2)
        downhill = slope.T @ missed + (mean - found) / std**2
        return found + jnp.linalg.solve(precision, downhill)

    return jax.lax.fori_loop(0, ROUNDS, closer, mean)
