"""Merges workdirs of one configuration: nothing is lost, nothing stands twice.

What both hold must be the same. Of a checkpoint, and of what is written along with it,
the one that is further is taken: its launch went on from the other's steps.
"""

import fnmatch
import os
import pathlib
import shutil
from collections.abc import Sequence
from operator import itemgetter

from mesa_jax.study import (
    batches,
    checkpoints,
    documents,
    files,
    metrics_log,
    provenance,
    store,
)
from mesa_jax.study.locks import HOLDER
from mesa_jax.study.records import Row, Table, grouped

DRAWN = ("report", "summary.json", "random_policy.json", "risk_quality.json")
DRAWN += (
    "runs.csv",
    "tuning.json",
    "*.damaged",
    f"*{files.PARTIAL}*",
)  # made again by launches
NOT_COPIED = (store.CONFIG, "lock", "lock.file", HOLDER, *DRAWN)


def merge(
    places: Sequence[pathlib.Path], target: pathlib.Path, tables: Sequence[Table]
) -> None:
    """Writes into an open workdir all that some workdirs hold.

    They are alike and do not clash (`study.clashes`).
    """
    for folder, sources in folders_of(places).items():
        _copy(max(sources, key=last_step), target / folder)
    for batch in dict(found for place in places for found in batches.stored(place)):
        done = any((batch, True) in batches.stored(place) for place in places)
        batch.write(target, done)
    for table in tables:
        if rows := rows_of(places, table):
            table.write(target, rows)
    _metrics(places, target)
    _launches(places, target)
    for path, sources in files_of(places, tables).items():
        _copy(sources[0], target / path)


def folders_of(
    places: Sequence[pathlib.Path],
) -> dict[pathlib.Path, list[pathlib.Path]]:
    """Returns the folders of whole checkpoints by relative path."""
    folders = (f for place in places for f in sorted(place.glob("checkpoints/*")))
    whole = filter(checkpoints.steps, folders)
    return grouped(whole, lambda folder: pathlib.Path("checkpoints", folder.name))


def last_step(folder: pathlib.Path) -> int:
    """Returns the step of a folder's newest checkpoint."""
    return checkpoints.steps(folder)[-1]


def rows_of(places: Sequence[pathlib.Path], table: Table) -> list[Row]:
    """Returns the rows of all; of a key that several have, those of most rows."""
    found: dict[tuple, list[Row]] = {}
    for place in places:
        for key, rows in grouped(table.read(place), table.key_of).items():
            if len(rows) > len(found.get(key, ())):
                found[key] = rows
    return [row for rows in found.values() for row in rows]


def _metrics(places: Sequence[pathlib.Path], target: pathlib.Path) -> None:
    """Writes each stage's metrics as the workdir has them that is further."""
    stages: dict[str, tuple[int, pathlib.Path, list[dict]]] = {}
    for place in places:
        mine = grouped(metrics_log.read(place), itemgetter("stage"))
        for stage, records in mine.items():
            last = max(record["step"] for record in records)
            if last > stages.get(stage, (-1,))[0]:
                stages[stage] = last, place, records
    if not stages:
        return
    lines = [metrics_log.line(r) for *_, records in stages.values() for r in records]
    files.write_atomically(target / metrics_log.FILE, "".join(lines))
    for stage, (_, place, _) in stages.items():
        if (place / "tb" / stage).is_dir():
            _copy(place / "tb" / stage, target / "tb" / stage)


def _launches(places: Sequence[pathlib.Path], target: pathlib.Path) -> None:
    """Puts the launches of all before the target's own, in the order of their times."""
    name, found = provenance.PROVENANCE, []
    for place in places:
        if (place / name).exists():
            found += documents.read_json(place / name, provenance.noted, "")
    found.sort(key=lambda launch: str(launch.get("time")))
    own = documents.read_json(target / name, provenance.noted, "")
    files.write_json(target / name, [*found, *own])
    paths = [place / "flags.txt" for place in (*places, target)]
    texts = [path.read_bytes() for path in paths if path.exists()]
    files.write_atomically(target / "flags.txt", b"".join(texts))


def files_of(
    places: Sequence[pathlib.Path], tables: Sequence[Table]
) -> dict[pathlib.Path, list[pathlib.Path]]:
    """Returns all other files by relative path: datasets, truths, also foreign ones."""
    left_out = (*NOT_COPIED, metrics_log.FILE, provenance.PROVENANCE, "flags.txt")
    left_out += ("checkpoints", "online", "tb", *(table.file for table in tables))
    found: dict[pathlib.Path, list[pathlib.Path]] = {}
    for place in places:
        for folder, _, names in os.walk(place, followlinks=True):
            for name in sorted(names):
                path = pathlib.Path(folder, name)
                mine = path.relative_to(place)
                ends = mine.parts[0], name
                if not any(fnmatch.fnmatch(e, p) for e in ends for p in left_out):
                    found.setdefault(mine, []).append(path)
    return dict(sorted(found.items()))


def _copy(source: pathlib.Path, target: pathlib.Path) -> None:
    """Copies a file or folder, with the times of its files."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copy2(source, target)
