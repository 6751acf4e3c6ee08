"""Datasets on disk: `arrays.npz` with a card that says what they are and their hash."""

import hashlib
import pathlib
import zipfile
from typing import Any, NamedTuple

import jax
import numpy as np

from mesa_jax.runtime import files
from mesa_jax.types import DomainSpec, Task, Transition

ARRAYS, CARD = "arrays.npz", "card.json"


class Dataset(NamedTuple):
    """Rows [T, N, ...] of T bodies, the bodies themselves, and the card."""

    rows: Transition
    tasks: Task  # leaves [T, ...]
    card: dict[str, Any]


class DatasetError(ValueError):
    """A dataset that can not be used; names the file and, where it can, the row."""


def save(folder: pathlib.Path, rows: Transition, tasks: Task, about: dict) -> Dataset:
    """Writes arrays and card; the card is last, so a folder with a card is whole.

    Args:
      rows: [T, N, ...].
      tasks: the T bodies, a NamedTuple of arrays [T, ...].
      about: domain, generator, seed, horizon, termination rule and the like.
    """
    arrays = {name: np.asarray(value) for name, value in rows._asdict().items()}
    arrays |= {f"task_{k}": np.asarray(v) for k, v in tasks._asdict().items()}
    bodies, count = arrays["cost"].shape
    shares = arrays["cost"].mean(axis=1)
    card = about | {
        "bodies": bodies,
        "transitions_per_body": count,
        "violation_share": round(float(arrays["cost"].mean()), 6),
        "violation_share_per_body": [round(float(share), 6) for share in shares],
        "content_sha256": _content_hash(arrays),
    }
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ARRAYS, "wb") as file:
        np.savez(file, **arrays)
    files.write_json(folder / CARD, card)
    return Dataset(rows, tasks, card)


def load(folder: pathlib.Path, spec: DomainSpec, task_type: type) -> Dataset:
    """Reads and verifies a dataset; never unpickles.

    Raises:
      DatasetError: if it is missing, damaged, truncated, of another domain, or holds a
        value that is not finite or a cost that is not 0 or 1.
    """
    if not (folder / CARD).exists():
        raise DatasetError(f"{folder} is no dataset: it has no {CARD}.")
    card = files.read_json(folder / CARD)
    path = folder / ARRAYS
    needed = {"domain", "bodies", "transitions_per_body", "content_sha256"}
    if not isinstance(card, dict) or not needed <= card.keys():
        raise DatasetError(f"{folder / CARD} is no dataset's card.")
    arrays = _read_arrays(path)
    if card.get("domain") != spec.name:
        found = card.get("domain")
        raise DatasetError(f"{folder} is of domain {found!r}, wanted {spec.name!r}.")
    _check_shapes(path, arrays, card, spec, task_type)
    _check_values(path, arrays)
    if _content_hash(arrays) != card["content_sha256"]:
        raise DatasetError(f"{path} is not what its card describes: the hash differs.")
    rows = Transition(**{name: arrays[name] for name in Transition._fields})
    tasks = task_type(**{name: arrays[f"task_{name}"] for name in task_type._fields})
    return Dataset(rows, tasks, card)


def require_violations(dataset: Dataset, folder: pathlib.Path, fraction: float) -> None:
    """Training bodies need a violation each; balanced sampling needs it too.

    Raises:
      DatasetError: naming the bodies, what is needed and what they have.
    """
    counts = np.asarray(dataset.rows.cost).sum(axis=1).astype(int)
    if (counts < 1).any():
        body = int(np.argmin(counts))
        why = (
            f" and violation-balanced sampling ({fraction:g} of a batch) asks for them"
        )
        raise DatasetError(
            f"{folder}: body {body} has {counts[body]} violating transitions of "
            f"{dataset.rows.cost.shape[1]}; at least 1 a body is needed"
            + (why if fraction else "")
            + ". Raise the number of transitions."
        )


def take_rows(padded: Transition, valid: np.ndarray, count: int) -> Transition | None:
    """The first `count` valid rows of padded episodes [E, L], or None if too few."""
    index = np.flatnonzero(np.asarray(valid).reshape(-1))[:count]
    if len(index) < count:
        return None
    flat = jax.tree.map(lambda x: np.asarray(x).reshape(-1, *x.shape[2:]), padded)
    return jax.tree.map(lambda x: x[index], flat)


def _read_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise DatasetError(f"{path} is missing.") from None
    except (ValueError, OSError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{path} is damaged or truncated: {error}.") from None


def _check_shapes(path, arrays, card, spec, task_type) -> None:
    wanted = set(Transition._fields) | {f"task_{name}" for name in task_type._fields}
    if set(arrays) != wanted:
        missing, foreign = sorted(wanted - set(arrays)), sorted(set(arrays) - wanted)
        raise DatasetError(f"{path} lacks {missing} and has unknown {foreign}.")
    lead = (card["bodies"], card["transitions_per_body"])
    sizes = {"observation": spec.observation_size, "action": spec.action_size}
    sizes["next_observation"] = spec.observation_size
    for name in Transition._fields:
        shape = (*lead, sizes[name]) if name in sizes else lead
        if arrays[name].shape != shape:
            found = arrays[name].shape
            raise DatasetError(f"{path}: {name} has shape {found}, expected {shape}.")
    for name in task_type._fields:
        if arrays[f"task_{name}"].shape[:1] != lead[:1]:
            raise DatasetError(f"{path}: task_{name} is not of {lead[0]} bodies.")


def _check_values(path, arrays) -> None:
    def first(bad):
        return ", row ".join(str(int(i)) for i in np.argwhere(bad)[0][:2])

    for name, values in arrays.items():
        bad = ~np.isfinite(values)
        if bad.any():
            raise DatasetError(f"{path}: {name} is not finite at body {first(bad)}.")
    for name in ("cost", "discount"):
        bad = ~np.isin(arrays[name], (0.0, 1.0))
        if bad.any():
            value = arrays[name][bad][0]
            where = first(bad)
            raise DatasetError(
                f"{path}: {name} is {value} at body {where}, not 0 or 1."
            )


def _content_hash(arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        values = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {values.dtype} {values.shape}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()
