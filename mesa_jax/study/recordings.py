"""Whether other people's transitions are such as risk can be learned from; their cards.

Pure functions of columns (`study.columns`) and of transitions [n, ...] of one body.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from mesa_jax.data import begins_in_violation
from mesa_jax.study import columns, imports
from mesa_jax.study.columns import Columns, Cost
from mesa_jax.study.datasets import DatasetError
from mesa_jax.study.imports import Imported
from mesa_jax.types import Transition

FEW, MANY = 0.01, 0.6  # share of transitions that violate; outside, a check warns
SMALL = 0.1  # actions that are never larger are hardly scaled to [-1, 1]
FINE, WARNING, WRONG = "fine", "warning", "wrong"


class Finding(NamedTuple):
    """Says what a check found, and how bad it is."""

    kind: str  # FINE, WARNING or WRONG
    text: str


def check(
    source: str,
    found: Mapping[str, np.ndarray],
    cost: Cost = None,
    action_range: tuple[float, float] | None = None,
) -> tuple[list[Finding], Imported | None]:
    """Checks the columns of one body's file.

    Args:
      source: what messages name.
      found: columns of the file.
      cost, action_range: as in `imports.to_transitions`.

    Returns:
      What was found, and the transitions; None where something is wrong.
    """
    try:
        imported = imports.converted(source, found, cost, action_range)
    except DatasetError as error:
        return [Finding(WRONG, str(error).removeprefix(f"{source}: "))], None
    if bad := imports.faults(imported.transitions):
        return [Finding(WRONG, fault) for fault in bad], None
    given = columns.named(source, found, cost)
    rows = imported.transitions
    seen, acted = rows.observation.shape, rows.action.shape
    types = ", ".join(sorted({str(given[name].dtype) for name in columns.NEEDED}))
    findings = [
        Finding(
            FINE, f"{seen[0]} transitions, {seen[1]} observations, {acted[1]} actions"
        ),
        Finding(FINE, f"finite; of type {types}"),
        *(Finding(WARNING, note) for note in imported.notes),
        _actions(rows.action),
        *_costs(rows),
        _episodes(episodes(rows)),
        *_continuity(given, rows),
    ]
    return findings, imported


def _actions(actions: np.ndarray) -> Finding:
    low, high = actions.min(), actions.max()
    text = f"actions from {low:.3g} to {high:.3g}"
    if max(-low, high) < SMALL:
        return Finding(WARNING, f"{text}: are they scaled to [-1, 1]?")
    return Finding(FINE, text)


def entering(rows: Transition) -> np.ndarray:
    """Returns which rows [n] enter a violation: they violate and did not begin in one.

    Args:
      rows: [n, ...]
    """
    begins = begins_in_violation(Transition(*(np.asarray(x)[None] for x in rows)))[0]
    return (np.asarray(rows.cost) == 1) & ~begins


def _costs(rows: Transition) -> list[Finding]:
    share, enters = rows.cost.mean(), entering(rows).mean()
    text = f"cost is 1 in {100 * share:.2f} % of the transitions"
    label = f"{100 * enters:.2f} % enter a violation (label rate)"
    if share == 0:
        return [Finding(WARNING, f"{text}: there is no risk to learn from")]
    few = f": a risk measure learns best from {100 * FEW:.0f} to {100 * MANY:.0f} %"
    kind = FINE if FEW <= share <= MANY else WARNING
    return [Finding(kind, text + few * (kind == WARNING)), Finding(FINE, label)]


ENDS = ("violation", "other termination", "cut")  # by a time limit, or the file's end


class Episodes(NamedTuple):
    """Describes the E episodes of a body's transitions."""

    lengths: np.ndarray  # [E]
    ends: np.ndarray  # [E] places in ENDS

    @property
    def by_end(self) -> dict[str, int]:
        """Returns how many episodes end in each way."""
        return {name: int(np.sum(self.ends == i)) for i, name in enumerate(ENDS)}


def episodes(rows: Transition) -> Episodes:
    """Returns the episodes of rows [n, ...] in the order they were made."""
    last = np.flatnonzero(columns.episode_ends(rows))
    going, violating = rows.discount[last] != 0, rows.cost[last] == 1
    kinds = np.where(going, 2, np.where(violating, 0, 1))
    return Episodes(np.diff(last, prepend=-1), kinds)


