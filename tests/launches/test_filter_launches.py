"""The filter test and the settings that it chooses, end to end, very small."""

import json

import jax
import numpy as np
import pytest
from absl import flags as absl_flags

from experiments import filter_test, tune
from mesa_jax import adaptation, configuration, methods
from mesa_jax.evaluation.filtering import ALWAYS, NEVER, THRESHOLDS
from mesa_jax.keys import Stage
from mesa_jax.settings import SettingError
from mesa_jax.study import files, filtering, rules, tuning
from mesa_jax.study.artifacts import priors, trials, truth
from mesa_jax.study.artifacts.data import load_test_bodies
from mesa_jax.study.artifacts.proposals import unsafe_policies
from mesa_jax.study.filtering import FILTER, LOOK_AHEAD
from mesa_jax.study.study import Study
from tests import launching
from tests.launching import TINY, launch, run_here

EPISODES = TINY["quality"]["filter_episodes"]
HORIZONS = (5.0, 10.0)


@pytest.fixture
def given(monkeypatch):
    """Stands for the flags that only these launches have."""
    values = absl_flags.FlagValues()
    absl_flags.DEFINE_integer("bodies", 3, "", flag_values=values)
    absl_flags.DEFINE_integer("look_ahead", 0, "", flag_values=values)
    values.mark_as_parsed()
    monkeypatch.setattr(absl_flags, "FLAGS", values)
    return values


def test_filters_are_tested_on_new_bodies_and_on_test_bodies(
    finished_workdir, tmp_path, given
):
    place = launching.copied(finished_workdir, tmp_path / "w")
    asked = launch(place, ("mesa",))
    output = run_here(asked, filter_test.main)
    new = FILTER.read(place)
    bodies = load_test_bodies(asked.study, (0, 1))
    run_here(asked, lambda: filter_test.filter_test(*asked, bodies, "test"))
    records = FILTER.read(place)
    assert [row for row in records if row["bodies"] == "training"] == new
    own = asked.of("mesa").configuration.recovery.risk_threshold
    thresholds = sorted({ALWAYS, *THRESHOLDS, own, NEVER})
    for kind, count in (("training", 3), ("test", 2)):
        mine = [row for row in records if row["bodies"] == kind]
        where = {(row["body"], row["proposals"], row["threshold"]) for row in mine}
        assert len(where) == len(mine) == count * 2 * len(thresholds)
    for row in records:
        assert row["episodes"] == EPISODES
        assert row["while_recovering"] <= row["violated"] <= EPISODES
        assert row["recovered"] <= row["steps"]
        assert row["own_threshold"] == own
        assert row["horizon"] == pytest.approx(5.0)  # of a discount of 0.8 a step
        if row["threshold"] in (ALWAYS, NEVER):
            always = row["threshold"] == ALWAYS
            assert row["recovered"] == (row["steps"] if always else 0)
    assert "| mesa   | held      | 5       | 0.3 " in output
    for kind in filtering.BODIES:
        assert (place / "report" / f"filter_test_{kind}.png").stat().st_size > 10_000


def test_a_filter_that_simulates_is_tested_in_place_of_the_risk(
    finished_workdir, tmp_path, given
):
    place = launching.copied(finished_workdir, tmp_path / "w")
    asked, before = launch(place, ("mesa",)), FILTER.read(place)
    for steps in (2, 4):
        given.look_ahead = steps
        output = run_here(asked, filter_test.main)
    records = LOOK_AHEAD.read(place)
    where = {(row["look_ahead"], row["body"], row["proposals"]) for row in records}
    assert len(where) == len(records) == 2 * 3 * 2
    for row in records:
        assert row["violated"] <= row["episodes"] == EPISODES
        assert 0 < row["steps"] >= row["recovered"]
    lines = [line.split("|")[1:4] for line in output.splitlines() if "| held" in line]
    assert [[cell.strip() for cell in line] for line in lines] == [
        ["mesa", "held", "2"],
        ["mesa", "held", "4"],
    ]
    assert FILTER.read(place) == before


def test_an_unfiltered_method_is_refused(tmp_path, given):
    asked = launch(tmp_path / "w", ("unconstrained",))
    with pytest.raises(SettingError, match="methods must be one that has a filter"):
        run_here(asked, filter_test.main)


