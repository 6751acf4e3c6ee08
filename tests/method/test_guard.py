"""The filter as others use it: never a number that is not finite, and it keeps up."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mesa_jax as mesa
from mesa_jax.guard import Guard
from mesa_jax.readings import rereading
from mesa_jax.types import Transition

HELD, EVERY, READ, STEPS = 12, 5, 20, 23
SMALL = {
    "data": {"train_bodies": 3, "heldout_bodies": 1},
    "maml": {
        **{"steps": 3, "num_tasks": 2, "inner_steps": 2, "support_least": 0},
        **{"support_size": 8, "query_size": 8},
    },
    "inner_loop": {"settle_steps": 5},
    "risk": {"hidden": (8, 8)},
    "recovery": {
        "hidden": (8, 8),
        "lr": 0.0,
    },  # so that nothing but readings changes it
    "sac": {"hidden": (8, 8)},
    "online": {
        **{"episodes": 20, "chunk_steps": 1, "batch_size": 8, "start_steps": 100},
        **{"readapt_every": EVERY, "readapt_transitions": READ},
    },
}


class World:
    """A prior, two bodies of it, and a filter of them."""

    def __init__(self):
        keys = jax.random.split(jax.random.key(0), 8)
        config = mesa.configure("navigation1", tasks="flip").override(**SMALL)
        self.system = mesa.build(config)
        trained = self.system.domain.train_tasks(keys[0], 4)
        data = mesa.collect(keys[1], self.system, trained, count=40)
        self.prior = mesa.meta_train(keys[2], self.system, data)
        given = self.system, self.prior, data
        self.training = mesa.training_novelty(keys[3], *given, count=READ)
        # a body is outside as often as not, so that some readings take inner steps
        self.training = self.training._replace(unit=self.training.unit / 3.0)
        self.bodies = self.system.domain.test_tasks(keys[4], 2)
        self.few = mesa.collect(keys[5], self.system, self.bodies, count=HELD)
        self.filter = mesa.adapt(keys[6], self.system, self.prior, self.few)
        starts = jnp.broadcast_to(jnp.array([-50.0, 0.0]), (2, 64, 2))
        asked = jax.random.uniform(keys[7], (2, 64, 2), minval=-1.0)
        usual = jnp.median(self.filter.risk(starts, asked), axis=1)
        self.filter = self.filter.replace(threshold=usual)  # both decisions occur


@pytest.fixture(scope="module")
def world():
    return World()


def one_of(tree, i=0):
    return jax.tree.map(lambda x: x[i], tree)


def guard_of(world, filter, transitions, keys=None, **more):
    given = world.system, world.prior, transitions
    again = rereading(jax.random.key(1), *given, training=world.training)
    return Guard(filter, again if keys is None else again._replace(keys=keys), **more)


def same(ours, theirs):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def online(world):
    """States of an online run of both bodies, before the first step and after each."""
    given = world.filter, world.bodies, world.few
    states = [mesa.init_runs(jax.random.key(7), world.system, *given)]
    program = mesa.online_program(world.system, world.prior, training=world.training)
    program, keys = jax.jit(program), jax.random.split(jax.random.key(8), 2)
    for _ in range(STEPS):
        states.append(program(jax.random.clone(keys), states[-1])[0])
    return [jax.tree.map(np.asarray, s._replace(task=None)) for s in states], keys


def newest(state, i, replay):
    ring = one_of(getattr(state, replay), i)
    return Transition(*(x[int(ring.added) - 1] for x in ring.rows))


def test_a_guard_does_what_an_online_run_does(world, online):
    """Step by step: what is executed, and the filter that decides, of one body."""
    states, keys = online
    key = jax.random.fold_in(jax.random.clone(keys)[0], 0)  # as `online_program` folds
    guard = guard_of(world, one_of(world.filter), one_of(world.few), key)
    changed, recovered = 0, 0
    for before, after in itertools.pairwise(states):
        made = newest(after, 0, "safety_replay")
        proposed = newest(after, 0, "task_replay").action
        executed = guard(made.observation, proposed)
        np.testing.assert_allclose(executed, made.action, atol=1e-5)
        same(guard.filter.critic, one_of(after.agent.risk))
        same(guard.filter.recovery, one_of(after.agent.recovery))
        recovered += int(guard.info.recovered)
        changed += not np.array_equal(
            before.agent.risk["encoding"][0], after.agent.risk["encoding"][0]
        )
        guard.observe(made.next_observation, made.cost, made.discount == 0.0)
    assert changed == guard.readings == (STEPS - 1) // EVERY
    assert 0 < recovered < STEPS and guard.interventions == recovered
    assert guard.steps == STEPS


def test_bodies_side_by_side_are_guarded_as_each_alone(world, online):
    states, _ = online
    both = guard_of(world, world.filter, world.few)
    keys = jax.random.split(jax.random.key(1), 2)
    each = [
        guard_of(world, one_of(world.filter, i), one_of(world.few, i), keys[i])
        for i in range(2)
    ]
    for after in states[1 : 2 * EVERY + 2]:
        rows = [newest(after, i, "safety_replay") for i in range(2)]
        made = Transition(*map(np.stack, zip(*rows, strict=True)))
        given = made.observation, made.action
        alone = [g(o, a) for g, o, a in zip(each, *given, strict=True)]
        np.testing.assert_allclose(both(*given), alone, atol=1e-5)
        moved = np.array([True, after.env_steps[0] % 3 > 0])  # a reset now and then
        ended = made.discount == 0.0
        both.observe(made.next_observation, made.cost, ended, moved=moved)
        for i, guard in enumerate(each):
            step = made.next_observation[i], made.cost[i], ended[i]
            guard.observe(*step, moved=moved[i])
    assert both.steps.tolist() == [g.steps for g in each] == [11, 8]
    assert both.readings.tolist() == [2, 1]
    assert both.interventions.tolist() == [g.interventions for g in each]
    for i, guard in enumerate(each):
        same(one_of(both.filter.critic, i), guard.filter.critic)


def test_a_reading_says_how_far_outside_the_body_lies(world):
    guard = guard_of(world, one_of(world.filter), one_of(world.few))
    assert np.isnan(guard(np.zeros(2), np.zeros(2))).sum() == 0
    assert np.isnan(guard.info.novelty)  # of the filter that was given
    for _ in range(EVERY):
        guard(np.zeros(2), np.zeros(2))
        guard.observe(np.full(2, 0.3), 0.0)
    guard(np.zeros(2), np.zeros(2))
    assert guard.info.novelty > 0.0


def test_the_latest_transitions_are_those_of_a_replay(world):
    """Of 20 that are read 12 are the adaptation set's; the oldest comes again."""
    guard = guard_of(world, one_of(world.filter), one_of(world.few))
    first = np.asarray(world.few.observation[0])
    np.testing.assert_array_equal(guard._latest.observation[:8], [first[0]] * 8)
    for i in range(9):
        guard(np.full(2, float(i)), np.zeros(2))
        guard.observe(np.full(2, i + 1.0), float(i == 4), i == 4)
    expected = np.concatenate([first[1:], [[i, i] for i in range(9)]])
    np.testing.assert_array_equal(guard._latest.observation, expected)
    assert guard._latest.cost[-5] == 1.0 and guard._latest.discount[-5] == 0.0


