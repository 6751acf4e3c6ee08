"""Tables over several evaluated workdirs, in Markdown.

python -m experiments.tabulate --workdirs=DIR,DIR,... --transitions=20,200
python -m experiments.tabulate --workdirs=DIR,... --cells=mesa:own,mesa:5,context:own

Of the cells METHOD:STEPS (`own`: as many as the method takes; unasked, each method so)
the squared error, its share of the first cell's, paired by body, and what the filter
test on test bodies found.
"""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from absl import flags as absl_flags

from mesa_jax.methods import METHODS
from mesa_jax.report import comparison, filter_test
from mesa_jax.report.comparison import Cell
from mesa_jax.report.statistics import ratio
from mesa_jax.report.tables import markdown
from mesa_jax.settings import SettingError, whole
from mesa_jax.study.files import DamagedFileError
from mesa_jax.study.filtering import FILTER
from mesa_jax.study.records import OWN, QUALITY, WITHOUT_ADAPTATION, Row
from mesa_jax.study.store import WorkdirError

from . import flags

MOST = 1_000_000  # transitions or steps of a cell


class Evaluated(NamedTuple):
    """What `evaluate` wrote of a workdir."""

    errors: list[Row]  # risk_quality.csv
    filters: list[Row]  # filter_test.csv, of test bodies

    @property
    def bodies(self) -> str:
        return f"{self.errors[0]['domain']} `{self.errors[0]['tasks']}`"


def evaluated(place: pathlib.Path) -> Evaluated:
    """Reads what `evaluate` wrote in a workdir.

    Raises:
      WorkdirError: naming one that was not evaluated.
      DamagedFileError, ResultsError: naming a file that is another one.
    """
    path = place / QUALITY.file
    if not path.exists():
        raise WorkdirError(f"{place} is not evaluated: it has no {path.name}.")
    errors = QUALITY.read(place)
    if not errors:
        raise DamagedFileError(f"{path} has no record. {QUALITY.advice}")
    filters = [row for row in FILTER.read(place) if row["bodies"] == "test"]
    return Evaluated(errors, filters)


def parse_cells(texts: Sequence[str]) -> list[tuple[str, int]]:
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


def own_cells(found: Sequence[Evaluated]) -> list[tuple[str, int]]:
    """Returns a cell of each method that a workdir has, after its own steps."""
    there = {row["method"] for one in found for row in one.errors}
    return [(method, OWN) for method in METHODS if method in there]


def error_tables(
    found: Sequence[Evaluated],
    counts: Sequence[int],
    cells: Sequence[tuple[str, int]],
) -> str:
    """Writes squared errors of cells, in thousandths, and shares of the first's.

    A share, in per cent, is over the meta-seeds that both have.

    Args:
      counts: of adaptation transitions.
      cells: methods and steps.
    """
    heads = [f"{m}, {'own' if s == OWN else s}" for m, s in cells]
    errors = [["bodies", "transitions", "no adaptation", *heads]]
    shares = [["bodies", "transitions", *heads[1:]]]
    for one in found:
        for count in counts:
            asked = [
                comparison.own_cell(one.errors, method, count)
                if steps == OWN
                else Cell(method, count, steps)
                for method, steps in cells
            ]
            means = [
                comparison.over_bodies(*comparison.paired(one.errors, cell))
                for cell in (Cell(WITHOUT_ADAPTATION, 0, 0), *asked)
            ]
            ratios = [
                ratio(*comparison.paired(one.errors, cell, asked[0]))
                for cell in asked[1:]
            ]
            about = [one.bodies, str(count)]
            errors.append([*about, *(comparison.shown(x, 1000, 1) for x in means)])
            shares.append([*about, *(comparison.shown(x, 100) for x in ratios)])
    titles = "Squared error, thousandths", f"Its share of that of {heads[0]}, %"
    both = zip(titles, (errors, shares), strict=True)
    return "\n\n".join(f"{title}:\n{markdown(lines)}" for title, lines in both)


def about(found: Sequence[Evaluated]) -> str:
    """Says over how many bodies and which meta-seeds means and intervals are."""
    lines = []
    for one in found:
        seeds: dict[str, set[int]] = {}
        for row in one.errors:
            if row["method"] != WITHOUT_ADAPTATION:
                seeds.setdefault(row["method"], set()).add(row["meta_seed"])
        groups: dict[tuple, list[str]] = {}
        for method, some in seeds.items():
            groups.setdefault(tuple(sorted(some)), []).append(method)
        bodies = len({row["seed"] for row in one.errors})
        each = (f"{', '.join(names)}: {list(some)}" for some, names in groups.items())
        lines.append(f"{one.bodies}: {bodies} bodies, meta-seeds of {'; '.join(each)}.")
    return "\n".join(lines)


def main() -> None:
    given = absl_flags.FLAGS
    if not given.workdirs:
        raise SettingError("workdirs", "", "a list of evaluated workdirs")
    counts = [whole(count, MOST) for count in given.transitions]
    if not counts or None in counts:
        asked = ",".join(given.transitions)
        raise SettingError("transitions", asked, "numbers, as 20,200")
    cells = parse_cells(given.cells)
    found = [evaluated(place) for place in flags.paths("workdirs")]
    print(error_tables(found, counts, cells or own_cells(found)))
    for one in [one for one in found if one.filters]:
        print(f"\nFilter test, {one.bodies}:\n{filter_test.table(one.filters)}")
    print(f"\n{about(found)}")


if __name__ == "__main__":
    absl_flags.DEFINE_list("workdirs", [], "evaluated workdirs, one line each")
    absl_flags.DEFINE_list("transitions", "200", "numbers of adaptation transitions")
    absl_flags.DEFINE_list("cells", "", "METHOD:STEPS,... to compare with the first")
    flags.run(main)
