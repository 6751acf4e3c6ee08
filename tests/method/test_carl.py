"""CARL: its model, its planner, and what it does between the two."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mesa_jax import configuration, dense
from mesa_jax.agents import AGENTS, SACConfig, recovery_policy, sac
from mesa_jax.configuration import Configuration
from mesa_jax.filter import SafetyFilter
from mesa_jax.methods import METHODS, filters
from mesa_jax.planning import PlannerConfig, cross_entropy, imagined_cost
from mesa_jax.prior import input_statistics
from mesa_jax.risk import RISKS, RiskConfig, dynamics
from mesa_jax.settings import SettingError
from mesa_jax.study import resolve
from mesa_jax.study.artifacts import naming
from mesa_jax.types import DomainSpec, Prediction, Transition

NOISE, LIMIT = 0.2, 0.5  # of the known body below; a state beyond the limit violates


def known_rows(key, count, noise=NOISE):
    """Steps [count, ...] of s' = s + 0.5 a + noise, reward 3 - s."""
    state_key, action_key, noise_key = jax.random.split(key, 3)
    state = jax.random.uniform(state_key, (count, 1), minval=-1.0, maxval=1.0)
    action = jax.random.uniform(action_key, (count, 1), minval=-1.0, maxval=1.0)
    moved = state + 0.5 * action + noise * jax.random.normal(noise_key, (count, 1))
    cost = (moved[:, 0] > LIMIT).astype(jnp.float32)
    return Transition(state, action, 3.0 - state[:, 0], cost, jnp.ones(count), moved)


def fitted(members=3, hidden=(32,), steps=1500, batch=256):
    """A model of the known body."""
    rows = known_rows(jax.random.key(0), 4096)
    model = dynamics(RiskConfig(hidden=hidden, ensemble_size=members))
    inputs = input_statistics(rows, "standardized", changes=True, rewards=True)
    adam = optax.adam(optax.cosine_decay_schedule(1e-2, steps))

    def step(i, carry):
        params, state = carry
        at = jax.random.randint(
            jax.random.fold_in(jax.random.key(1), i), (batch,), 0, 4096
        )
        drawn = jax.tree.map(lambda x: x[at], rows)
        gradient = jax.grad(model.loss, has_aux=True)(params, params, drawn, None)[0]
        updates, state = adam.update(gradient, state)
        return optax.apply_updates(params, updates), state

    start = model.init(jax.random.key(2), inputs)
    params, _ = jax.jit(
        lambda start: jax.lax.fori_loop(0, steps, step, (start, adam.init(start)))
    )(start)
    return model, params, inputs


@pytest.fixture(scope="module")
def known():
    return fitted()


# The model


def test_each_member_finds_mean_noise_and_reward_of_a_known_body(known):
    model, params, inputs = known
    state, action = (x.reshape(-1, 1) for x in np.mgrid[-0.8:0.9:0.4, -0.8:0.9:0.4])
    each = (
        jnp.broadcast_to(state, (3, *state.shape)),
        jnp.broadcast_to(action, (3, *action.shape)),
    )
    found = model.predict(params, *each)
    assert found.mean.shape == found.std.shape == (3, len(state), 2)
    expected = np.broadcast_to(state + 0.5 * action, (3, len(state), 1))[..., 0]
    np.testing.assert_allclose(found.mean[..., 0], expected, atol=0.08)
    np.testing.assert_allclose(found.std[..., 0].mean(1), NOISE, rtol=0.1)
    np.testing.assert_allclose(
        found.mean[..., 1], 3.0 - np.tile(state.T, (3, 1)), atol=0.05
    )
    assert (found.std[..., 1] < 0.1 * inputs.reward_std).all()


def test_a_violation_is_even_where_it_is_as_frequent_as_none_in_balanced_rows(known):
    """By Bayes from the known noise: odds times rows without over rows with one."""
    model, params, _ = known
    rows = known_rows(jax.random.key(0), 4096)
    share = float(rows.cost.mean())
    state = jnp.linspace(-0.9, 0.9, 19)[:, None]
    chance = 1.0 - jax.scipy.stats.norm.cdf((LIMIT - state[:, 0]) / NOISE)
    balanced = chance * (1 - share) / (chance * (1 - share) + (1 - chance) * share)
    found = model.estimate(params, state, jnp.zeros_like(state))
    np.testing.assert_allclose(found, balanced, atol=0.12)
    logit = model.logit(params, state, jnp.zeros_like(state))
    np.testing.assert_allclose(found, jax.nn.sigmoid(logit), rtol=1e-6)


