"""results.csv: one row an online episode."""

import csv
import io
import pathlib
from typing import Any

from mesa_jax.agents import METHODS
from mesa_jax.rollout import EpisodeRecord
from mesa_jax.runtime import files

COLUMNS = [
    *("domain", "tasks", "method", "meta_seed", "seed", "stage", "episode"),
    *("env_steps", "return", "length", "violation", "violation_while_recovering"),
    *("success", "recoveries"),
]
TEXT = ("domain", "tasks", "method", "stage")

Row = dict[str, Any]


class ResultsError(ValueError):
    """A results.csv that can not be read; names the file and the line."""


def read(workdir: pathlib.Path) -> list[Row]:
    """All rows of a workdir; none where there is no file yet."""
    path = workdir / "results.csv"
    if not path.exists():
        return []
    reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))
    if reader.fieldnames != COLUMNS:
        raise ResultsError(
            f"{path}: its columns are {reader.fieldnames}, not {COLUMNS}."
        )
    return [_typed(path, line, row) for line, row in enumerate(reader, 2)]


def replace_runs(workdir: pathlib.Path, rows: list[Row]) -> None:
    """Writes the rows of some runs in place of what results.csv had of them."""

    def run(row):
        return row["method"], row["meta_seed"], row["seed"]

    theirs = {run(row) for row in rows}
    merged = [row for row in read(workdir) if run(row) not in theirs] + rows
    order = list(METHODS)
    merged.sort(key=lambda r: (order.index(r["method"]), r["meta_seed"], r["seed"]))
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(merged)
    files.write_atomically(workdir / "results.csv", text.getvalue())


def rows_of(
    run: Row, records: EpisodeRecord, episodes: int, stage: str, every: int
) -> list[Row]:
    """Rows of one run's first `episodes` records; `every` episodes lie between two."""
    rows = []
    for i in range(episodes):
        record = EpisodeRecord(*(value[i] for value in records))
        values = {name: int(value) for name, value in record._asdict().items()}
        values["return"] = round(float(record.episode_return), 4)
        del values["episode_return"]
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
    except (TypeError, ValueError):
        bad = list(row.values())
        raise ResultsError(f"{path}, line {line} can not be read: {bad}.") from None
    return typed
