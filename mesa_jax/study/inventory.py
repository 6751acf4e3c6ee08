"""What a workdir holds, told without computing: its runs, artefacts, size and age."""

import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from mesa_jax.configuration import Configuration
from mesa_jax.methods import METHODS
from mesa_jax.study import batches, checkpoints, files, provenance, store
from mesa_jax.study.datasets import CARD
from mesa_jax.study.files import DamagedFileError
from mesa_jax.study.locks import WorkdirError
from mesa_jax.study.records import RESULTS, Row, run_of

KINDS = ("runs", "estimates", "priors", "datasets", "truths")  # of artefacts
RunKey = tuple[str, int, int]  # method, meta-seed, seed


class Workdir(NamedTuple):
    """Holds what is told of a workdir at a glance."""

    place: pathlib.Path
    settings: Configuration | None  # None: this version can not read them
    why: str  # it can not
    version: str  # that began it; "" if not noted
    finished: tuple[RunKey, ...]
    unfinished: tuple[RunKey, ...]
    bytes: int
    changed: float  # time of the last change, as of `time.time`


class Artefact(NamedTuple):
    """Names a file or folder of a workdir that a launch makes anew if it is gone."""

    kind: str  # one of `KINDS`
    path: pathlib.Path
    state: str = ""  # how far it is
    method: str | None = None
    meta_seed: int | None = None
    seed: int | None = None


def is_workdir(place: pathlib.Path) -> bool:
    """Returns whether a folder's configuration file is one of ours, of any version."""
    path = place / store.CONFIG
    if not path.is_file():
        return False
    try:
        values = files.read_json(path)
    except (OSError, DamagedFileError):
        return False
    if not isinstance(values, dict):
        return False
    return values.keys() == store.KEYS or {"domain", "tasks", "preset"} <= values.keys()


def require_workdir(place: pathlib.Path) -> None:
    """Checks that a folder is a workdir.

    Raises:
      WorkdirError: if it is none.
    """
    if not is_workdir(place):
        why = "there is no such folder"
        if place.is_dir():
            why = f"it has no {store.CONFIG} of ours"
        raise WorkdirError(f"{place} is no workdir: {why}.")


def workdirs(below: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields the workdirs in a folder and below it, in the order of their paths."""
    for folder, names, _ in os.walk(below):
        place = pathlib.Path(folder)
        if is_workdir(place):
            names.clear()  # what is in it is its own
            yield place
        names[:] = sorted(name for name in names if not name.startswith("."))


def look(place: pathlib.Path) -> Workdir:
    """Returns what is told of a workdir at a glance."""
    settings, why = None, ""
    finished: list[RunKey] = []
    unfinished: list[RunKey] = []
    try:
        settings = store.read_settings(place)
        for batch, done in batches.stored(place):
            if not batch.thresholds:
                (finished if done else unfinished).extend(keys_of(batch))
    except (WorkdirError, DamagedFileError) as error:
        why = str(error)
    stats = [path.stat() for path in place.rglob("*") if path.is_file()]
    return Workdir(
        place,
        settings,
        why,
        provenance.first_version(place),
        tuple(sorted(finished, key=_order)),
        tuple(sorted(unfinished, key=_order)),
        sum(one.st_size for one in stats),
        max(one.st_mtime for one in stats),
    )


def keys_of(batch: batches.Batch) -> list[RunKey]:
    """Returns (method, meta-seed, seed) of each run of a batch."""
    return [(run.method, batch.meta_seed, run.seed) for run in batch.runs()]


def _order(key: RunKey) -> tuple:
    method, *numbers = key
    return list(METHODS).index(method), *numbers


def finished_rows(place: pathlib.Path) -> list[Row]:
    """Returns the rows of results.csv of runs that are at their end; mends nothing.

    Raises:
      ResultsError, DamagedFileError: naming a file that can not be read.
    """
    open_ = {
        key
        for batch, done in batches.stored(place)
        if not (done or batch.thresholds)
        for key in keys_of(batch)
    }
    return [row for row in RESULTS.read(place) if run_of(row) not in open_]


def artefacts(place: pathlib.Path) -> list[Artefact]:
    """Lists what launches made, but the online runs, in the order of `KINDS`."""
    found = [_estimates(path) for path in sorted(place.glob("quality/*-meta*.npz"))]
    for folder in sorted(place.glob("checkpoints/*")):
        steps = checkpoints.steps(folder)
        kind, _, rest = folder.name.partition("-meta")
        if kind in {row.prior for row in METHODS.values()} and steps:
            number = _number(rest)
            found.append(Artefact("priors", folder, f"step {steps[-1]}", None, number))
    for folder in sorted(place.glob("datasets/*/*")):
        if (folder / CARD).exists() or any(folder.glob(f"*/{CARD}")):
            found.append(_dataset(folder))
    for path in sorted(place.glob("truth/*/*.npz")):
        found.append(Artefact("truths", path, "", None, *_numbers(path.stem)))
    return sorted(found, key=lambda one: KINDS.index(one.kind))


def _estimates(path: pathlib.Path) -> Artefact:
    method, _, rest = path.stem.rpartition("-meta")
    return Artefact("estimates", path, "", method, _number(rest))


def _dataset(folder: pathlib.Path) -> Artefact:
    method = None
    if folder.name.startswith("replay-"):
        method = folder.name.removeprefix("replay-").partition("-meta")[0]
    return Artefact("datasets", folder, "", method, *_numbers(folder.name))


def _numbers(name: str) -> tuple[int | None, int | None]:
    """Meta-seed and seed of a name like "wind-test-seed3-1a2b3c4d"."""
    meta, seed = (name.partition(word)[2] for word in ("-meta", "-seed"))
    return _number(meta), _number(seed)


def _number(text: str) -> int | None:
    digits = text.partition("-")[0]
    return int(digits) if digits.isascii() and digits.isdecimal() else None


def size(path: pathlib.Path) -> int:
    """Counts the bytes of a file, or of all files in a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(one.stat().st_size for one in path.rglob("*") if one.is_file())


def ranges(numbers: Iterable[int]) -> str:
    """Writes numbers as `--seeds` takes them: "0:3,7"."""
    parts: list[list[int]] = []
    for number in sorted(set(numbers)):
        if parts and parts[-1][1] == number:
            parts[-1][1] = number + 1
        else:
            parts.append([number, number + 1])
    words = [str(a) if b - a == 1 and len(parts) > 1 else f"{a}:{b}" for a, b in parts]
    return ",".join(words)


def grouped(runs: Sequence[RunKey]) -> list[str]:
    """Writes runs as "mesa, context x seeds 0:3", a text a set of seeds."""
    by_method: dict[tuple[str, int], list[int]] = {}
    for method, meta_seed, seed in runs:
        by_method.setdefault((method, meta_seed), []).append(seed)
    alike: dict[tuple[int, str], list[str]] = {}
    for (method, meta_seed), seeds in by_method.items():
        alike.setdefault((meta_seed, ranges(seeds)), []).append(method)
    return [
        f"{', '.join(methods)} x seeds {seeds}"
        + f" (meta-seed {meta_seed})" * bool(meta_seed)
        for (meta_seed, seeds), methods in alike.items()
    ]
