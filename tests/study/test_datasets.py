"""Datasets on disk: round trip, card, and every damage named."""

import json
import os
import re
import zipfile

import numpy as np
import pytest

from mesa_jax.data import take_valid
from mesa_jax.errors import UserError
from mesa_jax.study import datasets
from mesa_jax.types import Transition
from tests.worlds import TOY, TOY_TASK, ToyTask

BODIES, ROWS = 2, 6


def _rows(cost) -> Transition:
    cost = np.asarray(cost, np.float32)
    draw = np.random.default_rng(0)

    def normal(*shape):
        return draw.normal(size=(*cost.shape, *shape)).astype(np.float32)

    actions = np.tanh(normal(2))
    return Transition(normal(3), actions, normal(), cost, 1 - cost, normal(3))


def _save(folder, cost=((0, 1, 0, 0, 0, 1), (0, 0, 0, 0, 0, 1))) -> datasets.Dataset:
    tasks = ToyTask(np.arange(len(cost), dtype=np.float32))
    return datasets.save(folder, _rows(cost), tasks, {"domain": "toy", "seed": 5})


def _load(folder, asked=None) -> datasets.Dataset:
    return datasets.load(folder, TOY, TOY_TASK, asked)


def _rewrite(folder, change) -> None:
    """Puts other arrays under an unchanged card."""
    path = folder / datasets.ARRAYS
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    change(arrays)
    np.savez(path, **arrays)


def _refusal(folder) -> str:
    with pytest.raises(datasets.DatasetError) as refused:
        _load(folder)
    return str(refused.value)


def test_a_dataset_comes_back_as_it_was_saved(tmp_path):
    saved, loaded = _save(tmp_path), _load(tmp_path)
    for ours, theirs in zip(saved.rows, loaded.rows, strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(saved.tasks.strength, loaded.tasks.strength)
    assert isinstance(loaded.tasks, ToyTask)
    assert saved.card == loaded.card


def test_a_card_says_what_the_dataset_is(tmp_path):
    card = _save(tmp_path).card
    assert card == json.loads((tmp_path / datasets.CARD).read_text())
    assert (card["domain"], card["seed"]) == ("toy", 5)
    assert (card["bodies"], card["transitions_per_body"]) == (BODIES, ROWS)
    assert card["violation_share"] == pytest.approx(3 / 12, abs=1e-6)
    assert card["violation_share_per_body"] == pytest.approx([2 / 6, 1 / 6], abs=1e-6)


def test_the_content_hash_is_of_the_arrays_and_not_of_the_file(tmp_path):
    first, again = _save(tmp_path / "a").card, _save(tmp_path / "b").card
    other = _save(tmp_path / "c", [[0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1]]).card
    assert first["content_sha256"] == again["content_sha256"]
    assert first["content_sha256"] != other["content_sha256"]


@pytest.mark.parametrize("name", Transition._fields)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_named_with_file_body_and_row(
    tmp_path, name, value
):
    def damage(arrays):
        arrays[name][1, 4] = value

    _save(tmp_path)
    _rewrite(tmp_path, damage)
    message = _refusal(tmp_path)
    assert str(tmp_path / datasets.ARRAYS) in message
    assert f"{name} is not finite at body 1, row 4" in message


@pytest.mark.parametrize("name", ["cost", "discount"])
@pytest.mark.parametrize("value", [0.5, -1.0, 2.0])
def test_a_cost_that_is_neither_0_nor_1_is_named_with_file_body_and_row(
    tmp_path, name, value
):
    def damage(arrays):
        arrays[name][0, 3] = value

    _save(tmp_path)
    _rewrite(tmp_path, damage)
    message = _refusal(tmp_path)
    assert str(tmp_path / datasets.ARRAYS) in message
    assert f"{name} is {value} at body 0, row 3, not 0 or 1" in message


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("observation", (BODIES, ROWS, 4)),
        ("action", (BODIES, ROWS)),
        ("reward", (BODIES, ROWS - 1)),
        ("cost", (BODIES + 1, ROWS)),
    ],
)
def test_a_wrong_shape_is_named_with_file_and_array(tmp_path, name, shape):
    def damage(arrays):
        arrays[name] = np.zeros(shape, np.float32)

    _save(tmp_path)
    _rewrite(tmp_path, damage)
    message = _refusal(tmp_path)
    assert str(tmp_path / datasets.ARRAYS) in message
    assert f"{name} has shape {shape}, expected" in message


def test_tasks_of_another_number_of_bodies_are_named(tmp_path):
    _save(tmp_path)
    _rewrite(tmp_path, lambda a: a.update(task_strength=np.zeros(3, np.float32)))
    assert "task_strength has shape (3,), expected (2,)" in _refusal(tmp_path)


