"""Ring buffer of transitions, and violation-balanced sampling of rows.

Rows are arrays with a leading axis; nothing here knows what they mean, except that
balanced sampling asks which of them violate.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mesa_jax.types import Array, Key, Transition


class Replay(NamedTuple):
    """A ring: row i of all ever added lies at i modulo the capacity."""

    rows: Transition  # [capacity, ...]
    added: Array  # [] int32, rows ever added


def init(capacity: int, row: Transition) -> Replay:
    """An empty ring for rows like `row` (unbatched)."""
    rows = jax.tree.map(lambda x: jnp.zeros((capacity, *x.shape), x.dtype), row)
    return Replay(rows, jnp.zeros((), jnp.int32))


def capacity(replay: Replay) -> int:
    return replay.rows.cost.shape[0]


def size(replay: Replay) -> Array:
    """Rows held, [] int32."""
    return jnp.minimum(replay.added, capacity(replay))


def add(replay: Replay, row: Transition, keep: Array) -> Replay:
    """Adds one row where `keep`; else writes out of range, which is dropped.

    A select over the whole ring would copy it at every step.
    """
    at = jnp.where(keep, replay.added % capacity(replay), capacity(replay))
    rows = jax.tree.map(
        lambda ring, x: ring.at[at].set(x, mode="drop"), replay.rows, row
    )
    return Replay(rows, replay.added + keep.astype(jnp.int32))


def fill(replay: Replay, rows: Transition) -> Replay:
    """A ring that holds [n, ...] rows from its start, n at most its capacity."""
    count = rows.cost.shape[0]
    if count > capacity(replay):
        raise ValueError(f"{count} rows do not fit a replay of {capacity(replay)}.")
    filled = jax.tree.map(lambda ring, x: ring.at[:count].set(x), replay.rows, rows)
    return Replay(filled, jnp.full((), count, jnp.int32))


def draw_indices(
    key: Key, cost: Array, held: Array | int, count: int, violation_fraction: float
) -> Array:
    """Draws `count` indices [count] of the first `held` rows, with replacement.

    Args:
      cost: [N] violation indicators of the rows.
      held: how many rows are real; an empty set gives row 0.
      violation_fraction: 0 draws uniformly; else this share of the batch comes from
        violating rows and the rest from safe ones (uniformly where there is none).
    """
    if violation_fraction == 0.0:
        return jax.random.randint(key, (count,), 0, jnp.maximum(held, 1))
    return _balanced(key, cost, held, count, violation_fraction)


def sample_rows(
    key: Key, rows: Transition, count: int, violation_fraction: float = 0.0
) -> Transition:
    """Draws [count, ...] of the rows [N, ...] of one dataset, with replacement."""
    held = rows.cost.shape[0]
    index = draw_indices(key, rows.cost, held, count, violation_fraction)
    return jax.tree.map(lambda x: x[index], rows)


def sample(
    key: Key, replay: Replay, count: int, violation_fraction: float = 0.0
) -> Transition:
    """Draws [count, ...] of what the ring holds, with replacement."""
    held, cost = size(replay), replay.rows.cost
    index = draw_indices(key, cost, held, count, violation_fraction)
    return jax.tree.map(lambda x: x[index], replay.rows)


def _balanced(
    key: Key, cost: Array, held: Array | int, count: int, fraction: float
) -> Array:
    """Row r of a class is where the running count of that class reaches r + 1."""
    key_any, key_class = jax.random.split(key)
    real = jnp.arange(cost.shape[0]) < held
    violating = real & (cost > 0.5)
    wanted = jnp.arange(count) < round(fraction * count)

    def rows_of(members: Array, uniform: Array) -> tuple[Array, Array]:
        running = jnp.cumsum(members)
        rank = jnp.floor(uniform * running[-1]).astype(running.dtype)
        rank = jnp.minimum(rank, running[-1] - 1)
        return jnp.searchsorted(running, rank + 1), running[-1] > 0

    uniform = jax.random.uniform(key_class, (count,))
    from_violating, some_violate = rows_of(violating, uniform)
    from_safe, some_safe = rows_of(real & ~violating, uniform)
    anywhere = jax.random.randint(key_any, (count,), 0, jnp.maximum(held, 1))
    chosen = jnp.where(wanted, from_violating, from_safe)
    exists = jnp.where(wanted, some_violate, some_safe)
    return jnp.where(exists, chosen, anywhere)
