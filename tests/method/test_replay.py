"""The ring and the sampling, with the row's number in every field of a row."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mesa_jax import replay
from tests.worlds import (
    added_rows,
    numbered,
    numbers_beside_cost,
    numbers_of,
    violating,
)

sample = jax.jit(replay.sample, static_argnums=(2, 3))
sample_rows = jax.jit(replay.sample_rows, static_argnums=(2, 3))


@jax.jit
def added(ring, numbers, keep):
    def add(ring, step):
        number, kept = step
        return replay.add(ring, numbered(number), kept), None

    return jax.lax.scan(add, ring, (numbers, keep))[0]


def ring_of(capacity, numbers):
    numbers = jnp.asarray(numbers, jnp.float32)
    ring = replay.init(capacity, numbered(0))
    return added(ring, numbers, jnp.ones(len(numbers), bool))


def test_an_empty_ring_has_room_and_holds_nothing():
    ring = replay.init(4, numbered(0))
    assert (replay.capacity(ring), replay.size(ring)) == (4, 0)


def test_rows_stay_aligned_and_the_oldest_are_overwritten():
    ring = ring_of(4, [1, 2, 3, 4, 5, 6])  # 5 and 6 take the places of 1 and 2
    np.testing.assert_array_equal(numbers_of(ring.rows), [5, 6, 3, 4])
    assert (replay.size(ring), ring.added) == (4, 6)


def test_a_row_that_is_not_kept_leaves_the_ring():
    keep = jnp.array([True, False, True, False, False])
    ring = added(replay.init(4, numbered(0)), jnp.arange(1.0, 6.0), keep)
    np.testing.assert_array_equal(numbers_of(ring.rows)[:2], [1, 3])
    assert ring.added == 2
    untouched = added(ring, jnp.arange(7.0, 12.0), jnp.zeros(5, bool))
    jax.tree.map(np.testing.assert_array_equal, ring, untouched)


@pytest.mark.parametrize(
    ("last", "held"), [(1, {1}), (3, {1, 2, 3}), (11, {6, 7, 8, 9, 10, 11})]
)
def test_sampling_draws_every_held_row_and_no_other(last, held):
    ring = ring_of(6, range(1, last + 1))
    batch = sample(jax.random.key(0), ring, 300)
    assert set(numbers_of(batch)) == held


def test_sampling_is_uniform():
    ring = ring_of(8, [1, 2, 3, 4])
    batch = sample(jax.random.key(0), ring, 4000)
    counts = collections.Counter(numbers_of(batch).tolist())
    deviation = np.sqrt(4000 * 0.25 * 0.75)
    assert all(abs(counts[i] - 1000) < 4 * deviation for i in (1, 2, 3, 4))


def test_filling_holds_the_rows_from_the_start_on():
    ring = replay.fill(replay.init(6, numbered(0)), numbered([1, 2, 3]))
    assert replay.size(ring) == 3
    assert set(numbers_of(sample(jax.random.key(0), ring, 100))) == {1, 2, 3}
    more = added(ring, jnp.arange(4.0, 9.0), jnp.ones(5, bool))  # 7 and 8 wrap
    np.testing.assert_array_equal(numbers_of(more.rows), [7, 8, 3, 4, 5, 6])


def test_a_filling_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="7 transitions do not fit a replay of 6"):
        replay.fill(replay.init(6, numbered(0)), numbered(range(7)))


COST = [0, 1, 0, 0, 1, 0, 0, 0]  # rows 1 and 4 violate


@pytest.mark.parametrize(("fraction", "count"), [(0.25, 7), (0.3, 10), (0.9, 7)])
def test_balanced_sampling_gives_exactly_its_share_of_violations(fraction, count):
    keys = jax.random.split(jax.random.key(0), 20)
    batches = jax.vmap(lambda key: sample_rows(key, violating(COST), count, fraction))(
        keys
    )
    np.testing.assert_array_equal(batches.cost.sum(-1), round(fraction * count))


@pytest.mark.parametrize("fraction", [0.05, 0.25, 0.3, 0.5, 0.9])
def test_the_first_rows_of_a_balanced_batch_are_balanced(fraction):
    cost = sample_rows(jax.random.key(4), violating(COST), 256, fraction).cost
    first = np.arange(1, 257)
    assert abs(np.cumsum(cost) - fraction * first).max() <= 0.5


def test_balanced_sampling_reaches_every_row_of_a_class_equally():
    batch = sample_rows(jax.random.key(0), violating(COST), 4800, 0.5)
    counts = np.bincount(numbers_beside_cost(batch), minlength=8)
    expected = np.where(COST, 2400 / 2, 2400 / 6)
    assert (abs(counts - expected) < 4 * np.sqrt(expected)).all()


def test_balanced_rows_stay_aligned():
    batch = sample_rows(jax.random.key(0), violating(COST), 50, 0.3)
    drawn = numbers_beside_cost(batch)
    np.testing.assert_array_equal(batch.cost, np.asarray(COST)[drawn])


@pytest.mark.parametrize("cost", [[0, 0, 0, 0], [1, 1, 1, 1]])
def test_balanced_sampling_is_uniform_where_a_class_is_empty(cost):
    batch = sample_rows(jax.random.key(0), violating(cost), 2000, 0.3)
    counts = np.bincount(numbers_beside_cost(batch), minlength=4)
    assert (abs(counts - 500) < 4 * np.sqrt(500)).all()


def test_balanced_sampling_draws_only_held_rows():
    ring = replay.fill(replay.init(8, numbered(0)), violating([0, 1, 0, 0]))
    unheld = ring._replace(rows=violating([0, 1, 0, 0, 1, 0, 1, 1]))
    batch = sample(jax.random.key(0), unheld, 500, 0.5)
    assert set(numbers_beside_cost(batch)) == {0, 1, 2, 3}
    assert batch.cost.sum() == 250


@jax.jit
def drawn_after_each(ring, costs, keep, keys):
    """Balanced batches [N, B] of a ring after each of N numbered rows."""

    def add(ring, step):
        number, cost, kept, key = step
        row = numbered(number)._replace(cost=cost)
        ring = replay.add(ring, row, kept)
        return ring, replay.sample(key, ring, 200, 0.5)

    numbers = jnp.arange(costs.shape[0], dtype=jnp.float32)
    return jax.lax.scan(add, ring, (numbers, costs, keep, keys))[1]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_balanced_sampling_forgets_rows_that_were_overwritten(share):
    rng, count = np.random.default_rng(0), 100
    costs, keep = rng.random(count) < share, rng.random(count) < 0.7
    keep[0] = True
    batches = drawn_after_each(
        replay.init(6, numbered(0)),
        jnp.asarray(costs, jnp.float32),
        jnp.asarray(keep),
        jax.random.split(jax.random.key(0), count),
    )
    held, of_both = collections.deque(maxlen=6), 0
    for i, drawn in enumerate(numbers_beside_cost(batches)):
        if keep[i]:
            held.append(i)
        violate = {n for n in held if costs[n]}
        safe = set(held) - violate
        assert set(drawn[::2]) == (violate or safe)  # a half of them is asked for
        assert set(drawn[1::2]) == (safe or violate)
        of_both += bool(violate) and bool(safe)
    assert of_both > 10


def test_rings_sample_alone_under_vmap():
    costs = jnp.array([COST, [0] * 8, [0, 0, 1, 0, 0, 0, 0, 1]], jnp.float32)
    keep = jnp.arange(8) < jnp.array([8, 5, 2])[:, None]
    rings = jax.vmap(lambda c, k: added_rows(replay.init(8, numbered(0)), c, k))(
        costs, keep
    )
    keys = jax.random.split(jax.random.key(0), 3)

    @jax.jit
    def draw(keys, rings):
        return jax.vmap(lambda key, ring: replay.sample(key, ring, 200, 0.25))(
            keys, rings
        )

    batches = draw(keys, rings)
    np.testing.assert_array_equal(batches.cost.sum(-1), [50, 0, 0])
    drawn = [set(numbers_beside_cost(batches)[i]) for i in range(3)]
    assert drawn == [set(range(8)), set(range(5)), {0, 1}]


@pytest.mark.parametrize("fraction", [0.0, 0.5])
def test_an_empty_ring_gives_row_zero(fraction):
    ring = replay.init(3, numbered(0))
    stale = ring._replace(rows=violating([0, 1, 1]))
    batch = sample(jax.random.key(0), stale, 20, fraction)
    np.testing.assert_array_equal(numbers_beside_cost(batch), 0)


# The latest rows

latest = jax.jit(replay.latest, static_argnums=1)


@pytest.mark.parametrize(
    ("last", "count", "expected"),
    [
        (3, 2, [2, 3]),
        (3, 3, [1, 2, 3]),
        (3, 5, [1, 1, 1, 2, 3]),  # fewer than asked for: the oldest again
        (1, 3, [1, 1, 1]),
        (6, 6, [1, 2, 3, 4, 5, 6]),
        (8, 3, [6, 7, 8]),  # 7 and 8 lie at the front
        (11, 6, [6, 7, 8, 9, 10, 11]),
        (12, 1, [12]),
        (14, 9, [9, 9, 9, 9, 10, 11, 12, 13, 14]),  # more than the ring holds
    ],
)
def test_the_latest_rows_come_in_the_order_they_were_added(last, count, expected):
    ring = ring_of(6, range(1, last + 1))
    np.testing.assert_array_equal(numbers_of(latest(ring, count)), expected)


def test_the_latest_rows_are_those_that_were_kept():
    keep = jnp.array([True, False, True, True, False, False])
    ring = added(replay.init(2, numbered(0)), jnp.arange(1.0, 7.0), keep)
    np.testing.assert_array_equal(numbers_of(latest(ring, 2)), [3, 4])


def test_every_ring_has_latest_rows_of_its_own_under_vmap():
    keep = jnp.arange(8) < jnp.array([8, 5, 2])[:, None]
    empty, numbers = replay.init(4, numbered(0)), jnp.arange(1.0, 9.0)
    rings = jax.vmap(lambda kept: added(empty, numbers, kept))(keep)
    rows = jax.vmap(lambda ring: replay.latest(ring, 3))(rings)
    expected = [[6, 7, 8], [3, 4, 5], [1, 1, 2]]
    np.testing.assert_array_equal(numbers_of(rows), expected)
