"""Reads, step by step, where the recovery policy acted and what was violated."""

from collections.abc import Mapping

import numpy as np

from mesa_jax.methods import METHODS
from mesa_jax.replay import Replay
from mesa_jax.rollout import EpisodeRecord, RunState
from mesa_jax.study import batches, checkpoints, episodes
from mesa_jax.study.artifacts.reference import onset
from mesa_jax.study.batches import Run
from mesa_jax.study.records import Timeline
from mesa_jax.study.study import Study
from mesa_jax.types import Transition


def ends_of(state: RunState) -> np.ndarray:
    """Returns the run's step at which each finished episode ended, [E]."""
    return state.records.length[: int(state.episode)].cumsum()


def timeline_of(
    study: Study, run: Run, state: RunState, struck_at: int | None = None
) -> Timeline:
    """Returns the timeline of a run, up to the end of its last finished episode.

    Args:
      study: as it is for the run's method, of its meta-seed.
      struck_at: the run's step at which its fault strikes; None for no fault.

    Raises:
      CheckpointError: if the run does not remember each of its steps.
    """
    episodes.require_every_step(state)
    settings, ends = study.configuration, ends_of(state)
    last = int(ends[-1]) if len(ends) else 0
    executed, recovered = episodes.transitions_of(settings, state), None
    if settings.online.relabel == "proposed":
        proposed = state.task_replay.rows.action[:last]
        recovered = (proposed != executed.action[:last]).any(-1)
    violated = executed.cost[:last] > 0.5
    about = run.method, study.meta_seed, run.seed
    return Timeline(*about, violated, recovered, struck_at)


def timelines(study: Study) -> tuple[list[Timeline], list[str]]:
    """Reads the timelines of all runs, and says which are left out and why.

    They are in the table's order; runs of other thresholds are no part of it.
    """
    found, lost, struck = [], [], {}
    for batch, _ in batches.stored(study.folder):
        folder = batch.checkpoints(study.folder)
        if batch.thresholds or not checkpoints.steps(folder):
            continue
        read = checkpoints.read_latest(folder, batch.made_by(study.common))
        if read is None:
            lost.append(f"{folder} holds no undamaged checkpoint.")
            continue
        for row, run in enumerate(batch.runs()):
            if study.common.fault and run.seed not in struck:
                struck[run.seed] = onset(study.system, run.seed)
            mine = study.of(run.method)._replace(meta_seed=batch.meta_seed)
            state = _remembered(read[1], row)
            try:
                found.append(timeline_of(mine, run, state, struck.get(run.seed)))
            except checkpoints.CheckpointError as error:
                lost.append(f"{run.method}, seed {run.seed}: {error}")
    order = list(METHODS)
    key = lambda one: (order.index(one.method), one.seed, one.meta_seed)  # noqa: E731
    return sorted(found, key=key), lost


def _remembered(leaves: Mapping[str, np.ndarray], row: int) -> RunState:
    """A run's state with what a timeline needs alone: shapes of the rest take long."""

    def replayed(name: str, *fields: str) -> Replay:
        rows = {field: leaves[f"{name}.rows.{field}"][row] for field in fields}
        empty = Transition(*[None] * len(Transition._fields))
        return Replay(empty._replace(**rows), leaves[f"{name}.added"][row], None)

    empty = EpisodeRecord(*[None] * len(EpisodeRecord._fields))
    return RunState(*[None] * len(RunState._fields))._replace(
        task_replay=replayed("task_replay", "action"),
        safety_replay=replayed("safety_replay", "action", "cost"),
        env_steps=leaves["env_steps"][row],
        episode=leaves["episode"][row],
        records=empty._replace(length=leaves["records.length"][row]),
    )
