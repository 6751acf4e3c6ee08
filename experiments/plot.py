"""Summary table and figures of a workdir.

python -m experiments.plot --workdir=DIR
"""

import pathlib

import jax

from experiments.maps import risk_maps
from mesa_jax.agents import METHODS
from mesa_jax.domains import DOMAINS
from mesa_jax.pipeline import Stage, stage_key
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
    figures = _curves(place, summary)
    maps = risk_maps(place, settings)
    if maps is not None:
        figures["risk_maps.png"] = maps
    for name, figure in figures.items():
        print(f"[plot] {report.save(figure, place / 'report' / name)}")


def summary_of(place: pathlib.Path, settings: config.Settings) -> dict:
    """Writes and returns the summary; which bodies can succeed the domain says."""
    domain = DOMAINS[settings.domain].make(settings.tasks)
    solvable = {}
    for seed in results.seeds(results.read(place)):
        tasks = domain.test_tasks(stage_key(seed, Stage.TEST_TASK), 1)
        solvable[seed] = bool(jax.vmap(domain.solvable)(tasks)[0])
    return results.summarize(place, solvable)


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
