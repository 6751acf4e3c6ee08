"""Checkpoints: round trip, names, what counts, what is damaged, what does not fit."""

import json
import re
import shutil
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mesa_jax.study import checkpoints, files

MADE_BY = {"--seeds": (0, 1), "--sac_lr": 3e-4, "--domain": "line"}


class Inner(NamedTuple):
    weights: jax.Array
    empty: tuple


class State(NamedTuple):
    inner: Inner
    optimizers: tuple
    counter: jax.Array
    done: jax.Array


def _state(value: float = 0.0) -> State:
    weights = {"kernel": jnp.full((2, 3), value, float), "bias": jnp.arange(3.0)}
    return State(
        inner=Inner(weights, ()),
        optimizers=((jnp.float32(value),), (), (jnp.ones(2), (jnp.zeros(1),))),
        counter=jnp.int32(7),
        done=jnp.array([True, False]),
    )


def _assert_same(found, expected) -> None:
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for ours, theirs in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


def _largest_file(place):
    written = [path for path in (place / "leaves").rglob("*") if path.is_file()]
    return max(written, key=lambda path: path.stat().st_size)


def _flip_a_byte(place) -> None:
    path = _largest_file(place)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def _manifest(place, text: str) -> None:
    (place / checkpoints.MANIFEST).write_text(text)


DAMAGES = {
    "a flipped byte": _flip_a_byte,
    "a truncated file": lambda place: _largest_file(place).write_bytes(b"\0"),
    "a missing file": lambda place: _largest_file(place).unlink(),
    "no leaves at all": lambda place: shutil.rmtree(place / "leaves"),
    "a torn manifest": lambda place: (place / checkpoints.MANIFEST).write_text('{"l'),
    "an empty manifest": lambda place: _manifest(place, "{}"),
    "a manifest that is a list": lambda place: _manifest(place, "[]"),
    "a manifest of nothing that matters": lambda place: _manifest(
        place, json.dumps({"about.json": files.sha256(place / "about.json")})
    ),
    "a manifest that is no text": lambda place: (
        place / checkpoints.MANIFEST
    ).write_bytes(b"\xff{}"),
    "no word of what made it": lambda place: (place / checkpoints.ABOUT).unlink(),
    "a flipped digit of what made it": lambda place: (
        place / checkpoints.ABOUT
    ).write_text((place / checkpoints.ABOUT).read_text().replace("0.0003", "0.0007")),
}


def test_a_tree_comes_back_with_its_structure_types_and_values(tmp_path):
    checkpoints.save(tmp_path, 3, _state(1.5), MADE_BY)
    step, restored = checkpoints.restore_latest(tmp_path, _state(), MADE_BY)
    assert step == 3
    _assert_same(restored, _state(1.5))


def test_shapes_are_enough_to_restore_into(tmp_path):
    checkpoints.save(tmp_path, 3, _state(1.5), MADE_BY)
    _, restored = checkpoints.restore_latest(tmp_path, jax.eval_shape(_state), MADE_BY)
    _assert_same(restored, _state(1.5))


def test_leaves_lie_under_their_path_in_the_tree(tmp_path):
    checkpoints.save(tmp_path, 0, _state(2.0), MADE_BY)
    leaves = checkpoints.read(tmp_path, 0)
    assert set(leaves) == {
        "inner.weights.kernel",
        "inner.weights.bias",
        "optimizers.0.0",
        "optimizers.2.0",
        "optimizers.2.1.0",
        "counter",
        "done",
    }
    np.testing.assert_array_equal(leaves["inner.weights.kernel"], np.full((2, 3), 2.0))


def test_the_last_two_are_kept_and_the_newest_is_restored(tmp_path):
    for step in (5, 20, 100):  # numbers, not words: "100" < "20" < "5"
        checkpoints.save(tmp_path, step, _state(step), MADE_BY)
    assert checkpoints.steps(tmp_path) == [20, 100]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["100", "20"]
    step, restored = checkpoints.restore_latest(tmp_path, _state(), MADE_BY)
    assert step == 100
    _assert_same(restored, _state(100))


