"""Report of what `evaluate` estimated: records, tables and figures of a workdir."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from mesa_jax import evaluation
from mesa_jax.configuration import Configuration
from mesa_jax.evaluation.metrics import BINS
from mesa_jax.methods import METHODS
from mesa_jax.phases.training import training_transitions
from mesa_jax.report import comparison, decisions, quality
from mesa_jax.report.comparison import Cell, Summary
from mesa_jax.report.decisions import Reliability
from mesa_jax.report.statistics import Curve
from mesa_jax.study import files, records, resolve
from mesa_jax.study.artifacts.data import load_test_bodies
from mesa_jax.study.artifacts.truth import Truth, heldout_bodies, load_test_truth
from mesa_jax.study.estimates import Saved, read
from mesa_jax.study.quality import (
    outside_of,
    own_steps,
    pooled,
    records_of,
    with_own_rule,
)
from mesa_jax.study.records import OWN, WITHOUT_ADAPTATION
from mesa_jax.study.study import Asked, Study

from . import risk_maps
from .figures import save_figures

THRESHOLDS = 200  # of the false-safe against false-alarm curve


class Quality(NamedTuple):
    """What is reported of a workdir."""

    settings: Configuration
    summary: Summary
    estimates: Sequence[Saved]
    truths: Mapping[str, Truth]
    transitions: int  # of the tables and figures that show one number of them

    def titled(self, what: str) -> str:
        return f"{what}: {self.settings.domain}, {self.settings.tasks} bodies"

    @property
    def bodies(self) -> str:
        """Says over which bodies and meta-seeds means are."""
        seeds = len(self.summary.meta_seeds)
        more = f", means over {seeds} meta-training seeds" * (seeds > 1)
        return f"{self.summary.bodies} test bodies{more}"


def report(study: Study, asked: Asked) -> None:
    """Writes risk_quality.csv and .json and the figures; prints the tables."""
    settings, place = study.configuration, study.folder
    found = [with_own_rule(settings, saved) for saved in read(study, asked.seeds)]
    bodies = load_test_bodies(study, asked.seeds)
    of = {x.method: study.of(x.method) for x in found if x.method in METHODS}
    truths = {name: load_test_truth(mine, bodies) for name, mine in of.items()}
    truth = truths[WITHOUT_ADAPTATION] = load_test_truth(study, bodies)
    held = {  # another meta-seed's are of the same workdir
        (x.method, x.meta_seed): heldout_bodies(
            of[x.method]._replace(meta_seed=x.meta_seed)
        ).truth
        for x in found
        if x.method in of
    }
    rows = records_of(settings, found, truths, held)
    methods = {saved.method for saved in found}
    summary = comparison.summarize(
        rows,
        own_steps(settings, found),
        float(np.mean(jax.vmap(evaluation.noise_floor)(truth.halves))),
        risk_threshold=settings.recovery.risk_threshold,
        training_transitions={
            name: training_transitions(resolve.of_method(settings, name), row.prior)
            for name, row in METHODS.items()
            if name in methods
        },
        outside=outside_of(found),
    )
    records.QUALITY.write(place, rows)
    files.write_json(place / "risk_quality.json", comparison.to_json(summary))
    counts = settings.quality.transitions
    shown = min(counts, key=lambda count: abs(count - settings.data.adaptation))
    print(comparison.tables(summary, shown))
    for line in _remarks(summary, shown):
        print(line)
    about = Quality(settings, summary, found, truths, shown)
    figures = {
        "risk_error.png": error_figure(about),
        "risk_reliability.png": reliability_figure(about),
        "risk_tradeoff.png": tradeoff_figure(about),
        "risk_maps_bodies.png": risk_maps.of_test_bodies(study, asked),
    }
    save_figures("evaluate", place, figures)


def _remarks(summary: Summary, transitions: int) -> Iterator[str]:
    """Yields what else is said below the tables, and warnings."""
    yield (
        f"{summary.bodies} test bodies, meta-seeds {summary.meta_seeds}; 95 % "
        f"bootstrap intervals over bodies. The noise of the truth, "
        f"{summary.noise_floor:.5f}, is not in the squared errors."
    )
    drawn = summary.training_transitions.items()
    amounts = [f"{method} {count / 1e6:.1f}" for method, count in drawn if count]
    yield f"Transitions drawn in training, millions: {', '.join(amounts)}."
    for (method, count), found in summary.outside.items():
        if count == transitions:
            yield (
                f"{method}: by its encoding {100 * found.test:.0f} % of the test "
                f"bodies and {100 * found.held_out:.0f} % of the held-out training "
                "bodies lie outside what it was trained on (AUROC "
                f"{found.auroc:.2f})."
            )
    for method in summary.own_steps:
        share = summary.own(method, transitions)["collapsed"].mean
        if share > 0:
            yield (
                f"Warning: adapted to {100 * share:.0f} % of the bodies, the critic of "
                f"{method} has collapsed: it calls every state safe, or none."
            )


def error_figure(about: Quality) -> Figure:
    """Draws squared error against adaptation steps and transitions, all methods."""
    summary = about.summary

    def curve(cells: dict[int, Cell]) -> Curve:
        values = [summary.cells[cell]["squared_error"] for cell in cells.values()]
        return Curve(np.array([*cells], float), *np.array(values, float).T)

    by_steps: dict[int, dict[str, Curve]] = {}
    for count in about.settings.quality.transitions:
        by_steps[count] = {}
        for method in summary.own_steps:
            mine = {
                cell.steps: cell
                for cell in summary.cells
                if cell[:2] == (method, count) and cell.steps != OWN
            }
            if mine:
                by_steps[count][method] = curve(mine)
    by_transitions: dict[str, dict[str, Curve]] = {}
    for view, steps_of in comparison.views(summary.own_steps).items():
        by_transitions[view] = {}
        for method, steps in steps_of.items():
            mine = {
                cell.transitions: cell
                for cell in summary.cells
                if (cell.method, cell.steps) == (method, steps)
            }
            if mine:
                by_transitions[view][method] = curve(mine)
    without = summary.cells[Cell(WITHOUT_ADAPTATION, 0, 0)]["squared_error"]
    return quality.errors(
        about.titled("Error of the risk measure"),
        f"Squared error to the simulator's risk, over {about.bodies}.",
        by_steps,
        by_transitions,
        floor=summary.noise_floor,
        without_adaptation=without.mean,
    )


def reliability_figure(about: Quality) -> Figure:
    """Draws mean truth against mean prediction, before and after adaptation."""
    summary, count = about.summary, about.transitions
    curves: dict[str, dict[str, Reliability]] = {}
    for method, own in summary.own_steps.items():
        stages = {"after adaptation": own}
        if METHODS[method].prior != "scratch":
            stages = {"before adaptation": 0} | stages
        curves[method] = {}
        for stage, steps in stages.items():
            pairs = pooled(about.estimates, about.truths, method, count, steps)
            error = summary.cells[Cell(method, count, steps)]["calibration_error"].mean
            bins = map(np.asarray, evaluation.bins(*pairs))
            curves[method][stage] = Reliability(*bins, error)
    return decisions.reliability(
        about.titled("Calibration"),
        f"{BINS} bins of equal mass over all decision states of "
        f"{about.bodies}; {count} adaptation transitions. Error: mean distance to "
        "the diagonal, body by body.",
        curves,
    )


def tradeoff_figure(about: Quality) -> Figure:
    """Draws false-safe against false-alarm rate over all risk thresholds."""
    threshold, count = about.settings.recovery.risk_threshold, about.transitions
    asked = jnp.linspace(0.0, 1.0, THRESHOLDS)
    curves, points = {}, {}
    for method, steps in about.summary.own_steps.items():
        pairs = pooled(about.estimates, about.truths, method, count, steps)
        curve = evaluation.tradeoff(*pairs, threshold, asked)
        point = evaluation.tradeoff(*pairs, threshold, jnp.array([threshold]))
        curves[method] = tuple(map(np.asarray, curve))
        points[method] = tuple(float(rate[0]) for rate in point)
    return decisions.safety_tradeoff(
        about.titled("Dangers missed against false alarms"),
        f"All decision states of {about.bodies}; {count} adaptation transitions, each "
        "method at its own number of steps. A state is dangerous where its true risk "
        f"exceeds {threshold:g}.",
        curves,
        points,
    )
