"""Summary table and figures of a workdir.

python -m experiments.plot --workdir=DIR
"""

import pathlib

from experiments.maps import risk_maps
from mesa_jax.agents import METHODS
from mesa_jax.runtime import flags, report, results, workdir


def plot(place: pathlib.Path) -> None:
    """Writes summary.json and the figures; prints the table and where they lie.

    Raises:
      ResultsError: if there is no finished episode.
    """
    summary = results.summarize(place)
    print(results.table(summary))
    figures = _curves(place, summary)
    settings = workdir.stored_settings(place)
    maps = risk_maps(place, settings) if settings else None
    if maps is not None:
        figures["risk_maps.png"] = maps
    for name, figure in figures.items():
        print(f"[plot] {report.save(figure, place / 'report' / name)}")


def _curves(place: pathlib.Path, summary: dict) -> dict[str, report.Figure]:
    """Violations, successes and their ratio against the training episode."""
    rows = results.read(place)
    violations, successes, ratios = {}, {}, {}
    for method in summary["methods"]:
        violated, succeeded = (
            results.so_far(results.curves(rows, method, column))
            for column in ("violation", "success")
        )
        violations[method] = report.curve(violated)
        successes[method] = report.curve(succeeded)
        ratios[method] = report.curve(results.ratios(rows, method))
    title = (
        f"{summary['domain']}, {summary['tasks']} bodies: safety while learning online"
    )
    constrained = [name for name in violations if METHODS[name].constrained]
    return {
        "violations_and_successes.png": report.counts(
            title, violations, successes, constrained
        ),
        "ratio.png": report.ratio(title, ratios),
    }


def main() -> None:
    plot(flags.workdir())


if __name__ == "__main__":
    flags.define_workdir()
    flags.run(main)
