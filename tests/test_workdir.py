"""Workdirs: one launch at a time, one configuration, nothing foreign touched."""

import json
import re
import subprocess
import sys

import jax
import pytest

from mesa_jax.runtime import config, flags, workdir

HOLD = """
import fcntl, sys
lock = open(sys.argv[1], "a+")
fcntl.flock(lock, fcntl.LOCK_EX)
lock.write("process 123 on elsewhere")
lock.flush()
print("held", flush=True)
sys.stdin.read()
"""


def _settings(**sections) -> config.Settings:
    settings = config.preset_settings("navigation1", "published", "quick")
    return config.override(settings, sections)


def _contents(place) -> dict[str, bytes]:
    files = (path for path in place.rglob("*") if path.is_file())
    return {str(path.relative_to(place)): path.read_bytes() for path in files}


def _refusal(place, settings=None) -> str:
    with (
        pytest.raises(workdir.WorkdirError) as refused,
        workdir.opened(place, settings or _settings()),
    ):
        pass
    return str(refused.value)


def _open(place, settings=None) -> None:
    with workdir.opened(place, settings or _settings()):
        pass


@pytest.mark.parametrize("exists", [True, False])
def test_a_new_or_empty_folder_becomes_a_workdir_with_its_configuration(
    tmp_path, exists
):
    place = tmp_path / "runs" / "new"
    if exists:
        place.mkdir(parents=True)
    settings = _settings(maml={"inner_steps": 3})
    _open(place, settings)
    assert workdir.stored_settings(place) == settings


def test_a_folder_without_a_configuration_holds_none(tmp_path):
    assert workdir.stored_settings(tmp_path) is None
    assert workdir.stored_settings(tmp_path / "none") is None


def test_a_second_launch_is_kept_out_while_the_first_runs(tmp_path):
    place = tmp_path / "w"
    with workdir.opened(place, _settings()):
        before = _contents(place)
        message = _refusal(place)
        assert _contents(place) == before
    assert message.startswith(f"{place} is in use by process ")
    _open(place)


