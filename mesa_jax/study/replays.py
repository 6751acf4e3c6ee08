"""Replays of finished online runs as datasets, one a run (`--save_replay`)."""

import dataclasses
import pathlib

import jax

from mesa_jax.rollout import RunState
from mesa_jax.study import batches, datasets
from mesa_jax.study.artifacts import naming
from mesa_jax.study.batches import Batch, Run
from mesa_jax.study.episodes import body_of, restored, run_of, transitions_of
from mesa_jax.study.study import Study


def save_replays(
    study: Study, methods: tuple[str, ...], seeds: tuple[int, ...]
) -> list[pathlib.Path]:
    """Writes a dataset a finished run (`--save_replay`); returns their folders.

    Those that were made before are among them.
    """
    asked = set(Batch(methods, seeds, study.meta_seed).runs())
    places = []
    for batch, finished in batches.stored(study.folder):
        mine = batch.meta_seed == study.meta_seed and not batch.thresholds
        if finished and mine and asked & set(batch.runs()):
            theirs = study.of(batch.methods[0])
            _, states = restored(theirs, batch)
            places += [
                _save_replay(theirs, run, run_of(states, row))
                for row, run in enumerate(batch.runs())
                if run in asked
            ]
    return places


def _save_replay(study: Study, run: Run, state: RunState) -> pathlib.Path:
    settings, domain = study.configuration, study.system.domain
    name = f"replay-{run.method}-meta{study.meta_seed}-seed{run.seed}"
    place = study.folder / "datasets" / naming.domain_folder(settings) / name
    count = int(state.safety_replay.added) - settings.data.adaptation
    rows = jax.tree.map(lambda x: x[:count], transitions_of(settings, state))
    about = {
        "domain": settings.domain,
        "task_distribution": settings.tasks,
        "generator": f"online run of {run.method}: executed actions",
        "fault": settings.fault,
        "physics": dataclasses.asdict(settings.physics),
        "seed": run.seed,
        "meta_seed": study.meta_seed,
        "horizon": domain.spec.horizon,
        "termination": "an episode ends at a violation, at the goal, or its length",
    }
    one = rows, body_of(settings, state)
    datasets.save(place, *jax.tree.map(lambda x: x[None], one), about)
    return place