def test_each_reading_draws_from_a_key_of_its_own(world):
    def adapt(key, filter, latest):
        del latest
        return filter.replace(novelty=jax.random.uniform(key))

    key, given = jax.random.key(3), (world.system, world.prior, one_of(world.few))
    mine = rereading(jax.random.key(1), *given)
    mine = mine._replace(adapt=adapt, every=2, keys=key)
    guard, found = Guard(one_of(world.filter), mine), []
    for _ in range(3):
        for _ in range(2):
            guard(SEEN, ASKED)
            guard.observe(SEEN, 0.0)
        found.append(float(guard.filter.novelty))
    for i, value in enumerate(found):  # as online runs fold: see `online_program`
        own = jax.random.fold_in(jax.random.clone(key), jnp.int32(-2 - i))
        np.testing.assert_allclose(value, jax.random.uniform(own))
    assert guard.readings == 3


def test_what_is_not_finite_is_no_part_of_a_reading(world):
    guard = guard_of(world, one_of(world.filter), one_of(world.few))
    held = guard._latest.observation.copy()
    guard(np.zeros(2), np.zeros(2))
    guard.observe(np.array([0.0, np.nan]), 0.0)
    np.testing.assert_array_equal(guard._latest.observation, held)
    assert (guard.left_out, guard.steps) == (1, 1)


NAN = np.full(2, np.nan, np.float32)
SEEN, ASKED = np.array([1.0, 2.0], np.float32), np.array([0.3, -0.4], np.float32)


