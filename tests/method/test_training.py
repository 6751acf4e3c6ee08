"""The phases' pieces: sampled tasks, held-out choice, keys."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mesa_jax.keys import Stage, stage_key
from mesa_jax.training import Sizes, init_meta_training, meta_training, sample_tasks
from mesa_jax.types import MetaLearner, Prior, Transition

TASKS, ROWS = 6, 10


def numbered_rows() -> Transition:
    """Rows [T, N] that hold 100 task + row in every field; rows 8 and 9 violate."""
    number = 100.0 * jnp.arange(TASKS)[:, None] + jnp.arange(ROWS)
    cost = jnp.broadcast_to(jnp.arange(ROWS) >= 8, number.shape).astype(jnp.float32)
    vector = number[..., None] * jnp.ones(2)
    return Transition(vector, vector[..., :1], number, cost, number, vector)


def numbers_of(batch: Transition):
    """Tasks and rows [T, B], once all fields agree on them."""
    number = np.asarray(batch.reward)
    np.testing.assert_array_equal(batch.discount, number)
    np.testing.assert_array_equal(batch.cost, number % 100 >= 8)
    for field in (batch.observation, batch.action, batch.next_observation):
        np.testing.assert_array_equal(
            field, np.broadcast_to(number[..., None], field.shape)
        )
    return number // 100, number % 100


@functools.cache
def sampled(fraction):
    """200 task batches and the tasks that they say they are of."""
    sizes = Sizes(num_tasks=4, support=5, query=8)
    keys = jax.random.split(jax.random.key(0), 200)
    draw = jax.vmap(lambda key: sample_tasks(key, numbered_rows(), sizes, fraction))
    return jax.tree.map(np.asarray, jax.jit(draw)(keys))


# Sampling of an outer step


@pytest.mark.parametrize("fraction", [0.0, 0.25])
def test_an_outer_step_sees_distinct_tasks_and_rows_of_each_alone(fraction):
    batches, tasks = sampled(fraction)
    assert batches.support.reward.shape == (200, 4, 5)
    assert batches.query.reward.shape == (200, 4, 8)
    assert all(len(set(row)) == 4 for row in tasks.tolist())
    np.testing.assert_array_equal(np.unique(tasks), np.arange(TASKS))
    for half in (batches.support, batches.query):
        of_task, of_row = numbers_of(half)
        expected = np.broadcast_to(tasks[..., None], of_task.shape)
        np.testing.assert_array_equal(of_task, expected)
        np.testing.assert_array_equal(np.unique(of_row), np.arange(ROWS))


def test_a_support_of_fewer_rows_repeats_them_alike():
    sizes = Sizes(num_tasks=2, support=60, query=8, least=3)
    keys = jax.random.split(jax.random.key(0), 300)
    draw = jax.vmap(lambda k: sample_tasks(k, numbered_rows(), sizes, 0.0))
    rows = np.asarray(numbers_of(jax.jit(draw)(keys)[0].support)[1]).reshape(-1, 60)

    def period(drawn):
        return next(
            n for n in range(1, 61) if (drawn == drawn[np.arange(60) % n]).all()
        )

    sizes = np.array([period(drawn) for drawn in rows])
    assert sizes.max() <= 60 and (sizes >= 1).all()
    # log-uniform on 3 to 60: half of the sets have fewer than sqrt(3 * 61) rows
    assert np.mean(sizes < np.sqrt(3 * 61)) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("least", [1, 3, 20])
@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.3, 0.5])
def test_a_support_of_fewer_rows_has_the_share_of_violations_that_was_asked(
    fraction, least
):
    """A fraction of 0 asks for the rows' own share, here 2 of 10."""
    sizes = Sizes(num_tasks=2, support=60, query=8, least=least)
    keys = jax.random.split(jax.random.key(0), 300)
    draw = jax.vmap(lambda k: sample_tasks(k, numbered_rows(), sizes, fraction))
    cost = np.asarray(jax.jit(draw)(keys)[0].support.cost)
    assert np.mean(cost) == pytest.approx(fraction or 0.2, abs=0.04)
    if least == 20:  # a set of so many holds both kinds
        assert fraction == 0.0 or (cost.mean(-1) > 0.0).all()
        assert fraction == 0.0 or (cost.mean(-1) < 1.0).all()


