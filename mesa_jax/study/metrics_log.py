"""metrics.jsonl and TensorBoard: one record a stage, run and step."""

import contextlib
import io
import itertools
import json
import math
import pathlib
import statistics
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf.message import DecodeError
from tensorboardX import summary
from tensorboardX.proto import event_pb2
from tensorboardX.record_writer import RecordWriter

from mesa_jax.study import files

FILE, EVENTS = "metrics.jsonl", "events.out.tfevents"
MIRRORS: list[Callable[[dict], None]] = []  # each takes every record as it is written


@contextlib.contextmanager
def mirrored(take: Callable[[dict], None]) -> Iterator[None]:
    """Hands every record that is written to `take` too."""
    MIRRORS.append(take)
    try:
        yield
    finally:
        MIRRORS.remove(take)


def read(workdir: pathlib.Path) -> list[dict]:
    """Reads the records of metrics.jsonl; a value that was not finite is NaN."""
    path = workdir / FILE
    if not path.exists():
        return []
    *lines, last = path.read_bytes().split(b"\n")
    records = [_record(line) for line in lines]
    if damaged := [str(i) for i, r in enumerate(records, 1) if r is None]:
        print(f"Warning: {path}: damaged and left out: line {', '.join(damaged)}.")
    records.append(_record(last))
    return [record for record in records if record is not None]


def _record(line: bytes) -> dict | None:
    try:
        record = json.loads(line)
        values = {
            k: math.nan if v is None else float(v) for k, v in record["values"].items()
        }
        known = isinstance(record["stage"], str) and isinstance(record["step"], int)
        return record | {"values": values} if known else None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def line(record: dict) -> str:
    """Writes a record as JSON, which has no number that is not finite: null."""
    values = {k: v if math.isfinite(v) else None for k, v in record["values"].items()}
    return json.dumps(record | {"values": values}, allow_nan=False) + "\n"


class MetricsWriter:
    """Appends records of one stage, from `first_step` on.

    What an earlier, broken launch wrote of the stage beyond that step is dropped, so
    that a resumed stage has each record once. A record is in its files when `write`
    returns, and no file but metrics.jsonl stays open, however many runs there are.
    """

    def __init__(self, workdir: pathlib.Path, stage: str, first_step: int):
        self._stage, self._boards = stage, workdir / "tb" / stage
        kept = [
            record
            for record in read(workdir)
            if record["stage"] != stage or record["step"] <= first_step
        ]
        files.write_atomically(workdir / FILE, "".join(map(line, kept)))
        for board in self._boards.glob(f"*/{EVENTS}"):
            _cut(board, first_step)
        self._file = open(workdir / FILE, "a", encoding="utf-8")  # noqa: SIM115, closed by __exit__

    def __enter__(self) -> "MetricsWriter":
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.close()

    def write(
        self, run: str, step: int, values: dict[str, float], **labels: Any
    ) -> None:
        """Writes one line in metrics.jsonl; one TensorBoard run a stage and run."""
        values = {name: float(value) for name, value in values.items()}
        record = {"stage": self._stage, "run": run, **labels, "step": step}
        self._file.write(line(record | {"values": values}))
        self._file.flush()
        folder = self._boards / run
        folder.mkdir(parents=True, exist_ok=True)
        board, frames = folder / EVENTS, io.BytesIO()
        if not board.exists():
            first = event_pb2.Event(wall_time=time.time(), file_version="brain.Event:2")
            _Frames(frames).write(first.SerializeToString())
        event = event_pb2.Event(wall_time=time.time(), step=step)
        for name, value in values.items():
            event.summary.MergeFrom(summary.scalar(name, value))
        _Frames(frames).write(event.SerializeToString())
        with open(board, "ab") as file:
            file.write(frames.getvalue())
        for take in MIRRORS:
            take(record | {"values": values})


class _Frames(RecordWriter):
    """tensorboardX's frames in a buffer: it opens a file for each writer otherwise."""

    def __init__(self, buffer: io.BytesIO):
        self._writer = buffer


def _events(content: bytes) -> Iterator[tuple[int, event_pb2.Event]]:
    """Yields the whole events of a file, each with the place of its end."""
    at = 0
    while at + 12 <= len(content):  # length, its checksum, event, its checksum
        (length,) = struct.unpack_from("<Q", content, at)
        end = at + 12 + length + 4
        if end > len(content):
            return
        try:
            yield end, event_pb2.Event.FromString(content[at + 12 : end - 4])
        except DecodeError:
            return
        at = end


def _cut(board: pathlib.Path, last_step: int) -> None:
    """Shortens an event file to its whole events up to a step."""
    at = 0
    for end, event in _events(board.read_bytes()):
        if event.step > last_step:
            break
        at = end
    with open(board, "rb+") as file:
        file.truncate(at)


def seconds_a_step(workdir: pathlib.Path, stage: str) -> float | None:
    """Returns the median time that a step of a begun stage took; None: unknown.

    It is of the stage's own records in this workdir, so of the machines that made them.
    """
    board = next((workdir / "tb" / stage).glob(f"*/{EVENTS}"), None)
    if board is None:
        return None
    found = [(e.step, e.wall_time) for _, e in _events(board.read_bytes()) if e.step]
    pace = [
        (b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.pairwise(found) if b > a
    ]
    return statistics.median(pace) if pace else None
