"""metrics.jsonl and TensorBoard: one record a stage, run and step."""

import json
import pathlib
from typing import Any

import tensorboardX

from mesa_jax.runtime import files
from mesa_jax.runtime.workdir import read_lines


class MetricsWriter:
    """Appends records of one stage, from `first_step` on.

    What an earlier, broken launch wrote of the stage beyond that step is dropped, so
    that a resumed stage has each record once.
    """

    def __init__(self, workdir: pathlib.Path, stage: str, first_step: int):
        self._path, self._stage, self._workdir = (
            workdir / "metrics.jsonl",
            stage,
            workdir,
        )
        self._first_step, self._boards = first_step, {}
        records = read_lines(self._path)
        kept = [r for r in records if r["stage"] != stage or r["step"] <= first_step]
        text = "".join(json.dumps(record) + "\n" for record in kept)
        files.write_atomically(self._path, text)
        self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115, closed by __exit__

    def __enter__(self) -> "MetricsWriter":
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.close()
        for board in self._boards.values():
            board.close()

    def write(
        self, run: str, step: int, values: dict[str, float], **labels: Any
    ) -> None:
        """One line in metrics.jsonl; one TensorBoard run a stage and run."""
        values = {name: float(value) for name, value in values.items()}
        record = {"stage": self._stage, "run": run, **labels, "step": step}
        self._file.write(json.dumps(record | {"values": values}) + "\n")
        self._file.flush()
        if run not in self._boards:
            folder = self._workdir / "tb" / self._stage / run
            self._boards[run] = tensorboardX.SummaryWriter(
                str(folder), purge_step=self._first_step + 1
            )
        for name, value in values.items():
            self._boards[run].add_scalar(name, value, step)
