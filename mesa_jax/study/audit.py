"""results.csv, held to the checkpoints: they have every record of every online run."""

import pathlib
import shutil
from typing import Any, NamedTuple

import jax
import numpy as np

from mesa_jax import sharding
from mesa_jax.configuration import Configuration
from mesa_jax.rollout import EpisodeRecord, RunState
from mesa_jax.study import batches, checkpoints, resolve
from mesa_jax.study import records as results
from mesa_jax.study.batches import Batch
from mesa_jax.study.inventory import RunKey, keys_of
from mesa_jax.study.records import Row

NAMED = 5  # runs of a warning
DAMAGED = ".damaged"  # is added to the name of a file that is mended; it is kept


class Seen(NamedTuple):
    """Holds what runs have recorded, [runs, ...] in NumPy; names as of `RunState`."""

    episode: np.ndarray
    env_steps: np.ndarray
    records: EpisodeRecord
    evaluations: EpisodeRecord


class Checked(NamedTuple):
    """Says what a workdir's online runs have come to."""

    unfinished: list[dict[str, Any]]  # method, meta_seed, seed and episodes of each
    to_repeat: list[Batch]  # held to be finished, but not all of it is there any more


def seen_of(states: RunState) -> Seen:
    """Copies what states have recorded, since the next chunk takes the states."""
    seen = Seen(*(getattr(states, k) for k in Seen._fields))
    return jax.tree.map(np.array, sharding.read(seen))


def stored(place: pathlib.Path, settings: Configuration, batch: Batch) -> Seen | None:
    """Returns what a batch's last undamaged checkpoint has recorded, or None."""
    made_by = batch.made_by(settings)
    found = checkpoints.read_latest(batch.checkpoints(place), made_by)
    if found is None:
        return None
    leaves = found[1]

    def records(name):
        return EpisodeRecord(*(leaves[f"{name}.{k}"] for k in EpisodeRecord._fields))

    counts = leaves["episode"], leaves["env_steps"]
    return Seen(*counts, records("records"), records("evaluations"))


def going(settings: Configuration, batch: Batch, seen: Seen) -> np.ndarray:
    """Returns whether each run is before its end, [runs] bool."""
    return resolve.of_method(settings, batch.methods[0]).online.active(seen)


def keep_damaged(path: pathlib.Path) -> None:
    """Copies a file that is to be mended beside it."""
    if path.exists():
        shutil.copy(path, path.with_name(path.name + DAMAGED))


def rows_of(
    settings: Configuration, batch: Batch, seen: Seen, since: np.ndarray | None = None
) -> list[Row]:
    """Returns rows of results.csv, run after run."""
    rows, every = [], settings.online.evaluate_every
    for i, (method, seed, _) in enumerate(batch.runs()):
        run = {"domain": settings.domain, "tasks": settings.tasks}
        run |= {"method": method, "meta_seed": batch.meta_seed, "seed": seed}
        first, last = 0 if since is None else int(since[i]), int(seen.episode[i])
        for stage, records, apart in (
            ("train", seen.records, 1),
            ("evaluate", seen.evaluations, every),
        ):
            mine = EpisodeRecord(*(values[i] for values in records))
            ends = last // apart, stage, apart, first // apart
            rows += results.rows_of(run, mine, *ends)
    return rows


