"""Reads the online runs of a study: the one place that knows how their states lie.

Nothing is computed. Shapes of what is restored are those of what made it, faults and
variants included. A run's transitions lie behind its adaptation set, in order.
"""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mesa_jax import adaptation, sharding
from mesa_jax.configuration import Configuration
from mesa_jax.keys import Stage, root_key
from mesa_jax.methods import METHODS
from mesa_jax.rollout import EpisodeRecord, RunState
from mesa_jax.settings import SettingError
from mesa_jax.study import batches, checkpoints
from mesa_jax.study.artifacts.adapted import initial_states
from mesa_jax.study.artifacts.data import Bodies
from mesa_jax.study.batches import Batch, Run
from mesa_jax.study.records import Path
from mesa_jax.study.study import Study
from mesa_jax.system import System
from mesa_jax.types import Params, Task, Transition


def states_like(system: System, batch: Batch) -> RunState:
    """Returns the shapes of a batch's states, [runs, ...].

    Args:
      system: of the batch's methods.
    """

    def make():
        bodies = _some_bodies(system, batch)
        params = dict.fromkeys(batch.methods, _fresh(system, bodies))
        return initial_states(system, batch, bodies, params, {})

    return jax.eval_shape(make)


def params_like(system: System, batch: Batch) -> tuple:
    """Returns the shapes of an adapted critic and recovery policy a seed, [S, ...]."""
    return jax.eval_shape(lambda: _fresh(system, _some_bodies(system, batch)))


def _fresh(system: System, bodies: Bodies) -> tuple:
    keys = bodies.keys(Stage.PRIOR_INIT)
    return adaptation.from_scratch(system, keys, bodies.rows).params


def _some_bodies(system: System, batch: Batch) -> Bodies:
    """Makes bodies and adaptation sets of the right shapes."""
    seeds, domain = len(batch.seeds), system.domain
    lead, spec = (seeds, system.configuration.data.adaptation), domain.spec
    observations = jnp.zeros((*lead, spec.observation_size))
    actions, numbers = jnp.zeros((*lead, spec.action_size)), jnp.zeros(lead)
    rows = Transition(observations, actions, numbers, numbers, numbers, observations)
    roots = jax.vmap(root_key)(jnp.arange(seeds))
    tasks = domain.test_tasks(jax.random.key(0), seeds)
    return Bodies(batch.seeds, roots, tasks, rows)


def restored(study: Study, batch: Batch) -> tuple[int, RunState]:
    """Reads a batch's last undamaged checkpoint: its step and the states, [runs, ...].

    Args:
      study: as it is for the batch's methods.

    Raises:
      NoCheckpointError: if there is none; says how to go on.
      CheckpointError: if something else made it.
    """
    place, made_by = study.folder, batch.made_by(study.common)
    like = states_like(study.system, batch)
    found = checkpoints.restore_latest(batch.checkpoints(place), like, made_by)
    if found is None:
        raise checkpoints.NoCheckpointError(
            f"{batch.checkpoints(place)} holds no undamaged checkpoint. To run its "
            f"{len(batch.runs())} runs again from their start, delete that folder and "
            f"{batch.manifest(place)}, and give the same command."
        )
    return found


def require_same(study: Study) -> None:
    """Checks that a study's configuration made every online run that it holds.

    Raises:
      CheckpointError: naming what differs.
    """
    for batch, _ in batches.stored(study.folder):
        made_by = batch.made_by(study.common)
        checkpoints.require_made_by(batch.checkpoints(study.folder), made_by)


def run_of(states: RunState, row: int) -> RunState:
    """Returns the state of one run of a batch; NumPy arrays."""
    return sharding.read(_row_of(states, row))


@jax.jit
def _row_of(states: RunState, row: int) -> RunState:
    return jax.tree.map(lambda x: x[row], states)


def body_of(settings: Configuration, state: RunState) -> Task:
    """Returns a run's body, without the fault that strikes it."""
    return state.task.body if settings.fault else state.task


def transitions_of(settings: Configuration, state: RunState) -> Transition:
    """Returns a run's own transitions; rows behind the last one are empty."""
    begin = settings.data.adaptation
    return jax.tree.map(lambda x: x[begin:], state.safety_replay.rows)


def adaptation_of(settings: Configuration, state: RunState) -> Transition:
    """Returns the transitions [n, ...] that a run's body was adapted on."""
    end = settings.data.adaptation
    return jax.tree.map(lambda x: x[:end], state.safety_replay.rows)


def paths_of(settings: Configuration, state: RunState) -> list[Path]:
    """Returns the way of each finished episode through the plane."""
    rows, records = transitions_of(settings, state), state.records
    lengths = records.length[: int(state.episode)]
    ends = lengths.cumsum()
    return [
        Path(
            np.vstack([rows.observation[start:end], rows.next_observation[end - 1]]),
            bool(violation),
        )
        for start, end, violation in zip(
            ends - lengths, ends, records.violation, strict=False
        )
    ]


