"""One online run's step, and its evaluation episodes."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mesa_jax import equations, replay
from mesa_jax.settings import setting, validate
from mesa_jax.simulation import all_finite, checked_step
from mesa_jax.types import Agent, Array, Domain, Key, State, Task, Transition


@dataclasses.dataclass(frozen=True)
class OnlineConfig:
    """Safe online learning of one run."""

    episodes: int = setting(300, "training episodes a run, at most", "[1, 10_000_000]")
    steps: int = setting(
        0, "environment steps a run, at most; 0 is no limit", "[0, 1_000_000_000]"
    )
    start_steps: int = setting(
        100, "first steps with uniform proposals", "[0, 1_000_000_000]"
    )
    batch_size: int = setting(
        256, "rows an update; it starts beyond as many", "[1, 1_000_000]"
    )
    violation_fraction: float = setting(
        0.3, "share of violating rows in a safety batch; 0 draws uniformly", "[0, 1)"
    )
    relabel: str = setting(
        "proposed",
        "action that the task policy learns from",
        choices=("proposed", "executed"),
    )
    evaluate_every: int = setting(
        10,
        "episodes between evaluations with the deterministic action",
        "[1, 10_000_000]",
    )
    chunk_steps: int = setting(
        500, "environment steps between checkpoints", "[1, 10_000_000]"
    )
    readapt_every: int = setting(
        500,
        "steps between adaptations online, of methods that do so; 0: none",
        "[0, 1_000_000_000]",
    )
    readapt_transitions: int = setting(
        200, "most recent transitions that they adapt on", "[1, 1_000_000]"
    )
    readapt_from: str = setting(
        "current",
        "what they adapt: the meta-trained prior, or what they have become",
        choices=("prior", "current"),
    )

    def __post_init__(self):
        validate(self)

    @property
    def evaluation_slots(self) -> int:
        """Length of a run's evaluation records (one even where none will be)."""
        return max(1, self.episodes // self.evaluate_every)

    def rows(self, horizon: int) -> int:
        """Transitions that a run can make."""
        most = self.episodes * horizon
        return min(most, self.steps) if self.steps else most

    def active(self, state: "RunState") -> Array:
        """Whether a run (or each of several) is not at its end."""
        going = state.episode < self.episodes
        return going & (state.env_steps < self.steps) if self.steps else going


class EpisodeRecord(NamedTuple):
    """What is kept of an episode; the columns of results.csv."""

    env_steps: Array  # of the run, at the episode's end
    episode_return: Array
    length: Array
    violation: Array  # 0 or 1
    violation_while_recovering: Array  # 0 or 1
    success: Array  # 0 or 1
    recoveries: Array  # steps on which the recovery policy acted


class Progress(NamedTuple):
    """A running episode."""

    state: State
    length: Array
    episode_return: Array
    recoveries: Array


class RunState(NamedTuple):
    """All that one run's next step needs (keys are counted, not carried)."""

    task: Task
    agent: State
    readapts: Array  # [] bool
    progress: Progress
    task_replay: replay.Replay  # proposed actions
    safety_replay: replay.Replay  # executed actions, from the adaptation set on
    env_steps: Array
    episode: Array  # finished episodes
    records: EpisodeRecord  # [episodes]
    evaluations: EpisodeRecord  # [evaluation_slots]
    non_finite: Array  # episodes so far that ended where the physics was not finite
    broken_at: Array  # env_steps when a learner was first not finite, else -1


class StepKeys(NamedTuple):
    """What one step of a run draws from."""

    sample: Key
    learn: Key
    act: Key
    move: Key
    reset: Key


def step_keys(key: Key, env_steps: Array) -> StepKeys:
    """The keys of a run's step number `env_steps`, from the run's key."""
    return StepKeys(*jax.random.split(jax.random.fold_in(key, env_steps), 5))


def evaluation_episode(
    key: Key, domain: Domain, agent: Agent, state: RunState
) -> EpisodeRecord:
    """One episode with the deterministic proposal; nothing of it is learned from."""
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
    """A run before its first step; its safety replay starts as the adaptation set."""
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
    """One run's step: learn, propose, decide, move, remember, restart.

    The function made returns the new state, whether an evaluation is due, and metrics.
    A finished run keeps its state.
    """

    def step(key, state):
        keys = step_keys(key, state.env_steps)
        active = config.active(state)
        task = domain.task_at(state.task, state.env_steps)

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


def write_record(records: EpisodeRecord, at: Array, record: EpisodeRecord):
    """Writes one record at an index; an index out of range writes nothing."""
    return jax.tree.map(lambda x, y: x.at[at].set(y, mode="drop"), records, record)


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
