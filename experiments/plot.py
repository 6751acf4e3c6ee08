"""Summary table and figures of a workdir.

python -m experiments.plot --workdir=DIR
"""

import pathlib
import textwrap

import numpy as np
from matplotlib.figure import Figure

from mesa_jax.configuration import Configuration
from mesa_jax.domains.fault_notation import describe, parse
from mesa_jax.methods import METHODS
from mesa_jax.report import curves, measures, statistics, tables, verdict
from mesa_jax.report.statistics import Curve
from mesa_jax.report.summary import OnlineRuns
from mesa_jax.study import store
from mesa_jax.study.study import Study

from . import after_fault, flags, risk_maps
from .figures import save_figures
from .summary import online_runs, save_summary

POINTS = 401  # of a curve over environment steps
BETTER = (
    "How probably a run of the row's method violates less than one of the column's in "
    "the same body (a tie counts half):"
)
LETTERS = 88  # of a line of the verdict


def plot(place: pathlib.Path) -> None:
    """Writes summary.json and the figures; prints table, their places and the verdict.

    Raises:
      WorkdirError: if it is no workdir.
      ResultsError: if there is no finished episode.
    """
    settings = store.settings_of(place)
    study = Study(place, settings)
    online = online_runs(study)
    summary = save_summary(place, online)
    print(tables.table(summary))
    if better := tables.improvements(summary):
        print(f"\n{BETTER}\n\n{better}")
    figures = curve_figures(settings, online, summary)
    figures["after_fault.png"] = after_fault.strip_of(study, summary)
    figures["risk_maps.png"] = risk_maps.of_a_run(study)
    save_figures("plot", place, figures)
    print(f"\n{tables.brief(summary)}")
    fault = describe(parse(settings.fault)) if settings.fault else ""
    for paragraph in verdict.verdict(summary, fault).split("\n\n"):
        print(f"\n{textwrap.fill(paragraph, LETTERS)}")


def curve_figures(
    settings: Configuration, online: OnlineRuns, summary: dict
) -> dict[str, Figure]:
    """Draws violations, and successes with their ratio or returns, over the run."""
    steps, axis, grid = online.steps, curves.EPISODES, None
    if steps:
        axis, grid = curves.STEPS_TAKEN, np.linspace(0, steps, POINTS)

    def lines(name: str) -> dict[str, Curve]:
        return {
            method: statistics.curve(
                measures.curves(online.rows, method, name, grid), grid
            )
            for method in summary["methods"]
        }

    title = f"{settings.domain}, {settings.tasks} bodies: safety while learning online"
    if settings.fault:
        title = f"{settings.domain}, {describe(parse(settings.fault))}"
    name = "successes" if online.has_success else "returns"
    figures = {
        f"violations_and_{name}.png": curves.counts(
            title,
            lines("violations"),
            lines(name),
            [m for m in summary["methods"] if METHODS[m].constrained],
            curves.SUCCESSES if online.has_success else curves.RETURNS,
            _struck_at(online),
            axis,
        )
    }
    if online.has_success:
        figures["ratio.png"] = curves.ratio(title, lines("ratio"), axis)
    return figures


def _struck_at(online: OnlineRuns) -> float | None:
    """Returns where faults struck: the mean step, or episodes that ended before."""
    if not online.struck:
        return None
    if online.steps:
        return float(np.mean(list(online.struck.values())))
    before = [
        (run["env_steps"] <= online.struck[seed]).sum()
        for method in {row["method"] for row in online.rows}
        for seed, mine in measures.runs(online.rows, method).items()
        for run in mine
    ]
    return float(np.mean(before))


def main() -> None:
    plot(flags.workdir())


if __name__ == "__main__":
    flags.define_workdir()
    flags.run(main)
