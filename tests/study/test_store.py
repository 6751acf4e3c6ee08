"""Workdirs: one launch at a time, one configuration, nothing foreign touched."""

import errno
import fcntl
import json
import os
import pathlib
import re
import subprocess
import sys
from unittest import mock

import jax
import pytest

import mesa_jax
from mesa_jax import configuration
from mesa_jax.errors import UserError
from mesa_jax.study import files, git, locks, resolve, store

HOLD = """
import filelock, pathlib, sys
place = pathlib.Path(sys.argv[1])
with filelock.FileLock(place / "lock"):
    (place / "lock.holder").write_text("process 123 on elsewhere")
    print("held", flush=True)
    sys.stdin.read()
"""


def _settings(**sections) -> configuration.Configuration:
    settings = resolve.resolve("navigation1", "published", "quick")
    return configuration.override(settings, sections)


def _contents(place) -> dict[str, bytes]:
    files = (path for path in place.rglob("*") if path.is_file())
    return {str(path.relative_to(place)): path.read_bytes() for path in files}


def _refusal(place, settings=None) -> str:
    with (
        pytest.raises(store.WorkdirError) as refused,
        store.opened(place, settings or _settings()),
    ):
        pass
    return str(refused.value)


def _open(place, settings=None) -> None:
    with store.opened(place, settings or _settings()):
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
    assert store.stored_settings(place) == settings


def test_a_folder_without_a_configuration_holds_none(tmp_path):
    assert store.stored_settings(tmp_path) is None
    assert store.stored_settings(tmp_path / "none") is None


def test_a_second_launch_is_kept_out_while_the_first_runs(tmp_path):
    place = tmp_path / "w"
    with store.opened(place, _settings()):
        before = _contents(place)
        message = _refusal(place)
        assert _contents(place) == before
    assert message.startswith(f"{place} is in use by process {os.getpid()} on ")
    _open(place)


def test_a_launch_of_another_process_is_named_and_its_death_frees_the_workdir(tmp_path):
    place = tmp_path / "w"
    _open(place)
    command = [sys.executable, "-c", HOLD, str(place)]
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
    before = (tmp_path / "w" / store.CONFIG).read_bytes()
    _open(tmp_path / "w", _settings(maml={"inner_steps": 3}))
    assert (tmp_path / "w" / store.CONFIG).read_bytes() == before


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


HARMLESS = {
    "log.txt": "a line",
    "run.log": "a line",
    "train_log-2.txt": "a line",
    "slurm-123.out": "a line",
    "slurm-123.err": "a line",
    "job.o4711": "a line",
    "nohup.out": "a line",
    "stdout": "a line",
    "console_output.txt": "a line",
    "whatever.txt": "",  # what `tee` has just opened
    ".gitkeep": "",
    ".gitignore": "*",
    ".DS_Store": "x",
    ".nfs0001": "x",
    "lost+found/x": "x",
    ".ipynb_checkpoints/x.ipynb": "x",
    "logs/slurm-1.out": "a line",
    "lock.holder": "process 1 on here",
    "config.json.0a1b2c3d.partial": "{",
}
FOREIGN = {
    "thesis.tex": "x",
    "catalog.txt": "x",  # no log
    "notes.txt": "x",
    "data.csv": "x",
    "logs/data.csv": "x",
    "results.csv": "x",
    "model.json": "{}",
    ".git/HEAD": "x",
    ".bashrc": "x",
    "src/main.py": "",  # an empty file, of somebody's sources
    "log.py": "x",
}


def _put(place: pathlib.Path, name: str, content: str) -> None:
    (place / name).parent.mkdir(exist_ok=True)
    (place / name).write_text(content)
    os.utime(place / name, (0, 0))


@pytest.mark.parametrize("name", list(HARMLESS))
def test_logs_and_what_systems_leave_make_no_folder_foreign(tmp_path, name):
    _put(tmp_path, name, HARMLESS[name])
    _open(tmp_path)
    if not name.startswith(("lock.", "config.json.")):  # a launch's own
        assert (tmp_path / name).read_text() == HARMLESS[name]


@pytest.mark.parametrize("name", list(FOREIGN))
def test_whatever_else_a_folder_holds_is_refused_by_its_name(tmp_path, name):
    for harmless, content in HARMLESS.items():
        _put(tmp_path, harmless, content)
    _put(tmp_path, name, FOREIGN[name])
    before = _contents(tmp_path)
    message = _refusal(tmp_path)
    assert f"it has no config.json, but {name.split('/')[0]})" in message
    assert _contents(tmp_path) == before


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_what_this_process_writes_to_is_its_log_under_any_name(
    tmp_path, monkeypatch, stream
):
    with open(tmp_path / "anything", "w") as output:
        output.write("Warning: of JAX")
        output.flush()
        monkeypatch.setattr(sys, stream, output)
        _open(tmp_path)
    monkeypatch.undo()
    assert store.stored_settings(tmp_path) == _settings()


def test_what_was_said_before_is_in_a_log_of_any_name(tmp_path):
    (tmp_path / "anything.txt").write_text("Note: of a switch")  # by `tee`, just now
    _open(tmp_path)
    assert store.stored_settings(tmp_path) == _settings()


