"""Other people's columns become transitions, or one message says why not."""

import numpy as np
import pytest
from hypothesis import given

from mesa_jax.study import columns, imports
from mesa_jax.study.artifacts import recorded
from mesa_jax.study.datasets import DatasetError
from mesa_jax.study.files import DamagedFileError
from tests.recorded import CUT, GOAL, VIOLATES, recordings, same_bits, some


def _without(held, *names):
    return {name: values for name, values in held.items() if name not in names}


def _refusal(held, **options) -> str:
    with pytest.raises(DatasetError) as refused:
        imports.to_transitions("file", held, **options)
    assert str(refused.value).startswith("file")
    return str(refused.value)


@given(recordings())
def test_columns_give_the_same_bits_back(rows):
    imported = imports.to_transitions("file", columns.from_transitions(rows))
    same_bits(rows, imported.transitions)
    assert imported.notes == ()


def test_episodes_end_where_the_next_row_begins_elsewhere_or_it_terminated():
    ends = columns.episode_ends(some(lengths=(3, 1, 4)))
    assert np.flatnonzero(ends).tolist() == [2, 3, 7]
    held = columns.from_transitions(some(lengths=(3, 1, 4), ends=(VIOLATES, CUT, GOAL)))
    assert np.flatnonzero(held["terminals"]).tolist() == [2, 7]
    assert np.flatnonzero(held["timeouts"]).tolist() == [3]


def test_without_next_observations_no_episode_reaches_into_the_next():
    rows = some(lengths=(3, 1, 4))
    held = _without(columns.from_transitions(rows), "next_observations")
    imported = imports.to_transitions("file", held)
    kept = [0, 1, 4, 5, 6]  # all but the last of each episode
    for name, ours in zip(rows._fields, imported.transitions, strict=True):
        np.testing.assert_array_equal(ours, getattr(rows, name)[kept], err_msg=name)
    assert imported.notes == (
        "3 of 8 rows are the last of their episode and have no next observation: left "
        "out, 1 of them violating",
    )


def test_where_nothing_tells_a_time_limit_next_observations_are_not_guessed():
    held = columns.from_transitions(some())
    message = _refusal(_without(held, "next_observations", "timeouts"))
    assert "neither next_observations nor timeouts" in message


@pytest.mark.parametrize("theirs", ["observation", "obs", "states"])
def test_other_names_of_columns_are_known(theirs):
    held = columns.from_transitions(some())
    held[theirs] = held.pop("observations")
    same_bits(some(), imports.to_transitions("file", held).transitions)


def test_the_cost_may_be_another_column_or_a_function_of_all():
    rows = some()
    held = _without(columns.from_transitions(rows), "costs")
    held["infos/hit"] = rows.cost.astype(bool)

    def far(found):
        return found["next_observations"][:, 0] > 0.5

    by_name = imports.to_transitions("file", held, cost="infos/hit").transitions
    np.testing.assert_array_equal(by_name.cost, rows.cost)
    by_function = imports.to_transitions("file", held, cost=far).transitions
    np.testing.assert_array_equal(
        by_function.cost, rows.next_observation[:, 0] > np.float32(0.5)
    )
    assert 0 < by_function.cost.sum() < len(rows.cost)
    assert "lacks costs" in _refusal(held) and "--cost" in _refusal(held)
    assert "no column infos/speed" in _refusal(held, cost="infos/speed")


def test_actions_of_another_range_are_scaled_and_otherwise_refused():
    rows = some()
    held = columns.from_transitions(rows)
    held["actions"] = 4.0 * held["actions"].astype(np.float64) + 1.0
    assert "not in [-1, 1]. Scale them: --action_range" in _refusal(held)
    scaled = imports.to_transitions("file", held, action_range=(-3.0, 5.0))
    np.testing.assert_allclose(scaled.transitions.action, rows.action, atol=1e-6)


def test_what_is_rounded_is_said():
    held = columns.from_transitions(some())
    held["rewards"] = np.arange(8) + 2.0**24 + 0.5
    (note,) = imports.to_transitions("file", held).notes
    assert note == "8 numbers of rewards (float64) rounded to float32"


DAMAGE = {  # name, damage, what the message says
    "text": ("rewards", lambda x: x.astype(str), "rewards is of type <U32, not of num"),
    "objects": ("costs", lambda x: x.astype(object), "costs is of type object"),
    "complex": ("rewards", lambda x: x + 1j, "rewards is of type complex"),
    "nan": ("observations", lambda x: np.where(x == x[2], np.nan, x), "row 2"),
    "inf": ("rewards", lambda x: x + np.float32(np.inf), "reward is not finite"),
    "cost 2": ("costs", lambda x: 2 * x, "cost is 2.0 at row 2, not 0 or 1"),
    "terminal 3": ("terminals", lambda x: x * 3, "terminals is 3 at row 2"),
    "short": ("rewards", lambda x: x[:-1], "rewards has 7 rows, observations 8"),
    "flat": ("actions", lambda x: x[:, 0], "actions has shape (8,), expected [rows"),
    "beyond": ("rewards", lambda x: x * 1e300, "rewards holds"),
    "narrow": ("next_observations", lambda x: x[:, :1], "next_observations has shape"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_columns_are_named(kind):
    name, damage, said = DAMAGE[kind]
    held = columns.from_transitions(some())
    held[name] = damage(
        held[name].astype(np.float64) if kind == "beyond" else held[name]
    )
    assert said in _refusal(held)


def test_missing_doubled_and_empty_columns_are_named():
    held = columns.from_transitions(some())
    assert "lacks terminals; it has actions, costs" in _refusal(
        _without(held, "terminals")
    )
    assert "terminals and terminations, which are one" in _refusal(
        held | {"terminations": held["terminals"]}
    )
    empty = {name: values[:0] for name, values in held.items()}
    assert "holds no transition" in _refusal(empty)


@given(recordings())
def test_an_npz_gives_the_same_bits_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("npz") / "body.npz"
    recorded.save_npz(path, rows)
    same_bits(rows, imports.to_transitions("npz", recorded.read_npz(path)).transitions)


def test_a_damaged_npz_is_named_and_never_unpickled(tmp_path):
    path = tmp_path / "body.npz"
    recorded.save_npz(path, some())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DamagedFileError, match=r"body\.npz is damaged"):
        recorded.read_npz(path)
    held = columns.from_transitions(some())
    np.savez(path, **held | {"costs": held["costs"].astype(object)}, allow_pickle=True)
    with pytest.raises(DamagedFileError, match="Python objects, which are not unpick"):
        recorded.read_npz(path)


def test_a_dataset_folder_is_read_without_its_domain(tmp_path):
    bodies = [some(0), some(1, lengths=(4, 6), ends=(CUT, VIOLATES))]
    saved = recorded.save_bodies(tmp_path / "d", bodies, {"sources": ["a", "b"]})
    assert saved.card["domain"] == "recorded-3x2"
    assert saved.card["left_out_per_body"] == [0, 2]
    rows = recorded.read_folder(tmp_path / "d").rows
    for i, body in enumerate(bodies):
        first = type(body)(*(x[:8] for x in body))
        same_bits(first, type(body)(*(x[i] for x in rows)))
    with pytest.raises(DatasetError, match="holds a dataset already"):
        recorded.save_bodies(tmp_path / "d", bodies, {})


def test_bodies_of_different_sizes_are_no_dataset(tmp_path):
    narrow = some()._replace(action=some().action[:, :1])
    with pytest.raises(DatasetError, match=r"3 observations, 1 actions and 3 obs"):
        recorded.save_bodies(tmp_path / "d", [some(), narrow], {})