def test_the_loss_is_its_formula(known):
    """Written anew in NumPy, member by member and row by row."""
    model, params, inputs = known
    rows = known_rows(jax.random.key(5), 12)
    assert 0 < rows.cost.sum() < 12
    each = jax.tree.map(lambda x: jnp.broadcast_to(x, (3, *x.shape)), rows)
    found = model.predict(params, each.observation, each.action)
    scale = np.array([inputs.change_std[0], inputs.reward_std])
    weight = (12 - float(rows.cost.sum())) / float(rows.cost.sum())
    total = 0.0
    for member in range(3):
        for i in range(12):
            seen = np.array([rows.next_observation[i, 0], rows.reward[i]])
            error = (seen - found.mean[member, i]) / scale
            std = found.std[member, i] / scale
            total += np.mean((error / std) ** 2 / 2 + np.log(std))
            p, c = float(found.violation[member, i]), float(rows.cost[i])
            total -= weight * c * np.log(p) + (1 - c) * np.log(1 - p)
    loss, metrics = model.loss(params, None, rows, None)
    np.testing.assert_allclose(loss, total / 12, rtol=1e-4)
    assert metrics["risk/loss"] == loss


def test_its_target_is_what_happened(known):
    model, params, _ = known
    rows = known_rows(jax.random.key(5), 12)
    np.testing.assert_array_equal(model.target(params, rows, rows.action), rows.cost)


def test_rows_without_a_violation_have_finite_gradients(known):
    model, params, _ = known
    rows = known_rows(jax.random.key(5), 12)._replace(cost=jnp.zeros(12))
    gradient = jax.grad(lambda p: model.loss(p, None, rows, None)[0])(params)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradient))
    fixed = jax.tree.leaves(gradient["statistics"])
    assert all((x == 0.0).all() for x in fixed)  # statistics are not learned


@pytest.mark.parametrize(
    ("name", "value"), [("conditioning", "encoded"), ("weights", "latent")]
)
def test_a_model_is_not_conditioned(name, value):
    with pytest.raises(SettingError, match=f"risk_{name} must be"):
        RISKS["dynamics"](RiskConfig(measure="dynamics", **{name: value}))


# The planner


def linear(noise=0.0, danger=jnp.inf, offsets=(0.0,)):
    """A model: s' = s + 0.3 a + offset of a member, reward -(s'^2 + 0.1 a^2)."""
    by_member = jnp.asarray(offsets)

    def predict(params, observation, action):
        del params
        lead = (-1, *[1] * (observation.ndim - 1))
        moved = observation + 0.3 * action + by_member.reshape(lead)
        reward = -(moved**2 + 0.1 * action**2)
        mean = jnp.concatenate([moved, reward], axis=-1)
        violation = (moved[..., 0] > danger).astype(jnp.float32)
        return Prediction(mean, jnp.full_like(mean, noise), violation)

    return predict


def costing(model, plans, config, threshold=0.5, members=1, start=2.0, key=0):
    return imagined_cost(
        jax.random.key(key),
        *(model, None, jnp.array([start]), jnp.asarray(plans), jnp.array(threshold)),
        *(config, members),
    )


def test_the_plan_of_a_linear_quadratic_problem_is_the_least_squares_one():
    """Minimise the sum over 4 steps of s'^2 + 0.1 a^2 from s = 0.4; none at a bound."""
    size, start = 4, 0.4
    reach = 0.3 * np.tril(np.ones((size, size)))
    rows = np.concatenate([reach, np.sqrt(0.1) * np.eye(size)])
    best = np.linalg.lstsq(
        rows, np.r_[np.full(size, -start), np.zeros(size)], rcond=None
    )[0]
    assert (abs(best) < 0.8).all()
    config = PlannerConfig(size, candidates=256, elites=24, iterations=12, particles=1)
    plan = jax.jit(
        lambda key: cross_entropy(
            key,
            lambda key, plans: costing(linear(), plans, config, start=start),
            config,
            1,
        )
    )(jax.random.key(0))
    np.testing.assert_allclose(plan[:, 0], best, atol=0.03)


