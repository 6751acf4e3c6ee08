"""Checkpoints: round trip, names, what counts, what is damaged, what does not fit."""

import re
import shutil
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mesa_jax.runtime import checkpoints


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


DAMAGES = {
    "a flipped byte": _flip_a_byte,
    "a truncated file": lambda place: _largest_file(place).write_bytes(b"\0"),
    "a missing file": lambda place: _largest_file(place).unlink(),
    "no leaves at all": lambda place: shutil.rmtree(place / "leaves"),
    "a torn manifest": lambda place: (place / checkpoints.MANIFEST).write_text('{"l'),
}


def test_a_tree_comes_back_with_its_structure_types_and_values(tmp_path):
    checkpoints.save(tmp_path, 3, _state(1.5))
    step, restored = checkpoints.restore_latest(tmp_path, _state())
    assert step == 3
    _assert_same(restored, _state(1.5))


def test_shapes_are_enough_to_restore_into(tmp_path):
    checkpoints.save(tmp_path, 3, _state(1.5))
    _, restored = checkpoints.restore_latest(tmp_path, jax.eval_shape(_state))
    _assert_same(restored, _state(1.5))


def test_leaves_lie_under_their_path_in_the_tree(tmp_path):
    checkpoints.save(tmp_path, 0, _state(2.0))
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
        checkpoints.save(tmp_path, step, _state(step))
    assert checkpoints.steps(tmp_path) == [20, 100]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["100", "20"]
    step, restored = checkpoints.restore_latest(tmp_path, _state())
    assert step == 100
    _assert_same(restored, _state(100))


def test_nothing_is_restored_from_nothing(tmp_path):
    assert checkpoints.steps(tmp_path / "none") == []
    assert checkpoints.restore_latest(tmp_path / "none", _state()) is None


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_a_damaged_newest_one_falls_back_to_the_one_before(tmp_path, damage):
    for step in (1, 2):
        checkpoints.save(tmp_path, step, _state(step))
    DAMAGES[damage](tmp_path / "2")
    with pytest.warns(UserWarning, match=re.escape(f"{tmp_path / '2'} is damaged")):
        step, restored = checkpoints.restore_latest(tmp_path, _state())
    assert step == 1
    _assert_same(restored, _state(1))


def test_a_checkpoint_without_a_manifest_does_not_count(tmp_path):
    for step in (1, 2):
        checkpoints.save(tmp_path, step, _state(step))
    (tmp_path / "2" / checkpoints.MANIFEST).unlink()
    assert checkpoints.steps(tmp_path) == [1]
    step, _ = checkpoints.restore_latest(tmp_path, _state())
    assert step == 1


def test_a_step_can_be_written_again_over_a_damaged_one(tmp_path):
    checkpoints.save(tmp_path, 1, _state(1))
    _flip_a_byte(tmp_path / "1")
    checkpoints.save(tmp_path, 1, _state(4))
    _, restored = checkpoints.restore_latest(tmp_path, _state())
    _assert_same(restored, _state(4))


def test_what_is_saved_after_all_were_damaged_is_kept(tmp_path):
    for step in (5, 6):
        checkpoints.save(tmp_path, step, _state(step))
        _flip_a_byte(tmp_path / str(step))
    with pytest.warns(UserWarning, match="is damaged"):
        assert checkpoints.restore_latest(tmp_path, _state()) is None
    checkpoints.save(tmp_path, 1, _state(1))
    with pytest.warns(UserWarning, match="is damaged"):
        restored = checkpoints.restore_latest(tmp_path, _state())
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
    checkpoints.save(tmp_path, 2, _state())
    with pytest.raises(checkpoints.CheckpointError) as refused:
        checkpoints.restore_latest(tmp_path, other(_state()))
    assert f"{tmp_path / '2'}: {leaf} is " in str(refused.value)


def _with_bias(state: State, bias, name: str = "bias") -> State:
    weights = {"kernel": state.inner.weights["kernel"], name: bias}
    return state._replace(inner=Inner(weights, ()))
