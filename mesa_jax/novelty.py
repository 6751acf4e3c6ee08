"""Does a body lie inside what a prior was trained on? Its encoding tells.

Ours, not the papers'. Encodings of the training bodies' adaptation sets are taken for a
normal distribution; a set is as far out as its Mahalanobis distance. Its unit here is
that of the farthest training set from the *other* training bodies: of B + 1 bodies
drawn alike the new one is the farthest with a probability of 1 / (B + 1), and sets lie
nearer to a cloud that they are part of than those of a new body do.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mesa_jax.types import Array, Key, Transition

FLAT = 1e-3  # least variance that counts, of the largest
SETS = 8  # adaptation sets of a training body


class Novelty(NamedTuple):
    """Says where the training bodies' encodings lie."""

    mean: Array  # [E]
    whitening: Array  # [E, E]
    unit: Array  # []


def sets_of(key: Key, transitions: Transition, count: int) -> Transition:
    """Draws disjoint random sets [sets, count, ...] of one body's transitions.

    They are `SETS`, or as many as there are.

    Args:
      key: consumed.
      transitions: [N, ...] of the body.
      count: transitions a set.
    """
    total = len(transitions.cost)
    sets = max(1, min(SETS, total // count))
    order = jax.random.permutation(key, total)[: sets * count]
    return jax.tree.map(lambda x: x[order].reshape(sets, -1, *x.shape[1:]), transitions)


def encodings(key: Key, encode: Callable, transitions: Transition, count: int) -> Array:
    """Encodes K adaptation sets of `count` transitions of each of B bodies, [B, K, E].

    Args:
      encode: (key, adaptation set [count, ...]) -> encoding [E].
      transitions: [B, N, ...].
    """

    @jax.vmap
    def of_body(key, mine):
        sets_key, read_key = jax.random.split(key)
        sets = sets_of(sets_key, mine, count)
        return jax.vmap(encode)(jax.random.split(read_key, len(sets.cost)), sets)

    return of_body(jax.random.split(key, len(transitions.cost)), transitions)


def fit(encodings: Array) -> Novelty:
    """Fits where training bodies lie, from their encodings.

    Its unit is the distance of the farthest set from the *other* bodies' cloud.

    Args:
      encodings: [B, K, E] of K adaptation sets of B bodies.

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
    """Returns how far encodings lie out, [...]; beyond 1 is outside.

    |W^T (e - mean)| / unit: Mahalanobis distance in the unit that `fit` says.

    Args:
      novelty: of the training bodies.
      encodings: [..., E] e.
    """
    centred = (encodings - novelty.mean) @ novelty.whitening
    return jnp.linalg.norm(centred, axis=-1) / novelty.unit


def warning(method: str, distances: Array | None) -> str:
    """Returns a warning of adaptation sets that lie outside the training bodies, or "".

    Args:
      distances: [S], or None where nothing tells them.
    """
    outside = [] if distances is None else np.flatnonzero(distances > 1.0)
    if not len(outside):
        return ""
    farthest = np.max(distances)
    return (
        f"Warning: {method}: {len(outside)} of {len(distances)} adaptation sets lie "
        f"outside what its prior was trained on (at distances up to {farthest:.1f}; "
        "inside is at most 1); its risk may be wrong there."
    )
