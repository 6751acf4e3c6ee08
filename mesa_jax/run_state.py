"""The state of one online run: what is configured, kept and recorded of it."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mesa_jax import replay
from mesa_jax.settings import setting, validate
from mesa_jax.types import Array, Key, State, Task


@dataclasses.dataclass(frozen=True)
class OnlineConfig:
    """Configures the safe online learning of one run."""

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
        """Returns how many evaluation records a run has, at least one."""
        return max(1, self.episodes // self.evaluate_every)

    def rows(self, horizon: int) -> int:
        """Returns how many transitions a run can make."""
        most = self.episodes * horizon
        return min(most, self.steps) if self.steps else most

    def active(self, state: "RunState") -> Array:
        """Returns whether a run (or each of several) goes on, [] or [S] bool."""
        going = state.episode < self.episodes
        return going & (state.env_steps < self.steps) if self.steps else going

    def share(self, state: "RunState") -> Array:
        """Returns how much of its episodes, or steps, a run has done, [] in [0, 1]."""
        episodes = state.episode / self.episodes
        if not self.steps:
            return episodes
        return jnp.maximum(episodes, state.env_steps / self.steps)


class EpisodeRecord(NamedTuple):
    """Holds what is kept of an episode; the columns of results.csv."""

    env_steps: Array  # of the run, at the episode's end
    episode_return: Array
    length: Array
    violation: Array  # 0 or 1
    violation_while_recovering: Array  # 0 or 1
    success: Array  # 0 or 1
    recoveries: Array  # steps on which the recovery policy acted


class Progress(NamedTuple):
    """Holds a running episode."""

    state: State
    length: Array
    episode_return: Array
    recoveries: Array


class RunState(NamedTuple):
    """Holds all that one run's next step needs (keys are counted, not carried)."""

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
    """Holds the keys that one step of a run draws from."""

    sample: Key
    learn: Key
    act: Key
    move: Key
    reset: Key


def step_keys(key: Key, env_steps: Array) -> StepKeys:
    """Makes the keys of a run's step.

    Args:
      key: the run's; not consumed, so that every step counts its own.
      env_steps: [] int32, number of the step.
    """
    return StepKeys(*jax.random.split(jax.random.fold_in(key, env_steps), 5))


def write_record(records: EpisodeRecord, at: Array, record: EpisodeRecord):
    """Writes one record at an index; an index out of range writes nothing.

    Args:
      records: [N]
      at: [] int32.
      record: of one episode, [].
    """
    return jax.tree.map(lambda x, y: x.at[at].set(y, mode="drop"), records, record)
