"""What one step of an online run is, wherever its body lives.

It plans: learns, proposes, decides. Then somebody moves the body: the compiled program
(`rollout`), or an environment in Python (`bridges.gymnasium_online`). What that gave is
recorded and remembered.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mesa_jax import equations, replay
from mesa_jax.run_state import (
    EpisodeRecord,
    OnlineConfig,
    Progress,
    RunState,
    StepKeys,
    write_record,
)
from mesa_jax.simulation import all_finite
from mesa_jax.types import (
    Agent,
    Array,
    Decision,
    Domain,
    Metrics,
    State,
    Transition,
)


def start(state: State) -> Progress:
    """Returns an episode before its first step, in a state."""
    zero = jnp.zeros((), jnp.int32)
    return Progress(state, zero, jnp.zeros((), jnp.float32), zero)


class Planned(NamedTuple):
    """Holds what a run does next: what it has learned, and its decision."""

    learner: State  # the agent after its update
    decision: Decision
    metrics: Metrics


def plan(
    keys: StepKeys,
    agent: Agent,
    config: OnlineConfig,
    state: RunState,
    observation: Array,
) -> Planned:
    """Returns what a run does at an observation: it learns, proposes and decides.

    Args:
      keys: of the step.
      agent: of the run.
      config: of the run.
      state: of one run.
      observation: [D]
    """
    active = config.active(state)
    if agent.progress is not None:
        told = agent.progress(state.agent, config.share(state))
        state = state._replace(agent=equations.select(active, told, state.agent))
    learner, metrics = _learn(keys.sample, keys.learn, agent, config, state, active)
    proposed = _propose(keys.act, agent, learner, observation, state, config)
    return Planned(learner, agent.decide(learner, observation, proposed), metrics)


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


class Moved(NamedTuple):
    """Holds what executing a decision gave."""

    progress: Progress
    ended: Array
    record: EpisodeRecord  # of the episode so far; its env_steps are the caller's
    transition: Transition
    finite: Array


def moved(
    domain: Domain,
    progress: Progress,
    decision: Decision,
    env_state: State,
    transition: Transition,
    finite: Array,
    out_of_time: Array,
) -> Moved:
    """Returns a step of a running episode, counted and recorded.

    Args:
      domain: judges success.
      progress: of the episode before the step.
      decision: that was executed.
      env_state: that was reached.
      transition: [D], [A] and [], of the step.
      finite: [] bool, whether the physics was.
      out_of_time: [] bool, whether the time limit is reached.
    """
    violation = (transition.cost > 0.5).astype(jnp.int32)
    recovered = decision.recovered.astype(jnp.int32)
    progress = Progress(
        state=env_state,
        length=progress.length + 1,
        episode_return=progress.episode_return + transition.reward,
        recoveries=progress.recoveries + recovered,
    )
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
    ended = (transition.discount == 0.0) | out_of_time
    return Moved(progress, ended, record, transition, finite)


def remember(
    config: OnlineConfig,
    state: RunState,
    planned: Planned,
    gave: Moved,
    restarted: Progress,
    active: Array,
) -> RunState:
    """Returns a run after a step: what was learned, moved and recorded is its state.

    Args:
      config: of the run.
      state: of one run before the step.
      planned: what it did.
      gave: what executing that gave.
      restarted: the next episode, which begins where this one has ended.
      active: [] bool; a run that is not keeps its state.
    """
    executed, decision = gave.transition, planned.decision
    remembered = {"proposed": decision.proposed, "executed": decision.action}
    relabelled = executed._replace(action=remembered[config.relabel])
    finished = active & gave.ended
    at = jnp.where(finished, state.episode, config.episodes)
    env_steps = state.env_steps + active
    progress = equations.select(gave.ended, restarted, gave.progress)
    keep = active & gave.finite
    broken = active & ~all_finite(planned.metrics) & (state.broken_at < 0)
    return state._replace(
        agent=planned.learner,
        progress=equations.select(active, progress, state.progress),
        task_replay=replay.add(state.task_replay, relabelled, keep),
        safety_replay=replay.add(state.safety_replay, executed, keep),
        env_steps=env_steps,
        episode=state.episode + finished,
        records=write_record(
            state.records, at, gave.record._replace(env_steps=env_steps)
        ),
        non_finite=state.non_finite + (active & ~gave.finite),
        broken_at=jnp.where(broken, state.env_steps, state.broken_at),
    )
