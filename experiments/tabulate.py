"""Tables over several evaluated workdirs, in Markdown.

python -m experiments.tabulate --workdirs=DIR,DIR,... --transitions=200
python -m experiments.tabulate --workdirs=DIR,... --transitions=20,200 --cells=mesa:5

One table a metric; or, of the cells METHOD:STEPS (`own`: as many as the method takes),
the squared error, and its share of the first cell's, paired by body.
"""

import itertools
import pathlib
from collections.abc import Sequence

import numpy as np
from absl import flags as absl_flags

from mesa_jax.methods import METHODS
from mesa_jax.report import comparison
from mesa_jax.report.comparison import OURS, Cell, Summary
from mesa_jax.report.statistics import Interval, ratio
from mesa_jax.report.tables import estimate, markdown
from mesa_jax.settings import SettingError, whole
from mesa_jax.study import documents
from mesa_jax.study.files import DamagedFileError
from mesa_jax.study.records import OWN, QUALITY, WITHOUT_ADAPTATION, Row
from mesa_jax.study.store import WorkdirError

from . import flags

MOST = 1_000_000  # transitions or steps of a cell
METRICS = {"squared_error": (1, 4), "wrong_decisions": (100, 1), "false_safe": (100, 0)}


def summaries(places: Sequence[pathlib.Path]) -> list[Summary]:
    """Reads what `evaluate` wrote in each workdir.

    Raises:
      WorkdirError: naming one that was not evaluated.
      DamagedFileError: naming one that was by another version, or is another file.
    """
    found = []
    for place in places:
        path = place / "risk_quality.json"
        if not path.exists():
            raise WorkdirError(f"{place} is not evaluated: it has no {path.name}.")
        found.append(documents.read_json(path, comparison.from_json, QUALITY.advice))
    return found


def half_width(value: Interval, scale: float, digits: int) -> str:
    """Writes a mean and half the width of its interval; "-" without both."""
    if np.isnan(value.mean):
        return "-"
    mean = f"{scale * value.mean:.{digits}f}"
    half = scale * (value.high - value.low) / 2
    return mean if np.isnan(half) else f"{mean} ± {half:.{digits}f}"


def line(summary: Summary, metric: str, transitions: int) -> dict[str, str]:
    """Returns the cells of one workdir by heading; what was not asked is missing."""
    scale, digits = METRICS[metric]
    without = summary.cells[Cell(WITHOUT_ADAPTATION, 0, 0)][metric]
    cells = {"bodies": f"{summary.domain} `{summary.tasks}`"}
    cells["no adaptation"] = half_width(without, scale, digits)
    few, own = comparison.views(summary.own_steps).items()
    for (view, steps_of), end, baseline in (
        (few, f"{comparison.FEW_STEPS} steps", "multi_task_few"),
        (own, "own steps", "multi_task"),
    ):
        for method in ("recovery_rl", baseline, OURS):
            asked = Cell(method, transitions, steps_of.get(method))
            if asked in summary.cells:
                value = summary.cells[asked][metric]
                cells[f"{method}, {end}"] = half_width(value, scale, digits)
        share = summary.ratios[view].get((transitions, baseline))
        if metric == "squared_error" and share and not np.isnan(share.mean):
            head = f"{OURS} / {baseline}, {end}"
            mean, _, ends = estimate(share._asdict(), 100, 0).partition(" ")
            cells[head] = f"{mean} % {ends}".rstrip()
    return cells


def tables(found: Sequence[Summary], transitions: int) -> str:
    """Writes a table a metric, a line a workdir."""
    parts = []
    for metric in METRICS:
        lines = [line(summary, metric, transitions) for summary in found]
        heads = list(dict.fromkeys(head for cells in lines for head in cells))
        body = [[cells.get(head, "-") for head in heads] for cells in lines]
        title = comparison.HEADERS[metric][0]
        table = markdown([heads, *body])
        parts.append(f"{title}, {transitions} transitions:\n{table}")
    over = {(s.bodies, tuple(s.meta_seeds)) for s in found}
    notes = " / ".join(f"{bodies} bodies, meta-seeds {list(m)}" for bodies, m in over)
    about = f"Mean ± half a 95 % bootstrap interval, where there is one; {notes}."
    return "\n\n".join([*parts, about])


def parse_cells(texts: list[str]) -> list[tuple[str, int]]:
    """Takes methods and numbers of steps of "mesa:5", "mesa_context:own".

    Raises:
      SettingError: naming one that is neither.
    """
    found = []
    for text in texts:
        method, _, steps = text.strip().partition(":")
        count = OWN if steps == "own" else whole(steps, MOST)
        if method not in METHODS or count is None:
            allowed = "METHOD:STEPS, of a row of METHODS, steps a number or `own`"
            raise SettingError("cells", text, allowed)
        found.append((method, count))
    return found


def error_tables(
    places: Sequence[pathlib.Path],
    counts: Sequence[int],
    cells: Sequence[tuple[str, int]],
) -> str:
    """Writes squared errors of cells, and their shares of the first's in per cent.

    Over the meta-seeds that all methods have in a workdir, so that they are paired.

    Args:
      counts: of adaptation transitions.
      cells: methods and steps.

    Raises:
      DamagedFileError: naming a risk_quality.csv that is missing or another file.
    """
    heads = [f"{m}, {'own' if s == OWN else s}" for m, s in cells]
    errors, shares = [["bodies", "transitions", *heads]], []
    for place, count in itertools.product(places, counts):
        records = _records(place)
        about = [f"{records[0]['domain']} `{records[0]['tasks']}`", str(count)]
        seeds = [
            {r["meta_seed"] for r in records if r["method"] == method}
            for method, _ in cells
        ]
        asked = [some for some in seeds if some]
        common = set.intersection(*asked) if asked else set()
        values = [
            comparison.by_body(
                records, Cell(method, count, steps), "squared_error", common
            )
            for method, steps in cells
        ]
        found = [comparison.over_bodies(one) for one in values]
        errors.append([*about, *(comparison.shown(one, 1) for one in found)])
        found = [ratio(one, values[0]) for one in values[1:]]
        shares.append([*about, *(comparison.shown(one, 100) for one in found)])
    first = [["bodies", "transitions", *heads[1:]]]
    title = f"Its share of that of {heads[0]}, %:"
    return "\n\n".join(
        ["Squared error:\n" + markdown(errors), f"{title}\n{markdown(first + shares)}"]
    )


def _records(place: pathlib.Path) -> list[Row]:
    path = place / QUALITY.file
    if not path.exists():
        raise DamagedFileError(f"{path} is missing. {QUALITY.advice}")
    records = QUALITY.read(place)
    if not records:
        raise DamagedFileError(f"{path} has no record. {QUALITY.advice}")
    return records


def main() -> None:
    given = absl_flags.FLAGS
    if not given.workdirs:
        raise SettingError("workdirs", "", "a list of evaluated workdirs")
    counts = [whole(count, MOST) for count in given.transitions]
    if not counts or None in counts:
        raise SettingError(
            "transitions", ",".join(given.transitions), "numbers, as 20,200"
        )
    places = flags.paths("workdirs")
    found = summaries(places)
    if given.cells:
        print(error_tables(places, counts, parse_cells(given.cells)))
        return
    print("\n\n".join(tables(found, count) for count in counts))


if __name__ == "__main__":
    absl_flags.DEFINE_list("workdirs", [], "evaluated workdirs, one line each")
    absl_flags.DEFINE_list("transitions", "200", "numbers of adaptation transitions")
    absl_flags.DEFINE_list("cells", "", "METHOD:STEPS,... to compare with the first")
    flags.run(main)
