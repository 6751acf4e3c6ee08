"""Ring buffer of transitions, and violation-balanced sampling of rows.

Rows are arrays with a leading axis; nothing here knows what they mean, except that
balanced sampling asks which of them violate.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mesa_jax.types import Array, Key, Transition


class Members(NamedTuple):
    """Where the safe (0) and the violating (1) rows lie, each class a ring of slots.

    Rows leave a ring in the order they came, so they leave their class in that order
    too: adding a row costs the same however many there are.
    """

    slots: Array  # [2, capacity] int32
    first: Array  # [2] int32, members that left so far
    held: Array  # [2] int32


class Replay(NamedTuple):
    """A ring: row i of all ever added lies at i modulo the capacity."""

    rows: Transition  # [capacity, ...]
    added: Array  # [] int32, rows ever added
    members: Members


def init(capacity: int, row: Transition) -> Replay:
    """An empty ring for rows like `row` (unbatched)."""
    rows = jax.tree.map(lambda x: jnp.zeros((capacity, *x.shape), x.dtype), row)
    none = jnp.zeros((2,), jnp.int32)
    members = Members(jnp.zeros((2, capacity), jnp.int32), none, none)
    return Replay(rows, jnp.zeros((), jnp.int32), members)


def capacity(replay: Replay) -> int:
    return replay.rows.cost.shape[0]


def size(replay: Replay) -> Array:
    """Rows held, [] int32."""
    return jnp.minimum(replay.added, capacity(replay))


def add(replay: Replay, row: Transition, keep: Array) -> Replay:
    """Adds one row where `keep`; else writes out of range, which is dropped.

    A select over the whole ring would copy it at every step.
    """
    length = capacity(replay)
    slot = replay.added % length
    leaves = keep & (replay.added >= length)
    old, new = ((cost > 0.5).astype(int) for cost in (replay.rows.cost[slot], row.cost))
    first = replay.members.first.at[old].add(leaves.astype(jnp.int32))
    held = replay.members.held.at[old].add(-leaves.astype(jnp.int32))
    end = jnp.where(keep, (first[new] + held[new]) % length, length)
    members = Members(
        slots=replay.members.slots.at[new, end].set(slot, mode="drop"),
        first=first,
        held=held.at[new].add(keep.astype(jnp.int32)),
    )
    at = jnp.where(keep, slot, length)
    rows = jax.tree.map(
        lambda ring, x: ring.at[at].set(x, mode="drop"), replay.rows, row
    )
    return Replay(rows, replay.added + keep.astype(jnp.int32), members)


def fill(replay: Replay, rows: Transition) -> Replay:
    """Adds [n, ...] rows in turn, n at most the capacity."""
    count = rows.cost.shape[0]
    if count > capacity(replay):
        raise ValueError(f"{count} rows do not fit a replay of {capacity(replay)}.")
    keep = jnp.ones((), bool)
    return jax.lax.scan(lambda r, row: (add(r, row, keep), None), replay, rows)[0]


def draw_indices(
    key: Key, cost: Array, count: int, violation_fraction: float = 0.0
) -> Array:
    """Draws `count` row numbers [count] of one dataset, with replacement.

    Args:
      cost: [N] violation indicators of the rows.
      violation_fraction: 0 draws uniformly; else this share of the batch, and of its
        first n rows for every n, comes from violating rows and the rest from safe ones
        (all from one where the other is empty).
    """
    rows = cost.shape[0]
    if violation_fraction == 0.0:
        return jax.random.randint(key, (count,), 0, rows)
    violating = cost > 0.5
    slots = [jnp.argsort(not_mine, stable=True) for not_mine in (violating, ~violating)]
    held = jnp.stack([jnp.sum(~violating), jnp.sum(violating)])
    members = Members(jnp.stack(slots), jnp.zeros_like(held), held)
    return _balanced(key, members, count, violation_fraction)


def sample_rows(
    key: Key, rows: Transition, count: int, violation_fraction: float = 0.0
) -> Transition:
    """Draws [count, ...] of the rows [N, ...] of one dataset (see `draw_indices`)."""
    index = draw_indices(key, rows.cost, count, violation_fraction)
    return jax.tree.map(lambda x: x[index], rows)


def sample_distinct(key: Key, rows: Transition, count: int) -> Transition:
    """Draws [min(count, N), ...] different ones of the rows [N, ...], uniformly."""
    index = jax.random.permutation(key, rows.cost.shape[0])[:count]
    return jax.tree.map(lambda x: x[index], rows)


def sample(
    key: Key, replay: Replay, count: int, violation_fraction: float = 0.0
) -> Transition:
    """Draws [count, ...] of what the ring holds; an empty one gives row 0."""
    if violation_fraction == 0.0:
        held = jnp.maximum(size(replay), 1)
        index = jax.random.randint(key, (count,), 0, held)
    else:
        index = _balanced(key, replay.members, count, violation_fraction)
    return jax.tree.map(lambda x: x[index], replay.rows)


def latest(replay: Replay, count: int) -> Transition:
    """The last `count` rows [count, ...]; the oldest again where fewer are held."""
    age = jnp.minimum(jnp.arange(count)[::-1], jnp.maximum(size(replay) - 1, 0))
    index = (replay.added - 1 - age) % capacity(replay)
    return jax.tree.map(lambda x: x[index], replay.rows)


def _violating_of_first(count: int, fraction: float) -> np.ndarray:
    """Returns how many of the first 0, 1, ..., `count` rows of a batch violate.

    They lie spread out, so that the first rows of a batch are a balanced batch too.
    """
    return np.floor(fraction * np.arange(count + 1) + 0.5).astype(np.int32)


def _balanced(key: Key, members: Members, count: int, fraction: float) -> Array:
    wanted = jnp.asarray(np.diff(_violating_of_first(count, fraction)))
    kind = jnp.where(members.held[wanted] > 0, wanted, 1 - wanted)
    rank = jax.random.randint(key, (count,), 0, jnp.maximum(members.held[kind], 1))
    return members.slots[kind, (members.first[kind] + rank) % members.slots.shape[1]]
