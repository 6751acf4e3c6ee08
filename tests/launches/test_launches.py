"""Launches end to end, very small: files, repetition, interruption, damage."""

import errno
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
from typing import NamedTuple
from unittest import mock

import jax
import numpy as np
import pytest

from experiments import online, plot, run, thresholds
from mesa_jax.errors import UserError
from mesa_jax.methods import COMPARED, METHODS
from mesa_jax.report import tables
from mesa_jax.study import checkpoints, datasets, replays, store
from mesa_jax.study import records as results
from mesa_jax.study.artifacts import data as data_module
from mesa_jax.study.artifacts import naming, priors
from mesa_jax.study.errors import NotFiniteError
from tests.launching import (
    ADAPTATION,
    CHUNK,
    EPISODES,
    EVERY,
    SEEDS,
    TINY,
    before_online,
    csv_of,
    interrupted,
    launch,
    metrics_of,
    online_folder,
    online_metrics,
    run_here,
    scalars,
)

ROOT = pathlib.Path(__file__).parents[2]
PRIORS = ("pooled", "maml")


class Finished(NamedTuple):
    """A launch that is done, and the same one begun in another workdir."""

    place: pathlib.Path
    output: str
    again: pathlib.Path
    process: subprocess.Popen


@pytest.fixture(scope="module")
def finished(finished_workdir, tmp_path_factory):
    place, output = finished_workdir
    again = tmp_path_factory.mktemp("again") / "w"
    environment = _environment() | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    process = _process(_arguments(again), environment, COARSELY)
    yield Finished(place, output, again, process)
    process.kill()
    process.communicate()


def _arguments(place, **sections) -> list[str]:
    """The command line of `_launch`."""
    arguments = [f"--workdir={place}", f"--seeds={len(SEEDS)}"]
    for section, fields in (TINY | sections).items():
        for name, value in fields.items():
            text = ",".join(map(str, value)) if isinstance(value, tuple) else value
            arguments.append(f"--{section}_{name}={text}")
    return arguments


def _environment() -> dict[str, str]:
    return os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


COARSELY = (  # with risk maps of few cells, which nobody looks at
    "-c",
    "import runpy; from experiments import risk_maps\n"
    "risk_maps.CELLS, risk_maps.ROLLOUTS = (14, 10), 4\n"
    "runpy.run_module('experiments.run', run_name='__main__', alter_sys=True)",
)


def _process(
    arguments, environment, launched=("-m", "experiments.run")
) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *launched, *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def _before_the_end(finished: Finished, place: pathlib.Path) -> pathlib.Path:
    """A workdir like the finished one that does not know it; its online checkpoints."""
    shutil.copytree(finished.place, place)
    (manifest,) = (place / "online").glob("*.json")
    record = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(record | {"finished": False}))
    return online_folder(place)


def _summary(place: pathlib.Path) -> dict:
    return json.loads((place / "summary.json").read_text())


def _stamps(place: pathlib.Path) -> dict[str, int]:
    paths = (path for path in place.rglob("*") if path.is_file())
    return {str(path): path.stat().st_mtime_ns for path in paths}


def test_a_run_leaves_every_file_of_a_workdir(finished):
    place = finished.place
    settings = launch(place).study.configuration
    assert store.stored_settings(place) == settings
    assert len(json.loads((place / "provenance.json").read_text())) == 1
    assert (place / "flags.txt").exists()
    data = place / "datasets" / "navigation1"
    expected = [naming.training_data_name(settings, 0)]
    expected += [naming.adaptation_data_name(settings, seed) for seed in SEEDS]
    assert sorted(path.name for path in data.iterdir()) == sorted(expected)
    for method in ("mesa", "multi_task"):
        mine, kind = launch(place).of(method).configuration, METHODS[method].prior
        folder = place / "checkpoints" / naming.prior_name(mine, kind, 0)
        assert checkpoints.steps(folder) == [getattr(mine, kind).steps]
    figures = {path.name for path in (place / "report").glob("*.png")}
    assert figures >= {"violations_and_successes.png", "ratio.png"}


