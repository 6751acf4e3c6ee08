"""One online run's step, and its evaluation episodes."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mesa_jax import equations, replay
from mesa_jax.run_state import (
    EpisodeRecord,
    OnlineConfig,
    Progress,
    RunState,
    step_keys,
    write_record,
)
from mesa_jax.simulation import all_finite, checked_step
from mesa_jax.types import Agent, Array, Domain, Key, State, Task, Transition


def evaluation_episode(
    key: Key, domain: Domain, agent: Agent, state: RunState
) -> EpisodeRecord:
    """Plays one episode with the deterministic proposal; nothing of it is learned from.

    Args:
      key: consumed.
      domain: in which the run lives.
      agent: of the run.
      state: of one run.

    Returns:
      Its record; env_steps are those of the run when it is played.
    """
    reset_key, step_key = jax.random.split(key)
    task = domain.task_at(state.task, state.env_steps)

    def advance(carry, i):
        progress, record, alive = carry
        observation = domain.observe(progress.state)
        proposed = agent.propose_mode(state.agent, observation)
        decision = agent.decide(state.agent, observation, proposed)
        moved = _move(jax.random.fold_in(step_key, i), domain, task, progress, decision)
        progress, ended = moved.progress, moved.ended
        new_record = moved.record._replace(env_steps=state.env_steps)
        record = equations.select(alive, new_record, record)
        return (progress, record, alive & ~ended), None

    progress = _start(reset_key, domain, task)
    record = jax.tree.map(lambda x: jnp.zeros((), x.dtype), state.records)
    carry = (progress, record, jnp.ones((), bool))
    return jax.lax.scan(advance, carry, jnp.arange(domain.spec.horizon))[0][1]


def init_run(
    key: Key,
    domain: Domain,
    config: OnlineConfig,
    task: Task,
    agent: State,
    adaptation: Transition,
    readapts: bool | Array = False,
) -> RunState:
    """Returns a run before its first step; its safety replay is the adaptation set.

    Args:
      key: consumed.
      domain: in which the run lives.
      config: says how much room the replays and records need.
      task: one body.
      agent: state of the run's agent.
      adaptation: [n, ...] the body's adaptation set.
      readapts: [] bool, whether the run adapts anew.
    """
    zero = jnp.zeros((), jnp.int32)
    steps = config.rows(domain.spec.horizon)
    row = jax.tree.map(lambda x: x[0], adaptation)
    held = adaptation.cost.shape[0]

    def records(count):
        floats = jnp.zeros((count,), jnp.float32)
        counts = jnp.zeros((count,), jnp.int32)
        return EpisodeRecord(counts, floats, counts, counts, counts, counts, counts)

    return RunState(
        task=task,
        agent=agent,
        readapts=jnp.asarray(readapts),
        progress=_start(key, domain, domain.task_at(task, zero)),
        task_replay=replay.init(steps, row),
        safety_replay=replay.fill(replay.init(steps + held, row), adaptation),
        env_steps=zero,
        episode=zero,
        records=records(config.episodes),
        evaluations=records(config.evaluation_slots),
        non_finite=zero,
        broken_at=jnp.full((), -1, jnp.int32),
    )


def run_step(
    domain: Domain, agent: Agent, config: OnlineConfig
) -> Callable[[Key, RunState], tuple[RunState, Array, dict]]:
    """Makes one run's step: learn, propose, decide, move, remember, restart.

    The function made takes (key, state) and returns the new state, whether an
    evaluation is due, [] bool, and metrics. A finished run keeps its state. The task
    replay remembers the proposed action (or, as `config.relabel` says, the executed
    one), the safety replay the executed one (Recovery RL, section IV.C).

    Args:
      domain: in which the run lives.
      agent: of the run.
      config: of the run.
    """

    def step(key, state):
        keys = step_keys(key, state.env_steps)
        active = config.active(state)
        task = domain.task_at(state.task, state.env_steps)
        if agent.progress is not None:
            told = agent.progress(state.agent, config.share(state))
            state = state._replace(agent=equations.select(active, told, state.agent))

        learner, metrics = _learn(keys.sample, keys.learn, agent, config, state, active)
        observation = domain.observe(state.progress.state)
        proposed = _propose(keys.act, agent, learner, observation, state, config)
        decision = agent.decide(learner, observation, proposed)
        moved = _move(keys.move, domain, task, state.progress, decision)
        executed = moved.transition
        remembered = {"proposed": decision.proposed, "executed": decision.action}
        relabelled = executed._replace(action=remembered[config.relabel])

        finished = active & moved.ended
        at = jnp.where(finished, state.episode, config.episodes)
        env_steps = state.env_steps + active
        restarted = _start(keys.reset, domain, domain.task_at(state.task, env_steps))
        progress = equations.select(moved.ended, restarted, moved.progress)
        keep = active & moved.finite
        broken = active & ~all_finite(metrics) & (state.broken_at < 0)
        new_state = state._replace(
            agent=learner,
            progress=equations.select(active, progress, state.progress),
            task_replay=replay.add(state.task_replay, relabelled, keep),
            safety_replay=replay.add(state.safety_replay, executed, keep),
            env_steps=env_steps,
            episode=state.episode + finished,
            records=write_record(
                state.records, at, moved.record._replace(env_steps=env_steps)
            ),
            non_finite=state.non_finite + (active & ~moved.finite),
            broken_at=jnp.where(broken, state.env_steps, state.broken_at),
        )
        due = finished & (new_state.episode % config.evaluate_every == 0)
        return new_state, due, metrics

    return step


def _learn(sample_key, learn_key, agent, config, state, active):
    """One update from each replay that holds more rows than a batch."""
    task_key, safety_key = jax.random.split(sample_key)
    size, fraction = config.batch_size, config.violation_fraction
    return agent.update(
        learn_key,
        state.agent,
        replay.sample(task_key, state.task_replay, size),
        replay.sample(safety_key, state.safety_replay, size, fraction),
        active & (replay.size(state.task_replay) > size),
        active & (replay.size(state.safety_replay) > size),
    )


def _propose(key, agent, learner, observation, state, config):
    policy_key, uniform_key = jax.random.split(key)
    proposed = agent.propose(policy_key, learner, observation)
    uniform = jax.random.uniform(
        uniform_key, proposed.shape, proposed.dtype, minval=-1.0, maxval=1.0
    )
    return jnp.where(state.env_steps < config.start_steps, uniform, proposed)


def _start(key: Key, domain: Domain, task: Task) -> Progress:
    zero = jnp.zeros((), jnp.int32)
    return Progress(domain.reset(key, task), zero, jnp.zeros((), jnp.float32), zero)


class _Moved(NamedTuple):
    """What executing a decision gave."""

    progress: Progress
    ended: Array
    record: EpisodeRecord  # of the episode so far; its env_steps are the caller's
    transition: Transition
    finite: Array


def _move(key, domain, task, progress, decision) -> _Moved:
    env_state, transition, finite = checked_step(
        domain, key, progress.state, decision.action, task
    )
    violation = (transition.cost > 0.5).astype(jnp.int32)
    recovered = decision.recovered.astype(jnp.int32)
    progress = Progress(
        state=env_state,
        length=progress.length + 1,
        episode_return=progress.episode_return + transition.reward,
        recoveries=progress.recoveries + recovered,
    )
    terminated = transition.discount == 0.0
    ended = terminated | (progress.length >= domain.spec.horizon)
    success = domain.success(transition, progress.episode_return)
    success &= (violation == 0) & finite
    record = EpisodeRecord(
        env_steps=jnp.zeros((), jnp.int32),
        episode_return=progress.episode_return,
        length=progress.length,
        violation=violation,
        violation_while_recovering=violation * recovered,
        success=success.astype(jnp.int32),
        recoveries=progress.recoveries,
    )
    return _Moved(progress, ended, record, transition, finite)
