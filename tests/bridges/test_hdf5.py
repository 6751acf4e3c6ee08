"""HDF5 files in D4RL's layout: the same bits back, and every damage named."""

import numpy as np
import pytest
from hypothesis import given

h5py = pytest.importorskip("h5py")

from mesa_jax.bridges import hdf5  # noqa: E402
from mesa_jax.study.datasets import DatasetError  # noqa: E402
from mesa_jax.study.files import DamagedFileError  # noqa: E402
from tests.recorded import recordings, same_bits, some  # noqa: E402


@given(recordings())
def test_a_file_gives_the_same_bits_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("hdf5") / "body.hdf5"
    hdf5.save(path, rows)
    imported = hdf5.load(path)
    same_bits(rows, imported.transitions)
    assert imported.notes == ()


@pytest.fixture
def path(tmp_path):
    hdf5.save(tmp_path / "body.hdf5", some())
    return tmp_path / "body.hdf5"


def _rewrite(path, name, values):
    with h5py.File(path, "a") as file:
        if name in file:
            del file[name]
        if values is not None:
            file[name] = values


def test_a_d4rl_file_is_read_with_its_metadata_left_alone(path):
    with h5py.File(path, "a") as file:
        file["metadata/algorithm"] = "SAC"
        file["metadata/policy/weight"] = np.zeros((4, 4), np.float32)
        file["infos/speed"] = np.arange(8.0)
        for name in ("terminals", "timeouts"):
            values = np.asarray(file[name], np.uint8)
            del file[name]
            file[name] = values
    assert set(hdf5.read(path)) == {
        *("observations", "actions", "rewards", "costs", "terminals", "timeouts"),
        *("next_observations", "infos/speed"),
    }
    same_bits(some(), hdf5.load(path).transitions)
    fast = hdf5.load(path, cost=lambda found: found["infos/speed"] > 5.5)
    assert fast.transitions.cost.tolist() == [0] * 6 + [1] * 2


def test_a_file_without_next_observations_loses_the_last_of_each_episode(path):
    _rewrite(path, "next_observations", None)
    imported = hdf5.load(path)
    assert len(imported.transitions.cost) == 5
    assert "3 of 8 rows" in imported.notes[0]


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("rewards", np.array([b"a"] * 8), "rewards is of type"),
        ("rewards", np.full(8, np.nan), "reward is not finite at row 0"),
        ("rewards", np.zeros(7), "rewards has 7 rows, observations 8"),
        ("costs", np.full(8, 2.0), "cost is 2.0 at row 0, not 0 or 1"),
        ("actions", np.full((8, 2), 3.0), "action is 3.0 at row 0, not in"),
    ],
)
def test_damaged_columns_are_named_with_their_file(path, name, values, said):
    _rewrite(path, name, values)
    with pytest.raises(DatasetError, match=r"body\.hdf5: ") as refused:
        hdf5.load(path)
    assert said in str(refused.value)


def test_objects_in_a_file_are_no_numbers_and_are_not_unpickled(path):
    with h5py.File(path, "a") as file:
        del file["rewards"]
        kind = h5py.special_dtype(vlen=str)
        file.create_dataset("rewards", data=["cos\nsystem"] * 8, dtype=kind)
    with pytest.raises(DatasetError, match="rewards is of type object, not of numbers"):
        hdf5.load(path)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8])
def test_a_truncated_file_is_named(path, share):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DamagedFileError, match=r"body\.hdf5 is damaged"):
        hdf5.load(path)


def test_a_file_that_claims_terabytes_is_refused_without_memory(path):
    with h5py.File(path, "a") as file:
        del file["rewards"]
        file.create_dataset("rewards", shape=(2**40,), dtype="f4", chunks=(1024,))
    with pytest.raises(DamagedFileError, match="rewards claims 4398046511104 bytes"):
        hdf5.load(path)


def test_a_missing_file_is_no_damaged_one(tmp_path):
    with pytest.raises(FileNotFoundError):
        hdf5.load(tmp_path / "none.hdf5")