def require_every_step(state: RunState) -> None:
    """Raises CheckpointError if a run does not remember each of its steps."""
    if state.task_replay.added != state.env_steps:
        raise checkpoints.CheckpointError(
            f"The run took {state.env_steps} steps and remembers "
            f"{state.task_replay.added}: some were not finite, so its episodes "
            "can not be told apart."
        )


class Recorded(NamedTuple):
    """Holds an episode of L steps as its run remembers it."""

    task: Task
    number: int  # from 1 on, as in results.csv
    start: int  # steps of the run before its first
    episode_return: float
    recoveries: int
    proposed: np.ndarray | None  # [L, A]; None where the executed was put in its place
    action: np.ndarray  # [L, A] executed
    violated: np.ndarray  # [L] bool
    next_observation: np.ndarray  # [L, D]

    @property
    def recovered(self) -> np.ndarray | None:
        """Returns whether the recovery policy acted, [L]; None where nothing tells."""
        steps = len(self.action)
        if self.proposed is not None:
            return (self.proposed != self.action).any(-1)
        if self.recoveries in (0, steps):
            return np.full(steps, self.recoveries > 0)
        return None


def episode_of(settings: Configuration, state: RunState, episode: int) -> Recorded:
    """Returns a finished episode of a run.

    Args:
      episode: from 1 on, as in results.csv; or from -1, the last, backwards.

    Raises:
      SettingError: if the run has not finished that episode.
      CheckpointError: if it lacks steps of the run.
    """
    finished = int(state.episode)
    number = episode + finished + 1 if episode < 0 else episode
    if not 1 <= number <= finished:
        allowed = f"1 to {finished} (so many are finished), or -1 (the last) backwards"
        raise SettingError("episode", episode, allowed)
    require_every_step(state)
    records = EpisodeRecord(*(values[number - 1] for values in state.records))
    start = int(state.records.length[: number - 1].sum())
    steps = slice(start, start + records.length)
    executed = jax.tree.map(lambda x: x[steps], transitions_of(settings, state))
    proposed = state.task_replay.rows.action[steps]
    return Recorded(
        task=state.task,
        number=number,
        start=start,
        episode_return=float(records.episode_return),
        recoveries=int(records.recoveries),
        proposed=proposed if settings.online.relabel == "proposed" else None,
        action=executed.action,
        violated=executed.cost > 0.5,
        next_observation=executed.next_observation,
    )


class Shown(NamedTuple):
    """Holds what is drawn of a method on a test body."""

    task: Task
    critic: Params  # adapted, before the first online step
    paths: list[Path]  # of each finished online episode
    adaptation: Transition | None = None  # [n, ...] what it was adapted on


def shown_runs(study: Study) -> dict[tuple[int, int], dict[str, Shown]]:
    """Reads the constrained methods' runs that have begun.

    By (meta-seed, seed) and method; those with settings of their own are left out.
    """
    found: dict[tuple[int, int], dict[str, Shown]] = {}
    for batch, _ in batches.stored(study.folder):
        if not batch.thresholds and not METHODS[batch.methods[0]].settings:
            for run, shown in _shown(study, batch):
                mine = found.setdefault((batch.meta_seed, run.seed), {})
                mine[run.method] = shown
    return found


def _shown(study: Study, batch: Batch) -> Iterator[tuple[Run, Shown]]:
    place, settings = study.folder, study.configuration
    methods = [name for name in batch.methods if METHODS[name].constrained]
    if not methods or not checkpoints.steps(batch.checkpoints(place)):
        return
    like, made_by = params_like(study.system, batch), batch.made_by(study.common)
    adapted = checkpoints.restore_latest(
        batch.adapted(place), dict.fromkeys(methods, like), made_by
    )
    try:
        _, states = restored(study, batch)
    except checkpoints.NoCheckpointError as error:
        print(f"Warning: no risk map of {', '.join(methods)}: {error}")
        return
    if adapted is None:
        seeds = ", ".join(map(str, batch.seeds))
        print(
            f"Warning: no risk map of {', '.join(methods)}, seeds {seeds}: "
            f"{batch.adapted(place)} holds no undamaged checkpoint of their adapted "
            "critics. Their results stand; the same launch in a new --workdir has both."
        )
        return
    for row, run in enumerate(batch.runs()):
        if run.method in methods:
            state, at = run_of(states, row), batch.seeds.index(run.seed)
            critic = jax.tree.map(lambda x: x[at], adapted[1][run.method][0])  # noqa: B023
            paths = paths_of(settings, state)
            rows = adaptation_of(settings, state)
            yield run, Shown(body_of(settings, state), critic, paths, rows)
