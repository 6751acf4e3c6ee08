"""tuning.csv: what was tried, what that chooses, and what the presets hold of it."""

import json
import re

import numpy as np
import pytest

from mesa_jax import configuration
from mesa_jax.evaluation.filtering import THRESHOLDS
from mesa_jax.report import tuning as report
from mesa_jax.settings import SettingError
from mesa_jax.simulation import Filtered
from mesa_jax.study import files, presets, resolve, rules, runs, tuning
from mesa_jax.study.batches import Batch
from mesa_jax.study.study import Study
from mesa_jax.study.tuning import TUNING

SLOW, FAST = ({"finetune": {"optimizer": "sgd", "lr": lr}} for lr in (0.1, 0.3))
MESA = {
    "maml": {"learner": "first_order", "anchor": 0.0},
    "inner_loop": {"target_rate": 0.0},
}


def records(method, setting, steps, violated, meta_seed=0, recovered=10, at=0.3):
    """Records of held-out bodies 0, 1, ...: of 10 episodes how many violate each."""
    lines = []
    for body, count in enumerate(violated):
        where = (method, meta_seed, body, json.dumps(setting), steps, "held", at)
        values = (*where, 10, count, 0, 100, recovered)
        lines.append(dict(zip(TUNING.columns, values, strict=True)))
    return lines


TRIED = [
    *records("multi_task", SLOW, 5, [5, 3]),
    *records("multi_task", SLOW, 30, [1, 4]),
    *records("multi_task", FAST, 5, [0, 1]),  # the best: 0.05
    *records("multi_task", FAST, 30, [0, 9]),  # best on one body alone
]


def add(place, *some):
    """Adds records to those of a workdir; a method's are written together."""
    TUNING.write(place, [*TUNING.read(place), *(row for rows in some for row in rows)])


@pytest.fixture
def chosen_file(tmp_path, monkeypatch):
    """A file of its own in place of what the package holds."""
    path = tmp_path / "chosen.json"
    monkeypatch.setattr(rules, "CHOSEN", path)
    return path


def settings(
    tasks="flip", domain="navigation1", preset="quick"
) -> configuration.Configuration:
    return resolve.resolve(domain, tasks, preset)


# tuning.csv


def test_records_come_back_as_they_were_added(tmp_path):
    assert TUNING.read(tmp_path) == []
    TUNING.replace(tmp_path, TRIED)
    assert TUNING.read(tmp_path) == TRIED
    header, first, *_ = (tmp_path / "tuning.csv").read_text().splitlines()
    assert header == (
        "method,meta_seed,body,setting,adaptation_steps,proposals,threshold,"
        "episodes,violated,while_recovering,steps,recovered"
    )
    assert first.startswith("multi_task,0,0,")
    assert first.endswith(",5,held,0.3,10,5,0,100,10")


def test_a_tried_setting_is_an_override_by_section(tmp_path):
    setting = {"risk": {"horizon": 0.25}} | MESA  # shorter than a step of navigation
    TUNING.replace(tmp_path, records("mesa", setting, 5, [1]))
    (row,) = TUNING.read(tmp_path)
    assert json.loads(row["setting"]) == setting


def test_a_record_counts_the_episodes_of_its_place():
    """Axes: settings, steps, bodies, kinds of proposal, thresholds, episodes."""
    shape = (2, 1, 3, 2, len(THRESHOLDS), 4)
    some = np.random.default_rng(0).integers(0, 2, shape)
    found = Filtered(some.astype(bool), some * 0, some * 3, some + 5)
    lines = tuning.records("mesa", 1, [MESA, SLOW], (7,), found)
    assert len(lines) == np.prod(shape[:-1])
    (one,) = [
        row
        for row in lines
        if row["setting"] == json.dumps(SLOW)
        and (row["body"], row["proposals"]) == (2, "learned")
        and row["threshold"] == THRESHOLDS[4]
    ]
    mine = some[1, 0, 2, 1, 4]
    assert one["meta_seed"] == 1 and one["adaptation_steps"] == 7
    counts = (4, mine.sum(), 0, mine.sum() + 20, 3 * mine.sum())
    assert tuple(one[name] for name in tuning.COUNTS) == counts


