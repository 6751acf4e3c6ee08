"""Metrics mirrored to Weights & Biases, offline; and the mirror without it."""

import json
import struct
import sys
from unittest import mock

import pytest

from mesa_jax import bridges
from mesa_jax.bridges import wandb as bridge
from mesa_jax.settings import SettingError
from mesa_jax.study import files, metrics_log
from tests.launching import command

TIME = [{"time": "2026-01-01T00:00:00"}]  # of the first launch, as provenance has it


@pytest.fixture
def workdir(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    files.write_json(tmp_path / "w" / "provenance.json", TIME)
    return tmp_path / "w"


def _write(workdir, take, steps=(1, 2)):
    with (
        metrics_log.mirrored(take),
        metrics_log.MetricsWriter(workdir, "online-1", 0) as writer,
    ):
        for step in steps:
            for seed in (0, 1):
                values = {"risk/loss": step + 10.0 * seed}
                writer.write(f"mesa-{seed}", step, values, method="mesa", seed=seed)


def test_a_mirror_takes_each_record_until_it_ends(tmp_path):
    taken = []
    _write(tmp_path, taken.append)
    assert taken == metrics_log.read(tmp_path) and len(taken) == 4
    with metrics_log.MetricsWriter(tmp_path, "maml", 0) as writer:
        writer.write("maml", 1, {"x": 1.0})
    assert len(taken) == 4


def test_without_the_extra_the_launch_names_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)
    given = f"--workdir={tmp_path / 'w'}", "--track=wandb", "--plan"
    assert command("run", *given) == 2
    assert 'pip install "mesa_jax[wandb]"' in capsys.readouterr().err
    assert not (tmp_path / "w").exists()


def test_another_tracker_is_refused(tmp_path, capsys):
    assert command("run", f"--workdir={tmp_path / 'w'}", "--track=tensorbord") == 2
    assert "--track must be one of wandb" in capsys.readouterr().err


def test_a_launch_that_could_not_send_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", mock.Mock())
    sys.modules["wandb"].setup().settings.mode = "online"
    sys.modules["wandb"].login.return_value = False
    with (
        pytest.raises(SettingError, match="track must be used after `wandb login`"),
        bridge.mirrored(tmp_path, {}),
    ):
        pytest.fail("it went on")


def _stored(content: bytes):
    """Yields the records of an offline file: LevelDB's log of blocks of 32 kB."""
    at, data = 7, b""  # behind the head
    while at + 7 <= len(content):
        _, length, kind = struct.unpack_from("<IHB", content, at)
        if kind == 0:  # the end of a block is empty
            at += 2**15 - at % 2**15
            continue
        data += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield data
            data = b""


def _histories(workdir) -> dict[str, list[dict]]:
    """What lies in the offline files, by the name of the run."""
    messages = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    found: dict[str, list[dict]] = {}
    for path in sorted(workdir.glob("wandb/offline-run-*/*.wandb")):
        lines, name = [], None
        for data in _stored(path.read_bytes()):
            record = messages.Record()
            record.ParseFromString(data)
            if record.WhichOneof("record_type") == "run":
                name = record.run.display_name
            if record.WhichOneof("record_type") == "history":
                items = record.history.item
                line = {
                    i.key or i.nested_key[0]: json.loads(i.value_json) for i in items
                }
                lines.append(line)
        found.setdefault(name, []).extend(lines)
    return found


def test_offline_runs_hold_what_metrics_jsonl_has(workdir):
    wandb = pytest.importorskip("wandb")
    with bridge.mirrored(workdir, {"domain": "navigation1"}) as take:
        _write(workdir, take)
    wandb.teardown()  # as at the end of a process: what writes the files has ended
    found = {
        name: [(line["_step"], line["risk/loss"]) for line in lines]
        for name, lines in _histories(workdir).items()
    }
    assert found == {
        "online-1/mesa-0": [(1, 1.0), (2, 2.0)],
        "online-1/mesa-1": [(1, 11.0), (2, 12.0)],
    }


def test_a_launch_that_goes_on_has_the_same_runs_and_a_new_workdir_others(workdir):
    first = bridge._id(workdir, ("maml", "maml"))
    launches = [*TIME, {"time": "later"}]
    files.write_json(workdir / "provenance.json", launches)
    assert bridge._id(workdir, ("maml", "maml")) == first
    assert bridge._id(workdir, ("maml", "other")) != first
    files.write_json(workdir / "provenance.json", [{"time": "later"}])
    assert bridge._id(workdir, ("maml", "maml")) != first


def test_the_bridge_is_imported_without_the_library():
    assert "wandb" not in vars(bridge) and bridges.needed