def test_unsafe_policies_are_learned_once_and_differ_between_bodies(tmp_path):
    study = launch(tmp_path / "w", ("mesa",)).study
    bodies = load_test_bodies(study, (0, 1))
    found = unsafe_policies(study, bodies)
    (place,) = (study.folder / "checkpoints").glob("proposals-*")
    written = [path.stat().st_mtime_ns for path in sorted(place.rglob("*"))]
    again = unsafe_policies(study, bodies)
    assert [path.stat().st_mtime_ns for path in sorted(place.rglob("*"))] == written
    for ours, theirs in zip(*map(jax.tree.leaves, (found, again)), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    differ = [not np.array_equal(*leaf) for leaf in jax.tree.leaves(found)]
    assert any(differ)


# What is chosen


@pytest.fixture
def few_tried(monkeypatch):
    """Settings of mesa: two meta-trainings, one of them adapted in two ways."""
    rows = [
        {"maml": {"inner_steps": 2, "anchor": 1.0}, "inner_loop": {"target_rate": 0.0}},
        {"maml": {"inner_steps": 2, "anchor": 1.0}, "inner_loop": {"target_rate": 1.0}},
    ]
    row = methods.METHODS["mesa"]._replace(grid=tuple(rows), grid_steps=(1, 3))
    monkeypatch.setitem(methods.METHODS, "mesa", row)
    return rows


@pytest.mark.slow
def test_a_tuned_setting_is_worth_what_training_it_alone_gives(tmp_path, few_tried):
    study = launch(tmp_path / "w", ("mesa",)).study
    count = study.configuration.data.adaptation
    bodies = truth.heldout_sets(study).bodies.first(count)
    unsafe, rows = (
        unsafe_policies(study, bodies),
        trials.settings_of("mesa", HORIZONS),
    )
    assert [row["risk"]["horizon"] for row in rows] == [5.0, 5.0, 10.0, 10.0]
    starts = trials.trained_starts(study, "mesa", bodies, rows)
    found = trials.worth(study, "mesa", rows, starts, bodies, unsafe)
    one = TINY["data"]["heldout_bodies"]
    assert found.violated.shape == (4, 2, one, 2, len(THRESHOLDS), EPISODES)
    for i in (1, 2):
        settings = configuration.override(study.configuration, rows[i])
        alone = Study(study.folder, settings)
        source = priors.trained_source(alone, methods.METHODS["mesa"])
        system = alone.system
        discount = 1.0 - 1.0 / rows[i]["risk"]["horizon"]
        assert source.prior.params[0]["discount"] == pytest.approx(discount)
        adapt = jax.jit(adaptation.adaptation(settings, system.parts, "inner_loop"))
        support, task, policy, root = jax.tree.map(
            lambda x: x[0], (bodies.rows, bodies.tasks, unsafe, bodies.roots)
        )
        params = adapt(bodies.keys(Stage.ADAPT)[0], source.prior, support, 3)
        test = jax.jit(filtering.of_body(system, EPISODES))
        expected = test(root, task, params, policy, np.array(THRESHOLDS))
        for mine, theirs in zip(found, expected, strict=True):
            agree = np.mean(mine[i, 1, 0] == np.asarray(theirs))
            assert agree > 0.9  # a step at a threshold may fall on either side


@pytest.mark.parametrize("inputs", ["raw", "standardized"])
def test_settings_from_scratch_begin_as_one_that_is_asked_for(tmp_path, inputs):
    """Each with its own discount; inputs standardised as they are asked."""
    sections = {"risk": TINY["risk"] | {"inputs": inputs}}
    study = launch(tmp_path / "w", ("recovery_rl",), **sections).study
    bodies = truth.heldout_sets(study).bodies.first(60)
    rows = [{"risk": {"horizon": horizon}} for horizon in HORIZONS]
    starts = trials.trained_starts(study, "recovery_rl", bodies, rows)
    for i, row in enumerate(rows):
        alone = Study(tmp_path, configuration.override(study.configuration, row))
        keys = bodies.keys(Stage.PRIOR_INIT)
        own = adaptation.from_scratch(alone.system, keys, bodies.rows)
        for tuned, mine in zip(*map(jax.tree.leaves, (starts, own)), strict=True):
            np.testing.assert_allclose(tuned[i], mine, rtol=1e-5, atol=1e-6)


def test_tune_writes_every_trial_and_the_best_of_them(tmp_path, few_tried, monkeypatch):
    monkeypatch.setattr(rules, "CHOSEN", tmp_path / "chosen.json")
    tiny = launch(tmp_path / "w", ("mesa", "multi_task"))
    row = methods.METHODS["multi_task"]._replace(grid=({},), grid_steps=(2,))
    monkeypatch.setitem(methods.METHODS, "multi_task", row)
    output = run_here(tiny, lambda: tune.tune(*tiny, HORIZONS))
    records = tuning.TUNING.read(tiny.study.folder)
    each = TINY["data"]["heldout_bodies"] * 2 * len(THRESHOLDS)
    assert len(records) == (4 * 2 + 2 * 1) * each
    chosen = files.read_json(tiny.study.folder / "tuning.json")
    (setting, steps, threshold), _ = next(iter(tuning.means(records)["mesa"].items()))
    assert chosen["inner_loop"]["steps"] == steps
    assert json.loads(setting)["maml"].items() <= chosen["maml"].items()
    assert chosen["mesa"]["recovery"]["risk_threshold"] == threshold
    assert chosen["mesa"]["risk"]["horizon"] in HORIZONS
    assert "best 6 of 72 settings" in output
    again = run_here(tiny, lambda: tune.tune(*tiny, HORIZONS))  # none is tried twice
    assert tuning.TUNING.read(tiny.study.folder) == records
    assert "meta-training" not in again