def test_tasks_of_another_trailing_shape_are_named(tmp_path):
    """They would be broadcast, and be other bodies."""
    tasks = ToyTask(np.zeros((BODIES, 2), np.float32))
    datasets.save(tmp_path, _rows(np.zeros((BODIES, ROWS))), tasks, {"domain": "toy"})
    assert "task_strength has shape (2, 2), expected (2,)" in _refusal(tmp_path)


TYPES = {
    "float64": lambda x: x.astype(np.float64),
    "float16": lambda x: x.astype(np.float16),
    "int32": lambda x: x.astype(np.int32),
    "bool": lambda x: x > 0,
    "complex64": lambda x: x.astype(np.complex64),
    ">f4": lambda x: x.astype(">f4"),
    "<U32": lambda x: x.astype(str),
    "datetime64": lambda x: x.astype("int64").astype("datetime64[s]"),
    "structured": lambda x: x.astype([("value", np.float32)]),
}


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("name", ["observation", "action", "cost", "task_strength"])
def test_an_array_of_another_type_is_named_with_both_types(tmp_path, name, kind):
    """A float64 of 1e300 would be infinite, and be blamed on learning rates."""
    _save(tmp_path)
    _rewrite(tmp_path, lambda arrays: arrays.update({name: TYPES[kind](arrays[name])}))
    message = _refusal(tmp_path)
    assert str(tmp_path / datasets.ARRAYS) in message
    assert f"{name} is of type " in message and "expected float32" in message


@pytest.mark.parametrize("kind", ["float64", ">f4", "int32"])
def test_a_dataset_of_another_type_is_not_saved(tmp_path, kind):
    rows = _rows(np.zeros((BODIES, ROWS)))
    rows = rows._replace(observation=TYPES[kind](rows.observation))
    with pytest.raises(datasets.DatasetError, match="observation is of type"):
        datasets.save(tmp_path, rows, TOY_TASK, {"domain": "toy"})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [1.0001, -2.0, 1e30])
def test_an_action_outside_its_range_is_named_with_body_and_row(tmp_path, value):
    def damage(arrays):
        arrays["action"][1, 3, 1] = value

    _save(tmp_path)
    _rewrite(tmp_path, damage)
    message = _refusal(tmp_path)
    assert f"action is {np.float32(value)} at body 1, row 3, not in [-1, 1]" in message


@pytest.mark.parametrize("asked", [(BODIES + 1, ROWS), (BODIES, ROWS - 1)])
def test_other_sizes_than_are_asked_for_are_refused(tmp_path, asked):
    _save(tmp_path)
    with pytest.raises(datasets.DatasetError, match=f"{asked[0]} of {asked[1]} are as"):
        _load(tmp_path, asked)
    assert _load(tmp_path, (BODIES, ROWS)).card["bodies"] == BODIES


def test_one_array_under_the_name_of_an_archive_is_told(tmp_path):
    _save(tmp_path)
    with open(tmp_path / datasets.ARRAYS, "wb") as file:
        np.save(file, np.zeros(3, np.float32))
    assert "one array (.npy), not an archive" in _refusal(tmp_path)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("shape", [(2**60,), (2**40, 2**40), (10**6, 10**6, 3)])
def test_a_header_that_claims_exabytes_is_refused_without_memory(
    tmp_path, shape, compressed
):
    """The card may claim as much."""
    _save(tmp_path)
    path = tmp_path / datasets.ARRAYS
    with np.load(path) as archive:
        held = {name: archive[name] for name in archive.files}
    compression = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, values in held.items():
            with archive.open(f"{name}.npy", "w") as member:
                claims = shape if name == "reward" else values.shape
                header = {"descr": "<f4", "fortran_order": False, "shape": claims}
                np.lib.format.write_array_header_1_0(member, header)
                member.write(values.tobytes())
    card = json.loads((tmp_path / datasets.CARD).read_text())
    for changes in ({}, {"bodies": shape[0], "transitions_per_body": shape[-1]}):
        (tmp_path / datasets.CARD).write_text(json.dumps(card | changes))
        message = _refusal(tmp_path)
        assert str(path) in message and "reward claims shape" in message


def test_a_compressed_dataset_is_read_too(tmp_path):
    saved = _save(tmp_path)
    with np.load(tmp_path / datasets.ARRAYS) as archive:
        held = {name: archive[name] for name in archive.files}
    np.savez_compressed(tmp_path / datasets.ARRAYS, **held)
    np.testing.assert_array_equal(_load(tmp_path).rows.reward, saved.rows.reward)


def test_missing_and_unknown_arrays_are_named(tmp_path):
    _save(tmp_path)
    _rewrite(tmp_path, lambda arrays: arrays.update(kost=arrays.pop("cost")))
    message = _refusal(tmp_path)
    assert str(tmp_path / datasets.ARRAYS) in message
    assert "lacks ['cost'] and has unknown ['kost']" in message


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_named(tmp_path, share):
    _save(tmp_path)
    path = tmp_path / datasets.ARRAYS
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert str(path) in _refusal(tmp_path)


