"""Datasets on disk: `arrays.npz` with a card that says what they are and their hash."""

import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from mesa_jax.errors import UserError
from mesa_jax.study import arrays, files
from mesa_jax.study.arrays import Form
from mesa_jax.types import DomainSpec, Task, Transition

ARRAYS, CARD = "arrays.npz", "card.json"
TASK = "task_"  # what arrays of bodies are called by, before their own names


class Dataset(NamedTuple):
    """Holds transitions [T, N, ...] of T bodies, the bodies and the card."""

    rows: Transition
    tasks: Task  # leaves [T, ...]
    card: dict[str, Any]


class DatasetError(UserError, ValueError):
    """Says that a dataset can not be used: the file and, where it can, the row."""


def save(folder: pathlib.Path, rows: Transition, tasks: Task, about: dict) -> Dataset:
    """Writes arrays and card; the card is last, so a folder with a card is whole.

    Args:
      rows: [T, N, ...], float32.
      tasks: the T bodies, a NamedTuple of arrays [T, ...].
      about: domain, generator, seed, horizon, termination rule and the like.

    Raises:
      DatasetError: before anything is written, for values that `load` refuses.
    """
    held = held_arrays(rows, tasks)
    bodies, count = held["cost"].shape
    for name in Transition._fields:
        _check_type(folder, name, held[name].dtype, np.dtype(np.float32))
    _check_values(folder, held)
    shares = held["cost"].mean(axis=1)
    card = about | {
        "bodies": bodies,
        "transitions_per_body": count,
        "violation_share": round(float(held["cost"].mean()), 6),
        "violation_share_per_body": [round(float(share), 6) for share in shares],
        "content_sha256": arrays.content_hash(held),
    }
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ARRAYS, "wb") as file:
        np.savez(file, **held)
    files.write_json(folder / CARD, card)
    return Dataset(rows, tasks, card)


def held_arrays(rows: Transition, tasks: Task) -> dict[str, np.ndarray]:
    """Returns what a dataset's file holds of transitions and bodies, by name."""
    held = {name: np.asarray(value) for name, value in rows._asdict().items()}
    return held | {f"{TASK}{k}": np.asarray(v) for k, v in tasks._asdict().items()}


def load(
    folder: pathlib.Path,
    spec: DomainSpec,
    like: Task,
    asked: tuple[int, int] | None = None,
) -> Dataset:
    """Reads and verifies a dataset; never unpickles.

    Args:
      like: some bodies of the domain, leaves [n, ...] with a shape and a dtype.
      asked: bodies and transitions of each that it must have; None for any.

    Raises:
      DatasetError: if it is missing, damaged, truncated, of another domain, type or
        size, or holds a value that is not finite, a cost that is not 0 or 1, or an
        action outside [-1, 1].
    """
    card, path = read_card(folder), folder / ARRAYS
    if card["domain"] != spec.name:
        found = card["domain"]
        raise DatasetError(f"{folder} is of domain {found!r}, wanted {spec.name!r}.")
    lead = card["bodies"], card["transitions_per_body"]
    if asked is not None and lead != asked:
        raise DatasetError(
            f"{folder} has {lead[0]} bodies of {lead[1]} transitions, and {asked[0]} "
            f"of {asked[1]} are asked for. Move it away, and it is collected."
        )
    expected = _expected(spec, like, *lead)
    try:
        held = arrays.read(path, lambda forms: _check_forms(path, forms, expected))
    except FileNotFoundError:
        raise DatasetError(f"{path} is missing.") from None
    except files.DamagedFileError as error:
        raise DatasetError(str(error)) from None
    _check_values(path, held)
    if arrays.content_hash(held) != card["content_sha256"]:
        raise DatasetError(f"{path} is not what its card describes: the hash differs.")
    rows = Transition(**{name: held[name] for name in Transition._fields})
    tasks = like._replace(**{name: held[f"{TASK}{name}"] for name in like._fields})
    return Dataset(rows, tasks, card)


def require_violations(dataset: Dataset, folder: pathlib.Path, fraction: float) -> None:
    """Checks that each training body violates; balanced sampling needs it too."""
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


def read_card(folder: pathlib.Path) -> dict[str, Any]:
    """Returns the card of a dataset.

    Raises:
      DatasetError, DamagedFileError: if there is none, or it is no dataset's.
    """
    path = folder / CARD
    if not path.exists():
        raise DatasetError(f"{folder} is no dataset: it has no {CARD}.")
    card = files.read_json(path)
    needed = {
        "domain": str,
        "bodies": int,
        "transitions_per_body": int,
        "content_sha256": str,
    }
    found = card if isinstance(card, dict) else {}
    if {name: type(found.get(name)) for name in needed} != needed:
        raise DatasetError(
            f"{path} is no dataset's card: it needs {', '.join(needed)}. Move "
            f"{folder} away, and what belongs there is collected."
        )
    return card


def _expected(spec: DomainSpec, like: Task, bodies: int, count: int) -> dict[str, Form]:
    """The arrays of a dataset of a domain."""
    sizes = {"observation": (spec.observation_size,), "action": (spec.action_size,)}
    sizes["next_observation"] = sizes["observation"]
    number = np.dtype(np.float32)
    forms = {
        name: Form((bodies, count, *sizes.get(name, ())), number)
        for name in Transition._fields
    }
    return forms | {
        f"{TASK}{name}": Form((bodies, *x.shape[1:]), np.dtype(x.dtype))
        for name, x in like._asdict().items()
    }


def _check_forms(path, forms: dict[str, Form], expected: dict[str, Form]) -> None:
    if forms.keys() != expected.keys():
        missing = sorted(expected.keys() - forms.keys())
        foreign = sorted(forms.keys() - expected.keys())
        raise DatasetError(f"{path} lacks {missing} and has unknown {foreign}.")
    for name, (shape, dtype) in expected.items():
        found = forms[name]
        if found.shape != shape:
            raise DatasetError(
                f"{path}: {name} has shape {found.shape}, expected {shape}."
            )
        _check_type(path, name, found.dtype, dtype)


def _check_type(path, name: str, found: np.dtype, expected: np.dtype) -> None:
    if found != expected:
        kind = "structured" if found.names else found
        raise DatasetError(
            f"{path}: {name} is of type {kind}, expected {expected}; convert it and "
            "save it anew."
        )


def _check_values(path, held) -> None:
    for fault in faults(held):
        raise DatasetError(f"{path}: {fault}")


def faults(held: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Yields what is wrong with values: which column, where first, what is allowed.

    Args:
      held: arrays [T, N, ...] by the names of `Transition`'s fields; others may only be
        not finite.
    """

    def first(bad):
        return ", row ".join(str(int(i)) for i in np.argwhere(bad)[0][:2])

    for name, values in held.items():
        bad = ~np.isfinite(values)
        if bad.any():
            yield f"{name} is not finite at body {first(bad)}."
    for name in ("cost", "discount"):
        bad = ~np.isin(held[name], (0.0, 1.0)) & np.isfinite(held[name])
        if bad.any():
            value = held[name][bad][0]
            yield f"{name} is {value} at body {first(bad)}, not 0 or 1."
    bad = np.abs(held["action"]) > 1.0
    if bad.any():
        value, where = held["action"][bad][0], first(bad)
        yield f"action is {value} at body {where}, not in [-1, 1]."