def test_every_run_has_a_row_an_episode_and_an_evaluation(finished):
    rows = results.RESULTS.read(finished.place)
    expected = []
    for method in COMPARED:
        for seed in SEEDS:
            run = ("navigation1", "published", method, 0, seed)
            expected += [(*run, "train", i + 1) for i in range(EPISODES)]
            expected += [(*run, "evaluate", EVERY)]
    names = ["domain", "tasks", "method", "meta_seed", "seed", "stage", "episode"]
    assert [tuple(row[name] for name in names) for row in rows] == expected


def test_rows_agree_with_each_other(finished):
    steps = {}
    for row in results.RESULTS.read(finished.place):
        assert 1 <= row["length"] <= 100
        assert row["violation_while_recovering"] <= row["violation"] <= 1
        assert row["success"] + row["violation"] <= 1
        assert row["recoveries"] <= row["length"]
        if row["method"] == "unconstrained":
            assert row["recoveries"] == 0
        if row["stage"] == "train":  # env_steps counts those of training alone
            run = row["method"], row["seed"]
            steps[run] = steps.get(run, 0) + row["length"]
            assert row["env_steps"] == steps[run]


def test_the_table_of_all_methods_is_printed(finished):
    summary = _summary(finished.place)
    assert list(summary["methods"]) == list(COMPARED)
    assert tables.table(summary) in finished.output


def test_every_chunk_of_every_run_has_its_metrics(finished):
    steps = checkpoints.steps(online_folder(finished.place))
    chunks = range(CHUNK, steps[-1] + 1, CHUNK)
    runs = sorted(f"{method}-{seed}" for method in COMPARED for seed in SEEDS)
    found = [(r["step"], r["run"]) for r in online_metrics(finished.place)]
    assert found == [(step, run) for step in chunks for run in runs]


def test_a_seed_without_a_violation_in_its_adaptation_set_is_warned_of(finished):
    study = launch(finished.place).study
    for seed in range(len(SEEDS)):
        rows = data_module.adaptation_data(study, seed).rows
        assert rows.cost.shape == (1, ADAPTATION)
        warning = f"Warning: the {ADAPTATION} adaptation rows of seed {seed} hold no"
        assert (warning in finished.output) == (rows.cost.sum() == 0)


def test_a_finished_run_started_again_computes_nothing(finished, tmp_path, monkeypatch):
    place = tmp_path / "w"
    shutil.copytree(finished.place, place)
    before = _stamps(place / "checkpoints") | _stamps(place / "datasets")
    monkeypatch.setattr(run, "plot", lambda place: None)
    output = run_here(launch(place), run.main)
    assert "nothing to do" in output
    assert csv_of(place) == csv_of(finished.place)
    assert _stamps(place / "checkpoints") | _stamps(place / "datasets") == before


def test_further_seeds_are_added_and_leave_the_earlier_rows(finished, tmp_path):
    place, more = tmp_path / "w", tuple(range(2 * len(SEEDS)))
    shutil.copytree(finished.place, place)
    run_here(launch(place, seeds=more), online.main)
    before, after = results.RESULTS.read(finished.place), results.RESULTS.read(place)
    added = [row for row in after if row not in before]
    assert [row for row in after if row in before] == before
    assert len(after) == 2 * len(before)
    assert {row["seed"] for row in added} == set(more) - set(SEEDS)


@pytest.fixture(scope="module")
def torn(finished, tmp_path_factory):
    """A workdir like the finished one, its online stage interrupted again and again."""
    place = tmp_path_factory.mktemp("torn") / "w"
    before_online(finished.place, place)
    last = checkpoints.steps(online_folder(finished.place))[-1]
    for when, step in (
        ("after", 0),
        ("before", CHUNK),
        ("after", CHUNK),
        ("after", last),
    ):
        with interrupted(when, step, "online-"):
            run_here(launch(place), online.main)
    run_here(launch(place), online.main)
    return place


