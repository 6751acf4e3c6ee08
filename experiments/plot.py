"""Summary table and figures of a workdir.

python -m experiments.plot --workdir=DIR
"""

import pathlib

import numpy as np

from experiments.maps import risk_maps
from experiments.summary import onset, summary_of
from mesa_jax.agents import METHODS
from mesa_jax.domains.fault_text import describe, parse
from mesa_jax.runtime import config, flags, report, results, workdir


def plot(place: pathlib.Path) -> None:
    """Writes summary.json and the figures; prints the table and where they lie.

    Raises:
      WorkdirError: if it is no workdir.
      ResultsError: if there is no finished episode.
    """
    settings = workdir.stored_settings(place)
    if settings is None:
        raise workdir.WorkdirError(
            f"{place} is no workdir: it has no {workdir.CONFIG}."
        )
    summary = summary_of(place, settings)
    print(results.table(summary))
    figures = _curves(place, settings, summary)
    maps = risk_maps(place, settings)
    if maps is not None:
        figures["risk_maps.png"] = maps
    for name, figure in figures.items():
        print(f"[plot] {report.save(figure, place / 'report' / name)}")


def _curves(
    place: pathlib.Path, settings: config.Settings, summary: dict
) -> dict[str, report.Figure]:
    """Violations, and successes with their ratio or returns, against the episode."""
    rows, by_success = results.read(place), summary["has_success"]
    name, column, average, words = (
        ("successes", "success", results.so_far, report.SUCCESSES)
        if by_success
        else ("returns", "return", results.running_mean, report.RETURNS)
    )
    violations, outcome = {}, {}
    for method in summary["methods"]:
        violated = results.curves(rows, method, "violation")
        violations[method] = report.curve(results.so_far(violated))
        outcome[method] = report.curve(average(results.curves(rows, method, column)))
    title = (
        f"{summary['domain']}, {summary['tasks']} bodies: safety while learning online"
    )
    if settings.fault:
        title = f"{summary['domain']}, {describe(parse(settings.fault))}"
    constrained = [m for m in violations if METHODS[m].constrained]
    figures = {
        f"violations_and_{name}.png": report.counts(
            title,
            violations,
            outcome,
            constrained,
            words,
            _struck_episode(settings, rows),
        )
    }
    if by_success:
        ratios = {m: report.curve(results.ratios(rows, m)) for m in violations}
        figures["ratio.png"] = report.ratio(title, ratios)
    return figures


def _struck_episode(settings: config.Settings, rows: list) -> float | None:
    """The mean number of episodes that ended before the fault struck."""
    if not settings.fault:
        return None
    before = [
        (ends <= onset(settings, seed)).sum(1).mean()
        for method in {row["method"] for row in rows}
        for seed, ends in results.runs(rows, method, "env_steps").items()
    ]
    return float(np.mean(before))


def main() -> None:
    plot(flags.workdir())


if __name__ == "__main__":
    flags.define_workdir()
    flags.run(main)
