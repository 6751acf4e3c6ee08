"""`data check|describe|convert`, and meta-training from files, small."""

import pathlib
import re
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from absl import flags as absl_flags

from experiments import data, data_files, recorded_flags
from mesa_jax.domains.recorded import NoSimulatorError
from mesa_jax.errors import UserError
from mesa_jax.settings import SettingError
from mesa_jax.study import imports, metrics_log
from mesa_jax.study.artifacts import data as made
from mesa_jax.study.artifacts import recorded
from mesa_jax.study.artifacts.priors import trained_prior
from mesa_jax.study.artifacts.truth import heldout_bodies
from mesa_jax.study.datasets import DatasetError
from mesa_jax.study.evaluation import calibrated_threshold
from mesa_jax.study.runs import risk_thresholds
from tests import launching
from tests.recorded import CUT, VIOLATES, same_bits, some

ROOT = pathlib.Path(__file__).parent.parent.parent
LENGTHS = (7, 8) * 6
FLAGS = ("cost", "to", "output", "domain", "tasks", "workdir")
NUMBERS = ("data_heldout_bodies", "data_train_bodies", "data_transitions")


def _body(seed):
    return some(seed, LENGTHS, (VIOLATES, CUT) * 6)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Five bodies in files of the working directory."""
    monkeypatch.chdir(tmp_path)
    names = [f"body{i}.npz" for i in range(5)]
    for i, name in enumerate(names):
        recorded.save_npz(tmp_path / name, _body(i))
    return names


@pytest.fixture
def given(monkeypatch):
    """Flags of the launches, as a command line gives them."""
    values = absl_flags.FlagValues()
    for name in FLAGS:
        absl_flags.DEFINE_string(name, None, "", flag_values=values)
    for name in NUMBERS:
        absl_flags.DEFINE_integer(name, None, "", flag_values=values)
    for name in ("action_range", "data"):
        absl_flags.DEFINE_list(name, None, "", flag_values=values)
    for module in (data, data_files, recorded_flags):
        monkeypatch.setattr(module, "FLAGS", values)
    monkeypatch.setattr("experiments.flags.FLAGS", values)
    values(["test"])
    return values


def test_check_prints_each_file_and_rows_that_two_share(files, given, capsys):
    shutil.copy(files[0], "again.npz")
    data.main("check", *files[:2], "again.npz")
    said = capsys.readouterr().out
    assert said.count("fine    90 transitions, 3 observations, 2 actions") == 3
    assert "warning: 90 of 90 rows of body0.npz are in again.npz" in said
    assert "of body1.npz are in" not in said


def test_check_fails_where_something_is_wrong_and_lists_it(files, given, capsys):
    held = recorded.read_npz(pathlib.Path(files[0]))
    np.savez(files[0], **held | {"costs": 2 * held["costs"]})
    with pytest.raises(DatasetError, match=r"body0\.npz: wrong"):
        data.main("check", *files)
    said = capsys.readouterr().out
    assert "wrong   cost is 2.0 at row 6, not 0 or 1. Make it one" in said
    assert said.count("fine    finite") == 4


def test_describe_prints_a_card_and_draws(files, given, capsys):
    given.output = "drawn.png"
    with launching.coarse_figures():
        data.main("describe", *files)
    assert (
        "source            body0.npz\ntransitions       90" in capsys.readouterr().out
    )
    assert pathlib.Path("drawn.png").read_bytes().startswith(b"\x89PNG")


def test_a_dataset_folder_and_back_are_the_same_bits(files, given):
    given.to = "folder"
    data.main("convert", *files)
    given.to = "back{}.npz"
    data.main("convert", "folder")
    for i in range(5):
        found = recorded.read_npz(pathlib.Path(f"back{i}.npz"))
        same_bits(_body(i), imports.to_transitions("back", found).transitions)


@pytest.mark.parametrize("name", ["x.hdf5", "minari:bodies/x-v0"])
def test_other_forms_and_back_are_the_same_bits(
    files, given, monkeypatch, tmp_path, name
):
    pytest.importorskip("h5py")
    if name.startswith("minari"):
        pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    given.to = name
    data.main("convert", files[3])
    given.to = "back.npz"
    data.main("convert", name)
    found = recorded.read_npz(pathlib.Path("back.npz"))
    same_bits(_body(3), imports.to_transitions("back", found).transitions)


@pytest.mark.parametrize(
    ("arguments", "to", "said"),
    [
        (("chek", "body0.npz"), None, "check, describe, convert (nearest: check)"),
        (("check",), None, "FILE.hdf5"),
        (("check", "none.npz"), None, "none.npz"),
        (("check", "body0.csv"), None, "FILE.npz"),
        (("convert", "body0.npz"), None, "to must be given"),
        (("convert", "body0.npz"), "body1.npz", "a new file"),
        (("convert", "body0.npz", "body1.npz"), "both.npz", "have {} in its name"),
    ],
)
def test_mistakes_are_one_message(files, given, arguments, to, said):
    given.to = to
    with pytest.raises((UserError, OSError)) as refused:
        data.main(*arguments)
    assert said in str(refused.value)


def test_the_cost_may_be_a_function_of_a_module_here(files, given, capsys):
    pathlib.Path("mine.py").write_text(
        "def far(columns):\n    return columns['observations'][:, 0] > 1\n"
    )
    given.cost = "mine:far"
    data.main("check", files[0])
    share = 100 * (_body(0).observation[:, 0] > 1).mean()
    assert f"cost is 1 in {share:.2f} %" in capsys.readouterr().out
    given.cost = "mine:near"
    with pytest.raises(SettingError, match="MODULE:FUNCTION"):
        data.main("check", files[0])


def test_files_say_sizes_and_numbers_of_a_launch(files, given, capsys):
    short = some(9, (7, 8), (VIOLATES, CUT))
    recorded.save_npz(pathlib.Path("short.npz"), short)
    given.data = [*files, "short.npz"]
    bodies = recorded_flags.resolve()
    assert list(bodies) == [*files, "short.npz"]
    assert (given.domain, given.tasks) == ("recorded-3x2", "files")
    found = [given[name].value for name in NUMBERS]
    assert found == [1, 5, 15]
    assert "15 transitions of each body are taken; left out: body0.npz 75" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"data": None, "domain": "recorded"}, "data must be given"),
        ({"domain": "navigation1"}, "recorded where --data is given"),
        ({"data": ["body0.npz"]}, "at least two bodies"),
        (
            {"data_train_bodies": 5},
            "data_train_bodies must be 4, as there are 5 bodies",
        ),
        ({"data_heldout_bodies": 5}, "data_train_bodies must be 0"),
    ],
)
def test_flags_that_do_not_go_with_the_files_are_named(files, given, flags, said):
    given.data = files
    for name, value in flags.items():
        given[name].value = value
    with pytest.raises(SettingError) as refused:
        recorded_flags.resolve()
    assert said in str(refused.value)


@pytest.fixture(scope="module")
def launch(tmp_path_factory):
    place = tmp_path_factory.mktemp("recorded") / "w"
    sizes = {"train_bodies": 3, "heldout_bodies": 2, "transitions": 90, "adaptation": 9}
    safe = {"hidden": (8, 8), "false_safe": 0.3, "false_safe_bodies": 0.4}
    launch = launching.launch(
        place, domain="recorded-3x2", tasks="files", data=sizes, recovery=safe
    )
    recorded.adopt(launch.study, [_body(i) for i in range(5)], ["a", "b"])
    return launch


def test_a_prior_is_trained_and_watched_without_a_simulator(launch):
    study = launch.of("mesa")
    prior = trained_prior(study, "maml")
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(prior))
    (record,) = metrics_log.read(study.folder)
    names = set(record["values"])
    assert {
        "risk/heldout_bellman_error",
        "heldout/outcome_squared_error_after",
    } <= names
    assert not any(name.startswith("heldout/squared_error") for name in names)
    threshold = calibrated_threshold(study, study.system)
    assert 0.0 < threshold < 1.0
    assert threshold == recorded.calibrated(study, study.system, prior)
    assert risk_thresholds(launch.study, ("mesa",)) == {"mesa": threshold}  # of `load`


def test_outcomes_that_stand_for_the_truth_are_of_rows_that_nothing_adapts_on(launch):
    held = heldout_bodies(launch.of("mesa"))
    rows = made.training_data(launch.of("mesa")).rows
    for i in range(2):
        adapting = {x.tobytes() for x in np.asarray(held.bodies.rows.observation[i])}
        asked = {x.tobytes() for x in held.truth.observations[i]}
        later = {x.tobytes() for x in rows.observation[3 + i][45:]}
        assert len(adapting) == 45 and not adapting & asked
        assert asked <= later
        violated = held.truth.risk[i] == 1.0
        of_body = zip(rows.observation[3 + i], rows.cost[3 + i], strict=True)
        cost = {seen.tobytes(): hit for seen, hit in of_body}
        assert [cost[x.tobytes()] for x in held.truth.observations[i]] == list(violated)


def test_other_files_are_not_mixed_in_and_the_same_go_on(launch):
    study, bodies = launch.study, [_body(i) for i in range(5)]
    recorded.adopt(study, bodies, ["a", "b"])
    with pytest.raises(DatasetError, match="holds other transitions than c, d"):
        recorded.adopt(study, bodies[::-1], ["c", "d"])


def test_what_takes_a_simulator_says_so(launch, tmp_path):
    with pytest.raises(NoSimulatorError, match="recorded-3x2 is recorded and has no"):
        made.adaptation_data(launch.of("mesa"), 0)
    elsewhere = launch.study._replace(folder=tmp_path)
    with pytest.raises(DatasetError, match="give the bodies' files to meta_train"):
        made.training_data(elsewhere)


@pytest.mark.slow
def test_the_whole_launch_ends_well(files, tmp_path):
    command = [sys.executable, "-m", "experiments.meta_train", "--domain=recorded"]
    command += [f"--data={','.join(files)}", "--method=mesa", f"--workdir={tmp_path}/w"]
    command += ["--maml_steps=4", "--risk_hidden=8", "--recovery_hidden=8"]
    command += ["--data_heldout_bodies=2"]
    command += ["--recovery_false_safe=0.3", "--recovery_false_safe_bodies=0.4"]
    told = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False
    )
    assert told.returncode == 2  # the files are relative to another folder
    absolute = [x.replace("body", f"{tmp_path}/body") for x in command]
    told = subprocess.run(
        absolute, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False
    )
    assert told.returncode == 0, told.stderr
    assert re.search(r"risk threshold 0\.\d+, calibrated on 2 held-out", told.stdout)
