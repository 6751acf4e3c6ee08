"""Launches that are killed: what is compared sees every difference."""

import json
import random

import numpy as np
import pytest

from mesa_jax.study import checkpoints, files
from tests.kill_launches import KILLS, STAGES, differences, kill_launches, shares

RECORD = {"stage": "online", "run": "mesa-0", "step": 1, "values": {"x": 1.0}}


def _write(place):
    """What stands for a workdir: one file of each kind."""
    place.mkdir()
    (place / "results.csv").write_text("seed,return\n0,1.5\n")
    (place / "metrics.jsonl").write_text(json.dumps(RECORD) + "\n")
    files.write_arrays(place / "quality" / "mesa.npz", {"x": np.arange(3.0)})
    checkpoints.save(
        place / "checkpoints" / "maml",
        4,
        {"w": np.ones(2, np.float32)},
        {"by": "a test"},
    )
    return place


def _text(name, old, new):
    def change(place):
        path = place / name
        path.write_text(path.read_text().replace(old, new))

    return change


def _leaf(place):
    tree = {"w": np.nextafter(np.ones(2, np.float32), np.float32(2))}
    checkpoints.save(place / "checkpoints" / "maml", 4, tree, {"by": "a test"})


def _step(place):
    checkpoints.save(
        place / "checkpoints" / "maml",
        5,
        {"w": np.ones(2, np.float32)},
        {"by": "a test"},
    )


CHANGES = {
    "results.csv": _text("results.csv", "1.5", "1.6"),
    "metrics.jsonl: 0": _text("metrics.jsonl", "1.0", "1.1"),
    "quality/mesa.npz: x": lambda place: files.write_arrays(
        place / "quality" / "mesa.npz", {"x": np.array([0.0, 1.0, 2.5])}
    ),
    "maml/4: w": _leaf,
    "maml/5: w": _step,
}


@pytest.mark.parametrize("name", CHANGES)
def test_each_difference_is_seen_by_its_name(tmp_path, name):
    ours, theirs = (_write(tmp_path / folder) for folder in ("ours", "theirs"))
    assert differences(ours, theirs) == []
    CHANGES[name](ours)
    assert name in differences(ours, theirs)


def test_times_and_logs_are_no_difference(tmp_path):
    ours, theirs = (_write(tmp_path / folder) for folder in ("ours", "theirs"))
    (ours / "log.txt").write_text("later")
    record = RECORD | {"time": 3, "values": {"x": 1.0, "seconds": 2.0}}
    (ours / "metrics.jsonl").write_text(json.dumps(record) + "\n")
    assert differences(ours, theirs) == []


def test_kills_are_shared_out_among_all_stages():
    draw = random.Random(0)
    for kills in (5, KILLS, 100):
        each = shares(kills, len(STAGES), draw)
        assert sum(each) == kills and max(each) - min(each) <= 1


@pytest.mark.slow
def test_killed_launches_end_as_unbroken_ones_do():
    assert kill_launches(KILLS) >= 50
