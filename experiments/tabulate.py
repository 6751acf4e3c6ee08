"""One table a metric over several evaluated workdirs, in Markdown.

python -m experiments.tabulate --workdirs=DIR,DIR,... --rows=200
"""

import pathlib

from absl import flags as absl_flags

from mesa_jax.runtime import files, flags, quality_results
from mesa_jax.runtime.quality_results import COMPARISON, OURS, WITHOUT_ADAPTATION
from mesa_jax.runtime.tables import markdown
from mesa_jax.runtime.workdir import WorkdirError
from mesa_jax.settings import SettingError

METRICS = {"squared_error": (1, 4), "wrong_decisions": (100, 1), "false_safe": (100, 0)}


def summaries(places: list[str]) -> list[dict]:
    """What `evaluate` wrote in each workdir.

    Raises:
      WorkdirError: naming one that was not evaluated.
    """
    found = []
    for place in places:
        path = pathlib.Path(place) / "risk_quality.json"
        if not path.exists():
            raise WorkdirError(f"{place} is not evaluated: it has no {path.name}.")
        found.append(files.read_json(path))
    return found


def cell(values: dict, scale: float, digits: int) -> str:
    """Mean and half the width of its 95 % interval; "-" where there is none."""
    if values["mean"] is None:
        return "-"
    half = (values["high"] - values["low"]) / 2
    return f"{scale * values['mean']:.{digits}f} ± {scale * half:.{digits}f}"


def line(summary: dict, metric: str, rows: int) -> dict[str, str]:
    """The cells of one workdir by heading; what was not asked is missing."""
    scale, digits = METRICS[metric]
    methods = summary["methods"]
    cells = {"bodies": f"{summary['domain']} `{summary['tasks']}`"}
    none = methods[WITHOUT_ADAPTATION]["0"]["0"][metric]
    cells["no adaptation"] = cell(none, scale, digits)
    few, own = quality_results.views(summary["own_steps"]).items()
    for (view, steps_of), end, baseline in (
        (few, f"{quality_results.FEW_STEPS} steps", "multi_task_few"),
        (own, "own steps", "multi_task"),
    ):
        for method in ("recovery_rl", baseline, OURS):
            asked = methods.get(method, {}).get(str(rows), {})
            values = asked.get(str(steps_of.get(method)))
            if values is not None:
                cells[f"{method}, {end}"] = cell(values[metric], scale, digits)
        share = summary[COMPARISON][view].get(str(rows), {}).get(baseline)
        if metric == "squared_error" and share is not None:
            mean, low, high = (100 * share[k] for k in ("mean", "low", "high"))
            head = f"{OURS} / {baseline}, {end}"
            cells[head] = f"{mean:.0f} % [{low:.0f}, {high:.0f}]"
    return cells


def tables(found: list[dict], rows: int) -> str:
    """A table a metric, a line a workdir."""
    parts = []
    for metric in METRICS:
        lines = [line(summary, metric, rows) for summary in found]
        heads = list(dict.fromkeys(head for cells in lines for head in cells))
        body = [[cells.get(head, "-") for head in heads] for cells in lines]
        title = quality_results.HEADERS[metric][0]
        parts.append(f"{title}, {rows} transitions:\n{markdown([heads, *body])}")
    over = {(s["bodies"], tuple(s["meta_seeds"])) for s in found}
    notes = " / ".join(f"{bodies} bodies, meta-seeds {list(m)}" for bodies, m in over)
    return "\n\n".join([*parts, f"Mean ± half a 95 % bootstrap interval; {notes}."])


def main() -> None:
    given = absl_flags.FLAGS
    if not given.workdirs:
        raise SettingError("workdirs", "", "a list of evaluated workdirs")
    print(tables(summaries(given.workdirs), given.rows))


if __name__ == "__main__":
    absl_flags.DEFINE_list("workdirs", [], "evaluated workdirs, one line each")
    absl_flags.DEFINE_integer("rows", 200, "adaptation transitions")
    flags.run(main)
