"""Phase 1 as a pure program: outer steps of meta-training, and which prior is kept."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mesa_jax import replay, sharding
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
    """Says how much one outer step samples."""

    num_tasks: int  # bodies
    support: int  # transitions a body, of the inner loop
    query: int  # transitions a body, of the outer loss
    least: int = 0  # different transitions of a support, from as many on; 0: all
    windows: float = 0.0  # share of the supports that are consecutive transitions


def _log_uniform(key: Key, least: int, most: int) -> Array:
    """Draws a whole number of [least, most], its logarithm uniform."""
    low, high = jnp.log(least), jnp.log(most + 1)
    drawn = jnp.exp(jax.random.uniform(key, minval=low, maxval=high))
    return jnp.clip(drawn.astype(jnp.int32), least, most)


def _few(key: Key, count: int, least: int) -> Array:
    """Returns places [count] in a batch of `count`: a few in a row, again and again.

    They start anywhere, so that they violate as often as the batch does.
    """
    size_key, start_key = jax.random.split(key)
    start = jax.random.randint(start_key, (), 0, count)
    few = jnp.arange(count) % _log_uniform(size_key, least, count)
    return (start + few) % count


def _window(key: Key, total: int, count: int, least: int) -> Array:
    """Returns places [count] in a body's data: consecutive ones, again and again.

    They are as few as `_few` gives, as an online run has of its latest transitions.
    """
    size_key, start_key = jax.random.split(key)
    start = jax.random.randint(start_key, (), 0, total)
    return (start + jnp.arange(count) % _log_uniform(size_key, least, count)) % total


def sample_tasks(
    key: Key, transitions: Transition, sizes: Sizes, violation_fraction: float
) -> tuple[TaskBatch, Array]:
    """Draws distinct bodies, and independent support and query of each.

    A support of fewer transitions than `sizes.support` repeats them.

    Args:
      key: consumed.
      transitions: [T, N, ...] of training bodies, T at least `sizes.num_tasks`.
      sizes: bodies, and transitions a body.
      violation_fraction: as in `replay.draw_indices`.

    Returns:
      The batch [num_tasks, ...], and the bodies' numbers [num_tasks].
    """
    task_key, draw_key = jax.random.split(key)
    total = transitions.cost.shape[0]
    tasks = jax.random.permutation(task_key, total)[: sizes.num_tasks]

    def places(key, task, count):
        cost = transitions.cost[task]
        return replay.draw_indices(key, cost, count, violation_fraction)

    def take(task, index):
        return jax.tree.map(lambda x: x[task, index], transitions)

    def support_of(key, task):
        if not sizes.windows:
            return take(task, drawn_of(key, task))
        drawn_key, window_key, kind_key = jax.random.split(key, 3)
        drawn, window = drawn_of(drawn_key, task), window_of(window_key, task)
        windowed = jax.random.bernoulli(kind_key, sizes.windows)
        return take(task, jnp.where(windowed, window, drawn))

    def drawn_of(key, task):
        if not sizes.least:
            return places(key, task, sizes.support)
        key, few_key = jax.random.split(key)
        index = places(key, task, sizes.support)
        return index[_few(few_key, sizes.support, sizes.least)]

    def window_of(key, task):
        window_key, draw_key = jax.random.split(key)
        total, least = transitions.cost.shape[1], sizes.least or sizes.support
        window = _window(window_key, total, sizes.support, least)
        if not violation_fraction:
            return window
        cost = transitions.cost[task, window]  # balanced, as an adaptation set is
        index = replay.draw_indices(draw_key, cost, sizes.support, violation_fraction)
        return window[index]

    def query_of(key, task):
        return take(task, places(key, task, sizes.query))

    keys = jax.random.split(draw_key, (2, sizes.num_tasks))
    support = sharding.vmap(support_of)(keys[0], tasks)
    query = sharding.vmap(query_of)(keys[1], tasks)
    return TaskBatch(support, query), tasks


class MetaTrainingState(NamedTuple):
    """Holds a learner, and the best prior so far by held-out Bellman error."""

    learner: State  # its field `prior` is the prior as it is
    best: Prior
    best_error: Array  # []
    best_step: Array  # [] int32, outer steps that the best one had taken
    step: Array  # [] int32, outer steps taken


def init_meta_training(learner: MetaLearner, params: tuple) -> MetaTrainingState:
    """Returns the state before the first outer step.

    Args:
      learner: to be trained.
      params: its initial parameters, one entry a `Part`.
    """
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
    """Makes `chunk(key, error_key, state, transitions, heldout) -> (state, metrics)`.

    A chunk is `steps` outer steps in one dispatch, then the prior's `error` on each
    held-out training body. The prior with the least mean error after outer step
    `choose_from` is kept. Transitions are [T, N, ...], metrics stacked, [steps, ...].

    Args:
      learner: of the prior.
      error: (key, prior, one body's transitions [N, ...]) -> [].
      sizes: of an outer step.
      violation_fraction: as in `replay.draw_indices`.
      steps: of a chunk.
      choose_from: the outer step after which a prior may be kept.
    """

    def chunk(key, error_key, state: MetaTrainingState, transitions, heldout):
        def outer_step(carry, _):
            learned, step = carry
            sample_key, update_key = jax.random.split(jax.random.fold_in(key, step))
            batch, tasks = sample_tasks(
                sample_key, transitions, sizes, violation_fraction
            )
            learned, metrics = learner.update(update_key, learned, batch)
            return (learned, step + 1), metrics | {"meta/tasks": tasks}

        carry = (state.learner, state.step)
        (learned, step), metrics = jax.lax.scan(outer_step, carry, length=steps)
        over_bodies = sharding.vmap(error, (None, None, 0))
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
        new_state = sharding.everywhere(new_state)  # as it came
        return new_state, metrics | {"risk/heldout_bellman_error": mean_error}

    return chunk