# Locks


@pytest.fixture
def no_locks(monkeypatch, request):
    """A file system without locks, or one that says so otherwise."""
    error = OSError(request.param, os.strerror(request.param))
    monkeypatch.setattr(fcntl, "flock", mock.Mock(side_effect=error))


WITHOUT = [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK]


@pytest.mark.parametrize("no_locks", WITHOUT, indirect=True)
def test_without_locks_a_file_stands_for_one_and_says_so(tmp_path, no_locks, capsys):
    place = tmp_path / "w"
    with store.opened(place, _settings()):
        assert f"{place} has no locks" in capsys.readouterr().err
        message = _refusal(place)
        assert f"in use by process {os.getpid()} on " in message
        assert f"If it has ended, delete {place / 'lock.file'}." in message
    assert not (place / "lock.file").exists()
    _open(place)


@pytest.mark.parametrize("no_locks", WITHOUT[:1], indirect=True)
def test_without_locks_a_killed_launch_is_not_in_the_way_for_ever(tmp_path, no_locks):
    place = tmp_path / "w"
    _open(place)
    (place / "lock.file").write_text("1\nanother-machine\n")
    assert "delete" in _refusal(place)
    (place / "lock.file").unlink()
    _open(place)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ENOSPC])
def test_a_lock_that_fails_otherwise_is_an_error_and_not_passed_over(
    tmp_path, monkeypatch, number
):
    error = OSError(number, os.strerror(number))
    monkeypatch.setattr(
        locks.filelock.FileLock, "acquire", mock.Mock(side_effect=error)
    )
    with pytest.raises(OSError, match=os.strerror(number)):
        _open(tmp_path / "w")
    assert not (tmp_path / "w" / store.CONFIG).exists()


def test_half_files_of_killed_writers_are_removed_and_fresh_ones_left(tmp_path):
    place = tmp_path / "w"
    _open(place)
    old, fresh = (place / f"report/{name}.png.1f2e.partial" for name in "ab")
    for path in (old, fresh):
        _put(place, str(path.relative_to(place)), "half")
    os.utime(fresh)
    _open(place)
    assert (old.exists(), fresh.exists()) == (False, True)


# What is said of a launch that was stopped


def _stopped(place: pathlib.Path, error: BaseException) -> str:
    with pytest.raises(type(error)) as raised, store.opened(place, _settings()):
        raise error
    (note,) = raised.value.__notes__
    return note


STOPS = [KeyboardInterrupt(), OSError(errno.ENOSPC, "full"), MemoryError()]


@pytest.mark.parametrize("stop", STOPS)
def test_a_checkpoint_is_promised_only_where_there_is_one(tmp_path, stop):
    place = tmp_path / "w"
    assert _stopped(place, type(stop)()) == (
        f"There is no checkpoint yet; the same command goes on with what {place} has."
    )
    (place / "checkpoints" / "maml-1" / "10").mkdir(parents=True)  # one half written
    assert "no checkpoint" in _stopped(place, type(stop)())
    files.write_json(place / "checkpoints" / "maml-1" / "10" / "manifest.json", {})
    assert _stopped(place, type(stop)()).startswith(
        f"Everything up to the last checkpoint is in {place};\nthe same command goes on"
    )


@pytest.mark.parametrize("content", [b"", b'{"dom', b"\xff\xfe", b"{}", b"[]", b"null"])
def test_a_damaged_configuration_is_named_and_left_as_it_is(tmp_path, content):
    place = tmp_path / "w"
    _open(place)
    path = place / store.CONFIG
    path.write_bytes(content)
    with pytest.raises(store.WorkdirError) as refused:
        store.stored_settings(place)
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
    path = tmp_path / "w" / store.CONFIG
    values = json.loads(path.read_text())
    values["resolved"][section][name] = value
    path.write_text(json.dumps(values))
    with pytest.raises(store.WorkdirError) as refused:
        store.stored_settings(tmp_path / "w")
    assert str(path) in str(refused.value)


@pytest.mark.parametrize("name", ["domain", "tasks"])
def test_a_configuration_with_an_unknown_name_is_named(tmp_path, name):
    _open(tmp_path / "w")
    path = tmp_path / "w" / store.CONFIG
    values = json.loads(path.read_text())
    values["resolved"][name] = "nowhere"
    path.write_text(json.dumps(values))
    with pytest.raises(store.WorkdirError) as refused:
        store.stored_settings(tmp_path / "w")
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
    assert launches[0]["versions"]["mesa_jax"] == mesa_jax.__version__
    assert launches[0]["devices"] == [str(device) for device in jax.devices()]
    assert launches[0]["time"].endswith("+00:00")
    given = (place / "flags.txt").read_text()
    assert given == "--seeds=3\n\n--seeds=3:8\n--tasks=flip\n\n"


