"""Removes runs and artefacts from a workdir; what is left is as if it had no others.

Runs that share a compiled program lie in one checkpoint. Where only some of them go,
the others' states are written as checkpoints of their own first.
"""

import pathlib
import shutil
from collections.abc import Sequence
from typing import NamedTuple

from mesa_jax.configuration import Configuration
from mesa_jax.study import batches, checkpoints, files, inventory, metrics_log
from mesa_jax.study.batches import Batch, Run
from mesa_jax.study.records import Table

EVERYTHING = (  # that launches write into a workdir; config.json goes last
    *("datasets", "checkpoints", "online", "truth", "quality", "report", "export"),
    *("metrics.jsonl", "summary.json", "random_policy.json", "risk_quality.json"),
    *("runs.csv", "tuning.json", "flags.txt", "provenance.json"),
    *("*.csv.damaged", "lock.file", "tb", "wandb"),
)
DERIVED = ("summary.json", "runs.csv", "risk_quality.json")  # of what was there before


class Named(NamedTuple):
    """Says what is to go: what agrees with all that is given; None is any."""

    kinds: tuple[str, ...]  # of `inventory.KINDS`
    methods: tuple[str, ...] | None = None
    seeds: tuple[int, ...] | None = None
    meta_seed: int | None = None

    def holds(
        self, method: str | None, meta_seed: int | None, seed: int | None
    ) -> bool:
        """Returns whether something is named; not by what it has no label of."""
        given = (self.methods, method), (self.seeds, seed)
        known = all(mine is None or x in mine for mine, x in given)
        return known and self.meta_seed in (None, meta_seed)


def gone(place: pathlib.Path, named: Named) -> dict[Batch, set[Run]]:
    """Returns which runs of which batch are named, where any is."""
    if "runs" not in named.kinds:
        return {}
    found = {}
    for batch, _ in batches.stored(place):
        mine = {
            r for r in batch.runs() if named.holds(r.method, batch.meta_seed, r.seed)
        }
        if mine:
            found[batch] = mine
    return found


def artefacts(place: pathlib.Path, named: Named) -> list[inventory.Artefact]:
    """Lists the artefacts that are named."""
    return [
        one
        for one in inventory.artefacts(place)
        if one.kind in named.kinds and named.holds(one.method, one.meta_seed, one.seed)
    ]


def remove(
    place: pathlib.Path,
    settings: Configuration,
    named: Named,
    of_runs: Sequence[Table],
    of_estimates: Sequence[Table],
) -> None:
    """Removes what is named, and its lines in tables.

    Killed at any moment it leaves a workdir that can be used, and goes on when called
    again.

    Args:
      of_runs, of_estimates: tables with lines of runs, and of estimates.
    """
    finished = dict(batches.stored(place))
    for batch, runs in gone(place, named).items():
        _without(place, settings, batch, finished[batch], runs)
    for one in artefacts(place, named):
        discard(one.path)
    tables = [*of_runs] * ("runs" in named.kinds)
    for table in [*tables, *([*of_estimates] * ("estimates" in named.kinds))]:
        rows = table.read(place)
        kept = [
            r
            for r in rows
            if not named.holds(r["method"], r["meta_seed"], r.get("seed"))
        ]
        if len(kept) < len(rows):
            table.write(place, kept)
    for name in DERIVED:
        discard(place / name)


def remove_all(place: pathlib.Path, tables: Sequence[Table]) -> list[str]:
    """Removes all that launches have written, but the configuration.

    Returns the names of what is not theirs, which stays.
    """
    for pattern in (*EVERYTHING, *(table.file for table in tables)):
        for path in place.glob(pattern):
            discard(path)
    ours = ("config.json", "lock", "lock.holder")
    return sorted(path.name for path in place.iterdir() if path.name not in ours)


def discard(path: pathlib.Path) -> None:
    """Removes a file, a link, or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _without(
    place: pathlib.Path,
    settings: Configuration,
    batch: Batch,
    finished: bool,
    runs: set[Run],
) -> None:
    """Puts the other runs into batches of their own, then removes the batch."""
    others = _split(batch, runs)
    for other in others:
        _keep(place, settings, batch, other)
    _rename(place, batch, others)
    for other in others:
        other.write(place, finished)
    batch.manifest(place).unlink()
    for path in (batch.checkpoints(place), batch.adapted(place)):
        discard(path)
    discard(place / "tb" / batch.name)


def _split(batch: Batch, runs: set[Run]) -> list[Batch]:
    """Returns the batches of the runs that stay, methods of the same seeds in one."""
    alike: dict[tuple[int, ...], list[str]] = {}
    for method in batch.methods:
        left = {r.seed for r in batch.runs() if r.method == method and r not in runs}
        seeds = tuple(seed for seed in batch.seeds if seed in left)
        if seeds:
            alike.setdefault(seeds, []).append(method)
    return [
        batch._replace(methods=tuple(methods), seeds=seeds)
        for seeds, methods in alike.items()
    ]


def _keep(
    place: pathlib.Path, settings: Configuration, batch: Batch, other: Batch
) -> None:
    """Writes what a batch's checkpoints have of the runs of another batch."""
    made_by, mine = batch.made_by(settings), other.made_by(settings)
    rows = [batch.runs().index(run) for run in other.runs()]
    at = [batch.seeds.index(seed) for seed in other.seeds]
    if found := checkpoints.read_latest(batch.checkpoints(place), made_by):
        step, leaves = found
        kept = {name: leaf[rows] for name, leaf in leaves.items()}
        checkpoints.save(other.checkpoints(place), step, kept, mine)
    if found := checkpoints.read_latest(batch.adapted(place), made_by):
        kept = {
            name: leaf[at]
            for name, leaf in found[1].items()
            if name.partition(".")[0] in other.methods
        }
        checkpoints.save(other.adapted(place), found[0], kept, mine)


def _rename(place: pathlib.Path, batch: Batch, others: Sequence[Batch]) -> None:
    """Gives the metrics of a batch to those that have its runs; the rest goes."""
    if not (place / metrics_log.FILE).exists():
        return
    lines = []
    for record in metrics_log.read(place):
        if record["stage"] == batch.name:
            run = record.get("method"), record.get("seed")
            mine = [b for b in others if run[0] in b.methods and run[1] in b.seeds]
            if not mine:
                continue
            record = record | {"stage": mine[0].name}
            _move_board(place, batch, mine[0], record["run"])
        lines.append(metrics_log.line(record))
    files.write_atomically(place / metrics_log.FILE, "".join(lines))


def _move_board(place: pathlib.Path, batch: Batch, other: Batch, run: str) -> None:
    source, target = (place / "tb" / b.name / run for b in (batch, other))
    if source.exists() and not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
