"""One online run's step, and its evaluation episodes."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mesa_jax import equations, replay
from mesa_jax.run_state import (
    EpisodeRecord,
    OnlineConfig,
    Progress,
    RunState,
    step_keys,
)
from mesa_jax.run_step import Moved, moved, plan, remember, start
from mesa_jax.simulation import checked_step
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
        gave = _move(jax.random.fold_in(step_key, i), domain, task, progress, decision)
        progress, ended = gave.progress, gave.ended
        new_record = gave.record._replace(env_steps=state.env_steps)
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
        observation = domain.observe(state.progress.state)
        planned = plan(keys, agent, config, state, observation)
        gave = _move(keys.move, domain, task, state.progress, planned.decision)
        after = domain.task_at(state.task, state.env_steps + active)
        restarted = _start(keys.reset, domain, after)
        new_state = remember(config, state, planned, gave, restarted, active)
        finished = active & gave.ended
        due = finished & (new_state.episode % config.evaluate_every == 0)
        return new_state, due, planned.metrics

    return step


def _start(key: Key, domain: Domain, task: Task) -> Progress:
    return start(domain.reset(key, task))


def _move(key, domain, task, progress, decision) -> Moved:
    env_state, transition, finite = checked_step(
        domain, key, progress.state, decision.action, task
    )
    out_of_time = progress.length + 1 >= domain.spec.horizon
    return moved(domain, progress, decision, env_state, transition, finite, out_of_time)
