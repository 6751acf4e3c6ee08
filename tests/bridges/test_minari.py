"""Minari datasets: the same bits back, costs with the reset's, and no environment."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

pytest.importorskip("h5py")
theirs = pytest.importorskip("minari")
spaces = pytest.importorskip("gymnasium").spaces

import mesa_jax as mesa  # noqa: E402
from mesa_jax.bridges import minari  # noqa: E402
from mesa_jax.study.datasets import DatasetError  # noqa: E402
from mesa_jax.study.files import DamagedFileError  # noqa: E402
from tests.recorded import recordings, same_bits, some  # noqa: E402

NAME = "bodies/weak-v0"
FEW = settings(
    max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return tmp_path


@FEW
@given(recordings())
def test_a_dataset_gives_the_same_bits_back(tmp_path_factory, rows):
    with pytest.MonkeyPatch.context() as patch:
        place = tmp_path_factory.mktemp("minari")
        patch.setenv("MINARI_DATASETS_PATH", str(place))
        minari.save(NAME, rows)
        same_bits(rows, minari.load(NAME).transitions)
        same_bits(rows, minari.load(str(place / NAME)).transitions)


def test_minari_itself_reads_what_is_written():
    minari.save(NAME, some(lengths=(3, 1, 4)))
    dataset = theirs.load_dataset(NAME)
    assert [len(one.rewards) for one in dataset.iterate_episodes()] == [3, 1, 4]
    one = dataset[0]
    np.testing.assert_array_equal(one.observations[:-1], some().observation[:3])
    np.testing.assert_array_equal(one.infos["cost"], [0, 0, 0, 1])
    assert one.terminations.tolist() == [False, False, True]


def test_episodes_of_a_dataset_are_adapted_from_as_they_are():
    rows = some(lengths=(3, 1, 4))
    minari.save(NAME, rows)
    dataset = theirs.load_dataset(NAME)
    same_bits(rows, mesa.transitions_of(dataset))
    same_bits(rows, mesa.transitions_of(dataset.iterate_episodes()))
    last = mesa.Transition(*(x[4:] for x in rows))
    same_bits(last, mesa.transitions_of(dataset[2]))


def _collected(observation, observation_space, infos):
    """A dataset as somebody else writes it."""
    buffer = theirs.data_collector.EpisodeBuffer(
        observations=observation,
        actions=np.zeros((2, 1), np.float32),
        rewards=np.ones(2),
        terminations=np.zeros(2, bool),
        truncations=np.array([False, True]),
        infos=infos,
    )
    box = spaces.Box(-1, 1, (1,), np.float32)
    with pytest.warns(UserWarning):
        theirs.create_dataset_from_buffers(
            NAME, [buffer], observation_space=observation_space, action_space=box
        )


def test_entries_of_a_dictionary_are_joined_and_infos_may_be_the_cost():
    box = spaces.Box(-9, 9, (2,), np.float32)
    ours = np.arange(6, dtype=np.float32).reshape(3, 2)
    both = {"b": ours, "a": 10 + ours}
    speed = {"speed": np.array([9.0, 0.0, 1.0])}
    _collected(both, spaces.Dict({"a": box, "b": box}), speed)
    imported = minari.load(NAME, cost=lambda found: found["infos/speed"] > 0.5)
    assert imported.transitions.observation[0].tolist() == [10, 11, 0, 1]
    assert imported.transitions.next_observation[1].tolist() == [14, 15, 4, 5]
    assert imported.transitions.cost.tolist() == [0, 1]  # the reset's is left out
    with pytest.raises(DatasetError, match=r"minari:bodies/weak-v0 lacks costs"):
        minari.load(NAME)


def test_no_environment_is_made_to_find_spaces(root):
    minari.save(NAME, some())
    path = root / NAME / "data" / "metadata.json"
    about = json.loads(path.read_text())
    del about["action_space"]
    path.write_text(
        json.dumps(about | {"env_spec": '{"id": "x", "entry_point": "os:x"}'})
    )
    with pytest.raises(DatasetError, match="lacks action_space; Minari would run"):
        minari.load(NAME)


def test_a_dataset_that_is_there_is_not_written_over():
    minari.save(NAME, some())
    with pytest.raises(DatasetError, match="already exists"):
        minari.save(NAME, some(1))
    same_bits(some(), minari.load(NAME).transitions)


@pytest.mark.parametrize("name", ["nothing-v0", "../x"])
def test_a_dataset_that_is_not_there_is_not_downloaded(name):
    with pytest.raises(DatasetError, match="There is no Minari dataset"):
        minari.load(name)


def test_a_truncated_dataset_is_named(root):
    minari.save(NAME, some())
    path = root / NAME / "data" / "main_data.hdf5"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DamagedFileError, match="weak-v0 is damaged"):
        minari.load(NAME)
