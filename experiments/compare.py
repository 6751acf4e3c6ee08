"""Compares the finished runs of two workdirs, or of a table of results and a workdir.

python -m experiments.compare A B

A and B are workdirs, or CSV files with a line a method and seed (as those of
experiments/results). Methods stand side by side and are paired by seed, which is the
same body in both where domain and tasks are; the intervals are bootstrap intervals
over seeds. --methods=mesa,mesa:context picks methods, A's and B's.
"""

import csv
import io
import pathlib

from absl import flags as absl_flags

from mesa_jax.report import side_by_side
from mesa_jax.report.side_by_side import Measures
from mesa_jax.settings import known
from mesa_jax.study import inventory
from mesa_jax.study.artifacts.reference import onset
from mesa_jax.study.documents import UNLIKE
from mesa_jax.study.records import ResultsError, seeds
from mesa_jax.study.resolve import differences
from mesa_jax.study.store import read_settings
from mesa_jax.study.study import Study

from . import flags


def measures_of(place: pathlib.Path) -> Measures:
    """Reads the measures of a workdir's finished runs, or of a table of results.

    Raises:
      WorkdirError, ResultsError: if it is neither, or holds no finished run.
    """
    found = _of_table(place) if place.is_file() else _of_workdir(place)
    if not found:
        raise ResultsError(f"{place} holds no finished run.")
    return found


def _of_workdir(place: pathlib.Path) -> Measures:
    inventory.require_workdir(place)
    settings, rows = read_settings(place), inventory.finished_rows(place)
    system = Study(place, settings).system if settings.fault else None
    struck = {seed: onset(system, seed) for seed in seeds(rows)} if system else None
    return side_by_side.measured(rows, struck)


def _of_table(path: pathlib.Path) -> Measures:
    found: Measures = {}
    try:
        text = io.StringIO(path.read_text(encoding="utf-8"), newline="")
        for line in csv.DictReader(text, strict=True):
            method, seed = line.pop("method"), str(int(line.pop("seed")))
            measures = found.setdefault(method, {})
            for name in (n for n in side_by_side.SHOWN if n in line):
                values = measures.setdefault(name, {})
                if seed in values:
                    raise ValueError(f"{method} has two lines of seed {seed}")
                values[seed] = float(line[name] or "nan")
    except (*UNLIKE, csv.Error) as error:
        wanted = "a line a method and seed, with the columns method and seed"
        raise ResultsError(
            f"{path} is no table of results ({wanted}): {error}."
        ) from None
    return found


def pairs_of(
    ours: Measures, theirs: Measures, asked: list[str]
) -> list[tuple[str, str]]:
    """Returns which method of A is compared with which of B.

    Raises:
      SettingError: if one that was asked for is not there.
      ResultsError: if none was asked for, and none is in both.
    """
    split = [text.partition(":") for text in asked]
    pairs = [(a, b or a) for a, _, b in split]
    for a, b in pairs:
        known("methods", a, ours)
        known("methods", b, theirs)
    pairs = pairs or [(name, name) for name in ours if name in theirs]
    if not pairs:
        raise ResultsError(
            f"no method is in both: {', '.join(ours)} in A, {', '.join(theirs)} in B. "
            "Pair them by --methods=ONE_OF_A:ONE_OF_B."
        )
    return pairs


def _other_settings(*places: pathlib.Path) -> str:
    """Says by what configurations differ, where both are workdirs."""
    try:
        ours, theirs = (read_settings(place) for place in places if place.is_dir())
    except ValueError:  # one is a table
        return ""
    rows = differences(ours, theirs)
    return "".join(f"  --{flag}: {a!r} in A, {b!r} in B\n" for flag, a, b in rows)


def main(*places: pathlib.Path) -> None:
    ours, theirs = map(measures_of, places)
    pairs = pairs_of(ours, theirs, absl_flags.FLAGS.methods)
    for letter, place in zip("AB", places, strict=True):
        print(f"{letter}: {place}")
    if other := _other_settings(*places):
        print(f"their configurations differ:\n{other}", end="")
    found = side_by_side.differences(ours, theirs, pairs)
    print(f"\n{side_by_side.compared(ours, theirs, found)}")


if __name__ == "__main__":
    absl_flags.DEFINE_list("methods", [], "of A, or pairs A's:B's; all that both have")
    flags.run(main, "A", "B")