def test_a_launch_of_another_process_is_named_and_its_death_frees_the_workdir(tmp_path):
    place = tmp_path / "w"
    _open(place)
    (place / "lock").write_text("")
    command = [sys.executable, "-c", HOLD, str(place / "lock")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline() == b"held\n"
        assert "in use by process 123 on elsewhere" in _refusal(place)
        holder.kill()
    _open(place)


def test_another_configuration_is_refused_by_its_differences_and_changes_nothing(
    tmp_path,
):
    place = tmp_path / "w"
    _open(place, _settings(maml={"inner_steps": 5}))
    before = _contents(place)
    message = _refusal(place, _settings(maml={"inner_steps": 3}, sac={"lr": 0.5}))
    assert "nothing was changed" in message
    assert "--maml_inner_steps: 5 there, 3 asked" in message
    assert "--sac_lr: 0.0003 there, 0.5 asked" in message
    assert message.count("--maml") == 1  # what is the same is not listed
    assert _contents(place) == before


def test_the_same_configuration_is_let_in_again(tmp_path):
    _open(tmp_path / "w", _settings(maml={"inner_steps": 3}))
    before = (tmp_path / "w" / workdir.CONFIG).read_bytes()
    _open(tmp_path / "w", _settings(maml={"inner_steps": 3}))
    assert (tmp_path / "w" / workdir.CONFIG).read_bytes() == before


def test_other_packages_than_in_the_launch_before_are_told(tmp_path, capsys):
    place = tmp_path / "w"
    for _ in range(2):
        _open(place)
    assert capsys.readouterr().err == ""
    path = place / "provenance.json"
    launches = json.loads(path.read_text())
    launches[-1]["versions"]["jax"] = "0.1"
    path.write_text(json.dumps(launches))
    _open(place)
    assert "Note: jax was 0.1 when this workdir was" in capsys.readouterr().err
    _open(place)
    assert capsys.readouterr().err == ""
    path.write_text(json.dumps([{}]))
    _open(place)
    assert capsys.readouterr().err == ""


def test_a_folder_of_something_else_is_refused_and_left_as_it_is(tmp_path):
    (tmp_path / "thesis.tex").write_text("important")
    message = _refusal(tmp_path)
    assert f"{tmp_path} is not empty and no workdir" in message
    assert _contents(tmp_path) == {"thesis.tex": b"important"}


def test_a_file_in_place_of_the_folder_is_refused_and_left_as_it_is(tmp_path):
    place = tmp_path / "w"
    place.write_text("important")
    assert f"{place} is a file, not a folder" in _refusal(place)
    assert place.read_text() == "important"


def test_a_folder_that_can_not_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("important")
    place = tmp_path / "file" / "w"
    assert str(place) in _refusal(place)


@pytest.mark.parametrize("content", [b"", b'{"dom', b"\xff\xfe", b"{}", b"[]", b"null"])
def test_a_damaged_configuration_is_named_and_left_as_it_is(tmp_path, content):
    place = tmp_path / "w"
    _open(place)
    path = place / workdir.CONFIG
    path.write_bytes(content)
    with pytest.raises(workdir.WorkdirError) as refused:
        workdir.stored_settings(place)
    assert str(refused.value).startswith(f"{path} can not be read: ")
    assert str(path) in _refusal(place)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("maml", "inner_steps", "five"),
        ("risk", "hidden", ["wide"]),
        ("risk", "discount", None),
        ("sac", "lr", -1.0),
    ],
)
def test_a_configuration_with_an_impossible_value_is_named(
    tmp_path, section, name, value
):
    _open(tmp_path / "w")
    path = tmp_path / "w" / workdir.CONFIG
    values = json.loads(path.read_text())
    values[section][name] = value
    path.write_text(json.dumps(values))
    with pytest.raises(workdir.WorkdirError) as refused:
        workdir.stored_settings(tmp_path / "w")
    assert str(path) in str(refused.value)


@pytest.mark.parametrize("name", ["domain", "tasks"])
def test_a_configuration_with_an_unknown_name_is_named(tmp_path, name):
    _open(tmp_path / "w")
    path = tmp_path / "w" / workdir.CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: "nowhere"}))
    with pytest.raises(workdir.WorkdirError) as refused:
        workdir.stored_settings(tmp_path / "w")
    assert "nowhere" in str(refused.value)


def test_every_launch_is_noted_with_its_command_and_versions(tmp_path, monkeypatch):
    place = tmp_path / "w"
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "launch", "--seeds=3"])
    monkeypatch.setattr(sys, "argv", ["launch", "--seeds=3"])
    _open(place)
    monkeypatch.setattr(sys, "argv", ["launch", "--seeds=3:8", "--tasks=flip"])
    _open(place)
    launches = json.loads((place / "provenance.json").read_text())
    assert len(launches) == 2
    assert launches[0]["command"] == "-m launch --seeds=3"
    assert launches[0]["versions"]["jax"] == jax.__version__
    assert launches[0]["devices"] == [str(device) for device in jax.devices()]
    assert launches[0]["time"].endswith("+00:00")
    given = (place / "flags.txt").read_text()
    assert given == "--seeds=3\n\n--seeds=3:8\n--tasks=flip\n\n"


def test_torn_provenance_is_named(tmp_path):
    place = tmp_path / "w"
    _open(place)
    path = place / "provenance.json"
    path.write_text(path.read_text()[:40])
    with pytest.raises(flags.USER_ERRORS, match=re.escape(str(path))):
        _open(place)


def test_a_torn_last_line_is_left_out(tmp_path):
    path = tmp_path / "records.jsonl"
    assert workdir.read_lines(path) == []
    path.write_text('{"step": 1}\n{"step": 2}\n{"ste')
    assert workdir.read_lines(path) == [{"step": 1}, {"step": 2}]
