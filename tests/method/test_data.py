"""Offline data of a learning agent, on the line, with the real SAC of tiny networks."""

import dataclasses
import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mesa_jax.agents import SACConfig, sac
from mesa_jax.collector import collect_steps, init_collect
from mesa_jax.data import (
    CollectConfig,
    begins_in_violation,
    by_policy,
    episodes_of,
)
from mesa_jax.simulation import checked_step
from tests.worlds import GOAL, LINE, Body

HORIZON, STEPS = 6, 40
ENVIRONMENTS, START = 4, 48  # so 12 of the 40 steps act uniformly
CONFIG = CollectConfig(
    collector="sac",
    environments=ENVIRONMENTS,
    updates=2,
    start_steps=START,
    batch_size=16,
    at_violation="goes_on",
)
WALKS = LINE._replace(
    spec=LINE.spec._replace(horizon=HORIZON),
    reset=lambda key, task: jax.random.uniform(key, minval=-0.5, maxval=0.5),
)
ON = WALKS._replace(spec=WALKS.spec._replace(continues=True))
SAC = sac(WALKS.spec, SACConfig(hidden=(8,), lr=0.01))
COUNT = STEPS * ENVIRONMENTS


class Made(NamedTuple):
    """A domain, what it was asked, and the collector's states after each step."""

    domain: object
    body: Body
    states: list


@functools.cache
def program(continues, config, steps):
    domain = ON if continues else WALKS
    return jax.jit(collect_steps(domain, SAC, config, steps))