def test_nothing_is_restored_from_nothing(tmp_path):
    assert checkpoints.steps(tmp_path / "none") == []
    assert checkpoints.restore_latest(tmp_path / "none", _state(), MADE_BY) is None


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_a_damaged_newest_one_falls_back_to_the_one_before(tmp_path, damage):
    for step in (1, 2):
        checkpoints.save(tmp_path, step, _state(step), MADE_BY)
    DAMAGES[damage](tmp_path / "2")
    with pytest.warns(UserWarning, match=re.escape(f"{tmp_path / '2'} is damaged")):
        step, restored = checkpoints.restore_latest(tmp_path, _state(), MADE_BY)
    assert step == 1
    _assert_same(restored, _state(1))


def test_a_checkpoint_without_a_manifest_does_not_count(tmp_path):
    for step in (1, 2):
        checkpoints.save(tmp_path, step, _state(step), MADE_BY)
    (tmp_path / "2" / checkpoints.MANIFEST).unlink()
    assert checkpoints.steps(tmp_path) == [1]
    step, _ = checkpoints.restore_latest(tmp_path, _state(), MADE_BY)
    assert step == 1


def test_a_step_can_be_written_again_over_a_damaged_one(tmp_path):
    checkpoints.save(tmp_path, 1, _state(1), MADE_BY)
    _flip_a_byte(tmp_path / "1")
    checkpoints.save(tmp_path, 1, _state(4), MADE_BY)
    _, restored = checkpoints.restore_latest(tmp_path, _state(), MADE_BY)
    _assert_same(restored, _state(4))


def test_what_is_saved_after_all_were_damaged_is_kept(tmp_path):
    for step in (5, 6):
        checkpoints.save(tmp_path, step, _state(step), MADE_BY)
        _flip_a_byte(tmp_path / str(step))
    with pytest.warns(UserWarning, match="is damaged"):
        assert checkpoints.restore_latest(tmp_path, _state(), MADE_BY) is None
    checkpoints.save(tmp_path, 1, _state(1), MADE_BY)
    with pytest.warns(UserWarning, match="is damaged"):
        restored = checkpoints.restore_latest(tmp_path, _state(), MADE_BY)
    assert restored is not None
    assert restored[0] == 1


@pytest.mark.parametrize(
    ("leaf", "other"),
    [
        ("inner.weights.bias", lambda s: _with_bias(s, jnp.arange(4.0))),
        ("inner.weights.bias", lambda s: _with_bias(s, jnp.arange(3))),
        ("inner.weights.scale", lambda s: _with_bias(s, jnp.arange(3.0), "scale")),
    ],
    ids=["another shape", "another dtype", "another name"],
)
def test_a_leaf_that_does_not_fit_is_named(tmp_path, leaf, other):
    checkpoints.save(tmp_path, 2, _state(), MADE_BY)
    with pytest.raises(checkpoints.CheckpointError) as refused:
        checkpoints.restore_latest(tmp_path, other(_state()), MADE_BY)
    assert f"{tmp_path / '2'}: {leaf} is " in str(refused.value)


def _with_bias(state: State, bias, name: str = "bias") -> State:
    weights = {"kernel": state.inner.weights["kernel"], name: bias}
    return state._replace(inner=Inner(weights, ()))


# What made it


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"--sac_lr": 0.01}, "--sac_lr: 0.0003 there, 0.01 asked"),
        ({"--seeds": (0, 1, 2)}, r"--seeds: \[0, 1\] there, \[0, 1, 2\] asked"),
        ({"--domain": "lone"}, "--domain: 'line' there, 'lone' asked"),
        ({"--new": 1}, "--new: None there, 1 asked"),
    ],
)
def test_what_other_settings_made_is_refused_by_name(tmp_path, other, told):
    for step in (1, 2):
        checkpoints.save(tmp_path, step, _state(step), MADE_BY)
    for restore in (
        lambda asked: checkpoints.restore_latest(tmp_path, _state(), asked),
        lambda asked: checkpoints.read_latest(tmp_path, asked),
        lambda asked: checkpoints.require_made_by(tmp_path, asked),
    ):
        with pytest.raises(checkpoints.CheckpointError, match=told) as refused:
            restore(MADE_BY | other)
        assert str(tmp_path / "2") in str(refused.value)
        restore(MADE_BY)