@pytest.mark.parametrize("fraction", [0.0, 0.25])
def test_a_window_holds_consecutive_rows(fraction):
    """All of them if drawn evenly; if balanced, those of the window alone."""
    sizes = Sizes(num_tasks=4, support=6, query=8, least=2, windows=1.0)
    draw = jax.vmap(lambda k: sample_tasks(k, numbered_rows(), sizes, fraction))
    batches, tasks = jax.jit(draw)(jax.random.split(jax.random.key(1), 300))
    of_task, of_row = numbers_of(jax.tree.map(np.asarray, batches.support))
    np.testing.assert_array_equal(of_task, np.repeat(tasks[..., None], 6, axis=-1))
    lengths = set()
    for rows in of_row.reshape(-1, 6).astype(int):
        held = set(rows.tolist())
        gaps = [(row + 1) % ROWS not in held for row in held]
        if fraction == 0.0:
            assert sum(gaps) == 1  # one run of rows, which may begin anew at the end
            assert all(
                rows[i + 1] == (rows[i] + 1) % ROWS for i in range(len(held) - 1)
            )
        lengths.add(len(held))
    assert lengths == ({2, 3, 4, 5, 6} if fraction == 0.0 else lengths)
    assert max(lengths) <= 6
    if fraction:  # both kinds, or the one that there is
        share = (of_row >= 8).mean(-1).reshape(-1)
        assert set(np.round(share * 6).astype(int).tolist()) <= {0, 2, 6}


def test_that_share_of_the_supports_are_windows():
    sizes = Sizes(num_tasks=4, support=6, query=8, least=6, windows=0.25)
    draw = jax.vmap(lambda k: sample_tasks(k, numbered_rows(), sizes, 0.0))
    batches, _ = jax.jit(draw)(jax.random.split(jax.random.key(2), 500))
    _, of_row = numbers_of(jax.tree.map(np.asarray, batches.support))
    rows = of_row.reshape(-1, 6)
    windows = ((rows[:, 1:] - rows[:, :-1]) % ROWS == 1).all(-1)
    assert 0.21 < windows.mean() < 0.29


def test_every_task_is_as_likely():
    _, tasks = sampled(0.0)
    counts = np.bincount(np.ravel(tasks), minlength=TASKS)
    share = 4 / TASKS
    assert (abs(counts - 200 * share) < 4 * np.sqrt(200 * share * (1 - share))).all()


def test_support_and_query_are_drawn_independently():
    batches, _ = sampled(0.0)
    _, support = numbers_of(batches.support)
    _, query = numbers_of(batches.query)
    agree = np.mean(support == query[..., :5])  # one in ten, by chance
    assert abs(agree - 0.1) < 4 * np.sqrt(0.1 * 0.9 / support.size)
    between_tasks = np.mean(support[:, 0] == support[:, 1])
    assert abs(between_tasks - 0.1) < 4 * np.sqrt(0.1 * 0.9 / support[:, 0].size)


def test_support_and_query_are_balanced_where_asked():
    batches, _ = sampled(0.25)
    np.testing.assert_array_equal(batches.support.cost.sum(-1), round(0.25 * 5))
    np.testing.assert_array_equal(batches.query.cost.sum(-1), 0.25 * 8)


# Meta-training


class Counter(NamedTuple):
    """A learner's state; its prior is the number of its updates."""

    prior: Prior


def count(key, state, task_batch):
    number = state.prior.params[0] + 1
    noise = jax.random.normal(key) * jnp.mean(task_batch.support.reward)
    return Counter(Prior((number,), ())), {"fake/noise": noise}


