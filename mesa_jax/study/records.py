"""results.csv: one row an online episode; and what records of others have in common."""

import contextlib
import csv
import io
import pathlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from mesa_jax.methods import METHODS
from mesa_jax.rollout import EpisodeRecord
from mesa_jax.study import files

COLUMNS = [
    *("domain", "tasks", "method", "meta_seed", "seed", "stage", "episode"),
    *("env_steps", "return", "length", "violation", "violation_while_recovering"),
    *("success", "recoveries"),
]
TEXT = ("domain", "tasks", "method", "stage")
STAGES = ("train", "evaluate")
FILE = "results.csv"

WITHOUT_ADAPTATION = "without_adaptation"  # the training bodies' mean truth
OWN = -1  # in place of a number of steps: as a method's own rule has it for each body

Row = dict[str, Any]


class Path(NamedTuple):
    """The way of an online episode of L steps through a plane."""

    points: np.ndarray  # [L + 1, 2]
    violation: bool  # at its end


class ResultsError(ValueError):
    """A results.csv that can not be read; names the file and the line."""


def read(workdir: pathlib.Path) -> list[Row]:
    """All rows of a workdir; none where there is no file yet."""
    path = workdir / FILE
    if not path.exists():
        return []
    try:
        reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))
        if reader.fieldnames != COLUMNS:
            raise ResultsError(
                f"{path}: its columns are {reader.fieldnames}, not {COLUMNS}."
            )
        return [_typed(path, line, row) for line, row in enumerate(reader, 2)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ResultsError(f"{path} can not be read: {error}.") from None


def readable(workdir: pathlib.Path) -> list[Row]:
    """The rows of a damaged results.csv that can be read."""
    path, rows = workdir / FILE, []
    for line in path.read_bytes().splitlines()[1:]:
        with contextlib.suppress(UnicodeDecodeError, csv.Error, ResultsError):
            row = next(csv.DictReader([line.decode("utf-8")], COLUMNS), {})
            rows.append(_typed(path, 0, row))
    return rows


def run_of(row: Row) -> tuple[str, int, int]:
    """The run that a row is of: method, meta-seed and seed."""
    return row["method"], row["meta_seed"], row["seed"]


def write(workdir: pathlib.Path, rows: list[Row]) -> None:
    """Writes results.csv: the runs of each method in one order, as METHODS has them."""
    order = list(METHODS)
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted(rows, key=lambda r: (order.index(r["method"]), run_of(r))))
    files.write_atomically(workdir / FILE, text.getvalue())


def replace_runs(workdir: pathlib.Path, rows: list[Row], runs: Iterable = ()) -> None:
    """Writes the rows of some runs in place of what results.csv had of them.

    Args:
      runs: those, as of `run_of`, that may have no row, besides the ones that have.
    """
    theirs = {*map(run_of, rows), *runs}
    kept = [row for row in read(workdir) if run_of(row) not in theirs]
    write(workdir, kept + rows)


def append(workdir: pathlib.Path, rows: list[Row]) -> None:
    """Adds rows at the end, where `replace_runs` has written the runs before.

    What the file has is not read, so that a chunk costs what it gave.
    """
    text = io.StringIO()
    csv.DictWriter(text, COLUMNS, lineterminator="\n").writerows(rows)
    with open(workdir / FILE, "a", encoding="utf-8") as file:
        file.write(text.getvalue())


def rows_of(
    run: Row,
    records: EpisodeRecord,
    episodes: int,
    stage: str,
    every: int,
    first: int = 0,
) -> list[Row]:
    """Rows of one run's records up to `episodes`; `every` episodes lie between two.

    Args:
      first: how many records to leave out at the start.
    """
    rows = []
    for i in range(first, episodes):
        values = {k: value[i] for k, value in records._asdict().items()}
        returned = round(float(values.pop("episode_return")), 4)
        values = {k: int(value) for k, value in values.items()} | {"return": returned}
        rows.append(run | {"stage": stage, "episode": (i + 1) * every} | values)
    return [{name: row[name] for name in COLUMNS} for row in rows]


def seeds(rows: list[Row]) -> list[int]:
    """Every seed that has an episode, ascending."""
    return sorted({row["seed"] for row in rows})


def _typed(path: pathlib.Path, line: int, row: Row) -> Row:
    typed = dict(row)
    try:
        for name in COLUMNS:
            if name not in TEXT:
                typed[name] = float(row[name]) if name == "return" else int(row[name])
        if len(row) != len(COLUMNS) or row["method"] not in METHODS:
            raise ValueError
        if row["stage"] not in STAGES:
            raise ValueError
    except (KeyError, TypeError, ValueError):
        bad = list(row.values())
        raise ResultsError(f"{path}, line {line} can not be read: {bad}.") from None
    return typed
