"""Rounds: disturbed steps on the line, and a policy that learns to stay on it."""

import dataclasses
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mesa_jax.evaluation.filtering import best_threshold
from mesa_jax.phases import training as phase
from mesa_jax.phases.rounds import numbers_of, rounds
from mesa_jax.rounds import (
    RoundsConfig,
    disturbed_steps,
    disturbed_transitions,
)
from mesa_jax.simulation import Filtered
from mesa_jax.study import resolve
from mesa_jax.system import build
from mesa_jax.types import Policy, RiskMeasure, Transition
from tests.worlds import LINE, Body

SAFE = Body(limit=jnp.float32(100.0), broken=jnp.float32(np.inf))
NEVER = 1_000_000  # steps until a disturbance of the middle of an episode


def back(observation):
    return jnp.full_like(observation, -0.25)


def played(task=SAFE, act=back, steps=400, seed=0, **config):
    """Steps of the line; the disturbance is its reference policy's action, 1."""
    settings = dataclasses.replace(RoundsConfig(), **config)
    make = jax.jit(lambda key: disturbed_steps(key, LINE, task, act, steps, settings))
    return jax.tree.map(np.asarray, make(jax.random.key(seed)))


def test_an_episode_begins_with_a_disturbance_of_1_to_longest_steps():
    rows, finite = played(longest=3, every=NEVER)
    assert finite.all()
    actions = rows.action.reshape(100, 4)  # the horizon is 4 steps
    held = (actions == 1.0).sum(1)
    assert set(held) == {1, 2, 3}
    for row, count in zip(actions, held, strict=True):  # then the policy acts
        np.testing.assert_array_equal(row, [1.0] * count + [-0.25] * (4 - count))
    assert (rows.observation.reshape(100, 4)[:, 0] == 0.0).all()


def test_disturbances_follow_at_random_in_an_episode():
    rows, _ = played(longest=1, every=2, steps=4000)
    actions = rows.action.reshape(-1, 4)
    assert (actions[:, 0] == 1.0).all()
    share = (actions[:, 1:] == 1.0).mean()
    assert abs(share - 0.5) < 0.05


def test_an_episode_ends_where_it_terminates():
    task = SAFE._replace(limit=jnp.float32(0.5))
    rows, _ = played(task, longest=1, every=NEVER, steps=8)  # the first action violates
    assert (rows.cost == 1.0).all()
    assert (rows.observation == 0.0).all()


def test_steps_that_are_not_finite_give_way_to_others():
    task = SAFE._replace(broken=jnp.float32(0.9))  # no reward from 0.9 on
    config = RoundsConfig(transitions=50, copies=4, longest=1, every=NEVER)
    _, finite = played(task, longest=1, every=NEVER, steps=52)
    assert 0 < finite.sum() < 52
    rows = disturbed_transitions(jax.random.key(0), LINE, task, back, config)
    assert rows.cost.shape == (50,)
    assert (rows.observation < 0.9).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(rows))


def test_numbers_are_standardised_by_the_trained_bodies():
    tasks = Body(limit=jnp.array([1.0, 3.0, 7.0]), broken=jnp.zeros(3))
    np.testing.assert_allclose(numbers_of(tasks, 2), [[-1, 0], [1, 0], [5, 0]])


@pytest.fixture(scope="module")
def learned():
    """Two rounds on four poles: programs, bodies, and what each round gave."""
    system = build(
        resolve.resolve(
            *("cartpole_length", "actuator", "quick"),
            {
                "risk": {"measure": "avoid", "hidden": (8,)},
                "recovery": {"objective": "logit", "hidden": (8,)},
                "data": {"train_bodies": 3, "heldout_bodies": 1},
                "maml": {"num_tasks": 3},
                "pooled": {"num_tasks": 3},
                "rounds": {"steps": 20, "transitions": 30},
            },
        )
    )
    bodies = system.domain.train_tasks(jax.random.key(0), 4)
    return rounds(system, bodies), bodies, numbers_of(bodies, 3)


def test_a_round_learns_acts_and_is_tested_in_every_body(learned):
    programs, bodies, numbers = learned
    key, other = jax.random.split(jax.random.key(1))
    fresh = jax.tree.map(lambda x: x[:3], bodies)
    rows = programs.act(
        key, programs.learn(other, _some(3), numbers[:3]), bodies, numbers
    )
    assert rows.cost.shape == (4, 30)
    again = programs.learn(jax.random.clone(other), _some(3), numbers[:3])
    twice = programs.act(jax.random.clone(key), again, bodies, numbers)
    jax.tree.map(np.testing.assert_array_equal, rows, twice)
    key = jax.random.key(2)
    never = programs.test(key, again, fresh, numbers[:3], 1.0)
    always = programs.test(jax.random.clone(key), again, fresh, numbers[:3], 0.0)
    assert never.violated.shape == (3, 16)
    assert (never.recovered == 0).all()
    np.testing.assert_array_equal(always.recovered, always.length)


def _some(bodies):
    """Transitions [bodies, 12, ...] of a pole's shapes."""
    rng = np.random.default_rng(0)

    def normal(*shape):
        return jnp.array(rng.normal(size=(bodies, 12, *shape)), jnp.float32)

    cost = jnp.array(rng.integers(0, 2, (bodies, 12)), jnp.float32)
    action = jnp.tanh(normal(1))
    return Transition(normal(4), action, cost, cost, 1.0 - cost, normal(4))


def test_a_prior_whose_filter_falls_less_is_kept():
    """A policy that falls, a risk that asks none, and a policy that stays."""

    def constant(params, *seen):
        return params * jnp.ones_like(seen[0])

    half = (
        RiskMeasure(None, lambda p, seen, action: p + 0.0 * action[..., 0], None, None),
        Policy(None, constant, None),
    )
    task = SAFE._replace(limit=jnp.float32(2.5))

    def error(risk, action):
        params = jnp.float32(risk), jnp.float32(action)
        system = mock.Mock(domain=LINE, risk=half[0], recovery=half[1])
        system.configuration.rounds.hold = 1
        become = lambda key, prior, rows: prior  # noqa: E731
        with mock.patch.object(phase, "_become", lambda *arguments: become):
            of = phase.filter_error(system, "pooled")
        return float(of(jax.random.key(0), params, (None, task)))

    np.testing.assert_allclose(error(0.9, 1.0), 1.1)  # 1 + 1 + 1 is beyond 2.5
    np.testing.assert_allclose(error(0.01, 0.5), 1.0)  # the reference policy acts
    np.testing.assert_allclose(error(0.1, 0.5), 0.1)  # at the lowest thresholds


def test_a_filter_is_worth_what_its_best_threshold_gives():
    """1 and 3 of 4 episodes violate; 8 of 40 and 0 of 40 steps are recovered."""
    found = Filtered(
        violated=jnp.array([[1, 0, 0, 0], [1, 1, 1, 0]], bool),
        while_recovering=jnp.zeros((2, 4), bool),
        recovered=jnp.array([[2, 2, 2, 2], [0, 0, 0, 0]]),
        length=jnp.full((2, 4), 10),
    )
    best = best_threshold(found, jnp.array([0.3, 0.5]))
    np.testing.assert_allclose(best, (0.25 + 0.02, 0.25, 0.2, 0.3), rtol=1e-6)
