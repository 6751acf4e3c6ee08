"""Figures of what `evaluate` saved: error, calibration, price of carefulness."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from mesa_jax import configuration, evaluation
from mesa_jax.methods import METHODS
from mesa_jax.report import comparison, quality
from mesa_jax.report.comparison import WITHOUT_ADAPTATION
from mesa_jax.report.quality import Line, Reliability
from mesa_jax.study.artifacts.truth import Truth
from mesa_jax.study.estimates import Saved
from mesa_jax.types import Array

THRESHOLDS = 200  # of the false-safe against false-alarm curve


class Shown(NamedTuple):
    """What the figures show."""

    settings: configuration.Configuration
    summary: dict  # of `quality_results.summarize`
    found: list[Saved]
    truth: Truth
    rows: int  # adaptation transitions of the figures that show one number of them


def _title(settings: configuration.Configuration, what: str) -> str:
    return f"{what}: {settings.domain}, {settings.tasks} bodies"


def _over(summary: dict) -> str:
    seeds = len(summary["meta_seeds"])
    return (
        f"{summary['bodies']} test bodies"
        + f", means over {seeds} meta-training seeds" * (seeds > 1)
    )


def _line(cells: dict[int, dict], metric: str) -> Line:
    """From {x: {metric: estimate}}."""
    x = sorted(cells)
    values = [[cells[at][metric][k] for at in x] for k in ("mean", "low", "high")]
    return Line(np.array(x, float), *map(np.array, values))


def errors(shown: Shown) -> Figure:
    """Squared error against adaptation steps and transitions, all methods."""
    settings, summary = shown.settings, shown.summary
    methods, own = summary["methods"], summary["own_steps"]
    by_steps = {
        rows: {
            method: _line(
                {
                    int(k): v
                    for k, v in methods[method][str(rows)].items()
                    if int(k) != comparison.OWN
                },
                "squared_error",
            )
            for method in own
            if str(rows) in methods[method]
        }
        for rows in settings.quality.transitions
    }
    by_rows = {}
    for name, steps_of in comparison.views(own).items():
        cells = {
            method: {
                int(rows): values[str(steps)]
                for rows, values in methods[method].items()
                if str(steps) in values
            }
            for method, steps in steps_of.items()
        }
        by_rows[name] = {
            method: _line(values, "squared_error")
            for method, values in cells.items()
            if values
        }
    return quality.errors(
        _title(settings, "Error of the risk measure"),
        f"Squared error to the simulator's risk, over {_over(summary)}.",
        by_steps,
        by_rows,
        floor=summary["noise_floor"],
        without_adaptation=methods[WITHOUT_ADAPTATION]["0"]["0"]["squared_error"][
            "mean"
        ],
    )


def _pooled(shown: Shown, method: str, steps: int) -> tuple[Array, Array] | None:
    """(predictions, truths), both flat over meta-seeds, bodies and states, or None."""
    mine = [s.at(shown.rows, steps) for s in shown.found if s.method == method]
    mine = [values for values in mine if values is not None]
    if not mine:
        return None
    true = np.concatenate([shown.truth.risk.ravel()] * len(mine))
    return jnp.asarray(np.concatenate([v.ravel() for v in mine])), jnp.asarray(true)


def reliability(shown: Shown) -> Figure:
    """Mean truth against mean prediction, before and after adaptation."""
    settings, summary, rows = shown.settings, shown.summary, shown.rows
    curves = {}
    for method, own in summary["own_steps"].items():
        stages = {"after adaptation": own}
        if METHODS[method].prior != "scratch":
            stages = {"before adaptation": 0} | stages
        curves[method] = {}
        for stage, steps in stages.items():
            pairs = _pooled(shown, method, steps)
            predicted, true = map(np.asarray, evaluation.bins(*pairs))
            error = summary["methods"][method][str(rows)][str(steps)]
            curves[method][stage] = Reliability(
                predicted, true, error["calibration_error"]["mean"]
            )
    return quality.reliability(
        _title(settings, "Calibration"),
        f"{evaluation.BINS} bins of equal mass over all decision states of "
        f"{_over(summary)}; {rows} adaptation transitions. Error: mean distance to "
        "the diagonal, body by body.",
        curves,
    )


def tradeoff(shown: Shown) -> Figure:
    """False-safe against false-alarm rate over all risk thresholds."""
    settings, summary, rows = shown.settings, shown.summary, shown.rows
    threshold = settings.recovery.risk_threshold
    asked = jnp.linspace(0.0, 1.0, THRESHOLDS)
    curves, points = {}, {}
    for method, steps in summary["own_steps"].items():
        pairs = _pooled(shown, method, steps)
        curve = evaluation.tradeoff(*pairs, threshold, asked)
        point = evaluation.tradeoff(*pairs, threshold, jnp.array([threshold]))
        curves[method] = tuple(map(np.asarray, curve))
        points[method] = tuple(float(rate[0]) for rate in point)
    return quality.safety_tradeoff(
        _title(settings, "Dangers missed against false alarms"),
        f"All decision states of {_over(summary)}; {rows} adaptation transitions, each "
        f"method at its own number of steps. A state is dangerous where its true risk "
        f"exceeds {threshold:g}.",
        curves,
        points,
    )
