"""Launches say their stages; with --plan that is all."""

import json
import pathlib
import shutil
import subprocess
import sys

import pytest

from experiments import run
from mesa_jax.methods import COMPARED
from mesa_jax.study import batches, checkpoints, files, metrics_log, plan
from mesa_jax.study.store import WorkdirError
from mesa_jax.study.study import Asked
from tests.launching import (
    ADAPTATION,
    CHUNK,
    before_online,
    copied,
    launch,
    online_folder,
    run_here,
)

LAUNCHES = sorted(
    path
    for path in pathlib.Path(run.__file__).parent.glob("*.py")
    if "flags.define_launch(" in path.read_text()
)


@pytest.fixture
def place(finished_workdir, tmp_path):
    return copied(finished_workdir, tmp_path / "w")


def stages(function, launched) -> dict[str, str]:
    """The words behind each stage's name and what it is of."""
    found = [str(stage) for stage in function(*launched)]
    return dict(text.rsplit(": ", 1) for text in found)


def test_of_a_finished_workdir_everything_is_there(place):
    found = stages(plan.of_run, launch(place))
    assert set(found.values()) == {"there"}
    assert f"adaptation sets: 2 test bodies x {ADAPTATION} transitions" in found
    assert "training data: 3 + 1 bodies x 300 transitions" in found
    assert f"online: {', '.join(COMPARED)} x seeds 0:2" in found
    assert {"prior pooled: for multi_task", "prior maml: for mesa"} <= found.keys()


def test_of_no_workdir_everything_is_missing(tmp_path):
    for function in (plan.of_run, plan.of_online, plan.of_evaluate, plan.of_tune):
        assert set(stages(function, launch(tmp_path / "w")).values()) == {"missing"}
    assert stages(plan.of_meta_train, launch(tmp_path / "w", ("recovery_rl",))) == {}


def test_a_sweep_names_each_run_once(tmp_path):
    asked = launch(tmp_path / "w", ("mesa", "multi_task"))
    found = stages(lambda *given: plan.of_thresholds(*given, (0.1, 0.3)), asked)
    (what,) = [name for name in found if "thresholds" in name]
    assert what.endswith("2 thresholds x mesa, multi_task x seeds 0:2")


def test_what_is_asked_beyond_what_is_there_is_missing(place):
    found = stages(plan.of_run, launch(place, seeds=(0, 1, 2)))
    assert found["adaptation sets: 3 test bodies x 60 transitions"] == "2 of 3"
    assert found[f"online: {', '.join(COMPARED)} x seeds 0:2"] == "there"
    missing = {k for k, state in found.items() if state == "missing"}
    assert missing == {f"online: {', '.join(COMPARED)} x seeds 2:3"}
    other = stages(plan.of_run, launch(place).with_meta_seed(5)[:2])
    assert other["prior maml: for mesa"] == "missing"


def test_a_begun_prior_tells_its_step_and_minutes_at_its_own_pace(place):
    (folder,) = place.glob("checkpoints/maml-*")
    (folder / "4").rename(folder / "1")
    shutil.rmtree(place / "tb" / folder.name)
    state = lambda: stages(plan.of_run, launch(place))["prior maml: for mesa"]  # noqa: E731
    assert state() == "1 of 4 outer steps"
    board = place / "tb" / folder.name / "maml" / metrics_log.EVENTS
    with (
        metrics_log.MetricsWriter(place, folder.name, 0) as writer,
        pytest.MonkeyPatch.context() as clock,
    ):
        for step, now in ((1, 1000.0), (2, 1120.0), (3, 99_000.0), (4, 99_120.0)):
            clock.setattr(metrics_log.time, "time", lambda now=now: now)
            writer.write("maml", step, {"x": 1.0})
    assert board.exists()
    assert state() == "1 of 4 outer steps, about 6 minutes left"  # 3 steps of 120 s


def test_begun_online_runs_tell_their_steps_and_no_minutes(place):
    ((batch, _),) = batches.stored(place)
    batch.write(place, finished=False)
    done = checkpoints.steps(online_folder(place))[-1]
    assert done % CHUNK == 0
    name = f"online: {', '.join(COMPARED)} x seeds 0:2, {done} steps done"
    assert stages(plan.of_run, launch(place))[name] == "missing"


def test_with_plan_a_launch_says_its_stages_and_ends(
    finished_workdir, tmp_path, monkeypatch
):
    place = tmp_path / "w"
    before_online(finished_workdir.place, place)
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    monkeypatch.setattr(run, "collect", lambda *_: pytest.fail("it went on"))
    launched = launch(place)
    launched = launched._replace(asked=Asked(*launched.asked[:2], plan=True))
    said = run_here(launched, run.main).splitlines()
    assert said[-1] == f"[plan] online: {', '.join(COMPARED)} x seeds 0:2: missing"
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*")} == before


def test_every_launch_that_takes_plan_says_its_stages():
    texts = [path.read_text() for path in LAUNCHES]
    assert len(texts) >= 8 and all("if only_planned(" in text for text in texts)


@pytest.mark.parametrize("name", ["collect", "filter_test", "thresholds"])
def test_a_process_with_plan_says_its_stages_and_ends(tmp_path, name):
    words = [sys.executable, "-m", f"experiments.{name}", f"--workdir={tmp_path / 'w'}"]
    done = subprocess.run([*words, "--plan"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = [x for x in done.stdout.splitlines() if not x.startswith("[mesh]")]
    assert len(said) > 1 and all(line.startswith("[plan] ") for line in said)
    assert all(line.endswith(": missing") for line in said)
    assert not (tmp_path / "w").exists()


def test_a_launch_says_its_stages_at_its_begin(finished_workdir):
    first = finished_workdir.output.splitlines()[0]
    assert first == "[plan] training data: 3 + 1 bodies x 300 transitions: missing"


def test_a_plan_for_a_workdir_of_other_settings_is_refused(place):
    config = json.loads((place / "config.json").read_text())
    config["resolved"]["sac"]["lr"] = 0.5
    files.write_json(place / "config.json", config)
    launched = launch(place)
    launched = launched._replace(asked=Asked(*launched.asked[:2], plan=True))
    with pytest.raises(WorkdirError, match=r"--sac_lr: 0\.5 there, 0\.0003 asked"):
        run_here(launched, run.main)


def test_collect_lists_the_sets_that_it_makes(place):
    study, asked = launch(place, ("mesa", "mesa_published"))  # one has its own data
    found = [str(stage) for stage in plan.of_collect(study, asked)]
    assert [text.rsplit(": ", 1)[1] for text in found] == ["there", "there"]