@functools.cache
def collected(
    continues=True, limit=1.0, broken=1.5, config=CONFIG, seed=0, chunks=STEPS
):
    """A body's collector from its start on, `STEPS` steps in so many dispatches."""
    domain = ON if continues else WALKS
    body = Body(*jnp.float32([limit, broken]))
    init_key, key = jax.random.split(jax.random.key(seed))
    state = init_collect(init_key, domain, SAC, config, body, COUNT)
    states = [state]
    for _ in range(chunks):
        states.append(program(continues, config, STEPS // chunks)(key, states[-1]))
    return Made(domain, body, [jax.tree.map(np.asarray, s) for s in states])


def assert_same(first, second):
    jax.tree.map(np.testing.assert_array_equal, first, second)


def rows_of(state):
    return jax.tree.map(lambda x: x[: int(state.replay.added)], state.replay.rows)


def steps_of(made):
    """What every step did, [STEPS, E], by the bodies before it and the replay after.

    A step is in the replay where it is finite: where its body stands below `broken`.
    """
    bodies = np.stack([state.bodies for state in made.states])
    finite = bodies[:-1] < float(made.body.broken)
    rows, actions = rows_of(made.states[-1]), np.full(finite.shape, np.nan)
    actions[finite] = rows.action[:, 0]
    return bodies, finite, actions


# What is remembered


CASES = pytest.mark.parametrize(
    ("continues", "limit", "broken"),
    [(True, 1.0, 1.5), (False, 1.0, 0.7), (True, 1.0, np.inf), (False, 99.0, np.inf)],
)


@CASES
def test_the_replay_holds_exactly_the_finite_steps_in_order(continues, limit, broken):
    made = collected(continues, limit, broken)
    bodies, finite, actions = steps_of(made)
    final, rows = made.states[-1], rows_of(made.states[-1])
    assert final.step == STEPS
    assert final.replay.added == finite.sum()
    assert final.non_finite == (~finite).sum()
    assert (final.non_finite > 0) == (broken < np.inf)
    np.testing.assert_array_equal(rows.observation[:, 0], bodies[:-1][finite])
    reached = (bodies[:-1] + actions)[finite]
    np.testing.assert_allclose(rows.next_observation[:, 0], reached, atol=1e-6)
    np.testing.assert_array_equal(rows.reward, rows.observation[:, 0])
    x = rows.next_observation[:, 0]
    np.testing.assert_array_equal(rows.cost, x > limit)
    np.testing.assert_array_equal(rows.discount, (x <= limit) & (x > GOAL))
    for field in rows:
        assert np.isfinite(field).all()


@CASES
def test_an_episode_ends_at_its_goal_its_horizon_or_where_data_may_not_go_on(
    continues, limit, broken
):
    made = collected(continues, limit, broken)
    bodies, finite, actions = steps_of(made)
    lengths = np.stack([state.length for state in made.states])
    reached = bodies[:-1] + np.where(finite, actions, 0.0)
    assert (lengths[0] == 0).all()
    ended = (reached <= GOAL) | ~finite | (lengths[:-1] + 1 >= HORIZON)
    violated = finite & (reached > limit)
    ended |= violated & (not continues)
    np.testing.assert_array_equal(lengths[1:], np.where(ended, 0, lengths[:-1] + 1))
    kept = ~ended
    np.testing.assert_allclose(bodies[1:][kept], reached[kept], atol=1e-6)
    assert (abs(bodies[1:][ended]) <= 0.5).all()  # a fresh start
    assert len(np.unique(bodies[1:][ended])) == ended.sum()
    by_time = ended & (lengths[:-1] + 1 == HORIZON)
    assert by_time.any() and (ended & ~by_time).any()
    gone_on = (violated & ~ended).any()
    assert gone_on == (continues and limit < 99.0)


def test_the_learner_acts_on_where_a_body_is_and_its_step_is_looked_at():
    """The row of a step is `checked_step`'s own, with the action that was drawn."""
    made = collected()
    rows, body = rows_of(made.states[-1]), made.body
    step = jax.vmap(lambda x, action: checked_step(ON, None, x, action, body)[1])
    again = step(jnp.asarray(rows.observation[:, 0]), jnp.asarray(rows.action))
    assert_same(rows, again)


@pytest.mark.parametrize("capacity", [1, 37, 64, 100])
@pytest.mark.parametrize("broken", [1.5, np.inf])
def test_a_replay_of_any_size_holds_the_first_finite_steps_in_order(capacity, broken):
    """None is overwritten by those that follow in the same dispatch."""
    everything = collected(broken=broken).states
    body, config = Body(*jnp.float32([1.0, broken])), CONFIG
    init_key, key = jax.random.split(jax.random.key(0))
    state = init_collect(init_key, ON, SAC, config, body, capacity)
    state = jax.jit(collect_steps(ON, SAC, config, STEPS))(key, state)
    assert state.replay.added == capacity
    first = jax.tree.map(lambda x: x[:capacity], rows_of(everything[-1]))
    for ours, theirs in zip(state.replay.rows, first, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)  # another program rounds so
    full = next(s for s in everything if s.replay.added >= capacity)
    assert state.non_finite <= full.non_finite
    if broken == np.inf:
        assert state.non_finite == 0


# Who acts


def test_the_first_transitions_have_uniform_actions_and_the_others_the_learners():
    actions = []
    for seed in range(6):
        made = collected(broken=np.inf, seed=seed)
        actions.append(rows_of(made.states[-1]).action.reshape(STEPS, ENVIRONMENTS))
    first = np.stack(actions)[:, : START // ENVIRONMENTS]
    assert len(np.unique(first)) == first.size
    assert stats.kstest(first.ravel(), "uniform", (-1, 2)).pvalue > 1e-3
    assert abs(np.corrcoef(first.reshape(-1, ENVIRONMENTS).T)[0, 1:]).max() < 0.4


@pytest.mark.parametrize("start_steps", [0, 3, 4, 5, 10**6])
def test_uniform_actions_come_as_long_as_fewer_transitions_were_made(start_steps):
    """A learner that would stay on the spot tells who acted."""
    still = SAC._replace(sample=lambda key, state, seen: jnp.zeros_like(seen))
    config = dataclasses.replace(CONFIG, start_steps=start_steps, updates=0)
    body = Body(*jnp.float32([99.0, np.inf]))
    state = init_collect(jax.random.key(0), ON, still, config, body, COUNT)
    chunk = jax.jit(collect_steps(ON, still, config, STEPS))
    rows = rows_of(chunk(jax.random.key(1), state))
    moved = (rows.action != 0.0).reshape(STEPS, ENVIRONMENTS)
    uniform_steps = min(STEPS, -(-start_steps // ENVIRONMENTS))
    expected = np.arange(STEPS) < uniform_steps
    np.testing.assert_array_equal(
        moved, np.broadcast_to(expected[:, None], moved.shape)
    )


def params(state):
    return state.learner.actor, state.learner.critic


def differs(first, second):
    leaves = zip(*map(jax.tree.leaves, (first, second)), strict=True)
    return any((x != y).any() for x, y in leaves)


@pytest.mark.parametrize("start_steps", [0, START])
def test_learning_begins_after_uniform_actions_with_more_rows_than_a_batch(start_steps):
    config = dataclasses.replace(CONFIG, start_steps=start_steps)
    states = collected(config=config).states
    held = [int(state.replay.added) for state in states]
    for i, (before, after) in enumerate(itertools.pairwise(states)):
        learns = i * ENVIRONMENTS >= start_steps and held[i + 1] > CONFIG.batch_size
        assert differs(params(before), params(after)) == learns
        counts = [s.learner.optimizers[0][0].count for s in (before, after)]
        assert counts[1] - counts[0] == CONFIG.updates * learns


def test_no_updates_leave_the_learner_as_it_was():
    config = dataclasses.replace(CONFIG, updates=0)
    states = collected(config=config).states
    assert_same(states[0].learner, states[-1].learner)


def test_the_learner_gets_more_reward_than_chance():
    """A reward is x, and the way there is short: it learns to move up and to stay.

    The limit is far, so that nothing else ends an episode but its six steps.
    """
    config = dataclasses.replace(CONFIG, updates=8, start_steps=80)
    state = init_collect(
        jax.random.key(0), ON, SAC, config, Body(*jnp.float32([99.0, np.inf])), 1200
    )
    chunk = jax.jit(collect_steps(ON, SAC, config, 300))
    rows = rows_of(chunk(jax.random.key(1), state))
    assert rows.reward.shape == (1200,)
    by_chance, learned = rows.reward[:80].mean(), rows.reward[-200:].mean()
    assert abs(by_chance) < 0.5
    assert learned > 1.5  # always up is 2.5 on the average


# Dispatches, seeds, neighbours


def test_steps_do_not_depend_on_how_they_are_dispatched():
    assert_same(collected(chunks=STEPS).states[-1], collected(chunks=4).states[-1])


def test_a_seed_determines_everything_and_another_seed_differs():
    first, again = collected(), collected.__wrapped__()
    assert_same(first.states[-1], again.states[-1])
    other = collected(seed=1).states
    assert differs(rows_of(first.states[1]).action, rows_of(other[1]).action)
    assert differs(params(first.states[0]), params(other[0]))


def test_bodies_together_collect_what_each_does_alone():
    limits, brokens = jnp.float32([1.0, 99.0]), jnp.float32([1.5, np.inf])
    pairs = [jax.random.split(jax.random.key(seed)) for seed in (0, 3)]
    init_keys, keys = jnp.stack(pairs, 1)
    init = jax.vmap(lambda k, body: init_collect(k, ON, SAC, CONFIG, body, COUNT))
    chunk = jax.jit(jax.vmap(collect_steps(ON, SAC, CONFIG, STEPS)))
    together = chunk(keys, init(init_keys, Body(limits, brokens)))
    for i, alone in enumerate((collected(), collected(True, 99.0, np.inf, seed=3))):
        one = jax.tree.map(lambda x, i=i: np.asarray(x[i]), together)
        final = alone.states[-1]
        assert_same(one.replay.added, final.replay.added)
        assert_same(one.non_finite, final.non_finite)
        for ours, theirs in zip(rows_of(one), rows_of(final), strict=True):
            first = slice(2 * START)  # learning amplifies how a program rounds
            np.testing.assert_allclose(ours[first], theirs[first], atol=1e-4)


def test_a_step_keeps_the_form_of_its_state():
    made = collected()

    def form(state):
        leaves, structure = jax.tree.flatten(state)
        return structure, [(x.shape, x.dtype) for x in leaves]

    assert form(made.states[0]) == form(made.states[-1])


# Past a violation, or not


@pytest.mark.parametrize("at_violation", ["ends", "goes_on"])
def test_rows_begin_in_a_violation_only_where_data_go_on_past_one(at_violation):
    config = dataclasses.replace(CONFIG, at_violation=at_violation)
    made = collected(broken=np.inf, config=config)
    rows = jax.tree.map(lambda x: x[None], rows_of(made.states[-1]))
    begins = begins_in_violation(rows)
    # the line says what a state is: beyond the limit it violates
    np.testing.assert_array_equal(begins, rows.observation[..., 0] > 1.0)
    assert begins.any() == (at_violation == "goes_on")
    assert rows.cost.any()


@pytest.mark.parametrize("at_violation", ["ends", "goes_on"])
@pytest.mark.parametrize("collector", ["random", "sticky"])
def test_data_of_a_random_policy_begin_in_a_violation_only_where_asked(
    collector, at_violation
):
    config = CollectConfig(collector, hold=3, at_violation=at_violation)

    def uniform(key, observation):
        return jax.random.uniform(key, observation.shape, minval=-1.0)

    domain = ON._replace(reference_policy=uniform)
    bodies = Body(jnp.float32([0.5, 1.0]), jnp.float32([np.inf, np.inf]))
    make = episodes_of(domain, config, 300)
    rows = by_policy(jax.random.key(0), make, bodies, 300)
    begins = begins_in_violation(rows)
    limits = np.float32([0.5, 1.0])[:, None]
    started = abs(rows.observation[..., 0]) <= 0.5  # maybe a fresh start
    beyond = rows.observation[..., 0] > limits
    np.testing.assert_array_equal(begins[~started], beyond[~started])
    assert begins.any() == (at_violation == "goes_on")


# Mixed: held actions of any size beside the learner


MIXED = dataclasses.replace(CONFIG, collector="mixed", hold=5)


def mixed_actions(seed=0, sac_share=0.5, calm=0.25, steps=200, environments=20):
    """Actions [steps, E, A] of a learner that would always do 0.7, and others."""
    config = dataclasses.replace(
        MIXED,
        sac_share=sac_share,
        calm=calm,
        environments=environments,
        updates=0,
        start_steps=0,
    )
    domain = ON._replace(spec=ON.spec._replace(action_size=3))
    still = sac(domain.spec, SACConfig(hidden=(8,)))._replace(
        sample=lambda key, state, seen: jnp.full((*seen.shape[:-1], 3), 0.7)
    )
    body, count = Body(*jnp.float32([99.0, np.inf])), steps * environments
    state = init_collect(jax.random.key(9), domain, still, config, body, count)
    chunk = jax.jit(collect_steps(domain, still, config, steps))
    rows = rows_of(chunk(jax.random.key(seed), state))
    return np.asarray(rows.action).reshape(steps, environments, 3)


@pytest.mark.parametrize(
    ("share", "learning"), [(0.0, 0), (0.5, 10), (0.72, 14), (1.0, 20)]
)
def test_a_share_of_mixed_rows_is_the_learners(share, learning):
    actions = mixed_actions(sac_share=share)
    by_learner = (actions == np.float32(0.7)).all(-1)
    np.testing.assert_array_equal(by_learner[:, :learning], True)
    assert not by_learner[:, learning:].any()


def test_the_other_actions_are_held_are_calm_or_of_any_direction_and_size():
    actions = mixed_actions(sac_share=0.0, steps=500)
    stretches = actions.reshape(100, 5, 20, 3)
    np.testing.assert_array_equal(stretches, stretches[:, :1].repeat(5, 1))
    held = stretches[:, 0].reshape(-1, 3)
    size = abs(held).max(-1)
    calm = size == 0.0
    np.testing.assert_allclose(calm.mean(), 0.25, atol=0.04)
    assert stats.kstest(size[~calm], "uniform").pvalue > 1e-3
    direction = held[~calm] / size[~calm, None]
    np.testing.assert_allclose((direction > 0).mean(0), 0.5, atol=0.05)
    largest = np.bincount(abs(direction).argmax(-1), minlength=3) / len(direction)
    np.testing.assert_allclose(largest, 1 / 3, atol=0.05)
    assert len(np.unique(held[~calm], axis=0)) == (~calm).sum()


def test_a_key_determines_mixed_actions():
    np.testing.assert_array_equal(mixed_actions(), mixed_actions())
    assert (mixed_actions() != mixed_actions(seed=1)).any()
    assert_same(
        collected(config=MIXED).states[-1], collected(config=MIXED, chunks=4).states[-1]
    )


def test_the_learner_learns_of_all_mixed_rows_and_they_come_in_order():
    states = collected(broken=np.inf, config=MIXED).states
    assert states[-1].replay.added == COUNT
    assert differs(params(states[0]), params(states[-1]))
    rows = rows_of(states[-1])
    actions = rows.action.reshape(STEPS, ENVIRONMENTS)
    held = actions[:, ENVIRONMENTS // 2 :].reshape(STEPS // 5, 5, -1)
    np.testing.assert_array_equal(held, held[:, :1].repeat(5, 1))
    own = actions[:, : ENVIRONMENTS // 2]
    assert len(np.unique(own)) == own.size