@pytest.mark.parametrize("noted", ["0.13.0", "0.9.2", None])
def test_a_workdir_of_a_version_with_other_names_is_refused(tmp_path, noted):
    place = tmp_path / "w"
    _open(place)
    files.write_json(place / store.CONFIG, {"domain": "navigation1", "mesa": {}})
    path = place / "provenance.json"
    launches = json.loads(path.read_text())
    launches[0]["versions"]["mesa_jax"] = noted
    path.write_text(json.dumps(launches))
    if noted is None:
        path.unlink()
    before = _contents(place)
    theirs = noted or "a version before 0.14"
    assert _refusal(place) == (
        f"{place} was made by mesa_jax {theirs}, whose settings have other names than "
        f"those of {mesa_jax.__version__}. Go on with it in that version, or use a new "
        "--workdir."
    )
    assert _contents(place) == before


def test_what_was_asked_for_comes_back_from_the_file(tmp_path):
    asked = {"maml": {"inner_steps": 5}, "risk": {"hidden": (64, 64)}}  # the preset's
    settings = _settings(**asked)
    assert settings == _settings()
    _open(tmp_path / "w", settings)
    stored = store.stored_settings(tmp_path / "w")
    assert stored.asked == {("maml", "inner_steps"), ("risk", "hidden")}
    assert configuration.asked_values(stored) == asked


@pytest.mark.parametrize(
    "asked",
    [
        *({"maml": {"inner_steps": 6}}, {"maml": {"inner_stepz": 5}}, {"mesa": {}}),
        *([], "maml", {"maml": "inner_steps"}, {"maml": 3}, {"maml": ["anchor"]}),
        {"domain": {"domain": "navigation1"}},
    ],
)
def test_an_asking_that_is_not_what_it_resolved_to_is_refused(tmp_path, asked):
    _open(tmp_path / "w")
    path = tmp_path / "w" / store.CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | {"asked": asked}))
    with pytest.raises(store.WorkdirError, match=r"config\.json can not be read"):
        store.stored_settings(tmp_path / "w")


@pytest.mark.parametrize("content", ["", '[{"time"', "{}", "null", "3"])
def test_torn_provenance_is_named(tmp_path, content):
    place = tmp_path / "w"
    _open(place)
    path = place / "provenance.json"
    path.write_text(content)
    with pytest.raises(UserError, match=re.escape(str(path))):
        _open(place)


def test_a_command_line_is_noted_whatever_its_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["launch", "--fault=\udcff ±"])
    _open(tmp_path / "w")
    given = (tmp_path / "w" / "flags.txt").read_bytes()
    assert given == b"--fault=\xff \xc2\xb1\n\n"


# Which commit


def _git(place: pathlib.Path, *command: str) -> str:
    names = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(
        ["git", "-C", str(place), *names, *command],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def _commit(root: pathlib.Path, *paths: str) -> str:
    """A repository of some files; its commit."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("x = 1\n")
    _git(root, "init", "-q")
    _git(root, "add", *paths)
    _git(root, "commit", "-q", "-m", "all")
    return _git(root, "rev-parse", "HEAD")


@pytest.fixture
def checkout(tmp_path):
    """A repository of the package alone, and its commit."""
    return tmp_path, _commit(tmp_path, "mesa_jax/__init__.py", "README")


def test_a_package_in_its_own_checkout_is_of_its_commit(checkout):
    root, commit = checkout
    assert git.revision(root / "mesa_jax") == commit
    (root / "notes").write_text("untracked")
    assert git.revision(root / "mesa_jax") == commit
    (root / "README").write_text("other")
    assert git.revision(root / "mesa_jax") == commit + "-dirty"


@pytest.mark.parametrize(
    "site", [".venv/lib/python3/site-packages", "third_party", "src/vendor/deep"]
)
@pytest.mark.parametrize("tracked", [True, False])
def test_a_package_inside_somebodys_tree_is_of_none_of_their_commits(
    checkout, site, tracked
):
    root, _ = checkout
    package = root / site / "mesa_jax"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    if tracked:
        _git(root, "add", "-f", ".")
    assert git.revision(package) is None


def test_a_package_that_only_lies_in_a_checkout_is_of_no_commit(tmp_path):
    _commit(tmp_path, "thesis.tex")
    (tmp_path / "mesa_jax").mkdir()
    (tmp_path / "mesa_jax" / "__init__.py").write_text("")
    assert git.revision(tmp_path / "mesa_jax") is None
    assert git.revision(tmp_path / "nowhere" / "mesa_jax") is None


def test_the_repository_of_a_hook_is_not_ours(checkout, tmp_path_factory, monkeypatch):
    root, commit = checkout
    other = tmp_path_factory.mktemp("other")
    _commit(other, "mesa_jax/__init__.py")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git" / "index"))
    assert git.revision(root / "mesa_jax") == commit


def test_reading_the_commit_writes_nothing_of_the_checkout(checkout):
    root, _ = checkout
    os.utime(root / "README", (1, 1))  # git would note that it is unchanged
    before = {
        path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in root.rglob("*")
    }
    git.revision(root / "mesa_jax")
    after = {
        path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in root.rglob("*")
    }
    assert after == before


def test_without_git_there_is_no_commit(checkout, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert git.revision(checkout[0] / "mesa_jax") is None