def test_a_run_interrupted_online_ends_with_the_same_numbers(finished, torn):
    assert csv_of(torn) == csv_of(finished.place)
    assert online_metrics(torn) == online_metrics(finished.place)


def test_a_damaged_checkpoint_costs_a_chunk_and_no_number(finished, tmp_path):
    place = tmp_path / "w"
    folder = _before_the_end(finished, place)
    _, last = checkpoints.steps(folder)
    victim = max((folder / str(last)).rglob("d/*"), key=lambda p: p.stat().st_size)
    victim.write_bytes(b"\0" + victim.read_bytes()[1:])
    with pytest.warns(UserWarning, match="is damaged; trying the one before"):
        output = run_here(launch(place), online.main)
    assert f"going on from step {last - CHUNK}" in output
    assert csv_of(place) == csv_of(finished.place)
    assert online_metrics(place) == online_metrics(finished.place)


STOPS = ("after", 2), ("before", 4), ("after", 4)


@pytest.mark.parametrize(
    ("kind", "stops"),
    [pytest.param("pooled", STOPS, marks=pytest.mark.slow), ("maml", STOPS[1:])],
)
def test_interrupted_meta_training_ends_with_the_same_prior(
    finished, tmp_path, kind, stops
):
    learned = []
    for place, interruptions in ((tmp_path / "whole", ()), (tmp_path / "torn", stops)):
        study = launch(place).study
        shutil.copytree(finished.place / "datasets", place / "datasets")
        for when, step in interruptions:
            with interrupted(when, step, kind):
                priors.trained_prior(study, kind, chunk_steps=2)
        prior = priors.trained_prior(study, kind, chunk_steps=2)
        learned.append((prior, metrics_of(place)))
    (whole, whole_metrics), (torn, torn_metrics) = learned
    for ours, theirs in zip(*map(jax.tree.leaves, (whole, torn)), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert [record["step"] for record in torn_metrics] == [2, 4]
    assert torn_metrics == whole_metrics


@pytest.mark.parametrize(
    ("kind", "name", "body"), [("pooled", "lr", "one of ["), ("maml", "inner_lr", "")]
)
def test_a_meta_training_loss_that_is_not_finite_stops_it(
    finished, tmp_path, kind, name, body
):
    study = launch(tmp_path / "w", **{kind: {name: 1e30}}).study
    shutil.copytree(finished.place / "datasets", study.folder / "datasets")
    with pytest.raises(NotFiniteError) as stopped:
        priors.trained_prior(study, kind)
    place = rf"training body {re.escape(body)}[0-2, ]+\]?, meta-seed 0"
    expected = rf"meta_train {kind}: the loss of outer step [0-3] is not .*\({place}\)"
    assert re.search(expected, str(stopped.value))
    assert not list(study.folder.glob("checkpoints/*/*"))
    assert data_module.training_data(study).card["bodies"] == 4


def test_a_last_outer_step_that_is_not_finite_gives_no_prior(finished, tmp_path):
    # Steps 0 and 1 still have finite losses; only what step 1 leaves behind is not.
    study = launch(tmp_path / "w", pooled={"lr": 1e30, "steps": 2}).study
    shutil.copytree(finished.place / "datasets", study.folder / "datasets")
    with pytest.raises(NotFiniteError, match="meta_train pooled"):
        priors.trained_prior(study, "pooled")


def test_an_adaptation_that_is_not_finite_stops_with_stage_and_seed(finished, tmp_path):
    place = tmp_path / "w"
    before_online(finished.place, place)
    (place / store.CONFIG).unlink()
    tiny = launch(place, finetune_scratch={"lr": 1e30})
    with pytest.raises(NotFiniteError, match=r"^adapt.* seed 0"):
        run_here(tiny, online.main)


def _damage_a_run(finished: Finished, place: pathlib.Path, name: str):
    """A workdir a chunk before its end, with one leaf of one run at NaN.

    Its checkpoints, the leaves, and the row of the run.
    """
    folder = _before_the_end(finished, place)
    *_, last = checkpoints.steps(folder)
    shutil.rmtree(folder / str(last))
    leaves = checkpoints.read(folder, last - CHUNK)
    row = int(np.argmin(leaves["episode"]))  # not finished
    leaves[name] = leaves[name].copy()
    leaves[name][row] = np.nan
    about = json.loads((folder / str(last - CHUNK) / checkpoints.ABOUT).read_text())
    checkpoints.save(folder, last - CHUNK, leaves, about["made_by"])
    return folder, leaves, row


def test_a_learner_that_is_not_finite_stops_with_stage_step_body_and_seed(
    finished, tmp_path
):
    place = tmp_path / "w"
    name = "agent.risk.network.params.Dense_0.bias"
    folder, leaves, row = _damage_a_run(finished, place, name)
    before = checkpoints.steps(folder)
    with pytest.raises(NotFiniteError) as stopped:
        run_here(launch(place), online.main)
    method, seed = list(COMPARED)[row // len(SEEDS)], SEEDS[row % len(SEEDS)]
    step, message = leaves["env_steps"][row], str(stopped.value)
    assert message.startswith(
        f"online: {method}, seed {seed} is not finite at environment step {step} "
    )
    gain = np.round(leaves["task.gain"][row], 3).tolist()
    assert f"(body PointTask(gain={gain}, drift=[" in message
    assert csv_of(place) == csv_of(finished.place)
    assert checkpoints.steps(folder) == before


def test_a_body_that_is_not_finite_ends_its_episode_and_the_run_goes_on(
    finished, tmp_path
):
    place = tmp_path / "w"
    _, leaves, row = _damage_a_run(finished, place, "progress.state")
    output = run_here(launch(place), online.main)
    method, seed = list(COMPARED)[row // len(SEEDS)], SEEDS[row % len(SEEDS)]
    assert f"[online] {method}, seed {seed}: 1 episodes ended where" in output
    assert output.count("not finite") == 1
    rows = results.RESULTS.read(place)
    assert len(rows) == len(results.RESULTS.read(finished.place))
    mine = (
        r
        for r in rows
        if (r["method"], r["seed"], r["stage"]) == (method, seed, "train")
    )
    ends = {r["env_steps"]: r for r in mine}
    broken = ends[int(leaves["env_steps"][row]) + 1]  # with the next step
    assert (broken["violation"], broken["success"]) == (0, 0)
    last = {m["run"]: m["values"]["online/non_finite"] for m in online_metrics(place)}
    assert last.pop(f"{method}-{seed}") == 1
    assert set(last.values()) == {0}


def test_a_finished_runs_replay_is_a_dataset_where_it_is_asked_for(finished, tmp_path):
    place, methods = tmp_path / "w", ("recovery_rl", "mesa")
    shutil.copytree(finished.place, place)
    asked = launch(place, methods, seeds=(1,)).saving_replays()
    output = run_here(asked, online.main)
    data = place / "datasets" / "navigation1"
    names = [f"replay-{method}-meta0-seed1" for method in methods]
    assert sorted(path.name for path in data.glob("replay-*")) == sorted(names)
    for name in names:
        assert f"[online] replay saved: {data / name}\n" in output
    assert csv_of(place) == csv_of(finished.place)


def test_no_replay_is_saved_of_a_run_that_is_not_finished(finished, tmp_path):
    place = tmp_path / "w"
    _before_the_end(finished, place)
    assert replays.save_replays(launch(place).study, COMPARED, SEEDS) == []
    assert list((place / "datasets" / "navigation1").glob("replay-*")) == []


def test_a_damaged_dataset_stops_a_launch_and_changes_no_result(finished, tmp_path):
    place = tmp_path / "w"
    shutil.copytree(finished.place, place)
    name = naming.adaptation_data_name(launch(place).study.configuration, 1)
    path = place / "datasets" / "navigation1" / name / datasets.ARRAYS
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(datasets.DatasetError, match=re.escape(str(path))):
        run_here(launch(place), run.main)
    assert csv_of(place) == csv_of(finished.place)


def test_tensorboard_has_every_record_after_interruptions(torn):
    boards = sorted(torn.glob("tb/online-*/*"))
    runs = {r["run"] for r in online_metrics(torn)}
    assert {board.name for board in boards} == runs
    for board in boards:
        records = [r for r in online_metrics(torn) if r["run"] == board.name]
        expected = {(name, r["step"]) for r in records for name in r["values"]}
        found = [(name, step) for name, step, _ in scalars(board)]
        assert set(found) == expected and len(found) == len(expected)


def test_a_torn_list_of_runs_is_named_and_changes_no_result(finished, tmp_path):
    place = tmp_path / "w"
    shutil.copytree(finished.place, place)
    (manifest,) = (place / "online").glob("*.json")
    manifest.write_text(manifest.read_text()[:20])
    with pytest.raises(UserError, match=re.escape(str(manifest))):
        run_here(launch(place), online.main)
    assert csv_of(place) == csv_of(finished.place)


def test_another_configuration_is_refused_and_changes_nothing(finished):
    before = _stamps(finished.place)
    del before[str(finished.place / "lock")]
    with pytest.raises(store.WorkdirError, match=r"--sac_lr: .* there, 0.5 asked"):
        run_here(launch(finished.place, sac={"lr": 0.5}), run.main)
    after = _stamps(finished.place)
    assert {path: after[path] for path in before} == before


def _flip_a_setting(path) -> None:
    """Another value that is no less a configuration: one bit of a digit."""
    text = path.read_text()
    flipped = text.replace('"lr": 0.0003', '"lr": 0.0002', 1)
    assert flipped != text
    path.write_text(flipped)


@pytest.mark.parametrize("launched", [run.main, online.main, thresholds.main])
@pytest.mark.parametrize("how", ["without a configuration", "with a flipped one"])
def test_runs_that_other_settings_began_are_refused_by_name(
    finished, tmp_path, monkeypatch, how, launched
):
    place = tmp_path / "w"
    _before_the_end(finished, place)
    asked, path = launch(place), place / store.CONFIG
    if how == "with a flipped one":
        _flip_a_setting(path)
        study = asked.study._replace(common=store.stored_settings(place))
        asked = asked._replace(study=study)
        told = r"--recovery_lr: 0.0003 there, 0.0002 asked"
    else:
        path.unlink()
        asked = launch(place, sac={"lr": 0.01}, maml={"steps": 9})
        told = r"--maml_steps: 4 there, 9 asked\n.*\n?.*--sac_lr: 0.0003 there, 0.01"
    if launched is thresholds.main:
        values = mock.Mock(thresholds=["0.5"])
        monkeypatch.setattr(thresholds.absl_flags, "FLAGS", values)
        asked = asked._replace(asked=asked.asked._replace(methods=("mesa",)))
    before = _stamps(place / "checkpoints") | _stamps(place / "datasets")
    with pytest.raises(checkpoints.CheckpointError, match=told):
        run_here(asked, launched)
    assert csv_of(place) == csv_of(finished.place)
    assert _stamps(place / "checkpoints") | _stamps(place / "datasets") == before


def test_a_deleted_file_of_results_comes_back_with_the_figures(finished, tmp_path):
    place = tmp_path / "w"
    shutil.copytree(finished.place, place, ignore=shutil.ignore_patterns("*.csv"))
    with mock.patch.object(plot.risk_maps, "of_a_run", return_value=None):
        output = run_here(launch(place), lambda: plot.plot(place))
    assert "results.csv was damaged or not whole" in output
    assert tables.table(_summary(finished.place)) in output
    assert csv_of(place) == csv_of(finished.place)


def test_lost_checkpoints_say_how_to_go_on_and_doing_so_does(finished, tmp_path):
    place = tmp_path / "w"
    folder = _before_the_end(finished, place)
    for step in checkpoints.steps(folder):
        (folder / str(step) / checkpoints.MANIFEST).write_text("{}")
    (manifest,) = (place / "online").glob("*.json")
    with (
        pytest.warns(UserWarning, match="is damaged"),
        pytest.raises(checkpoints.NoCheckpointError) as stopped,
    ):
        run_here(launch(place), online.main)
    assert f"delete that folder and {manifest}" in str(stopped.value)
    assert str(folder) in str(stopped.value)
    shutil.rmtree(folder)
    manifest.unlink()
    run_here(launch(place), online.main)
    assert csv_of(place) == csv_of(finished.place)


def test_figures_of_no_workdir_are_refused_and_leave_nothing(tmp_path):
    with pytest.raises(store.WorkdirError, match="is no workdir"):
        plot.plot(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_table_is_printed_where_nothing_can_be_written(
    finished, monkeypatch, capsys
):
    before = _stamps(finished.place)
    denied = OSError(errno.EROFS, os.strerror(errno.EROFS))
    monkeypatch.setattr(plot.risk_maps, "of_a_run", lambda *_: None)
    monkeypatch.setattr(os, "replace", mock.Mock(side_effect=denied))
    with pytest.raises(OSError, match="Read-only file system"):
        plot.plot(finished.place)
    assert tables.table(_summary(finished.place)) in capsys.readouterr().out
    assert _stamps(finished.place) == before


def test_a_mistake_on_the_command_line_ends_the_process_with_2(tmp_path):
    arguments = [f"--workdir={tmp_path / 'w'}", "--tasks=flop"]
    process = _process(arguments, _environment())
    _, error = process.communicate()
    assert process.returncode == 2
    assert error.decode().startswith("\nError: --tasks must be one of ")
    assert list(tmp_path.iterdir()) == []


def test_the_same_command_in_another_workdir_gives_the_same_bytes(finished):
    output, error = finished.process.communicate()
    assert finished.process.returncode == 0, error.decode()
    assert csv_of(finished.again) == csv_of(finished.place)
    assert tables.table(_summary(finished.place)) in output.decode()
    flags_given = (finished.again / "flags.txt").read_text().split()
    assert flags_given == _arguments(finished.again)


def _until_online(process: subprocess.Popen) -> None:
    """Waits for the first chunk of the online stage by the progress bar."""
    read = b""
    while not (b"[online]" in read and b" 0/" not in read):
        read = b""
        while not read.endswith((b"\r", b"s]", b"\n")):
            byte = process.stderr.read(1)
            assert byte, "it ended too early"
            read += byte


@pytest.mark.slow
def test_a_killed_process_started_again_ends_with_the_same_bytes(tmp_path):
    many = {"online": TINY["online"] | {"episodes": 150}}
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    process = _process(_arguments(whole, **many), _environment())
    _, error = process.communicate()
    assert process.returncode == 0, error.decode()

    for kill in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        process = _process(_arguments(torn, **many), _environment())
        _until_online(process)
        process.send_signal(kill)
        _, error = process.communicate()
        if kill != signal.SIGKILL:
            assert process.returncode == 128 + kill
            assert f"checkpoint is in {torn}" in error.decode()
            assert "Traceback" not in error.decode()
        assert 0 < len(results.RESULTS.read(torn)) < len(results.RESULTS.read(whole))

    process = _process(_arguments(torn, **many), _environment())
    output, error = process.communicate()
    assert process.returncode == 0, error.decode()
    assert "going on from step" in output.decode()
    assert csv_of(torn) == csv_of(whole)
