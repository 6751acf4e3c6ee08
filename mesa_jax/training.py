"""Phase 1 as a pure program: outer steps of meta-training, and which prior is kept."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mesa_jax import replay
from mesa_jax.types import (
    Array,
    Key,
    MetaLearner,
    Prior,
    State,
    TaskBatch,
    Transition,
)


class Sizes(NamedTuple):
    """What one outer step samples."""

    num_tasks: int
    support: int
    query: int
    least: int = 0  # different rows of a support, from as many on; 0: all


def _log_uniform(key: Key, least: int, most: int) -> Array:
    """A whole number of [least, most], its logarithm uniform."""
    low, high = jnp.log(least), jnp.log(most + 1)
    drawn = jnp.exp(jax.random.uniform(key, minval=low, maxval=high))
    return jnp.clip(drawn.astype(jnp.int32), least, most)


def _few(key: Key, count: int, least: int) -> Array:
    """Places [count] in a batch of `count` rows: a few in a row, again and again.

    They start anywhere, so that they violate as often as the batch does.
    """
    size_key, start_key = jax.random.split(key)
    start = jax.random.randint(start_key, (), 0, count)
    few = jnp.arange(count) % _log_uniform(size_key, least, count)
    return (start + few) % count


def sample_tasks(
    key: Key, rows: Transition, sizes: Sizes, violation_fraction: float
) -> tuple[TaskBatch, Array]:
    """Distinct tasks of rows [T, N, ...]; independent support and query of each.

    A support of fewer rows than `sizes.support` repeats them.
    """
    task_key, row_key = jax.random.split(key)
    total = rows.cost.shape[0]
    tasks = jax.random.permutation(task_key, total)[: sizes.num_tasks]

    def draw(key, task, count, least=0):
        draw_key, few_key = jax.random.split(key) if least else (key, None)
        index = replay.draw_indices(
            draw_key, rows.cost[task], count, violation_fraction
        )
        if least:
            index = index[_few(few_key, count, least)]
        return jax.tree.map(lambda x: x[task, index], rows)

    keys = jax.random.split(row_key, (2, sizes.num_tasks))
    support = jax.vmap(lambda k, t: draw(k, t, sizes.support, sizes.least))(
        keys[0], tasks
    )
    query = jax.vmap(lambda k, t: draw(k, t, sizes.query))(keys[1], tasks)
    return TaskBatch(support, query), tasks


class MetaTrainingState(NamedTuple):
    """A learner, and the best prior so far by held-out Bellman error."""

    learner: State
    best: Prior
    best_error: Array
    best_step: Array
    step: Array


def init_meta_training(learner: MetaLearner, params: tuple) -> MetaTrainingState:
    state = learner.init(params)
    zero = jnp.zeros((), jnp.int32)
    worst = jnp.full((), jnp.inf, jnp.float32)
    fresh = MetaTrainingState(state, state.prior, worst, zero, zero)
    return jax.tree.map(jnp.copy, fresh)  # a donated state may not alias itself


def meta_training(
    learner: MetaLearner,
    error: Callable[[Key, Prior, Transition], Array],
    sizes: Sizes,
    violation_fraction: float,
    steps: int,
    choose_from: int,
) -> Callable:
    """Makes `chunk(key, error_key, state, rows, heldout) -> (state, metrics)`.

    A chunk is `steps` outer steps in one dispatch, then the prior's `error` on each
    held-out training body [T, N, ...]. The prior with the least mean error after outer
    step `choose_from` is kept. Metrics are stacked, [steps, ...].
    """

    def chunk(key, error_key, state: MetaTrainingState, rows, heldout):
        def outer_step(carry, _):
            learned, step = carry
            sample_key, update_key = jax.random.split(jax.random.fold_in(key, step))
            batch, tasks = sample_tasks(sample_key, rows, sizes, violation_fraction)
            learned, metrics = learner.update(update_key, learned, batch)
            return (learned, step + 1), metrics | {"meta/tasks": tasks}

        carry = (state.learner, state.step)
        (learned, step), metrics = jax.lax.scan(outer_step, carry, length=steps)
        over_bodies = jax.vmap(error, in_axes=(None, None, 0))
        mean_error = jnp.mean(over_bodies(error_key, learned.prior, heldout))
        better = (mean_error < state.best_error) & (step > choose_from)
        best = jax.tree.map(
            lambda n, o: jnp.where(better, n, o), learned.prior, state.best
        )
        new_state = MetaTrainingState(
            learner=learned,
            best=best,
            best_error=jnp.where(better, mean_error, state.best_error),
            best_step=jnp.where(better, step, state.best_step),
            step=step,
        )
        return new_state, metrics | {"risk/heldout_bellman_error": mean_error}

    return chunk