def test_the_filter_never_returns_what_is_not_finite(world):
    one = one_of(world.filter).replace(threshold=jnp.float32(2.0))  # it lets all pass
    rescue = one.recover(SEEN)
    spare = np.array([0.7, 0.7], np.float32)
    broken = one.replace(critic=jax.tree.map(lambda x: x * jnp.nan, one.critic))
    lost = one.replace(
        threshold=jnp.float32(-1.0),
        recovery=jax.tree.map(lambda x: x * jnp.nan, one.recovery),
    )
    free = one.replace(threshold=jnp.float32(jnp.inf))
    blind = one.replace(  # its networks take what is not finite for a number
        measure=one.measure._replace(estimate=lambda p, s, a: jnp.zeros(s.shape[:-1])),
        policy=one.policy._replace(act=lambda p, s: jnp.full_like(s, 0.25)),
    )
    zero = np.zeros(2)
    inf = np.array([0.0, np.inf])
    for filter, seen, asked, extra, expected, recovered, fell_back in (
        (one, SEEN, ASKED, None, ASKED, False, False),
        (one, SEEN, NAN, None, rescue, True, True),
        (one, SEEN, inf, None, rescue, True, True),
        (one, NAN, ASKED, None, ASKED, False, True),
        (one, inf, ASKED, spare, spare, False, True),
        (one, NAN, NAN, None, zero, False, True),
        (one, NAN, NAN, NAN, zero, False, True),
        (blind, SEEN, NAN, None, np.full(2, 0.25), True, True),
        (blind, NAN, ASKED, spare, spare, False, True),
        (broken, SEEN, ASKED, None, rescue, True, True),
        (lost, SEEN, ASKED, None, ASKED, False, True),
        (lost, SEEN, ASKED, spare, spare, False, True),
        (free, NAN, ASKED, spare, ASKED, False, True),  # it never acts
        (free, SEEN, NAN, None, zero, False, True),
    ):
        action, info = filter.decide(seen, asked, extra)
        np.testing.assert_allclose(action, expected, rtol=1e-6)
        assert (info.recovered, info.fell_back) == (recovered, fell_back)
        judged = np.isfinite([*seen, *asked]).all() and filter is not broken
        assert np.isfinite(info.risk) == judged


def test_decisions_are_jitted_mapped_and_batched(world):
    both = world.filter
    draws = jax.random.split(jax.random.key(3))
    observation = 3.0 * jax.random.normal(draws[0], (2, 7, 2))
    proposed = jax.random.uniform(draws[1], (2, 7, 2), minval=-1.0)
    action, info = jax.jit(lambda f: f.decide(observation, proposed))(both)
    assert info.risk.shape == info.novelty.shape == info.fell_back.shape == (2, 7)
    np.testing.assert_array_equal(info.proposed, proposed)
    np.testing.assert_allclose(info.risk, both.risk(observation, proposed), rtol=1e-5)
    mapped = jax.vmap(lambda f, *x: f.decide(*x))(both, observation, proposed)
    same(mapped, (action, info))


@pytest.mark.parametrize("fallback", ["recovery", "proposal"])
def test_a_guard_falls_back_as_it_is_told(world, fallback):
    one = one_of(world.filter).replace(threshold=jnp.float32(2.0))
    guard = Guard(one, fallback=fallback)
    np.testing.assert_array_equal(guard(NAN, ASKED), ASKED)  # nothing was done before
    np.testing.assert_array_equal(guard(SEEN, ASKED), ASKED)
    rescue = one.recover(SEEN)
    expected = {"recovery": rescue, "proposal": ASKED}[fallback]
    np.testing.assert_allclose(guard(NAN, ASKED), expected, rtol=1e-6)
    assert guard.info.fell_back and not guard.info.recovered
    assert (guard.fallbacks, guard.interventions) == (2, 0)


def test_a_guard_refuses_what_it_can_not_take(world):
    guard = Guard(one_of(world.filter))
    with pytest.raises(mesa.SettingError, match=r"^fallback must be one of"):
        Guard(one_of(world.filter), fallback="nothing")
    with pytest.raises(mesa.SettingError, match=r"^observe must be after a decision"):
        guard.observe(SEEN, 0.0)
    with pytest.raises(mesa.SettingError, match=r"^observation .* \(2,\).* \(3,\)"):
        guard(np.zeros(3), ASKED)
    with pytest.raises(mesa.SettingError, match=r"^proposed must be of shape \(2,\)"):
        guard(SEEN, ASKED[:1])
    guard(SEEN, ASKED)
    with pytest.raises(mesa.SettingError, match=r"^cost must be 0 or 1"):
        guard.observe(SEEN, 0.4)
    with pytest.raises(mesa.SettingError, match=r"^action must be \[2, \.\.\., 2\]"):
        world.filter.risk(np.zeros((2, 2)), np.zeros((3, 2)))


def test_a_guard_keeps_no_array_of_its_caller(world):
    guard = guard_of(world, one_of(world.filter), one_of(world.few))
    seen = SEEN.copy()
    action = guard(seen, ASKED)
    seen[:], action[:] = 9.0, 9.0
    guard.observe(SEEN, 0.0)
    np.testing.assert_array_equal(guard._latest.observation[-1], SEEN)
    assert (np.abs(guard._latest.action[-1]) <= 1.0).all()


def test_a_method_that_does_not_read_online_is_not_read(world):
    given = world.system, world.prior, one_of(world.few)
    assert rereading(jax.random.key(1), *given, method="mesa") is None
    once = world.system.configuration.override(online={"readapt_every": 0})
    given = mesa.build(once), *given[1:]
    assert rereading(jax.random.key(1), *given) is None
