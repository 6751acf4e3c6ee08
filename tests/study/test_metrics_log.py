"""metrics.jsonl and TensorBoard: what is written, and again after an interruption."""

import json
import os
import resource
import threading

import numpy as np
import pytest

from mesa_jax.study import metrics_log
from mesa_jax.study.metrics_log import MetricsWriter
from tests.launching import scalars


def _records(place) -> list[dict]:
    lines = (place / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def _steps(place, stage) -> list[int]:
    return [r["step"] for r in _records(place) if r["stage"] == stage]


def _write(place, stage, steps, first_step=0, run="mesa-0") -> None:
    with MetricsWriter(place, stage, first_step) as writer:
        for step in steps:
            writer.write(run, step, {"risk/loss": step / 2})


def test_a_record_holds_stage_run_labels_step_and_values(tmp_path):
    with MetricsWriter(tmp_path, "online", 0) as writer:
        writer.write("mesa-3", 500, {"risk/loss": 0.25}, method="mesa", seed=3)
        (record,) = _records(tmp_path)  # on disk at once, not at the end
    assert record == {
        "stage": "online",
        "run": "mesa-3",
        "method": "mesa",
        "seed": 3,
        "step": 500,
        "values": {"risk/loss": 0.25},
    }


def test_stages_append_to_one_file(tmp_path):
    _write(tmp_path, "pooled", [250, 500])
    _write(tmp_path, "online", [100])
    assert _steps(tmp_path, "pooled") == [250, 500]
    assert _steps(tmp_path, "online") == [100]


def test_a_resumed_stage_drops_its_later_records_and_no_others(tmp_path):
    _write(tmp_path, "pooled", [250, 500, 750])
    _write(tmp_path, "online", [500, 1000, 1500])
    _write(tmp_path, "online", [1000, 1500], first_step=500)
    assert _steps(tmp_path, "online") == [500, 1000, 1500]
    assert _steps(tmp_path, "pooled") == [250, 500, 750]


def test_a_torn_last_line_is_dropped_and_written_again(tmp_path):
    _write(tmp_path, "online", [500, 1000])
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text()[:-10])
    _write(tmp_path, "online", [1000, 1500], first_step=500)
    assert _steps(tmp_path, "online") == [500, 1000, 1500]


def test_tensorboard_has_one_run_a_stage_and_run_with_the_same_values(tmp_path):
    _write(tmp_path, "online", [500, 1000], run="mesa-0")
    _write(tmp_path, "online", [500], run="mesa-1", first_step=1000)
    folder = tmp_path / "tb" / "online"
    assert {path.name for path in folder.iterdir()} == {"mesa-0", "mesa-1"}
    expected = [("risk/loss", 500, 250.0), ("risk/loss", 1000, 500.0)]
    assert scalars(folder / "mesa-0") == expected
    assert scalars(folder / "mesa-1") == expected[:1]


@pytest.mark.parametrize("at", range(3))
@pytest.mark.parametrize("damage", [b"\xff", b'"', b"\n"], ids=repr)
def test_a_damaged_line_is_said_and_blocks_nothing(tmp_path, capsys, at, damage):
    _write(tmp_path, "online", [500, 1000, 1500])
    path = tmp_path / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[at] = lines[at][:9] + damage + lines[at][10:]
    path.write_bytes(b"".join(lines))
    _write(tmp_path, "online", [2000], first_step=1500)
    kept = [step for i, step in enumerate([500, 1000, 1500]) if i != at]
    assert _steps(tmp_path, "online") == [*kept, 2000]
    assert f"{path}: damaged and left out: line {at + 1}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "line", ["[]", "3", "{}", '{"stage": 1}', '{"stage": "a", "step": 1, "values": 2}']
)
def test_a_line_that_is_no_record_is_left_out(tmp_path, line):
    (tmp_path / "metrics.jsonl").write_text(line + "\n")
    assert metrics_log.read(tmp_path) == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_null(tmp_path, value):
    for first, last in ((0, 500), (500, 1000)):  # also where it is written again
        with MetricsWriter(tmp_path, "online", first) as writer:
            writer.write("mesa-0", last, {"a": value, "b": 1.0})

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        assert json.loads(line, parse_constant=refuse)["values"] == {"a": None, "b": 1}
    assert np.isnan(
        [record["values"]["a"] for record in metrics_log.read(tmp_path)]
    ).all()


def test_events_are_in_their_file_before_a_checkpoint_can_count_them(tmp_path):
    with MetricsWriter(tmp_path, "online", 0) as writer:
        for step in (500, 1000):
            writer.write("mesa-0", step, {"risk/loss": step / 2})
            found = scalars(tmp_path / "tb" / "online" / "mesa-0")
            assert found[-1] == ("risk/loss", step, step / 2)


@pytest.mark.parametrize("torn", [0, 1, 5, 20])
def test_a_killed_and_resumed_stage_has_each_event_once(tmp_path, torn):
    for place in ("whole", "torn"):
        _write(tmp_path / place, "online", [500, 1000, 1500])
    folder = tmp_path / "torn" / "tb" / "online" / "mesa-0"
    (path,) = folder.iterdir()
    path.write_bytes(path.read_bytes()[: -torn or None])
    _write(tmp_path / "torn", "online", [1000, 1500], first_step=500)
    whole = scalars(tmp_path / "whole" / "tb" / "online" / "mesa-0")
    assert scalars(folder) == whole
    assert [step for _, step, _ in whole] == [500, 1000, 1500]
    assert len(list(folder.iterdir())) == 1


def test_many_runs_take_few_files_and_no_thread(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    threads, opened = threading.active_count(), len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened + 8, hard))
    try:
        with MetricsWriter(tmp_path, "online", 0) as writer:
            for step in (1, 2):
                for run in range(100):
                    writer.write(f"mesa-{run}", step, {"risk/loss": 1.0})
            assert threading.active_count() == threads
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for run in range(100):
        assert len(scalars(tmp_path / "tb" / "online" / f"mesa-{run}")) == 2
