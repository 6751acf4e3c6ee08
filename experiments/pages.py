"""Draws how priors were trained, a page each."""

import pathlib

import numpy as np

from mesa_jax.methods import METHODS
from mesa_jax.report import training
from mesa_jax.study import metrics_log
from mesa_jax.study.artifacts import naming
from mesa_jax.study.study import Study

from .figures import save_figures


def draw_training(study: Study, methods: tuple[str, ...]) -> None:
    """Draws the pages of the methods' priors that have none yet, and says where."""
    for method in methods:
        mine, kind = study.of(method), METHODS[method].prior
        if kind != "scratch":
            name = naming.prior_name(mine.configuration, kind, study.meta_seed)
            path = study.folder / "report" / f"training_{name}.png"
            if not path.exists() and (found := page(study.folder, name, kind)):
                save_figures("meta_train", study.folder, {path.name: found})


def page(place: pathlib.Path, name: str, kind: str) -> training.Figure | None:
    """Draws the training of a prior from metrics.jsonl; None if nothing is there."""
    series: dict[str, tuple[list, list]] = {}
    for record in metrics_log.read(place):
        if record["stage"] == name:
            for key, value in record["values"].items():
                steps, values = series.setdefault(key, ([], []))
                steps.append(record["step"])
                values.append(value)
    lines = {key: tuple(map(np.array, pair)) for key, pair in series.items()}
    return training.prior_page(name, kind, lines)
