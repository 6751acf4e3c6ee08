"""Does a body lie inside what a prior was trained on? Its encoding tells.

Ours, not the papers'. Encodings of the training bodies' adaptation sets are taken for a
normal distribution; a set is as far out as its Mahalanobis distance, whose unit here is
that of the farthest of twenty training sets.
"""

from typing import NamedTuple

import jax.numpy as jnp

from mesa_jax.types import Array

QUANTILE = 0.95  # of the training sets' own distances: the unit
FLAT = 1e-3  # least variance that counts, of the largest


class Support(NamedTuple):
    """Where the training bodies' encodings lie."""

    mean: Array  # [E]
    whitening: Array  # [E, E]
    unit: Array  # []


def support_of(encodings: Array) -> Support:
    """The support that encodings [N, E] of training bodies' adaptation sets span."""
    mean = jnp.mean(encodings, axis=0)
    variances, axes = jnp.linalg.eigh(jnp.cov(encodings.T))
    least = FLAT * jnp.max(variances)
    support = Support(mean, axes / jnp.sqrt(jnp.maximum(variances, least)), 1.0)
    unit = jnp.quantile(distance(support, encodings), QUANTILE)
    return support._replace(unit=unit)


def distance(support: Support, encodings: Array) -> Array:
    """How far encodings [..., E] lie out, [...]; beyond 1 is outside."""
    centred = (encodings - support.mean) @ support.whitening
    return jnp.linalg.norm(centred, axis=-1) / support.unit
