"""Batches: which online runs of a workdir are one compiled program."""

import hashlib
import itertools
import json
import pathlib
from typing import NamedTuple

from mesa_jax.agents import METHODS
from mesa_jax.runtime import files


class Run(NamedTuple):
    """One row of a batch."""

    method: str
    seed: int
    threshold: float | None  # epsilon_risk, or None for the configuration's


class Batch(NamedTuple):
    """Runs that are one compiled program: methods x seeds x thresholds, in this order.

    The methods are of one variant. Without thresholds every method has the
    configuration's.
    """

    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    meta_seed: int
    thresholds: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        text = json.dumps(self, sort_keys=True)
        return "online-" + hashlib.sha256(text.encode()).hexdigest()[:8]

    def manifest(self, workdir: pathlib.Path) -> pathlib.Path:
        return workdir / "online" / f"{self.name}.json"

    def write(self, workdir: pathlib.Path, finished: bool) -> None:
        """Notes in the workdir that the batch is begun, or finished."""
        files.write_json(
            self.manifest(workdir), self._asdict() | {"finished": finished}
        )

    def runs(self) -> list[Run]:
        thresholds = self.thresholds or (None,)
        return [
            Run(*row) for row in itertools.product(self.methods, self.seeds, thresholds)
        ]


def stored(workdir: pathlib.Path) -> list[tuple[Batch, bool]]:
    """Every batch that a workdir holds, and whether it is finished."""
    found = []
    for path in sorted((workdir / "online").glob("*.json")):
        record = files.read_json(path)
        finished = record.pop("finished")
        fields = {k: tuple(v) if isinstance(v, list) else v for k, v in record.items()}
        found.append((Batch(**fields), finished))
    return found


def to_run(
    workdir: pathlib.Path,
    methods: tuple[str, ...],
    seeds: tuple[int, ...],
    meta_seed: int,
) -> list[Batch]:
    """What of a launch is still to be run: begun batches first, then missing runs."""
    asked = set(Batch(methods, seeds, meta_seed).runs())
    mine = [
        (batch, done)
        for batch, done in stored(workdir)
        if batch.meta_seed == meta_seed and not batch.thresholds
    ]
    begun = [b for b, done in mine if not done and asked & set(b.runs())]
    taken = {run for batch, _ in mine for run in batch.runs()}
    missing: dict[tuple, list[str]] = {}  # by seeds and program
    for method in methods:
        absent = tuple(seed for seed in seeds if Run(method, seed, None) not in taken)
        if absent:
            missing.setdefault((absent, METHODS[method].variant), []).append(method)
    return begun + [
        Batch(tuple(those), absent, meta_seed) for (absent, _), those in missing.items()
    ]
