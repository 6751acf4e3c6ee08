"""Checks and cards of recorded transitions say what is in them."""

import json

import numpy as np
import pytest

from mesa_jax.study import columns, recordings
from mesa_jax.study.recordings import FINE, WARNING, WRONG
from tests.recorded import CUT, GOAL, VIOLATES, some


def _check(change=None, rows=None):
    held = columns.from_transitions(some() if rows is None else rows)
    if change:
        change(held)
    findings, imported = recordings.check("file", held)
    return {
        kind: [f.text for f in findings if f.kind == kind] for kind in KINDS
    }, imported


KINDS = (FINE, WARNING, WRONG)


def test_a_good_file_is_fine():
    found, imported = _check()
    assert imported is not None and found[WARNING] == found[WRONG] == []
    text = "\n".join(found[FINE])
    assert "8 transitions, 3 observations, 2 actions" in text
    assert "cost is 1 in 12.50 %" in text and "12.50 % enter a violation" in text
    assert "3 episodes of 1 to 4 transitions: 1 end at a violation" in text
    assert "1 terminate otherwise, 1 are cut" in text
    assert "s' is s of the next row within each episode" in text


def test_everything_that_is_wrong_is_listed_at_once():
    def damage(held):
        held["costs"] = 2 * held["costs"]
        held["rewards"][3] = np.nan
        held["actions"] = 3 + held["actions"]

    found, imported = _check(damage)
    assert imported is None
    said = ("reward is not finite at row 3", "cost is 2.0 at row 2", "not in [-1, 1]")
    assert len(found[WRONG]) == 3
    assert all(any(text in one for one in found[WRONG]) for text in said)


def test_only_the_first_of_a_violations_rows_enters_it():
    rows = some(lengths=(6,), ends=(CUT,))
    cost = np.array([0, 0, 1, 1, 1, 0], np.float32)
    rows = rows._replace(cost=cost)
    assert recordings.entering(rows).tolist() == [0, 0, 1, 0, 0, 0]


def test_rows_that_neither_end_nor_go_on_are_counted():
    def forget(held):
        held["timeouts"][:] = False

    (text,) = _check(forget)[0][WARNING]
    assert text.startswith("1 rows are no ends")


def test_episodes_that_were_paired_across_their_ends_are_seen():
    def pair(held):
        held["next_observations"][:-1] = held["observations"][1:]

    (text,) = _check(pair)[0][WARNING]
    assert text.startswith("1 rows end by a time limit and their s' is s of the next")


def test_shuffled_rows_and_tiny_actions_and_no_violation_are_warned_of():
    rows = some(lengths=(8,), ends=(CUT,))
    order = np.array([0, 2, 4, 6, 1, 3, 5, 7])
    rows = type(rows)(*(x[order] for x in rows))
    rows = rows._replace(action=rows.action * np.float32(0.01))
    warnings = "\n".join(_check(rows=rows)[0][WARNING])
    for said in ("are they scaled", "no risk to learn from", "no transition goes on"):
        assert said in warnings


def test_rows_that_two_files_share_are_counted():
    one, other = some(0), some(1)
    both = type(one)(
        *(np.concatenate([a, b[:3]]) for a, b in zip(other, one, strict=True))
    )
    assert recordings.shared(one, both) == 3
    assert recordings.shared(one, other) == 0


def test_a_card_is_json_and_says_lengths_ends_and_returns():
    rows = some(lengths=(3, 1, 4), ends=(VIOLATES, CUT, GOAL))
    card = recordings.card("file", rows)
    assert json.loads(json.dumps(card)) == card
    assert card["episode_length"] == [1, 4]
    assert card["episodes_by_end"] == {"violation": 1, "other termination": 1, "cut": 1}
    lines = recordings.told(card)
    assert lines[0].split() == ["source", "file"]
    assert "episodes by end   1 violation, 1 other termination, 1 cut" in lines
    assert len([x for x in lines if x.startswith(("observation", "action"))]) == 5
    returns = [rows.reward[:3].sum(), rows.reward[3], rows.reward[4:].sum()]
    assert card["return_mean"] == pytest.approx(np.mean(returns), abs=1e-5)
    assert card["entries"]["action"]["least"] == pytest.approx(
        rows.action.min(0), abs=1e-6
    )
