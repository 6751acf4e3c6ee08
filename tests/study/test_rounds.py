"""Rounds of a study: what is stored, what a launch that was killed goes on with."""

import shutil

import jax
import numpy as np
import pytest

from mesa_jax.study import datasets, files, resolve
from mesa_jax.study.artifacts import naming
from mesa_jax.study.artifacts import rounds as artifact
from mesa_jax.study.artifacts.data import training_data
from mesa_jax.study.artifacts.rounds import joined_data
from mesa_jax.study.study import Study

ASKED = {
    "risk": {"measure": "avoid", "hidden": (8,)},
    "recovery": {"hidden": (8,)},
    "data": {"train_bodies": 3, "heldout_bodies": 1, "transitions": 60},
    "rounds": {"count": 2, "steps": 5, "transitions": 20},
}
ROWS = 60, 20  # of a body, offline and a round


def study_in(place, **changes) -> Study:
    sections = {name: ASKED.get(name, {}) | changes.get(name, {}) for name in ASKED}
    settings = resolve.resolve("cartpole_length", "actuator", "quick", sections)
    return Study(place, settings)


def folder_of(study):
    name = naming.rounds_name(study.configuration, study.meta_seed)
    return study.folder / "datasets" / "cartpole_length" / name


def keeping(study, count):
    """The joined data where `count` rounds are kept."""
    path = folder_of(study) / artifact.TESTS
    files.write_json(path, files.read_json(path) | {"kept": count})
    return joined_data(study)


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    study = study_in(tmp_path_factory.mktemp("rounds"))
    joined_data(study)
    return study


def test_the_round_with_the_fewest_falls_is_kept(played):
    found = files.read_json(folder_of(played) / artifact.TESTS)
    tests = [(test["violated"], test["recovered"]) for test in found["tests"]]
    assert len(tests) == 3  # before, between and after two rounds
    assert tests[found["kept"]] == min(tests)


def test_the_kept_rounds_follow_the_offline_data(played):
    offline = training_data(played).rows
    for count in range(3):
        rows = keeping(played, count).rows
        assert rows.cost.shape == (4, ROWS[0] + count * ROWS[1])
        for ours, theirs in zip(rows, offline, strict=True):
            np.testing.assert_array_equal(ours[:, : ROWS[0]], theirs)


def test_no_rounds_leave_the_data_as_they_are(played):
    study = study_in(played.folder, rounds={"count": 0})
    assert joined_data(study).rows.cost.shape == (4, ROWS[0])


def test_a_round_that_was_killed_is_played_anew_with_equal_numbers(played, tmp_path):
    shutil.copytree(played.folder, tmp_path / "w")
    again = played._replace(folder=tmp_path / "w")
    folder = folder_of(again)
    (folder / artifact.TESTS).unlink()
    (folder / "round1" / datasets.CARD).unlink()
    joined_data(again)
    ours, theirs = (keeping(study, 2) for study in (again, played))
    jax.tree.map(np.testing.assert_array_equal, ours.rows, theirs.rows)
    cards = [files.read_json(folder_of(s) / artifact.TESTS) for s in (again, played)]
    assert cards[0] == cards[1]


def test_methods_share_the_rounds_and_other_settings_have_their_own(played):
    names = {
        naming.rounds_name(played.of(m).configuration, 0)
        for m in ("multi_task", "mesa", "context", "mesa_context", "oracle")
    }
    assert len(names) == 1
    for changes in (
        {"rounds": {"lr": 0.5}},
        {"risk": {"discount": 0.5}},
        {"data": {"transitions": 61}},
    ):
        other = study_in(played.folder, **changes).configuration
        assert naming.rounds_name(other, 0) not in names
    other = study_in(played.folder, recovery={"risk_threshold": 0.5}).configuration
    assert naming.rounds_name(other, 0) in names  # they are judged at their best


def test_a_prior_of_other_rounds_has_another_name(played):
    def name(**changes):
        settings = study_in(played.folder, **changes).configuration
        return naming.prior_name(settings, "pooled", 0)

    assert name() != name(rounds={"lr": 0.5})
    assert name(rounds={"count": 0}) == name(rounds={"count": 0, "lr": 0.5})


def test_the_avoid_risk_brings_its_rule_and_no_other_measure_does():
    names = "cartpole_length", "actuator", "quick"
    plain, own = (
        resolve.resolve(*names, asked) for asked in ({}, {"risk": {"measure": "avoid"}})
    )
    assert (plain.rounds.count, plain.recovery.objective) == (0, "risk")
    assert own.rounds.count > 0
    assert own.recovery.objective == "logit"
    assert own.data.train_bodies == 64
    asked = {"risk": {"measure": "avoid", "discount": 0.5}}
    assert resolve.resolve(*names, asked).risk.discount == 0.5