def test_what_another_meaning_made_is_refused(tmp_path, monkeypatch):
    checkpoints.save(tmp_path, 1, _state(), MADE_BY)
    monkeypatch.setattr(checkpoints, "MEANING", checkpoints.MEANING + 1)
    with pytest.raises(checkpoints.CheckpointError, match="meaning: 1 there, 2 asked"):
        checkpoints.restore_latest(tmp_path, _state(), MADE_BY)


# What it holds


def _bits(leaf) -> np.ndarray:
    leaf = np.ascontiguousarray(leaf)
    return leaf.reshape(-1).view(np.uint8)


@pytest.mark.parametrize("dtype", [np.float32, np.int32, bool])
@pytest.mark.parametrize("shape", [(3, 40_000), (3, 20_000, 2), (2, 9_000, 2, 2)])
@pytest.mark.parametrize("filled", [0, 1, 77, None])
def test_empty_rows_are_not_written_and_come_back(tmp_path, dtype, shape, filled):
    values = np.zeros(shape, dtype)
    values[1, :filled] = 1
    values[0, : (filled or 0) // 2] = 1
    checkpoints.save(tmp_path, 1, {"rows": values}, MADE_BY)
    _, found = checkpoints.restore_latest(tmp_path, {"rows": values}, MADE_BY)
    np.testing.assert_array_equal(_bits(found["rows"]), _bits(values))
    held = checkpoints._filled(values)
    assert held.shape[1] == (shape[1] if filled is None else max(filled, 1))


@pytest.mark.parametrize("value", [-0.0, np.nan, 1e-45])
def test_no_row_with_a_bit_in_it_is_empty(tmp_path, value):
    values = np.zeros((2, 30_000), np.float32)
    values[1, 20_000] = value
    checkpoints.save(tmp_path, 1, {"rows": values}, MADE_BY)
    _, found = checkpoints.read_latest(tmp_path, MADE_BY)
    np.testing.assert_array_equal(_bits(found["rows"]), _bits(values))


def test_an_empty_replay_costs_no_space(tmp_path):
    noise = np.random.default_rng(0).normal(size=(4, 50_000)).astype(np.float32)
    noise[:, 500:] = 0.0
    checkpoints.save(tmp_path, 1, {"rows": noise}, MADE_BY)
    assert checkpoints._filled(noise).shape == (4, 500)


@pytest.mark.parametrize("other", [49_999, 50_001])
def test_another_capacity_does_not_fit(tmp_path, other):
    checkpoints.save(tmp_path, 1, {"rows": np.zeros((2, 50_000))}, MADE_BY)
    with pytest.raises(checkpoints.CheckpointError, match=r"rows is \(\(2, 50000\)"):
        like = {"rows": np.zeros((2, other))}
        checkpoints.restore_latest(tmp_path, like, MADE_BY)


# Kills


def test_a_kill_while_pruning_leaves_nothing_for_good(tmp_path, monkeypatch):
    for step in (1, 2):
        checkpoints.save(tmp_path, step, _state(step), MADE_BY)

    def killed(place, **_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            checkpoints.save(tmp_path, 3, _state(3), MADE_BY)
    assert checkpoints.steps(tmp_path) == [2, 3]  # half of 1 does not count
    checkpoints.save(tmp_path, 4, _state(4), MADE_BY)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3", "4"]


def test_what_a_kill_while_saving_left_is_removed(tmp_path):
    checkpoints.save(tmp_path, 1, _state(1), MADE_BY)
    (tmp_path / "7" / "leaves").mkdir(parents=True)  # of other chunks, say
    checkpoints.save(tmp_path, 2, _state(2), MADE_BY)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]
