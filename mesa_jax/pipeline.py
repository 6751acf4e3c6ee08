"""The three phases as pure programs: meta-train, adapt, run online.

Everything here is written once for all methods; a method is what it starts from.
"""

import enum
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mesa_jax import equations, replay, rollout
from mesa_jax.types import (
    Agent,
    Array,
    Domain,
    Key,
    MetaLearner,
    Prior,
    State,
    TaskBatch,
    Transition,
)


class Stage(enum.IntEnum):
    """What a key is for: keys are fold_in(root, seed, stage, step)."""

    TRAIN_TASKS = 0
    TRAIN_DATA = 1
    PRIOR_INIT = 2
    META_TRAIN = 3
    BELLMAN_ERROR = 4
    TEST_TASK = 5
    ADAPTATION_DATA = 6
    AGENT_INIT = 7
    ADAPT = 8
    RUN_START = 9
    ONLINE = 10
    EVALUATE = 11
    REPORT = 12
    TRUTH = 13
    HELDOUT = 14
    FAULT = 15
    SUPPORT = 16


def root_key(seed: int | Array) -> Key:
    """What the keys of a seed's stages are made from."""
    return jax.random.fold_in(jax.random.key(0), seed)


def stage_key(seed: int | Array, stage: Stage) -> Key:
    """The key of a stage; step i of it draws from `fold_in(key, i)`."""
    return jax.random.fold_in(root_key(seed), int(stage))


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


class MetaTrainState(NamedTuple):
    """A learner, and the best prior so far by held-out Bellman error."""

    learner: State
    best: Prior
    best_error: Array
    best_step: Array
    step: Array


def init_meta_train(learner: MetaLearner, params: tuple) -> MetaTrainState:
    state = learner.init(params)
    zero = jnp.zeros((), jnp.int32)
    worst = jnp.full((), jnp.inf, jnp.float32)
    fresh = MetaTrainState(state, state.prior, worst, zero, zero)
    return jax.tree.map(jnp.copy, fresh)  # a donated state may not alias itself


def meta_train(
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

    def chunk(key, error_key, state: MetaTrainState, rows, heldout):
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
        new_state = MetaTrainState(
            learner=learned,
            best=best,
            best_error=jnp.where(better, mean_error, state.best_error),
            best_step=jnp.where(better, step, state.best_step),
            step=step,
        )
        return new_state, metrics | {"risk/heldout_bellman_error": mean_error}

    return chunk


Renew = Callable[[Key, rollout.RunState, Prior, Array], State]
# key, run, prior, due -> agent state: what a run does of its own every so often


def readapt(agent: Agent, config: rollout.OnlineConfig, adapt: Callable) -> Renew:
    """Makes one run's adaptation online.

    `adapt(key, prior, support) -> (critic, recovery policy)`, from the prior or from
    what they have become, on the run's most recent transitions. One without inner steps
    reads the body anew.
    """

    def one(key, run, prior, due):
        if config.readapt_from == "current":
            prior = prior._replace(params=agent.safety(run.agent))
        support = replay.latest(run.safety_replay, config.readapt_rows)
        renewed = agent.with_safety(run.agent, *adapt(key, prior, support))
        return equations.select(due, renewed, run.agent)

    return one


def run_online(
    domain: Domain,
    agent: Agent,
    config: rollout.OnlineConfig,
    renew: Renew | None = None,
) -> Callable:
    """Makes `chunk(keys, evaluate_keys, states, prior) -> (states, metrics)`, [S, ...].

    One program: physics, learning, acting, memory and evaluation episodes of every run,
    for `config.chunk_steps` environment steps. Where an evaluation is due for one run,
    all play an episode (behind a scalar condition, so nothing is computed otherwise)
    and only that run's is recorded. Metrics are means over the chunk, [S].

    Where `renew` is given (see `readapt`), runs that readapt do so every
    `config.readapt_every` steps, with the one `prior` that all share; else `prior` is
    not used.
    """
    step = jax.vmap(rollout.run_step(domain, agent, config))
    play = jax.vmap(
        lambda key, run: rollout.evaluation_episode(key, domain, agent, run)
    )

    def evaluate(keys, states, due):
        keys = jax.vmap(jax.random.fold_in)(keys, states.episode)
        at = jnp.where(
            due, states.episode // config.evaluate_every - 1, config.evaluation_slots
        )
        return jax.vmap(rollout.write_record)(
            states.evaluations, at, play(keys, states)
        )

    def readapted(keys, states, prior):
        """Agents; adaptation i of a run draws from a key that no step of it uses."""
        turn, rest = jnp.divmod(states.env_steps, config.readapt_every)
        due = states.readapts & config.active(states) & (rest == 0) & (turn > 0)
        keys = jax.vmap(jax.random.fold_in)(keys, -1 - turn)
        return jax.lax.cond(
            jnp.any(due),
            lambda: jax.vmap(renew, (0, 0, None, 0))(keys, states, prior, due),
            lambda: states.agent,
        )

    def chunk(keys, evaluate_keys, states, prior=()):
        def advance(states, _):
            if renew is not None:
                states = states._replace(agent=readapted(keys, states, prior))
            states, due, metrics = step(keys, states)
            evaluations = jax.lax.cond(
                jnp.any(due),
                lambda: evaluate(evaluate_keys, states, due),
                lambda: states.evaluations,
            )
            return states._replace(evaluations=evaluations), metrics

        states, metrics = jax.lax.scan(advance, states, length=config.chunk_steps)
        return states, jax.tree.map(lambda x: jnp.mean(x, axis=0), metrics)

    return chunk