def test_changed_contents_are_told_by_their_hash(tmp_path):
    def damage(arrays):
        arrays["reward"][1, 2] += 1e-3

    _save(tmp_path)
    _rewrite(tmp_path, damage)
    message = _refusal(tmp_path)
    assert str(tmp_path / datasets.ARRAYS) in message
    assert "the hash differs" in message


def test_a_flipped_byte_is_refused_or_changes_nothing(tmp_path):
    saved = _save(tmp_path)
    path = tmp_path / datasets.ARRAYS
    content, refused = path.read_bytes(), 0
    for at in range(0, len(content), 3):
        flipped = bytearray(content)
        flipped[at] ^= 0xFF
        path.write_bytes(flipped)
        try:
            loaded = _load(tmp_path)
        except datasets.DatasetError as error:
            assert str(path) in str(error)
            refused += 1
        else:  # e.g. a time stamp of the archive
            for ours, theirs in zip(saved.rows, loaded.rows, strict=True):
                np.testing.assert_array_equal(ours, theirs)
    data_bytes = sum(array.nbytes for array in saved.rows)
    assert refused >= data_bytes // 3  # at the least, those in the numbers


class _Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_a_pickled_array_is_refused_and_never_unpickled(tmp_path):
    exploded = tmp_path / "exploded"

    def damage(arrays):
        arrays["cost"] = np.array([_Bomb(exploded)], dtype=object)

    _save(tmp_path)
    _rewrite(tmp_path, damage)
    assert str(tmp_path / datasets.ARRAYS) in _refusal(tmp_path)
    assert not exploded.exists()


def test_a_dataset_of_another_domain_is_refused(tmp_path):
    _save(tmp_path)
    with pytest.raises(datasets.DatasetError, match="'toy', wanted 'navigation1'"):
        datasets.load(tmp_path, TOY._replace(name="navigation1"), TOY_TASK)


@pytest.mark.parametrize("name", [datasets.CARD, datasets.ARRAYS])
def test_a_missing_file_is_named(tmp_path, name):
    _save(tmp_path)
    (tmp_path / name).unlink()
    message = _refusal(tmp_path)
    assert str(tmp_path) in message
    assert name in message


CARDS = ["", '{"domain": "to', "[]", '{"domain": "toy"}', "3", "null", '"card"']
CARDS += ["[" * 100_000, "9" * 5000]
KINDS = {
    "bodies": ["2", 2.0, None, [2], True, {}],
    "transitions_per_body": ["6", 6.5, None, [[6]]],
    "domain": [5, None, ["toy"]],
    "content_sha256": [5, None, []],
}


@pytest.mark.parametrize("text", CARDS, ids=range(len(CARDS)))
def test_a_damaged_card_is_named(tmp_path, text):
    _save(tmp_path)
    (tmp_path / datasets.CARD).write_text(text)
    with pytest.raises(UserError, match=re.escape(str(tmp_path))):
        _load(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name in KINDS for value in KINDS[name]]
)
def test_a_card_with_values_of_another_kind_is_named(tmp_path, name, value):
    card = _save(tmp_path).card
    (tmp_path / datasets.CARD).write_text(json.dumps(card | {name: value}))
    with pytest.raises(UserError, match=re.escape(str(tmp_path))):
        _load(tmp_path)


@pytest.mark.parametrize("fraction", [0.0, 0.3])
def test_training_bodies_without_a_violation_are_named_with_what_is_needed(
    tmp_path, fraction
):
    dataset = _save(tmp_path, [[0, 1, 0, 0, 0, 0], [0] * 6])
    with pytest.raises(datasets.DatasetError) as refused:
        datasets.require_violations(dataset, tmp_path, fraction)
    message = str(refused.value)
    assert f"{tmp_path}: body 1 has 0 violating transitions of 6" in message
    assert "at least 1 a body is needed" in message
    assert ("balanced sampling (0.3 of a batch)" in message) == (fraction > 0)


def test_one_violation_a_body_is_enough(tmp_path):
    dataset = _save(tmp_path, [[0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1]])
    datasets.require_violations(dataset, tmp_path, 0.3)


def test_rows_are_the_first_valid_ones_in_order():
    valid = np.array([[True, True, False], [True, False, False], [True, True, True]])
    padded = _rows(np.zeros((3, 3)))
    padded = padded._replace(reward=np.arange(9).reshape(3, 3))
    taken = take_valid(padded, valid, 5)
    np.testing.assert_array_equal(taken.reward, [0, 1, 3, 6, 7])
    assert taken.observation.shape == (5, 3)


def test_too_few_valid_rows_give_none():
    valid = np.array([[True, True, False]])
    assert take_valid(_rows(np.zeros((1, 3))), valid, 2) is not None
    assert take_valid(_rows(np.zeros((1, 3))), valid, 3) is None
