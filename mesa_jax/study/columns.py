"""Other people's transitions: plain columns of one body's rows, in the order of time.

COLUMNS is the layout of .npz and HDF5 files (D4RL's and DSRL's), of which a file is one
body. A column that is not in the table, as "infos/speed", may say what the cost is.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from mesa_jax.study.datasets import DatasetError
from mesa_jax.types import Transition

Columns = dict[str, np.ndarray]  # [n, ...] each, by name
Cost = str | Callable[[Columns], np.ndarray] | None  # a column's name; columns -> [n]
NUMBERS = "fiub"  # kinds of dtypes that are read


class Column(NamedTuple):
    """Describes a column of a file."""

    name: str
    field: str  # of Transition that it becomes
    others: tuple[str, ...]  # names that other files give it
    axes: int = 1  # 2: [n, entries]


COLUMNS = (
    Column("observations", "observation", ("observation", "obs", "states"), 2),
    Column("actions", "action", ("action",), 2),
    Column("rewards", "reward", ("reward",)),
    Column("costs", "cost", ("cost", "infos/cost", "infos/costs")),
    Column("terminals", "discount", ("terminal", "terminations", "terminated")),
    Column("timeouts", "", ("timeout", "truncations", "truncated")),
    Column(
        "next_observations", "next_observation", ("next_observation", "next_obs"), 2
    ),
)
TABLE = {column.name: column for column in COLUMNS}
NEEDED = ("observations", "actions", "rewards", "terminals")


def from_transitions(transitions: Transition) -> Columns:
    """Returns a file's columns; `imports.to_transitions` gives them back.

    Args:
      transitions: [n, ...] of one body. Where s' of a row is not s of the next, an
        episode ends: by a time limit, unless it terminated.
    """
    ends, terminated = episode_ends(transitions), np.asarray(transitions.discount) == 0
    made = {
        column.name: np.asarray(getattr(transitions, column.field))
        for column in COLUMNS
        if column.field
    }
    made |= {"terminals": terminated, "timeouts": ends & ~terminated}
    return {column.name: made[column.name] for column in COLUMNS}


def episode_ends(transitions: Transition) -> np.ndarray:
    """Returns which rows are the last of their episode, [n] bool.

    Args:
      transitions: [n, ...] in the order they were made.
    """
    seen, reached = (
        np.ascontiguousarray(x).view(np.uint32)
        for x in (transitions.observation[1:], transitions.next_observation[:-1])
    )
    ends = np.asarray(transitions.discount) == 0
    ends[:-1] |= (seen != reached).any(-1)
    ends[-1:] = True
    return ends


def named(source: str, found: Mapping[str, np.ndarray], cost: Cost = None) -> Columns:
    """Returns columns under the table's names, and others under their own.

    Args:
      cost: as in `imports.to_transitions`.

    Raises:
      DatasetError: naming a column that is missing, twice there, no number, of another
        shape or length than the observations, or an end that is neither 0 nor 1.
    """
    columns = {name: np.asarray(values) for name, values in found.items()}
    for column in COLUMNS:
        theirs = [name for name in (column.name, *column.others) if name in columns]
        if column.name == "costs" and cost is not None:
            continue  # something else says it
        if len(theirs) > 1:
            both = " and ".join(theirs)
            raise DatasetError(f"{source} has {both}, which are one: leave one out.")
        if theirs:
            columns[column.name] = columns.pop(theirs[0])
    if isinstance(cost, str):
        if cost not in columns:
            has = _listed(columns)
            raise DatasetError(f"{source} has no column {cost}; it has {has}.")
        columns["costs"] = columns[cost]
    needed = NEEDED if callable(cost) else (*NEEDED, "costs")
    if missing := [name for name in needed if name not in columns]:
        raise DatasetError(
            f"{source} lacks {', '.join(missing)}; it has {_listed(found)}."
            + ("costs" in missing) * " Another column may be the cost (--cost=NAME)."
        )
    shape = columns["observations"].shape
    if 0 in (shape[:1] or (0,)):
        raise DatasetError(f"{source} holds no transition.")
    for name, values in columns.items():
        if column := TABLE.get(name):
            require_form(source, column, values, shape[0])
    reached = columns.get("next_observations", columns["observations"])
    if reached.shape != shape:
        raise DatasetError(
            f"{source}: next_observations has shape {reached.shape}, observations "
            f"{shape}."
        )
    return columns


def _listed(columns: Mapping) -> str:
    return ", ".join(sorted(columns)) or "nothing"


def require_form(source: str, column: Column, values: np.ndarray, length: int) -> None:
    """Checks a column's type, axes and rows, and that ends are 0 or 1.

    Raises:
      DatasetError: naming the source and the column.
    """
    if values.dtype.kind not in NUMBERS:
        kind = "structured" if values.dtype.names else values.dtype
        raise DatasetError(
            f"{source}: {column.name} is of type {kind}, not of numbers."
        )
    if values.ndim != column.axes:
        wanted = "[rows, entries]" if column.axes == 2 else "[rows]"
        raise DatasetError(
            f"{source}: {column.name} has shape {values.shape}, expected {wanted}."
        )
    if len(values) != length:
        raise DatasetError(
            f"{source}: {column.name} has {len(values)} rows, observations {length}."
        )
    if column.name in ("terminals", "timeouts"):
        for at in np.flatnonzero(~np.isin(values, (0, 1)))[:1]:
            raise DatasetError(
                f"{source}: {column.name} is {values[at]} at row {at}, not 0 or 1."
            )
