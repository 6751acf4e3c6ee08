"""Summary table and figures of a workdir.

python -m experiments.plot --workdir=DIR
"""

import pathlib

import numpy as np

from mesa_jax.domains.fault_notation import describe, parse
from mesa_jax.methods import METHODS
from mesa_jax.report import curves, statistics, tables
from mesa_jax.study import records, store
from mesa_jax.study.artifacts.reference import onset
from mesa_jax.study.study import Study

from . import flags
from .risk_maps import risk_maps
from .summary import summary_of

POINTS = 401  # of a curve over environment steps


def plot(place: pathlib.Path) -> None:
    """Writes summary.json and the figures; prints the table and where they lie.

    Raises:
      WorkdirError: if it is no workdir.
      ResultsError: if there is no finished episode.
    """
    settings = store.stored_settings(place)
    if settings is None:
        raise store.WorkdirError(f"{place} is no workdir: it has no {store.CONFIG}.")
    study = Study(place, settings)
    summary = summary_of(study)
    print(tables.table(summary))
    figures = _curves(study, summary)
    maps = risk_maps(study)
    if maps is not None:
        figures["risk_maps.png"] = maps
    for name, figure in figures.items():
        print(f"[plot] {curves.save(figure, place / 'report' / name)}")


def _curves(study: Study, summary: dict) -> dict[str, curves.Figure]:
    """Violations, and successes with their ratio or returns, over the run."""
    settings = study.configuration
    rows = statistics.ended(records.read(study.folder), summary["unfinished"])
    by_success = summary["has_success"]
    steps, axis, grid = settings.online.steps, curves.EPISODES, None
    if steps:
        axis, grid = curves.STEPS_TAKEN, np.linspace(0, steps, POINTS)

    def lines(name: str) -> dict[str, curves.Curve]:
        return {
            method: curves.curve(statistics.curves(rows, method, name, grid), grid)
            for method in summary["methods"]
        }

    title = (
        f"{summary['domain']}, {summary['tasks']} bodies: safety while learning online"
    )
    if settings.fault:
        title = f"{summary['domain']}, {describe(parse(settings.fault))}"
    name = "successes" if by_success else "returns"
    figures = {
        f"violations_and_{name}.png": curves.counts(
            title,
            lines("violations"),
            lines(name),
            [m for m in summary["methods"] if METHODS[m].constrained],
            curves.SUCCESSES if by_success else curves.RETURNS,
            _struck_at(study, rows),
            axis,
        )
    }
    if by_success:
        figures["ratio.png"] = curves.ratio(title, lines("ratio"), axis)
    return figures


def _struck_at(study: Study, rows: list) -> float | None:
    """Where the fault struck: the mean step, or number of episodes ended before it."""
    settings = study.configuration
    if not settings.fault:
        return None
    onsets = {seed: onset(study.system, seed) for seed in records.seeds(rows)}
    if settings.online.steps:
        return float(np.mean(list(onsets.values())))
    before = [
        (run["env_steps"] <= onsets[seed]).sum()
        for method in {row["method"] for row in rows}
        for seed, mine in statistics.runs(rows, method).items()
        for run in mine
    ]
    return float(np.mean(before))


def main() -> None:
    plot(flags.workdir())


if __name__ == "__main__":
    flags.define_workdir()
    flags.run(main)
