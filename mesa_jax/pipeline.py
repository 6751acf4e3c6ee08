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
    Params,
    Part,
    Policy,
    Prior,
    RiskMeasure,
    State,
    Statistics,
    TaskBatch,
    Transition,
    WeightSpace,
)

MIN_STD = 1e-3  # of a standardised input that hardly varies
NEXT_ACTIONS = 8  # drawn a row for the Bellman error's target


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


def stage_key(seed: int | Array, stage: Stage) -> Key:
    """The key of a stage; step i of it draws from `fold_in(key, i)`."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(0), seed), int(stage))


def statistics(rows: Transition) -> Statistics:
    """Mean and standard deviation of observations and actions over all leading axes."""

    def moments(values):
        flat = values.reshape(-1, values.shape[-1])
        return jnp.mean(flat, axis=0), jnp.maximum(jnp.std(flat, axis=0), MIN_STD)

    return Statistics(*moments(rows.observation), *moments(rows.action))


def input_statistics(rows: Transition, inputs: str) -> Statistics:
    """What networks standardise by: the rows' statistics, or nothing where "raw"."""
    found = statistics(rows)
    if inputs == "standardized":
        return found
    means, stds = (found.observation_mean, found.action_mean), found[1::2]
    zeros, ones = map(jnp.zeros_like, means), map(jnp.ones_like, stds)
    return Statistics(*(x for pair in zip(zeros, ones, strict=True) for x in pair))


def safety_parts(
    risk: RiskMeasure,
    recovery: Policy,
    reference_policy: Callable,
    anchor: float,
    outer_target: str = "adapted",
    space: WeightSpace | None = None,
    recovery_beside: bool = False,
) -> tuple[Part, Part]:
    """Risk critic, then recovery policy, as parts of a prior (protocol: inner loop).

    The critic's outer loss is the TD loss of the adapted critic on the query, its
    target from the adapted critic itself (or, `outer_target` "inner", from the inner
    loop's last target), plus `anchor` times the ordinary TD loss of the un-adapted
    critic. The recovery policy's is
    the risk that the adapted critic, held fixed, gives its actions.
    """

    def critic_inner(key, params, target, batch, given):
        del given
        next_action = reference_policy(key, batch.next_observation)
        return risk.loss(params, target, batch, next_action)

    def critic_outer(key, prior, adapted, target, batch, given):
        adapted_key, prior_key = jax.random.split(key)
        asked = {"adapted": adapted, "inner": target}[outer_target]
        loss, metrics = critic_inner(adapted_key, adapted, asked, batch, given)
        prior_loss, _ = critic_inner(prior_key, prior, prior, batch, given)
        metrics |= {"risk/prior_loss": prior_loss}
        if isinstance(anchor, float) and anchor == 0.0:  # not traced in a sweep
            return loss, metrics
        return loss + anchor * prior_loss, metrics

    def recovery_inner(key, params, target, batch, given):
        del key, target
        return recovery.loss(params, given[0], batch.observation)

    def recovery_outer(key, prior, adapted, target, batch, given):
        return recovery_inner(key, adapted, target, batch, given)

    critic = Part(critic_inner, critic_outer, space)
    return critic, Part(recovery_inner, recovery_outer, beside=recovery_beside)


def init_params(
    key: Key, risk: RiskMeasure, recovery: Policy, inputs: Statistics
) -> tuple[Params, Params]:
    """Fresh parameters of both parts."""
    risk_key, recovery_key = jax.random.split(key)
    return risk.init(risk_key, inputs), recovery.init(recovery_key, inputs)


class Sizes(NamedTuple):
    """What one outer step samples."""

    num_tasks: int
    support: int
    query: int


def sample_tasks(
    key: Key, rows: Transition, sizes: Sizes, violation_fraction: float
) -> tuple[TaskBatch, Array]:
    """Distinct tasks of rows [T, N, ...]; independent support and query of each."""
    task_key, row_key = jax.random.split(key)
    total = rows.cost.shape[0]
    tasks = jax.random.permutation(task_key, total)[: sizes.num_tasks]

    def draw(key, task, count):
        index = replay.draw_indices(key, rows.cost[task], count, violation_fraction)
        return jax.tree.map(lambda x: x[task, index], rows)

    keys = jax.random.split(row_key, (2, sizes.num_tasks))
    support = jax.vmap(lambda k, t: draw(k, t, sizes.support))(keys[0], tasks)
    query = jax.vmap(lambda k, t: draw(k, t, sizes.query))(keys[1], tasks)
    return TaskBatch(support, query), tasks


def bellman_error(
    key: Key,
    risk: RiskMeasure,
    reference_policy: Callable,
    params: Params,
    rows: Transition,
) -> Array:
    """Squared Bellman error of a critic on one body's rows [N, ...], [].

    The target is averaged over several next actions, so that their spread is no error.
    """
    keys = jax.random.split(key, NEXT_ACTIONS)
    actions = jax.vmap(reference_policy, in_axes=(0, None))(keys, rows.next_observation)
    targets = jax.vmap(risk.target, in_axes=(None, None, 0))(params, rows, actions)
    estimates = risk.estimate(params, rows.observation, rows.action)
    return jnp.mean((estimates - jnp.mean(targets, axis=0)) ** 2)


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


def readapt(
    agent: Agent, config: rollout.OnlineConfig, adapt: Callable
) -> Callable[[Key, rollout.RunState, Prior, Array], State]:
    """Makes `(key, run, prior, due) -> agent state`: one run's adaptation online.

    `adapt(key, prior, support) -> (critic, recovery policy)`, from the prior or from
    what they have become, on the run's most recent transitions.
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
    adapt: Callable | None = None,
) -> Callable:
    """Makes `chunk(keys, evaluate_keys, states, prior) -> (states, metrics)`, [S, ...].

    One program: physics, learning, acting, memory and evaluation episodes of every run,
    for `config.chunk_steps` environment steps. Where an evaluation is due for one run,
    all play an episode (behind a scalar condition, so nothing is computed otherwise)
    and only that run's is recorded. Metrics are means over the chunk, [S].

    Where `adapt` is given (see `readapt`), runs that readapt do so every
    `config.readapt_every` steps, from the one `prior` that all share; else `prior` is
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
        renew = jax.vmap(readapt(agent, config, adapt), (0, 0, None, 0))
        return jax.lax.cond(
            jnp.any(due),
            lambda: renew(keys, states, prior, due),
            lambda: states.agent,
        )

    def chunk(keys, evaluate_keys, states, prior=()):
        def advance(states, _):
            if adapt is not None:
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
