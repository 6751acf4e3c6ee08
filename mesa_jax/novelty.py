"""Does a body lie inside what a prior was trained on? Its encoding tells.

Ours, not the papers'. Encodings of the training bodies' adaptation sets are taken for a
normal distribution; a set is as far out as its Mahalanobis distance. Its unit here is
that of the farthest training set from the *other* training bodies: of B + 1 bodies
drawn alike the new one is the farthest with a probability of 1 / (B + 1), and sets lie
nearer to a cloud that they are part of than those of a new body do.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mesa_jax.types import Array

FLAT = 1e-3  # least variance that counts, of the largest


class Novelty(NamedTuple):
    """Where the training bodies' encodings lie."""

    mean: Array  # [E]
    whitening: Array  # [E, E]
    unit: Array  # []


def fit(encodings: Array) -> Novelty:
    """The support that encodings [B, K, E] span: K adaptation sets of B bodies.

    Raises:
      ValueError: if there is but one body.
    """
    count = len(encodings)
    if count < 2:
        raise ValueError(f"A support takes two bodies or more, got {count}.")

    def left_out(i):
        others = encodings[(i + 1 + jnp.arange(count - 1)) % count]
        return distance(_cloud(others), encodings[i])

    farthest = jnp.max(jax.vmap(left_out)(jnp.arange(count)))
    return _cloud(encodings)._replace(unit=farthest)


def _cloud(encodings: Array) -> Novelty:
    """Mean and whitening of encodings [..., E]; distances in standard deviations."""
    encodings = encodings.reshape(-1, encodings.shape[-1])
    variances, axes = jnp.linalg.eigh(jnp.cov(encodings.T))
    least = FLAT * jnp.max(variances)
    whitening = axes / jnp.sqrt(jnp.maximum(variances, least))
    return Novelty(jnp.mean(encodings, axis=0), whitening, jnp.ones(()))


def distance(novelty: Novelty, encodings: Array) -> Array:
    """How far encodings [..., E] lie out, [...]; beyond 1 is outside."""
    centred = (encodings - novelty.mean) @ novelty.whitening
    return jnp.linalg.norm(centred, axis=-1) / novelty.unit