COUNTING = MetaLearner(lambda params: Counter(Prior(params, ())), count, adapt=None)


def chunk_of(steps, error, choose_from=0):
    sizes = Sizes(num_tasks=3, support=4, query=4)
    return jax.jit(meta_training(COUNTING, error, sizes, 0.0, steps, choose_from))


def error_by_step(errors):
    """Held-out errors by the number of updates, each body's share apart."""

    def error(key, prior, heldout):
        del key
        return jnp.array(errors)[prior.params[0]] + heldout

    return error


HELDOUT = jnp.array([-0.5, 0.25, 0.25])  # sums to zero, so that means are as listed
START = (jnp.zeros((), jnp.int32),)


def train(chunk, chunks):
    state = init_meta_training(COUNTING, START)
    states, metrics = [state], []
    for _ in range(chunks):
        keys = jax.random.key(0), jax.random.key(1)
        state, values = chunk(*keys, state, numbered_rows(), HELDOUT)
        states.append(state)
        metrics.append(values)
    return states, metrics


def test_the_prior_with_the_least_held_out_error_is_kept():
    errors = [0.0, 5.0, 3.0, 4.0, 2.0, 2.5, 6.0]  # by step; nothing counts at step 0
    states, metrics = train(chunk_of(1, error_by_step(errors)), 6)
    found = [float(m["risk/heldout_bellman_error"]) for m in metrics]
    np.testing.assert_allclose(found, errors[1:], rtol=1e-6)
    assert [int(s.best.params[0]) for s in states] == [0, 1, 2, 2, 4, 4, 4]
    assert [int(s.best_step) for s in states] == [0, 1, 2, 2, 4, 4, 4]
    assert [float(s.best_error) for s in states[1:]] == [5.0, 3.0, 3.0, 2.0, 2.0, 2.0]
    assert [int(s.step) for s in states] == list(range(7))
    assert (
        int(states[-1].learner.prior.params[0]) == 6
    )  # training goes on from the last


def test_no_prior_is_chosen_before_the_first_step_to_choose_from():
    errors = [0.0, 1.0, 1.0, 4.0, 3.0, 3.5]
    states, _ = train(chunk_of(1, error_by_step(errors), choose_from=2), 5)
    assert [int(s.best_step) for s in states] == [0, 0, 0, 3, 4, 4]
    assert int(states[-1].best.params[0]) == 4


def test_an_error_that_is_no_number_is_never_the_least():
    states, _ = train(chunk_of(1, error_by_step([0.0, 2.0, np.nan, 3.0])), 3)
    assert int(states[-1].best_step) == 1


def test_two_chunks_equal_one_of_twice_the_steps():
    error = error_by_step([0.0] * 7)
    halves, half_metrics = train(chunk_of(3, error), 2)
    (_, whole), (metrics,) = train(chunk_of(6, error), 1)
    for name in ("fake/noise", "meta/tasks"):
        stacked = np.concatenate([m[name] for m in half_metrics])
        np.testing.assert_array_equal(stacked, metrics[name])
    assert metrics["meta/tasks"].shape == (6, 3)
    assert len(np.unique(metrics["fake/noise"])) == 6  # each step has its own key
    assert (
        int(halves[-1].learner.prior.params[0])
        == int(whole.learner.prior.params[0])
        == 6
    )


# Keys


def test_keys_of_seeds_and_stages_differ():
    keys = [
        tuple(jax.random.key_data(stage_key(seed, stage)).tolist())
        for seed in range(10)
        for stage in Stage
    ]
    assert len(set(keys)) == 10 * len(Stage)


def test_a_traced_seed_gives_the_same_key():
    seeds = jnp.arange(3)
    keys = jax.jit(jax.vmap(lambda seed: stage_key(seed, Stage.ONLINE)))(seeds)
    expected = jnp.stack([stage_key(seed, Stage.ONLINE) for seed in range(3)])
    np.testing.assert_array_equal(
        jax.random.key_data(keys), jax.random.key_data(expected)
    )