def _episodes(found: Episodes) -> Finding:
    lengths, how = found.lengths, found.by_end
    if len(lengths) > 1 and lengths.max() == 1:
        return Finding(
            WARNING,
            "no transition goes on where the one before ended: shuffled, or of several "
            "episodes side by side; outcomes want the order of time",
        )
    return Finding(
        FINE,
        f"{len(lengths)} episodes of {lengths.min()} to {lengths.max()} transitions: "
        f"{how['violation']} end at a violation, {how['other termination']} terminate "
        f"otherwise, {how['cut']} are cut (by a time limit, or the end of the file)",
    )


def _continuity(given: Columns, rows: Transition) -> list[Finding]:
    """Finds rows that go on and do not say so, and rows that end and seem to go on."""
    if "next_observations" not in given:
        return [Finding(FINE, "s' is s of the next row within an episode, by making")]
    stop, cut = (
        given.get(name, np.zeros(len(rows.cost))) != 0
        for name in ("terminals", "timeouts")
    )
    goes_on = ~columns.episode_ends(rows._replace(discount=np.ones_like(rows.discount)))
    broken = int(np.sum(~goes_on[:-1] & ~(stop | cut)[:-1]))
    across = int(np.sum(goes_on & cut))
    findings = []
    if broken:
        gap = rows.next_observation[:-1] - rows.observation[1:]
        least = np.abs(gap).max(-1)[~goes_on[:-1] & ~(stop | cut)[:-1]].min()
        findings.append(
            Finding(
                WARNING,
                f"{broken} rows are no ends, and the next row does not begin at "
                f"their s' (by {least:.3g} or more): taken for cut episodes",
            )
        )
    if across:
        findings.append(
            Finding(
                WARNING,
                f"{across} rows end by a time limit and their s' is s of the next: "
                "either the body went on, or episodes were paired across their ends; "
                "then leave next_observations out, and they are made anew",
            )
        )
    return findings or [Finding(FINE, "s' is s of the next row within each episode")]


def shared(one: Transition, other: Transition) -> int:
    """Counts the rows of `one` [n, ...] whose state and action are in `other` [m, ...].

    Where one is adapted on and the other tests, there should be none.
    """

    def keys(rows):
        joined = np.concatenate([rows.observation, rows.action], axis=-1)
        return [row.tobytes() for row in np.ascontiguousarray(joined)]

    theirs = set(keys(other))
    return sum(key in theirs for key in keys(one))


def card(source: str, rows: Transition) -> dict[str, Any]:
    """Returns what there is to know of a body's transitions [n, ...], for JSON."""
    found = episodes(rows)
    lengths = found.lengths
    returns = np.add.reduceat(rows.reward, np.cumsum(lengths) - lengths)
    number = lambda x: round(float(x), 6)  # noqa: E731
    entries = {
        name: {
            "least": [number(x) for x in values.min(0)],
            "mean": [number(x) for x in values.mean(0)],
            "largest": [number(x) for x in values.max(0)],
        }
        for name, values in (("observation", rows.observation), ("action", rows.action))
    }
    return {
        "source": source,
        "transitions": len(rows.cost),
        "violating_share": number(rows.cost.mean()),
        "entering_share": number(entering(rows).mean()),
        "episodes": len(lengths),
        "episode_length": [int(lengths.min()), int(lengths.max())],
        "episodes_by_end": found.by_end,
        "return_mean": number(returns.mean()),
        "entries": entries,
    }


def told(card: dict[str, Any]) -> list[str]:
    """Returns a card in lines: a number or a few each."""
    lines = []
    for name, value in card.items():
        if name == "entries":
            continue
        if isinstance(value, dict):
            value = ", ".join(f"{count} {key}" for key, count in value.items())
        elif isinstance(value, list):
            value = " to ".join(map(str, value))
        lines.append(f"{name.replace('_', ' '):18}{value}")
    for name, entries in card["entries"].items():
        columns = zip(*(entries[k] for k in ("least", "largest", "mean")), strict=True)
        lines += [
            f"{f'{name} {i}':18}{low:.4g} to {high:.4g}, mean {mean:.4g}"
            for i, (low, high, mean) in enumerate(columns)
        ]
    return lines
