"""Several constraints: costs apart, and filters that stand together."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mesa_jax as mesa
from mesa_jax.filter import SafetyFilter
from mesa_jax.guard import Guard
from mesa_jax.types import Statistics

SEEN = Statistics(jnp.zeros(1), jnp.ones(1), jnp.zeros(1), jnp.ones(1))


class Nearness(NamedTuple):
    """Risk of an action: how near it is to a forbidden one, wherever the body is."""

    def estimate(self, forbidden, observation, action):
        return jnp.exp(-jnp.abs(action - forbidden).sum(-1)) + 0.0 * observation.sum(-1)


class Always(NamedTuple):
    """A policy that takes one action."""

    def act(self, params, observation):
        return jnp.broadcast_to(params["action"], observation.shape)


def one(forbidden: float, rescue: float, threshold: float) -> SafetyFilter:
    """A filter of one number seen and one done."""
    recovery = {"action": jnp.array([rescue]), "statistics": SEEN}
    numbers = jnp.array([forbidden]), recovery, jnp.array(threshold), jnp.array(0.5)
    return SafetyFilter(*numbers, Nearness(), Always(), "mesa")


# what is forbidden: +1 by the first, -1 by the second; each flees too far
UP, DOWN = one(1.0, -0.9, 0.6), one(-1.0, 0.2, 0.6)
BOTH = mesa.joint_filter({"up": UP, "down": DOWN})
STATES = jnp.linspace(-1.0, 1.0, 9)[:, None]
ASKED = jnp.linspace(-1.0, 1.0, 9)[:, None]


def risk(forbidden, action):
    return np.exp(-np.abs(action - forbidden))


def test_a_proposal_passes_where_no_risk_is_above_its_threshold():
    action, info = BOTH.decide(STATES, ASKED)
    risks = np.stack([risk(1.0, ASKED[:, 0]), risk(-1.0, ASKED[:, 0])], -1)
    np.testing.assert_allclose(info.risk, risks, rtol=1e-5)
    np.testing.assert_array_equal(info.recovered, (risks > 0.6).any(-1))
    passes = ~np.asarray(info.recovered)
    assert passes.any() and (~passes).any()
    np.testing.assert_array_equal(action[passes], ASKED[passes])


def test_of_the_recovery_actions_that_acts_which_exceeds_the_thresholds_least():
    """-0.9 is what `up` would do, and forbidden to `down`; 0.2 is none's worst."""
    worst = [max(risk(1.0, a), risk(-1.0, a)) for a in (-0.9, 0.2)]
    assert worst[0] > 0.6 > worst[1]
    action, info = BOTH.decide(STATES[0], jnp.array([0.95]))
    assert bool(info.recovered) and float(action[0]) == pytest.approx(0.2)
    lax = {"up": UP, "down": DOWN.replace(threshold=jnp.array(jnp.inf))}
    action, _ = mesa.joint_filter(lax).decide(STATES[0], jnp.array([0.95]))
    assert float(action[0]) == pytest.approx(-0.9)


def test_where_nothing_is_exceeded_the_least_risk_acts():
    """However far all risks are below the thresholds."""
    far = {"up": one(8.0, 0.9, 1.0), "down": one(-8.0, -0.2, 1.0)}
    worst = [max(risk(8.0, a), risk(-8.0, a)) for a in (0.9, -0.2)]
    assert 1e-3 > worst[0] > worst[1]
    assert float(mesa.joint_filter(far).recover(STATES[0])[0]) == pytest.approx(-0.2)


def test_one_constraint_is_the_filter_itself():
    alone, (action, info) = mesa.joint_filter({"up": UP}), UP.decide(STATES, ASKED)
    ours, found = alone.decide(STATES, ASKED)
    np.testing.assert_array_equal(ours, action)
    np.testing.assert_array_equal(found.risk[..., 0], info.risk)
    for name in ("recovered", "fell_back", "novelty"):
        np.testing.assert_array_equal(getattr(found, name), getattr(info, name))


def test_thresholds_of_infinity_let_everything_pass():
    never = {
        name: filter.replace(threshold=jnp.array(jnp.inf))
        for name, filter in (("up", UP), ("down", DOWN))
    }
    action, info = mesa.joint_filter(never).decide(STATES, ASKED)
    np.testing.assert_array_equal(action, ASKED)
    assert not np.any(info.recovered | info.fell_back)


@pytest.mark.parametrize("which", ["up", "down"])
def test_a_risk_that_is_no_number_does_not_pass(which):
    filters = {"up": UP, "down": DOWN}
    filters[which] = filters[which].replace(critic=jnp.array([jnp.nan]))
    action, info = mesa.joint_filter(filters).decide(STATES, ASKED)
    assert np.all(info.recovered & info.fell_back) and np.isfinite(action).all()
    assert np.isnan(info.risk).all()


def test_a_recovery_action_that_is_no_number_is_not_chosen():
    recovery = DOWN.recovery | {"action": jnp.array([jnp.nan])}
    broken = mesa.joint_filter({"up": UP, "down": DOWN.replace(recovery=recovery)})
    action, info = broken.decide(STATES[0], jnp.array([0.95]))
    assert float(action[0]) == pytest.approx(-0.9) and bool(info.recovered)