def test_a_plan_costs_the_sum_of_its_rewards_and_what_is_caught():
    config = PlannerConfig(2, candidates=2, elites=1, particles=1, price=100.0)
    plans = np.array([[[1.0], [-1.0]], [[-1.0], [0.5]]])
    by_hand = [2.3**2 + 0.1 + 2.0**2 + 0.1, 1.7**2 + 0.1 + 1.85**2 + 0.025]
    np.testing.assert_allclose(costing(linear(), plans, config), by_hand, rtol=1e-6)
    caught = [by_hand[0] + 100.0, by_hand[1]]  # 2.3 is beyond 2.2
    found = costing(linear(danger=2.2), plans, config)
    np.testing.assert_allclose(found, caught, rtol=1e-6)
    free = costing(linear(danger=2.2), plans, config, threshold=jnp.inf)
    np.testing.assert_allclose(free, by_hand, rtol=1e-6)


@pytest.mark.parametrize(("worst", "kept"), [(1.0, 4), (0.5, 2), (0.26, 2), (0.25, 1)])
def test_a_particle_keeps_its_member_and_the_worst_are_judged(worst, kept):
    config = PlannerConfig(2, candidates=1, elites=1, particles=4, worst=worst)
    offsets = (0.1, -0.2, 0.5, 0.0)
    costs = [(2.0 + x) ** 2 + (2.0 + 2 * x) ** 2 for x in offsets]
    model = linear(offsets=offsets)
    found = costing(model, np.zeros((1, 2, 1)), config, members=4)
    np.testing.assert_allclose(found, np.mean(sorted(costs)[-kept:]), rtol=1e-6)


def test_particles_are_drawn_with_the_noise_that_the_model_expects():
    """E of the second state's square: of two steps with noise, one of them unseen."""
    config = PlannerConfig(2, candidates=1, elites=1, particles=4000)
    found = costing(linear(noise=0.5), np.zeros((1, 2, 1)), config)
    np.testing.assert_allclose(found, 2.0**2 + 2.0**2 + 0.5**2, rtol=0.01)


def test_what_is_not_finite_is_no_elite():
    config = PlannerConfig(1, candidates=64, elites=4, iterations=5)

    def cost(key, plans):
        del key
        asked = plans[:, 0, 0]
        return jnp.where(asked < 0.0, jnp.nan, (asked - 0.3) ** 2)

    plan = cross_entropy(jax.random.key(0), cost, config, 1)
    np.testing.assert_allclose(plan, 0.3, atol=0.1)


@pytest.mark.parametrize("goal", [-3.0, 3.0])
def test_plans_stay_within_the_bounds(goal):
    config = PlannerConfig(3, candidates=64, elites=8, iterations=10)

    def cost(key, plans):
        del key
        assert plans.shape == (64, 3, 2)
        outside = jnp.any(abs(plans) > 1.0, axis=(1, 2))
        return jnp.where(outside, -1e9, jnp.sum((plans - goal) ** 2, axis=(1, 2)))

    plan = cross_entropy(jax.random.key(0), cost, config, 2)
    assert (abs(plan) <= 1.0).all()
    assert (plan * np.sign(goal) > 0.3).all()  # what PETS draws narrows at a bound


# The agent


def settings(**sections):
    carl = resolve.resolve("navigation1", "flip", "quick", method="carl")
    return carl.override(**sections)


def an_agent(known, **planner):
    model, params, _ = known
    of = settings(
        planner={"horizon": 3, "particles": 3, "candidates": 128} | planner,
        risk={"ensemble_size": 3, "hidden": (32,)},
        recovery={"lr": 1e-3},
    )
    spec = DomainSpec("probe", observation_size=1, action_size=1, horizon=10)
    task = sac(spec, SACConfig(hidden=(4,)))
    recovery = recovery_policy(1, model.estimate, (4,))
    agent = AGENTS["carl"](task, model, recovery, of)
    inputs = params["statistics"]

    def start(threshold):
        policy = recovery.init(jax.random.key(1), inputs)
        return agent.init(jax.random.key(0), params, policy, threshold)

    return agent, start


