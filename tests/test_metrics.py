"""metrics.jsonl and TensorBoard: what is written, and again after an interruption."""

import json
import struct

from tensorboardX.proto import event_pb2

from mesa_jax.runtime.metrics import MetricsWriter


def _records(place) -> list[dict]:
    lines = (place / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def _steps(place, stage) -> list[int]:
    return [r["step"] for r in _records(place) if r["stage"] == stage]


def _scalars(folder) -> list[tuple[str, int, float]]:
    """(name, step, value) in the event files of a folder, in the order written."""
    scalars = []
    for path in sorted(folder.glob("events.*")):
        content, at = path.read_bytes(), 0
        while at < len(content):  # length, its checksum, event, its checksum
            (length,) = struct.unpack_from("<Q", content, at)
            event = event_pb2.Event.FromString(content[at + 12 : at + 12 + length])
            at += 12 + length + 4
            for value in event.summary.value:
                scalars.append((value.tag, event.step, value.simple_value))
    return scalars


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
    assert _scalars(folder / "mesa-0") == expected
    assert _scalars(folder / "mesa-1") == expected[:1]