def test_bodies_are_judged_alike_alone_and_together():
    stack = lambda *x: jnp.stack(x)  # noqa: E731
    others = {"up": one(0.5, -0.9, 0.4), "down": one(-0.3, 0.2, 0.7)}
    many = mesa.joint_filter(
        {
            "up": jax.tree.map(stack, UP, others["up"]),
            "down": jax.tree.map(stack, DOWN, others["down"]),
        }
    )
    assert many.bodies == (2,)
    seen, asked = jnp.stack([STATES, STATES]), jnp.stack([ASKED, ASKED[::-1]])
    action, info = jax.jit(lambda f, s, a: f.decide(s, a))(many, seen, asked)
    for i, alone in enumerate((BOTH, mesa.joint_filter(others))):
        mine, mine_info = alone.decide(seen[i], asked[i])
        np.testing.assert_allclose(action[i], mine, rtol=1e-6)
        np.testing.assert_allclose(info.risk[i], mine_info.risk, rtol=1e-6)


def test_a_guard_reports_the_constraints_apart():
    guard = Guard(BOTH)
    exceeded = np.zeros(2, int)
    for asked in (0.95, 0.0, -0.95):
        guard(np.zeros(1), np.array([asked]))
        assert guard.info.risk.shape == (2,)
        exceeded += guard.info.risk > 0.6
        guard.observe(np.zeros(1), 0.0)
    assert exceeded.tolist() == [1, 1] and guard.interventions == 2


def test_what_does_not_go_together_is_refused():
    with pytest.raises(mesa.SettingError, match="one a constraint"):
        mesa.joint_filter({})
    two = jax.tree.map(lambda x: jnp.stack([x, x]), DOWN)
    with pytest.raises(mesa.SettingError, match=r"filters\['down'\].*as of up"):
        mesa.joint_filter({"up": UP, "down": two})
    with pytest.raises(mesa.SettingError, match="rereading"):
        Guard(BOTH, rereading=object())


# The domain


def test_cart_poles_costs_apart_make_up_the_cost():
    domain = mesa.build(mesa.configure("cartpole_length", tasks="actuator")).domain
    body = jax.tree.map(lambda x: x[0], domain.test_tasks(jax.random.key(0), 1))
    states = jnp.array(
        [[0.0, 0.0, 0, 0], [0.0, 1.56, 0, 9], [2.39, 0.0, 5, 0], [2.39, 1.56, 5, 9]]
    )
    step = jax.vmap(lambda s: domain.step(None, s, jnp.zeros(1), body)[1])
    transitions = step(states)
    costs = mesa.by_constraint(domain, transitions)
    assert costs["pole"].cost.tolist() == [0, 1, 0, 1]
    assert costs["cart"].cost.tolist() == [0, 0, 1, 1]
    either = jnp.maximum(costs["pole"].cost, costs["cart"].cost)
    np.testing.assert_array_equal(either, transitions.cost)
    for mine in costs.values():
        np.testing.assert_array_equal(mine.discount, transitions.discount)


def test_a_domain_of_one_constraint_says_so():
    domain = mesa.build(mesa.configure("navigation1")).domain
    with pytest.raises(mesa.SettingError, match="names its constraints"):
        mesa.by_constraint(domain, None)


@pytest.mark.slow
def test_a_prior_a_constraint_and_one_filter_of_both():
    small = {
        "data": {"train_bodies": 3, "heldout_bodies": 1},
        "maml": {"steps": 3, "num_tasks": 2, "support_size": 8, "query_size": 8},
        "risk": {"hidden": (8,)},
        "recovery": {"hidden": (8,)},
    }
    config = mesa.configure("cartpole_length", tasks="actuator").override(**small)
    system, keys = mesa.build(config), jax.random.split(jax.random.key(0), 8)
    bodies = system.domain.train_tasks(keys[0], 4)
    data = mesa.collect(keys[1], system, bodies, count=200)
    body = jax.tree.map(lambda x: x[0], system.domain.test_tasks(keys[2], 1))
    several = jax.tree.map(lambda x: x[None], body)
    few = jax.tree.map(lambda x: x[0], mesa.collect(keys[3], system, several, count=40))
    filters = {}
    of_few = mesa.by_constraint(system.domain, few)
    for i, (name, mine) in enumerate(mesa.by_constraint(system.domain, data).items()):
        prior = mesa.meta_train(keys[4 + i], system, mine, method="mesa")
        filters[name] = mesa.adapt(
            keys[6 + i], system, prior, of_few[name], method="mesa"
        )
    both = mesa.joint_filter(filters)
    seen, asked = few.observation, few.action
    action, info = jax.jit(lambda one, s, a: one.decide(s, a))(both, seen, asked)
    assert info.risk.shape == (40, 2) and np.isfinite(action).all()
    for i, one in enumerate(filters.values()):
        np.testing.assert_allclose(info.risk[:, i], one.risk(seen, asked), rtol=1e-4)
