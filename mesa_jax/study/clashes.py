"""Tells whether workdirs can be merged: one configuration, and no clash of contents."""

import itertools
import pathlib
from collections.abc import Generator, Iterator, Sequence

from mesa_jax.configuration import Configuration
from mesa_jax.study import batches, checkpoints, files, inventory, store
from mesa_jax.study.datasets import CARD
from mesa_jax.study.locks import WorkdirError
from mesa_jax.study.merging import files_of, folders_of, last_step, rows_of
from mesa_jax.study.records import Table, grouped
from mesa_jax.study.resolve import differences

NAMED = 5  # of what differs, in a message


def require_alike(places: Sequence[pathlib.Path]) -> Configuration:
    """Returns the one configuration of workdirs.

    Raises:
      WorkdirError: naming the differences.
    """
    first, *others = places
    for place in places:
        inventory.require_workdir(place)
    ours = store.read_settings(first)
    for place in others:
        theirs = store.read_settings(place)
        rows = differences(ours, theirs)
        if rows:
            lines = (f"  --{flag}: {a!r} and {b!r}" for flag, a, b in rows)
            raise WorkdirError(
                f"{first} and {place} hold different configurations and can not be "
                "merged:\n" + "\n".join(lines)
            )
    return ours


def require_no_clash(places: Sequence[pathlib.Path], tables: Sequence[Table]) -> None:
    """Checks that what several workdirs hold is the same in all.

    Raises:
      WorkdirError: naming what is not.
    """
    clashes = [
        text
        for at in range(1, len(places))
        for text in _clashes(places[:at], places[at], tables)
    ]
    if clashes:
        named = "\n".join(f"  {text}" for text in clashes[:NAMED])
        more = f"\n  and {len(clashes) - NAMED} more" * (len(clashes) > NAMED)
        raise WorkdirError(
            f"{', '.join(map(str, places))} hold the same with other contents:\n"
            f"{named}{more}\nNothing was merged. Remove it from one of them (mesa-jax "
            "rm); to run parts of a study on several machines, make datasets and "
            "priors in one workdir, and copy it to each."
        )


def _clashes(
    before: Sequence[pathlib.Path], place: pathlib.Path, tables: Sequence[Table]
) -> Iterator[str]:
    """Yields what a workdir holds otherwise than those before it."""
    there = folders_of(before)
    for folder, (mine,) in folders_of([place]).items():
        for other in there.get(folder, ()):
            if last_step(mine) == last_step(other) and not _same_leaves(mine, other):
                yield folder.as_posix()
    going: set[tuple] = set()
    for one in before:
        going |= yield from _begun_apart(one, place)
    for table in tables:
        ours, theirs = (
            grouped(rows_of(some, table), table.key_of) for some in (before, [place])
        )
        for key in sorted(ours.keys() & theirs.keys() - going):
            if sorted(map(str, ours[key])) != sorted(map(str, theirs[key])):
                words = map(str, itertools.chain(*zip(table.key, key, strict=True)))
                yield f"{table.file}: {' '.join(words)}"
    others = files_of(before, tables)
    for path in files_of([place], tables):
        if path in others and not _same_file(others[path][0], place / path):
            yield path.as_posix()


def _begun_apart(
    ours: pathlib.Path, theirs: pathlib.Path
) -> Generator[str, None, set[tuple]]:
    """Yields the runs that are unfinished and in another program elsewhere.

    Returns the runs of the programs that both hold, finished in one at most: the rows
    of the one that is further stand.
    """
    mine, other = (dict(batches.stored(place)) for place in (ours, theirs))
    going: set[tuple] = set()
    for a, b in itertools.product(mine, other):
        both = set(inventory.keys_of(a)) & set(inventory.keys_of(b))
        if a == b and not (mine[a] and other[b]):
            going |= both
        elif a.thresholds == b.thresholds and not (mine[a] and other[b]):
            for method, meta_seed, seed in sorted(both):
                yield f"{method}, meta-seed {meta_seed}, seed {seed} (not at its end)"
    return going


def _same_leaves(ours: pathlib.Path, theirs: pathlib.Path) -> bool:
    """Compares the values of the newest checkpoints, whenever they were written."""
    both = [(folder, last_step(folder)) for folder in (ours, theirs)]
    a, b = (files.read_json(f / str(step) / checkpoints.ABOUT) for f, step in both)
    if a != b:
        return False
    mine, other = (checkpoints.read(folder, step) for folder, step in both)
    return mine.keys() == other.keys() and all(
        x.dtype == other[name].dtype and x.tobytes() == other[name].tobytes()
        for name, x in mine.items()
    )


def _same_file(ours: pathlib.Path, theirs: pathlib.Path) -> bool:
    if ours.name == CARD:
        return files.read_json(ours) == files.read_json(theirs)
    return ours.read_bytes() == theirs.read_bytes()
