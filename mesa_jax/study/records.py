"""Records of a study: its CSV files, and the episodes that a report draws."""

import contextlib
import csv
import io
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mesa_jax.errors import UserError
from mesa_jax.methods import METHODS
from mesa_jax.run_state import EpisodeRecord
from mesa_jax.study import files
from mesa_jax.study.documents import UNLIKE
from mesa_jax.study.files import DamagedFileError

STAGES = ("train", "evaluate")
WITHOUT_ADAPTATION = "without_adaptation"  # the training bodies' mean truth
OWN = -1  # in place of a number of steps: as a method's own rule has it for each body

Row = dict[str, Any]


class ResultsError(UserError, ValueError):
    """Names a file of online runs that can not be read, and the line."""


class Table(NamedTuple):
    """Describes a CSV file of a workdir: a head, and a line a record."""

    file: str
    columns: Mapping[str, Callable[[str], Any]]  # by name, how a value is read
    key: tuple[str, ...]  # columns; records that agree in them are replaced together
    order: Callable[[Row], Any] | None = None  # the key by which lines are sorted
    advice: str = ""  # what to do about a file that can not be read
    error: type[ValueError] = DamagedFileError  # what is raised then
    digits: int | None = None  # decimals of floats as they are written; None: all

    def key_of(self, record: Row) -> tuple:
        """Returns a record's values of the key's columns."""
        return tuple(record[name] for name in self.key)

    def read(self, workdir: pathlib.Path) -> list[Row]:
        """Returns the records of a workdir; none where there is no file yet.

        Raises:
          DamagedFileError, ResultsError: as the table has it, naming file and line.
        """
        path, reader, found = workdir / self.file, None, []
        if not path.exists():
            return []
        try:
            text = path.read_text(encoding="utf-8")
            reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
            if tuple(reader.fieldnames or ()) != tuple(self.columns):
                raise ValueError(f"its columns are not {', '.join(self.columns)}")
            for line in reader:
                found.append(self._typed(line))
        except (*UNLIKE, csv.Error) as error:
            where = f" in line {reader.line_num}" if reader else ""
            message = f"{path} can not be read{where}: {error}. {self.advice}"
            raise self.error(message.rstrip()) from None
        return found

    def readable(self, workdir: pathlib.Path) -> list[Row]:
        """Returns the records of a damaged file that can be read."""
        found = []
        for line in (workdir / self.file).read_bytes().splitlines()[1:]:
            with contextlib.suppress(*UNLIKE, csv.Error):
                row = next(csv.DictReader([line.decode("utf-8")], [*self.columns]), {})
                found.append(self._typed(row))
        return found

    def write(self, workdir: pathlib.Path, records: Iterable[Row]) -> None:
        """Writes the whole file, sorted as the table is."""
        records = sorted(records, key=self.order) if self.order else records
        head = ",".join(self.columns) + "\n"
        files.write_atomically(workdir / self.file, head + self._lines(records))

    def replace(
        self, workdir: pathlib.Path, records: Sequence[Row], keys: Iterable = ()
    ) -> None:
        """Writes records in place of those that the file had of the same keys.

        Args:
          keys: those, as of `key_of`, that may have no record any more.
        """
        theirs = {*map(self.key_of, records), *keys}
        kept = [row for row in self.read(workdir) if self.key_of(row) not in theirs]
        self.write(workdir, [*kept, *records])

    def append(self, workdir: pathlib.Path, records: Iterable[Row]) -> None:
        """Adds records at the end of a file that `replace` has begun.

        What the file has is not read, so that a chunk costs what it gave.
        """
        with open(workdir / self.file, "a", encoding="utf-8") as file:
            file.write(self._lines(records))

    def _lines(self, records: Iterable[Row]) -> str:
        def written(name, value):
            rounds = self.digits is not None and self.columns[name] is float
            return round(float(value), self.digits) if rounds else value

        text = io.StringIO()
        csv.DictWriter(text, self.columns, lineterminator="\n").writerows(
            {name: written(name, value) for name, value in record.items()}
            for record in records
        )
        return text.getvalue()

    def _typed(self, line: Mapping[str, str]) -> Row:
        if None in line or None in line.values():
            raise ValueError(f"a line has {len(self.columns)} values")
        return {name: take(line[name]) for name, take in self.columns.items()}


