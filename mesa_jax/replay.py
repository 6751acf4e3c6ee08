"""Ring buffer of transitions, and violation-balanced sampling.

Nothing here knows what transitions mean, except that balanced sampling asks which of
them violate.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mesa_jax.types import Array, Key, Transition


class Members(NamedTuple):
    """Lists where safe (0) and violating (1) transitions lie, as rings of slots.

    Transitions leave the replay in the order they came, so they leave their class in
    that order too: adding one costs the same however many there are.
    """

    slots: Array  # [2, capacity] int32
    first: Array  # [2] int32, members that left so far
    held: Array  # [2] int32


class Replay(NamedTuple):
    """Holds the last transitions; number i of all ever added lies at i % capacity."""

    rows: Transition  # [capacity, ...]
    added: Array  # [] int32, transitions ever added
    members: Members


def init(capacity: int, transition: Transition) -> Replay:
    """Makes an empty replay.

    Args:
      capacity: transitions that it holds at most.
      transition: an unbatched one, of which only shapes and dtypes matter: [D], [A],
        [].
    """
    rows = jax.tree.map(lambda x: jnp.zeros((capacity, *x.shape), x.dtype), transition)
    none = jnp.zeros((2,), jnp.int32)
    members = Members(jnp.zeros((2, capacity), jnp.int32), none, none)
    return Replay(rows, jnp.zeros((), jnp.int32), members)


def capacity(replay: Replay) -> int:
    """Returns how many transitions a replay can hold."""
    return replay.rows.cost.shape[0]


def size(replay: Replay) -> Array:
    """Returns how many transitions a replay holds, [] int32."""
    return jnp.minimum(replay.added, capacity(replay))


def add(replay: Replay, transition: Transition, keep: Array) -> Replay:
    """Adds one transition where `keep`; else writes out of range, which is dropped.

    A select over the whole ring would copy it at every step.

    Args:
      replay: to be added to.
      transition: unbatched: [D], [A], [].
      keep: [] bool.
    """
    length = capacity(replay)
    slot = replay.added % length
    leaves = keep & (replay.added >= length)
    old = (replay.rows.cost[slot] > 0.5).astype(int)  # the class that one leaves
    new = (transition.cost > 0.5).astype(int)  # the class that this one joins
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
        lambda ring, x: ring.at[at].set(x, mode="drop"), replay.rows, transition
    )
    return Replay(rows, replay.added + keep.astype(jnp.int32), members)


def fill(replay: Replay, transitions: Transition) -> Replay:
    """Adds transitions in turn.

    Args:
      replay: to be added to.
      transitions: [n, ...], n at most the capacity.

    Raises:
      ValueError: if they do not fit.
    """
    count = transitions.cost.shape[0]
    if count > capacity(replay):
        room = capacity(replay)
        raise ValueError(f"{count} transitions do not fit a replay of {room}.")
    keep = jnp.ones((), bool)
    return jax.lax.scan(lambda r, x: (add(r, x, keep), None), replay, transitions)[0]


def draw_indices(
    key: Key, cost: Array, count: int, violation_fraction: float = 0.0
) -> Array:
    """Draws places [count] of one dataset, with replacement.

    Args:
      key: consumed.
      cost: [N] violation indicators of the transitions.
      count: how many are drawn.
      violation_fraction: 0 draws uniformly; else this share of the batch, and of its
        first n places for every n, is of violating transitions and the rest of safe
        ones (all of one kind where there is none of the other).
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
    key: Key, transitions: Transition, count: int, violation_fraction: float = 0.0
) -> Transition:
    """Draws transitions [count, ...] of one dataset, with replacement.

    Args:
      key: consumed.
      transitions: [N, ...]
      count: how many are drawn.
      violation_fraction: as in `draw_indices`.
    """
    index = draw_indices(key, transitions.cost, count, violation_fraction)
    return jax.tree.map(lambda x: x[index], transitions)


def sample_distinct(key: Key, transitions: Transition, count: int) -> Transition:
    """Draws min(count, N) different transitions of one dataset, uniformly.

    Args:
      key: consumed.
      transitions: [N, ...]
      count: how many are drawn, or all if fewer.
    """
    index = jax.random.permutation(key, transitions.cost.shape[0])[:count]
    return jax.tree.map(lambda x: x[index], transitions)


def sample(
    key: Key, replay: Replay, count: int, violation_fraction: float = 0.0
) -> Transition:
    """Draws transitions [count, ...] that a replay holds; an empty one gives number 0.

    Args:
      key: consumed.
      replay: to be drawn from.
      count: how many are drawn.
      violation_fraction: as in `draw_indices`.
    """
    if violation_fraction == 0.0:
        held = jnp.maximum(size(replay), 1)
        index = jax.random.randint(key, (count,), 0, held)
    else:
        index = _balanced(key, replay.members, count, violation_fraction)
    return jax.tree.map(lambda x: x[index], replay.rows)


def latest(replay: Replay, count: int) -> Transition:
    """Returns the last transitions [count, ...], oldest first.

    Where fewer are held, the oldest comes again and again.
    """
    age = jnp.minimum(jnp.arange(count)[::-1], jnp.maximum(size(replay) - 1, 0))
    index = (replay.added - 1 - age) % capacity(replay)
    return jax.tree.map(lambda x: x[index], replay.rows)


def _violating_of_first(count: int, fraction: float) -> np.ndarray:
    """Returns how many of the first 0, 1, ..., `count` rows of a batch violate.

    They lie spread out, so that the first rows of a batch are a balanced batch too.
    """
    return np.floor(fraction * np.arange(count + 1) + 0.5).astype(np.int32)


def _balanced(key: Key, members: Members, count: int, fraction: float) -> Array:
    """Draws slots [count], a share `fraction` of them of violating transitions.

    `members` are two rings of slots: of class k, the transitions held are numbers
    first[k], ..., first[k] + held[k] - 1, modulo the length of the ring. A number
    (rank) is drawn uniformly among those held, and its slot looked up.
    """
    wanted = jnp.asarray(np.diff(_violating_of_first(count, fraction)))
    kind = jnp.where(members.held[wanted] > 0, wanted, 1 - wanted)
    rank = jax.random.randint(key, (count,), 0, jnp.maximum(members.held[kind], 1))
    return members.slots[kind, (members.first[kind] + rank) % members.slots.shape[1]]
