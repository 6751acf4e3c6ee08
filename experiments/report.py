"""One page about one or several workdirs: a file that loads nothing from outside.

python -m experiments.report --workdir=DIR

The verdict, tables, curves and every figure that the workdir has, risk maps over
adaptation steps, where the recovery policy acted, films, settings and how all was made.
--workdir=A,B sets workdirs beside each other, with their differences.
"""

import pathlib
import string
from collections.abc import Sequence

from absl import flags as absl_flags

from mesa_jax.report import page, side_by_side, verdict
from mesa_jax.report.page import Compared, Lacking, Table
from mesa_jax.settings import SettingError
from mesa_jax.study import files, gathering, inventory, store
from mesa_jax.study.resolve import differences
from mesa_jax.study.study import Study
from mesa_jax.study.timelines import timelines

from . import compare, flags, report_lacks, report_parts, risk_steps
from .ls import size
from .summary import online_runs, save_summary

ONE, SEVERAL = "index.html", "compared.html"  # in a workdir's report
NAMES = string.ascii_uppercase


def report(
    places: Sequence[pathlib.Path], output: pathlib.Path | None = None, maps=True
) -> pathlib.Path:
    """Writes the page of some workdirs and returns its path.

    Args:
      output: the page's file; None: in the first workdir's report.
      maps: whether maps over adaptation steps are drawn, which takes simulations.

    Raises:
      SettingError: on more workdirs than have a name.
      WorkdirError, ResultsError, CheckpointError, DamagedFileError: where one is no
        workdir, or holds what can not be read.
    """
    if len(places) > len(NAMES):
        raise SettingError("workdir", len(places), f"at most {len(NAMES)} workdirs")
    alone = len(places) == 1
    names = [""] if alone else NAMES[: len(places)]
    told = [told_of(one, name, maps) for one, name in zip(places, names, strict=True)]
    compared = [
        compared_of(places[0], other, name)
        for other, name in zip(places[1:], names[1:], strict=True)
    ]
    output = output or places[0] / "report" / (ONE if alone else SEVERAL)
    return files.write_atomically(output, page.html(told, compared))


def told_of(place: pathlib.Path, name: str, maps: bool) -> page.Workdir:
    """What the page tells of a workdir.

    Args:
      name: what the page calls it; "" where it is the only one.
    """
    inventory.require_workdir(place)
    settings = store.stored_settings(place)
    study, found = Study(place, settings), gathering.gathered(place)
    online, summary = online_runs(study), None
    if any(row["stage"] == "train" for row in online.rows):
        summary = save_summary(place, online)
    runs, lost = timelines(study)
    lines, longest = report_parts.lines_of(runs)
    methods = list(summary["methods"]) if summary else []
    told = page.Workdir(
        name=name,
        place=str(place),
        title=f"{settings.domain}, {settings.tasks} bodies: safety while learning",
        facts=[*report_parts.facts(study)],
        verdict=report_parts.said(settings, summary) if summary else [],
        tables=report_parts.tables_of(summary) if summary else [],
        methods=report_parts.methods_of(methods),
        pictures=report_parts.pictures_of(found.figures, summary),
        stops=report_parts.stops_of(risk_steps.over_steps(study)) if maps else [],
        lines=lines,
        longest=longest,
        films=[*report_parts.films_of(found.films)],
        changed=gathering.changed(settings),
        own=gathering.of_methods(settings, methods),
        settings=gathering.every(settings),
        launches=report_parts.launches_of(found.launches),
        flags=found.flags,
    )
    lacking = report_lacks.lacking(study, told, maps)
    left_out = [Lacking(f"Left out: {why}") for why in lost]
    lacking["timelines"] = [*lacking.get("timelines", ()), *left_out]
    return told._replace(lacking=lacking)


def compared_of(first: pathlib.Path, other: pathlib.Path, name: str) -> Compared:
    """The difference of two workdirs, A and another.

    Args:
      name: of the other.
    """
    title, a = f"{name} beside A", NAMES[0]
    differ = differences(*(store.read_settings(place) for place in (first, other)))
    settings = [(flag, str(ours), str(theirs)) for flag, ours, theirs in differ]
    empty = [place for place in (first, other) if not inventory.finished_rows(place)]
    if empty:
        said = f"Nothing to compare: {empty[0]} has no finished run."
        return Compared(title, [said], [], settings)
    ours, theirs = (compare.measures_of(place) for place in (first, other))
    pairs = [(method, method) for method in ours if method in theirs]
    if not pairs:
        return Compared(title, ["No method is in both."], [], settings)
    found = side_by_side.differences(ours, theirs, pairs)
    cells = side_by_side.lines(ours, theirs, found, (a, name))
    tables = [Table(_heading(m), lines[0], lines[1:]) for m, lines in cells.items()]
    says = [verdict.between(found, a, name), SCOPE.format(a=a, b=name)]
    return Compared(title, says, tables, settings)


SCOPE = """Means over the test bodies (seeds) that both have; {b} less {a} is paired by
    body, with its 95 % bootstrap interval. p: exact sign-flip test, corrected for the
    number of methods. Told apart is what interval and test both tell from zero. Seeds
    are the same bodies where domain and tasks are."""


def _heading(measure: str) -> str:
    return measure[0].upper() + measure[1:]


def main() -> None:
    places, given = flags.paths("workdir"), absl_flags.FLAGS
    if not places:
        raise SettingError("workdir", "", "given")
    output = flags.path("output") if given.output else None
    written = report(places, output)
    print(f"[report] {written} ({size(written.stat().st_size)})")


if __name__ == "__main__":
    absl_flags.DEFINE_list("workdir", None, "one or several workdirs (required)")
    absl_flags.DEFINE_string(
        "output",
        None,
        "file of the page (default report/index.html of the workdir; of several, "
        "report/compared.html of the first)",
    )
    flags.run(main)