def check(place: pathlib.Path, settings: Configuration) -> Checked:
    """Mends results.csv where the checkpoints say otherwise, and says so.

    A run that is at its end has the rows that its checkpoint holds. Of the others
    nothing is changed: their launch goes on from the checkpoint and writes them.

    Raises:
      ResultsError: if results.csv can not be read, and no list of runs is there.
      CheckpointError: if other settings made a checkpoint.
    """
    known = [(b, done) for b, done in batches.stored(place) if not b.thresholds]
    there, damaged = _there(place, bool(known))
    ended: dict[RunKey, list[Row]] = {}
    unfinished: dict[RunKey, int] = {}
    to_repeat = []
    for batch, finished in known:
        seen = stored(place, settings, batch)
        theirs, open_ = _runs(settings, batch, seen)
        ended |= theirs
        if finished and open_:
            if all(_complete(settings, there.get(key, [])) for key in open_):
                print(
                    f"Warning: no undamaged checkpoint holds all rows of {batch.name}; "
                    f"those in {place / results.RESULTS.file} stand unchecked."
                )
                to_repeat += [batch] * (seen is not None)
                open_ = {}
            else:
                to_repeat.append(batch)
        for key, rows in open_.items():
            unfinished[key] = _episodes(rows or there.get(key, []))
    wrong = [key for key, rows in ended.items() if not _same(rows, there.get(key, []))]
    mend = damaged or bool(wrong)
    for key in there.keys() - ended.keys() - unfinished.keys():
        if not _complete(settings, there[key]):
            if mend:  # a row that was damaged so that it names another run
                del there[key]
            else:
                unfinished[key] = _episodes(there[key])
    if mend:
        _mend(place, there | ended, wrong)
    labels = "method", "meta_seed", "seed", "episodes"
    left_out = [dict(zip(labels, (*k, n), strict=True)) for k, n in unfinished.items()]
    return Checked(left_out, to_repeat)


def _episodes(rows: list[Row]) -> int:
    return sum(row["stage"] == "train" for row in rows)


def _there(place: pathlib.Path, known: bool) -> tuple[dict[RunKey, list[Row]], bool]:
    """The rows of results.csv by run, and whether some of it can not be read."""
    try:
        rows, damaged = results.RESULTS.read(place), False
    except results.ResultsError as error:
        if not known:
            raise
        print(f"Warning: {error}")
        rows, damaged = results.RESULTS.readable(place), True
    return results.grouped(rows, results.run_of), damaged


def _runs(
    settings: Configuration, batch: Batch, seen: Seen | None
) -> tuple[dict[RunKey, list[Row]], dict[RunKey, list[Row]]]:
    """The rows that a checkpoint has of runs at their end, and of the others."""
    keys = keys_of(batch)
    if seen is None:
        return {}, {key: [] for key in keys}
    rows = results.grouped(rows_of(settings, batch, seen), results.run_of)
    active = zip(keys, going(settings, batch, seen), strict=True)
    behind = {key for key, still in active if still}
    return (
        {key: rows.get(key, []) for key in keys if key not in behind},
        {key: rows.get(key, []) for key in keys if key in behind},
    )


def _complete(settings: Configuration, rows: list[Row]) -> bool:
    """Whether a run's episodes are all there, as far as rows can tell."""
    online = settings.online
    trained, evaluated = (
        [row["episode"] for row in rows if row["stage"] == stage]
        for stage in results.STAGES
    )
    last, every = len(trained), online.evaluate_every
    whole = trained == list(range(1, last + 1))
    whole &= evaluated == list(range(every, last + 1, every))
    return whole and (last > 0 if online.steps else last == online.episodes)


def _same(ours: list[Row], theirs: list[Row]) -> bool:
    """As they are written, in any order: a return may be NaN."""
    return sorted(map(str, ours)) == sorted(map(str, theirs))


def _mend(
    place: pathlib.Path, rows: dict[RunKey, list[Row]], wrong: list[RunKey]
) -> None:
    path = place / results.RESULTS.file
    keep_damaged(path)
    results.RESULTS.write(place, [row for mine in rows.values() for row in mine])
    named = ", ".join(f"{method} seed {seed}" for method, _, seed in wrong[:NAMED])
    more = f" and {len(wrong) - NAMED} more" * (len(wrong) > NAMED)
    print(
        f"Warning: {path} was damaged or not whole and is written again from the "
        f"checkpoints: {len(wrong)} runs differed{': ' * bool(wrong)}{named}{more}."
    )
