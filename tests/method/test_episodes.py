"""Episodes as Minari keeps them become transitions; what they lack is named."""

import types

import numpy as np
import pytest

import mesa_jax as mesa
from mesa_jax.checked import OF_AN_EPISODE, checked_transitions, from_episodes
from mesa_jax.types import DomainSpec

SEEN = [[0.0, 0.5], [1.0, 1.5], [2.0, 2.5], [3.0, 3.5]]


def episode(**changed) -> types.SimpleNamespace:
    """Three steps, the last of which enters a violation and terminates."""
    held = {
        "observations": np.array(SEEN),
        "actions": np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]),
        "rewards": np.array([-1.0, -2.0, -3.0]),
        "terminations": np.array([False, False, True]),
        "truncations": np.array([False, False, False]),
        "infos": {"cost": np.array([0.0, 0.0, 1.0])},
    }
    return types.SimpleNamespace(**held | changed)


CUT = {
    "terminations": np.zeros(3, bool),
    "truncations": np.array([False, False, True]),
    "infos": {"cost": np.zeros(3)},
}


def test_an_episode_of_three_steps_is_three_transitions():
    found = mesa.transitions_of(episode())
    expected = mesa.Transition(
        observation=SEEN[:3],
        action=[[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]],
        reward=[-1, -2, -3],
        cost=[0, 0, 1],
        discount=[1, 1, 0],  # it terminated at its last step
        next_observation=SEEN[1:],
    )
    for name, ours, theirs in zip(found._fields, found, expected, strict=True):
        np.testing.assert_array_equal(ours, np.float32(theirs), err_msg=name)
        assert ours.dtype == np.float32, name


def test_a_truncation_is_a_time_limit_and_does_not_terminate():
    found = from_episodes(episode(**CUT))
    assert found.discount.tolist() == [1, 1, 1]
    assert found.next_observation[-1].tolist() == SEEN[-1]


def test_a_step_that_terminates_and_is_cut_terminates():
    both = episode(truncations=np.array([False, False, True]))
    assert from_episodes(both).discount.tolist() == [1, 1, 0]


def test_the_cost_of_the_reset_is_left_out():
    costs = {"cost": [1.0, 0.0, 1.0, 0.0]}  # the first is the reset's
    assert from_episodes(episode(infos=costs)).cost.tolist() == [0, 1, 0]


def test_another_entry_may_be_the_cost():
    infos = {"costs": np.zeros(3), "sensors": {"hit": np.array([0, 1, 0, 1])}}
    one = episode(infos=infos)
    assert from_episodes(one).cost.tolist() == [0, 0, 0]
    assert mesa.transitions_of(one, "sensors/hit").cost.tolist() == [1, 0, 1]


def test_no_transition_crosses_from_one_episode_to_the_next():
    later = episode(observations=10 + np.array(SEEN), **CUT)
    found = from_episodes(iter([later, episode()]))  # in the order given
    assert found.observation[:, 0].tolist() == [10, 11, 12, 0, 1, 2]
    assert found.next_observation[:, 0].tolist() == [11, 12, 13, 1, 2, 3]
    assert found.discount.tolist() == [1, 1, 1, 1, 1, 0]


def test_entries_of_a_dictionary_are_joined_by_name():
    both = {"b": np.array(SEEN), "a": np.arange(4)}
    found = from_episodes(episode(observations=both))
    assert found.observation.tolist() == [[i, *SEEN[i]] for i in range(3)]


def without(field: str) -> types.SimpleNamespace:
    one = episode()
    delattr(one, field)
    return one


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (episode(infos={}), r"^infos of episode 0 must be with cost, .* got 'nothing'"),
        (episode(infos=None), r"^infos of episode 0 must be with cost"),
        (
            [episode(), episode(infos={"speed": np.ones(3), "cost": np.ones(5)})],
            r"episode 1 must be with cost.*\[3\].*\[4\].*'speed': \(3,\), 'cost': \(5,",
        ),
        (without("rewards"), "^episode 0 must be .*got 'one without rewards'"),
        (
            episode(observations=np.array(SEEN[:3])),
            r"got '3 observations and actions of shape \(3, 2\)'",
        ),
        (
            episode(terminations=np.zeros(4, bool)),
            r"got '4 observations and terminations of shape \(4,\)'",
        ),
        (
            episode(rewards=[[0.0], [0.0, 1.0], 2.0]),
            "^episode 0 must be of rows of one",
        ),
        (episode(rewards=["a", "b", "c"]), "^reward must be one of real numbers"),
        (
            [episode(), episode(actions=np.zeros((3, 1)))],
            "^episodes must be of one size",
        ),
        (
            [],
            "^transitions must be a mesa_jax.Transition of .* or episodes of one body",
        ),
        (None, "^transitions must be a mesa_jax.Transition"),
        ([episode(), {}], "^transitions must be a mesa_jax.Transition"),
    ],
)
def test_what_is_missing_is_named(given, message):
    with pytest.raises(mesa.SettingError, match=message):
        mesa.transitions_of(given)


def test_every_field_is_asked_for():
    for field in set(OF_AN_EPISODE) - {"observations"}:
        with pytest.raises(mesa.SettingError, match=f"without {field}'"):
            from_episodes(without(field))


def test_episodes_are_checked_as_transitions_are():
    spec = DomainSpec("two", 2, 2, horizon=10)
    assert checked_transitions(spec, episode()).observation.shape == (3, 2)
    wide = episode(actions=np.full((3, 2), 3.0))
    with pytest.raises(mesa.SettingError, match=r"action must be in \[-1, 1\]: scale"):
        checked_transitions(spec, wide)
    larger = episode(observations=np.zeros((4, 3)))
    with pytest.raises(
        mesa.SettingError, match=r"^observation must be of shape \(3, 2"
    ):
        checked_transitions(spec, larger)