@pytest.mark.parametrize(("threshold", "cautious"), [(0.5, True), (np.inf, False)])
def test_it_stays_clear_of_a_violation_if_it_has_a_threshold(
    known, threshold, cautious
):
    """The reward falls with s, and the limit is turned: what earns most violates."""
    model, params, _ = known

    def greedy(params, observation, action):
        found = model.predict(params, observation, action)
        earned = found.mean.at[..., 1].set(found.mean[..., 0])  # the reward is s'
        return found._replace(mean=earned)

    agent, start = an_agent((model._replace(predict=greedy), params, None))
    state, observation = start(threshold), jnp.array([0.3])
    action = jax.jit(agent.propose)(jax.random.key(3), state, observation)
    assert action.shape == (1,)
    reached = 0.3 + 0.5 * float(action[0])
    assert (reached < LIMIT) == cautious
    decision = agent.decide(state, observation, action)
    np.testing.assert_array_equal(decision.action, action)
    assert not decision.recovered
    mode = agent.propose_mode(state, observation)
    np.testing.assert_array_equal(mode, agent.propose_mode(state, observation))


def test_its_model_goes_on_learning_and_its_task_policy_does_not(known):
    agent, start = an_agent(known)
    state, rows = start(0.5), known_rows(jax.random.key(9), 32)
    chex.clear_trace_counter()
    update = jax.jit(chex.assert_max_traces(agent.update, n=1))
    for learns in (True, False):
        given = jax.random.key(0), state, rows, rows, jnp.array(True), jnp.array(learns)
        new, metrics = update(*given)
        assert jax.tree.structure(new) == jax.tree.structure(state)
        chex.assert_trees_all_equal(new.sac, state.sac)
        moved = jax.tree.map(lambda a, b: bool((a != b).any()), new.risk, state.risk)
        assert any(jax.tree.leaves(moved["network"])) == learns
        assert not any(jax.tree.leaves(moved["statistics"]))
        assert "risk/prediction" in metrics
        assert not any(name.startswith("sac/") for name in metrics)


# Its rows


def test_both_rows_begin_with_one_model_and_differ_in_what_they_fear():
    found = [
        settings(),
        resolve.resolve("navigation1", "flip", "quick", method="carl_reward"),
    ]
    carl, reward = (dataclasses.replace(x, planner=PlannerConfig()) for x in found)
    assert carl == reward
    assert found[0].planner.worst == 1.0
    assert found[1].planner.worst == 0.5
    assert METHODS["carl"].constrained
    assert not METHODS["carl_reward"].constrained
    names = {naming.prior_name(x, "pooled", 0) for x in found}
    assert len(names) == 1


@pytest.mark.parametrize(
    ("asked", "flag"),
    [
        ({"risk": {"measure": "avoid"}}, "risk"),
        ({"planner": {"particles": 7}}, "planner_particles"),
        ({"planner": {"elites": 65}}, "planner_elites"),
        ({"risk": {"ensemble_size": 2}}, "planner_particles"),
    ],
)
def test_what_cannot_plan_is_refused(asked, flag):
    with pytest.raises(SettingError) as error:
        settings(**asked)
    assert error.value.name == flag


def test_the_agent_takes_a_model_alone():
    with pytest.raises(SettingError, match="risk must be dynamics"):
        configuration.override(Configuration(), {"constraint": {"kind": "carl"}})


def test_what_plans_has_no_filter():
    names = {name for name, row in METHODS.items() if row.constrained} - {"carl"}
    assert {name for name in METHODS if filters(name)} == names


def test_a_model_is_no_filter_of_weights(known):
    model, params, inputs = known
    recovery = recovery_policy(1, model.estimate, (4,))
    policy = recovery.init(jax.random.key(0), inputs)
    guard = SafetyFilter(
        *(params, policy, jnp.array(0.5), jnp.array(0.0)),
        *(model, recovery, "multi_task"),
    )
    with pytest.raises(SettingError, match="outputs of the critic must be 1"):
        dense.weights(guard)
