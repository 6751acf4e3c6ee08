"""Replays of finished online runs as datasets, one a run (`--save_replay`)."""

import dataclasses
import pathlib

import jax
import numpy as np

from mesa_jax.study import batches, datasets
from mesa_jax.study.episodes import restored
from mesa_jax.study.study import Launch
from mesa_jax.system import build
from mesa_jax.types import Transition


def save_replays(launch: Launch) -> list[pathlib.Path]:
    """Folders of the launch's finished runs' datasets, those made before among them."""
    asked = batches.Batch(launch.methods, launch.seeds, launch.meta_seed).runs()
    places = []
    for batch, finished in batches.stored(launch.workdir):
        mine = batch.meta_seed == launch.meta_seed and not batch.thresholds
        if finished and mine and set(asked) & set(batch.runs()):
            places += _save_batch(launch.of(batch.methods[0]), batch, asked)
    return places


def _save_batch(launch, batch: batches.Batch, asked) -> list[pathlib.Path]:
    settings, built = launch.settings, build(launch.settings)
    _, states = restored(launch.workdir, settings, built, batch)
    places = []
    tasks = states.task.body if settings.fault else states.task
    for i, run in enumerate(batch.runs()):
        if run not in asked:
            continue
        name = f"replay-{run.method}-meta{batch.meta_seed}-seed{run.seed}"
        place = launch.workdir / "datasets" / settings.domain / name
        one = jax.tree.map(lambda x: np.asarray(x[i]), states.safety_replay)  # noqa: B023
        rows = _online_rows(one, settings.data.adaptation)
        about = {
            "domain": settings.domain,
            "task_distribution": settings.tasks,
            "generator": f"online run of {run.method}: executed actions",
            "fault": settings.fault,
            "physics": dataclasses.asdict(settings.physics),
            "seed": run.seed,
            "meta_seed": batch.meta_seed,
            "horizon": built.domain.spec.horizon,
            "termination": "an episode ends at a violation, at the goal, or its length",
        }
        body = jax.tree.map(lambda x: np.asarray(x[i])[None], tasks)  # noqa: B023
        datasets.save(place, jax.tree.map(lambda x: x[None], rows), body, about)
        places.append(place)
    return places


def _online_rows(held, adaptation: int) -> Transition:
    """What lies behind the adaptation set, in the order of the run."""
    return jax.tree.map(lambda x: x[adaptation : int(held.added)], held.rows)