def one_of(allowed: Iterable[str]) -> Callable[[str], str]:
    """Makes a column's type: one of some texts."""

    def take(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"{text!r} is none of {', '.join(allowed)}")
        return text

    return take


def grouped(items: Iterable[Any], key: Callable[[Any], Any]) -> dict[Any, list]:
    """Returns items by their key, in their order."""
    found: dict[Any, list] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return found


def run_of(row: Row) -> tuple[str, int, int]:
    """Returns the run that a row is of: method, meta-seed and seed."""
    return row["method"], row["meta_seed"], row["seed"]


RESULTS = Table(
    "results.csv",
    {
        **dict.fromkeys(("domain", "tasks"), str),
        "method": one_of(METHODS),
        **dict.fromkeys(("meta_seed", "seed"), int),
        "stage": one_of(STAGES),
        **dict.fromkeys(("episode", "env_steps"), int),
        "return": float,
        **dict.fromkeys(("length", "violation", "violation_while_recovering"), int),
        **dict.fromkeys(("success", "recoveries"), int),
    },
    key=("method", "meta_seed", "seed"),
    order=lambda row: (list(METHODS).index(row["method"]), run_of(row)),
    error=ResultsError,
)
METRICS = (
    *("squared_error", "auroc", "calibration_error", "wrong_decisions"),
    *("false_safe", "false_alarm", "false_safe_matched", "collapsed"),
    *("threshold_calibrated", "false_safe_calibrated", "false_alarm_calibrated"),
    "recovery_risk",
)
QUALITY = Table(
    "risk_quality.csv",
    {
        **dict.fromkeys(("domain", "tasks", "method"), str),
        **dict.fromkeys(("meta_seed", "seed", "rows", "steps"), int),
        **dict.fromkeys(METRICS, float),
    },
    key=("method", "meta_seed", "seed", "rows", "steps"),
    advice="Evaluate its workdir again.",
    digits=6,
)


def rows_of(
    run: Row,
    records: EpisodeRecord,
    episodes: int,
    stage: str,
    every: int,
    first: int = 0,
) -> list[Row]:
    """Returns rows of one run's records up to `episodes`, `every` episodes apart.

    Args:
      first: how many records to leave out at the start.
    """
    rows = []
    for i in range(first, episodes):
        values = {k: value[i] for k, value in records._asdict().items()}
        returned = round(float(values.pop("episode_return")), 4)
        values = {k: int(value) for k, value in values.items()} | {"return": returned}
        rows.append(run | {"stage": stage, "episode": (i + 1) * every} | values)
    return [{name: row[name] for name in RESULTS.columns} for row in rows]


def ended(rows: list[Row], unfinished: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Returns the rows of runs that are at their end.

    Args:
      unfinished: the other runs' method, meta_seed and seed.
    """
    theirs = {run_of(run) for run in unfinished}
    return [row for row in rows if run_of(row) not in theirs]


def seeds(rows: list[Row]) -> list[int]:
    """Returns every seed that has an episode, ascending."""
    return sorted({row["seed"] for row in rows})


class Outside(NamedTuple):
    """Holds shares of bodies outside training by their encodings."""

    test: float  # share of the test bodies
    held_out: float  # share of the held-out training bodies
    auroc: float  # of telling both apart; 0.5 where they are drawn alike


class Path(NamedTuple):
    """Holds the way of an online episode of L steps through a plane."""

    points: np.ndarray  # [L + 1, 2]
    violation: bool  # at its end


class Timeline(NamedTuple):
    """Holds who acted and what was violated in a run of T steps."""

    method: str
    meta_seed: int
    seed: int
    violated: np.ndarray  # [T] bool, of the state reached
    recovered: np.ndarray | None  # [T] bool; None: not known
    onset: int | None = None  # the run's step from which a fault lasts