def test_a_method_is_tried_by_meta_seed(tmp_path):
    assert not tuning.has(tmp_path, "mesa", 2, [MESA])
    TUNING.replace(tmp_path, TRIED)
    TUNING.replace(tmp_path, records("mesa", MESA, 5, [1], meta_seed=2))
    assert not tuning.has(tmp_path, "mesa", 0, [MESA])
    assert tuning.has(tmp_path, "mesa", 2, [MESA])


def test_trials_of_other_settings_do_not_mix(tmp_path):
    TUNING.replace(tmp_path, records("mesa", MESA, 5, [1]))
    other = {"inner_loop": {"target_rate": 0.25}}
    with pytest.raises(tuning.TuningError, match=r"other settings of mesa"):
        tuning.has(tmp_path, "mesa", 0, [MESA, other])


def test_an_interrupted_addition_leaves_the_old_records(tmp_path, monkeypatch):
    TUNING.replace(tmp_path, TRIED)

    def interrupted(*paths):
        raise OSError("the disk is full")

    monkeypatch.setattr(files.os, "replace", interrupted)
    with pytest.raises(OSError, match="full"):
        TUNING.replace(tmp_path, records("mesa", MESA, 5, [1]))
    assert TUNING.read(tmp_path) == TRIED


HEADER = ",".join(TUNING.columns).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"setting,error\n",
        HEADER + b"\nmulti_task,0,0,{},5,held,oops,10,1,0,100,10\n",
        HEADER + b"\nmulti_task,0,0.5,{},5,held,0.3,10,1,0,100,10\n",
        HEADER + b"\nmulti_task,0,0\n",
        HEADER + b"\nmulti_task,0,0,{},5,held,0.3,10,1,0,100,10,77\n",
        HEADER + b'\nmulti_task,0,0,"{},5,held,0.3,10,1,0,100,10\n',
        HEADER + b"\n\xff\xfe,0,0,{},5,held,0.3,10,1,0,100,10\n",
        HEADER + b"\nmulti_task,0,0,5,5,held,0.3,10,1,0,100,10\n",
        HEADER + b"\nmulti_task,0,0,[],5,held,0.3,10,1,0,100,10\n",
        HEADER + b'\nmulti_task,0,0,"{""nothing"": {}}",5,held,0.3,10,1,0,100,10\n',
        HEADER
        + b'\nmulti_task,0,0,"{""sac"": {""nothing"": 1}}",5,held,0.3,10,1,0,100,10\n',
        HEADER
        + b'\nmulti_task,0,0,"{""sac"": {""lr"": -1}}",5,held,0.3,10,1,0,100,10\n',
        HEADER + b"\nno_method,0,0,{},5,held,0.3,10,1,0,100,10\n",
        HEADER + b"\nmulti_task,0,0,{},5,held,0.3,10,1,0,100,10\0\n",
        HEADER + b"\nmulti_task,0,0," + b"x" * 200_000 + b",5,held,0.3,10,1,0,100,10\n",
    ],
    ids=[
        *("empty", "other columns", "a word", "half a body", "too short", "too long"),
        *("an open quote", "no text", "a number", "a list", "no section", "no field"),
        *("out of range", "no method", "a zero byte", "a long value"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "tuning.csv"
    path.write_bytes(content)
    with pytest.raises(files.DamagedFileError, match=re.escape(str(path))):
        TUNING.read(tmp_path)


# The choice


def test_means_are_over_bodies_and_meta_seeds_best_first():
    more = records("multi_task", FAST, 5, [9, 9], meta_seed=1)
    found = tuning.means(TRIED + more)["multi_task"]
    slow, fast = json.dumps(SLOW), json.dumps(FAST)
    order = [(slow, 30), (slow, 5), (fast, 30), (fast, 5)]
    assert [cell[:2] for cell in found] == order
    shares = [mean.violated for mean in found.values()]
    assert shares == pytest.approx([0.25, 0.4, 0.45, 0.475])
    assert {mean.recovered for mean in found.values()} == {0.1}


def test_of_the_safest_the_one_that_recovers_least_is_chosen(tmp_path):
    """Of 100 episodes two may violate more than with the safest, three may not."""
    ten = [0] * 10
    add(
        tmp_path,
        records("multi_task", SLOW, 5, ten, recovered=90),
        records("multi_task", SLOW, 30, [2, *ten[1:]], recovered=30, at=0.1),
        records("multi_task", FAST, 5, [3, *ten[1:]], recovered=5),
    )
    cells = tuning.means(TUNING.read(tmp_path))["multi_task"]
    assert [cell[1] for cell in cells] == [30, 5, 5]
    chosen = tuning.choose(tmp_path)
    assert chosen["finetune"] == SLOW["finetune"] | {"steps": 30}
    assert chosen["multi_task"] == {"recovery": {"risk_threshold": 0.1}}


def test_horizon_and_threshold_are_the_method_s_own(chosen_file, tmp_path):
    setting = {"risk": {"horizon": 10.0}} | FAST
    add(tmp_path, records("multi_task", setting, 5, [0], at=0.15))
    chosen = tuning.choose(tmp_path)
    assert chosen == {
        "multi_task": {
            "risk": {"horizon": 10.0},
            "recovery": {"risk_threshold": 0.15},
        },
        "finetune": FAST["finetune"] | {"steps": 5},
    }
    tuning.update_presets(settings(), chosen)
    own = resolve.of_method(settings(), "multi_task")
    assert own.risk.discount == pytest.approx(0.9)
    assert own.recovery.risk_threshold == 0.15
    others = resolve.of_method(settings(), "mesa")
    assert (others.risk.discount, others.recovery.risk_threshold) == (0.8, 0.3)
    published = resolve.of_method(settings(preset="published_risk"), "multi_task")
    assert (published.risk.discount, published.recovery.risk_threshold) == (0.8, 0.3)
    asked = configuration.override(settings(), {"risk": {"discount": 0.5}})
    assert resolve.of_method(asked, "multi_task").risk.discount == 0.5


def test_each_run_has_its_methods_threshold_and_checkpoints_know_it(
    chosen_file, tmp_path
):
    methods = ("unconstrained", "multi_task", "mesa_readapting")
    before = Batch(methods, (0,), 0).made_by(settings())
    own = {"risk": {"horizon": 10.0}, "recovery": {"risk_threshold": 0.15}}
    tuning.update_presets(settings(), {"mesa": own})  # mesa_readapting begins as it
    study = Study(tmp_path, settings())
    found = runs.risk_thresholds(study.of("multi_task"), methods)
    assert found == {"multi_task": 0.3, "mesa_readapting": 0.15}
    assert study.of("multi_task").of("mesa").configuration.risk.horizon == 10.0
    assert study.of("mesa").of("multi_task").configuration.risk.discount == 0.8
    after = Batch(methods, (0,), 0).made_by(settings())
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {
        f"--{name} of mesa_readapting"
        for name in ("risk_discount", "risk_horizon", "recovery_risk_threshold")
    }


def test_what_is_chosen_for_a_method_with_settings_is_its_own(chosen_file, tmp_path):
    """Neither the common settings nor another method's own change."""
    before = settings()
    own = {"maml": {"outer_lr": 0.004, "gradient_clip": 0.03}}
    TUNING.replace(tmp_path, records("context", own, 0, [1]))
    chosen = tuning.choose(tmp_path)
    threshold = {"recovery": {"risk_threshold": 0.3}, "inner_loop": {"steps": 0}}
    assert chosen == {"context": own | threshold}
    tuning.update_presets(before, chosen)
    assert settings() == before
    mine = resolve.of_method(settings(), "context").maml
    assert (mine.outer_lr, mine.gradient_clip) == (0.004, 0.03)
    others = resolve.of_method(settings(), "mesa_context").maml
    assert (others.outer_lr, others.gradient_clip) != (0.004, 0.03)
    asked = configuration.override(settings(), {"maml": {"outer_lr": 0.5}})
    assert resolve.of_method(asked, "context").maml.outer_lr == 0.5


def test_the_chosen_setting_and_its_steps_go_to_their_sections(tmp_path):
    worse = {"maml": {"learner": "maml", "anchor": 1.0}}
    better = records("mesa", MESA, 10, [2, 2]) + records("mesa", worse, 5, [3, 3])
    add(tmp_path, TRIED, better)
    chosen = tuning.choose(tmp_path)
    own = {"recovery": {"risk_threshold": 0.3}}
    assert chosen == {
        "multi_task": own,
        "mesa": own,
        "finetune": {"optimizer": "sgd", "lr": 0.3, "steps": 5},
        "maml": {"learner": "first_order", "anchor": 0.0},  # how it was meta-trained
        "inner_loop": {"target_rate": 0.0, "steps": 10},
    }
    assert json.loads((tmp_path / "tuning.json").read_text()) == chosen


def test_another_meta_seed_can_change_the_choice(tmp_path):
    add(tmp_path, TRIED)
    assert tuning.choose(tmp_path)["finetune"]["lr"] == 0.3
    add(
        tmp_path,
        records("multi_task", FAST, 5, [9, 9], meta_seed=1),
        records("multi_task", SLOW, 30, [1, 1], meta_seed=1),
    )
    chosen = tuning.choose(tmp_path)["finetune"]
    assert (chosen["lr"], chosen["steps"]) == (0.1, 30)


def test_tables_show_the_best_cells_of_every_method(tmp_path):
    some = [*TRIED]
    for i in range(8):
        setting = {"maml": {"anchor": 0.5}, "inner_loop": {"target_rate": 0.1 * i}}
        some += records("mesa", setting, 10, [i, i])
        some += records("mesa", setting, 10, [i], meta_seed=1)
    first, second = report.tables(some, tuning.means(some)).split("\n\n")
    assert [
        line.split("|")[1:-1] for line in first.replace(" ", "").splitlines()[3:]
    ] == [
        ["finetune_optimizer=sgd,finetune_lr=0.3", "5", "0.3", "5.0", "10.0"],
        ["finetune_optimizer=sgd,finetune_lr=0.1", "30", "0.3", "25.0", "10.0"],
        ["finetune_optimizer=sgd,finetune_lr=0.1", "5", "0.3", "40.0", "10.0"],
        ["finetune_optimizer=sgd,finetune_lr=0.3", "30", "0.3", "45.0", "10.0"],
    ]
    assert first.splitlines()[0] == (
        "multi_task: the filter test on 2 held-out training bodies; the best 4 of 4 "
        "settings"
    )
    assert second.splitlines()[0] == (  # bodies of two meta-seeds
        "mesa: the filter test on 3 held-out training bodies; the best 6 of 8 settings"
    )
    assert second.count("maml_anchor=0.5, inner_loop_target_rate=") == 6
    assert "50.0" in second
    assert "60.0" not in second


def test_what_is_chosen_for_a_risk_measure_is_that_one_s_alone(chosen_file, tmp_path):
    asked = {"risk": {"measure": "avoid"}}
    names = "cartpole_length", "actuator", "quick"
    plain, avoid = resolve.resolve(*names), resolve.resolve(*names, asked)
    setting = {"risk": {"horizon": 2.0}} | FAST
    TUNING.replace(tmp_path, records("multi_task", setting, 5, [0], at=0.15))
    tuning.update_presets(avoid, tuning.choose(tmp_path))
    assert list(json.loads(chosen_file.read_text())) == [
        "cartpole_length/actuator/avoid"
    ]
    assert resolve.resolve(*names) == plain
    for settings_of in (resolve.resolve(*names), resolve.resolve(*names, asked)):
        found = resolve.of_method(settings_of, "multi_task")
        theirs = settings_of.risk.measure == "avoid"
        assert (found.recovery.risk_threshold == 0.15) == theirs
        assert (found.finetune.steps == 5) == theirs


# What the presets hold


def test_chosen_settings_become_the_presets_of_their_bodies_alone(chosen_file):
    before = settings(), settings("wind"), settings("flip", "navigation2")
    chosen = {
        "finetune": {"lr": 0.7, "steps": 30},
        "maml": {"learner": "first_order"},
    }
    tuning.update_presets(before[0], chosen)
    expected = configuration.override(before[0], chosen)
    assert settings() == expected != before[0]
    assert settings("wind") == before[1]
    assert settings("flip", "navigation2") == before[2]


@pytest.mark.parametrize("preset", presets.PRESETS)
def test_every_preset_uses_what_was_chosen(chosen_file, preset):
    before = settings(preset=preset)
    files.write_json(chosen_file, {"navigation1/flip": {"inner_loop": {"steps": 77}}})
    after = settings(preset=preset)
    assert after.inner_loop.steps == 77
    assert after == configuration.override(before, {"inner_loop": {"steps": 77}})


def test_a_chosen_value_out_of_its_range_is_refused_by_its_flag(chosen_file):
    files.write_json(chosen_file, {"navigation1/flip": {"inner_loop": {"steps": -1}}})
    with pytest.raises(SettingError, match="inner_loop_steps must be"):
        settings()


def test_what_was_chosen_before_for_others_stays(chosen_file):
    tuning.update_presets(settings("wind"), {"inner_loop": {"steps": 7}})
    tuning.update_presets(settings(), {"finetune": {"lr": 0.1, "steps": 30}})
    tuning.update_presets(settings(), {"inner_loop": {"steps": 9}})
    tuning.update_presets(settings(), {"finetune": {"steps": 100}})
    assert json.loads(chosen_file.read_text()) == {
        "navigation1/flip": {
            "finetune": {"steps": 100},  # a choice replaces the one before whole
            "inner_loop": {"steps": 9},
        },
        "navigation1/wind": {"inner_loop": {"steps": 7}},
    }


@pytest.mark.parametrize(
    ("override", "preset", "named"),
    [
        ({"maml": {"steps": 10}}, "quick", "maml_steps"),
        ({"data": {"adaptation": 50}}, "quick", "data_adaptation"),
        ({}, "paper", "paper"),
    ],
)
def test_presets_hold_what_was_chosen_under_the_preset_only(
    chosen_file, override, preset, named
):
    other = configuration.override(settings(preset=preset), override)
    with pytest.raises(SettingError, match=f"update_presets .*{named}"):
        tuning.update_presets(other, {"inner_loop": {"steps": 9}})
    assert not chosen_file.exists()


def test_damaged_presets_are_named_and_kept(chosen_file):
    before = settings()
    chosen_file.write_text('{"navigation1/flip": {')
    with pytest.raises(files.DamagedFileError, match=re.escape(str(chosen_file))):
        tuning.update_presets(before, {"inner_loop": {"steps": 9}})
    assert chosen_file.read_text() == '{"navigation1/flip": {'


def test_presets_of_an_installed_package_are_not_written_to(tmp_path, monkeypatch):
    tuning.require_clone()
    place = tmp_path / "site-packages" / "mesa_jax" / "study" / "chosen.json"
    monkeypatch.setattr(rules, "CHOSEN", place)
    with pytest.raises(SettingError, match="update_presets must be given in a clone"):
        tuning.require_clone()
