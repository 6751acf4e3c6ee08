"""Batches: which online runs of a workdir are one compiled program."""

import hashlib
import json
import pathlib
from typing import NamedTuple

from mesa_jax.runtime import files


class Batch(NamedTuple):
    """Runs that are one compiled program: methods x seeds, method by method."""

    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    meta_seed: int

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

    def runs(self) -> list[tuple[str, int]]:
        return [(method, seed) for method in self.methods for seed in self.seeds]


def stored(workdir: pathlib.Path) -> list[tuple[Batch, bool]]:
    """Every batch that a workdir holds, and whether it is finished."""
    found = []
    for path in sorted((workdir / "online").glob("*.json")):
        record = files.read_json(path)
        methods, seeds = tuple(record["methods"]), tuple(record["seeds"])
        found.append((Batch(methods, seeds, record["meta_seed"]), record["finished"]))
    return found


def to_run(
    workdir: pathlib.Path,
    methods: tuple[str, ...],
    seeds: tuple[int, ...],
    meta_seed: int,
) -> list[Batch]:
    """What of a launch is still to be run: begun batches first, then missing runs."""
    asked = {(method, seed) for method in methods for seed in seeds}
    mine = [(b, done) for b, done in stored(workdir) if b.meta_seed == meta_seed]
    begun = [b for b, done in mine if not done and asked & set(b.runs())]
    taken = {run for batch, _ in mine for run in batch.runs()}
    missing: dict[tuple[int, ...], list[str]] = {}
    for method in methods:
        absent = tuple(seed for seed in seeds if (method, seed) not in taken)
        if absent:
            missing.setdefault(absent, []).append(method)
    return begun + [Batch(tuple(m), absent, meta_seed) for absent, m in missing.items()]
