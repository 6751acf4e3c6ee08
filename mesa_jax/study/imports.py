"""From columns of a file (`study.columns`) to transitions, with nothing left unsaid."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from mesa_jax.study import datasets
from mesa_jax.study.columns import (
    COLUMNS,
    TABLE,
    Columns,
    Cost,
    named,
    require_form,
)
from mesa_jax.study.datasets import DatasetError
from mesa_jax.types import Transition


class Imported(NamedTuple):
    """Holds what became of a file's columns."""

    transitions: Transition  # NumPy arrays [n, ...], float32
    notes: tuple[str, ...]  # what was left out, rounded or taken for granted


def to_transitions(
    source: str,
    found: Mapping[str, np.ndarray],
    cost: Cost = None,
    action_range: tuple[float, float] | None = None,
) -> Imported:
    """Returns the transitions of one body's columns.

    A violating row is one whose cost is 1. Where there are no next observations, the
    next row's observation is taken within an episode; its last row has none and is
    left out.

    Args:
      source: what messages name.
      found: columns under the names of the table, or others that it knows.
      cost: the column that says it, or a function of all columns; None: "costs".
      action_range: lowest and highest action, which become -1 and 1.

    Raises:
      DatasetError: naming the source, the column and, where it can, the row.
    """
    imported = converted(source, found, cost, action_range)
    for fault in faults(imported.transitions):
        raise DatasetError(f"{source}: {fault}")
    return imported


def converted(
    source: str,
    found: Mapping[str, np.ndarray],
    cost: Cost = None,
    action_range: tuple[float, float] | None = None,
) -> Imported:
    """Returns what `to_transitions` does, whose values may be no transition's.

    Raises:
      DatasetError: where the columns are not what they must be.
    """
    notes: list[str] = []
    given = _continued(source, named(source, found, cost), notes)
    if callable(cost):
        given["costs"] = np.asarray(cost(given))
        require_form(source, TABLE["costs"], given["costs"], len(given["actions"]))
    if action_range is not None:
        given["actions"] = _scaled(source, given["actions"], action_range)
    held = {
        column.field: _single(source, column.name, given[column.name], notes)
        for column in COLUMNS
        if column.field
    }
    held["discount"] = 1.0 - held["discount"]
    return Imported(Transition(**held), tuple(notes))


def faults(transitions: Transition) -> list[str]:
    """Returns what is wrong with values [n, ...], and what to do about it."""
    held = {k: np.asarray(v)[None] for k, v in transitions._asdict().items()}
    return [
        fault.replace("body 0, ", "") + _advice(fault)
        for fault in datasets.faults(held)
    ]


def _continued(source: str, given: Columns, notes: list[str]) -> Columns:
    """Fills in next observations, and leaves out the rows that have none."""
    if "next_observations" in given:
        return given
    if "timeouts" not in given:
        raise DatasetError(
            f"{source} has neither next_observations nor timeouts, so nothing tells "
            "where a time limit cut an episode. Add timeouts: 1 in the last row of an "
            "episode that did not terminate."
        )
    seen = given["observations"]
    last = (given["terminals"] != 0) | (given["timeouts"] != 0)
    last[-1] = True
    known = given.get("costs", np.zeros(len(last)))  # zeros: a function says it
    notes.append(
        f"{last.sum()} of {len(last)} rows are the last of their episode and have no "
        f"next observation: left out, {np.sum(known[last] != 0)} of them violating"
    )
    if last.all():
        raise DatasetError(f"{source}: {notes[-1]}; nothing is left.")
    given = given | {"next_observations": np.concatenate([seen[1:], seen[-1:]])}
    count = len(seen)
    return {k: v[~last] if v.shape[:1] == (count,) else v for k, v in given.items()}


def _scaled(
    source: str, actions: np.ndarray, limits: tuple[float, float]
) -> np.ndarray:
    low, high = limits
    if not low < high:
        raise DatasetError(f"{source}: actions of {low:g} to {high:g} have no range.")
    return 2.0 * (actions.astype(np.float64) - low) / (high - low) - 1.0


def _single(source: str, name: str, values: np.ndarray, notes: list[str]) -> np.ndarray:
    """Returns a column as float32, and notes where it was rounded."""
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    beyond = np.isfinite(values) & ~np.isfinite(single)
    if beyond.any():
        raise DatasetError(f"{source}: {name} holds {values[beyond][0]:g}: no float32.")
    changed = np.sum((single != values) & np.isfinite(values))
    if changed:
        notes.append(f"{changed} numbers of {name} ({values.dtype}) rounded to float32")
    return single


def _advice(fault: str) -> str:
    """Returns what to do about a value that is no transition's."""
    if fault.startswith("action is"):
        return " Scale them: --action_range=LOW,HIGH becomes -1 to 1."
    if fault.startswith("cost is"):
        return " Make it one: --cost=MODULE:FUNCTION of the columns."
    return ""
