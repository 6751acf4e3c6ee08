"""Risk measures: their contract, and Q_risk of a chain that linear algebra solves."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mesa_jax import replay
from mesa_jax.agents import recovery_policy
from mesa_jax.meta import FinetuneConfig, PooledConfig, pooled
from mesa_jax.prior import init_params, safety_parts
from mesa_jax.prior import statistics as statistics_of
from mesa_jax.risk import RISKS, RiskConfig, avoid, violation_probability
from mesa_jax.types import Statistics, TaskBatch, Transition

SMALL = RiskConfig(hidden=(8,), ensemble_size=3, discount=0.8)
CONTRACT = pytest.mark.parametrize("make", RISKS.values(), ids=RISKS.keys())


def statistics(mean=0.0, std=1.0):
    seen = (jnp.full(n, x) for n in (3, 2) for x in (mean, std))
    moved = jnp.full(3, std), jnp.array(mean), jnp.array(std)
    return Statistics(*seen, *moved)


def params_of(measure, seed=0, inputs=None):
    inputs = statistics() if inputs is None else inputs
    return jax.jit(measure.init)(jax.random.key(seed), inputs)


def random_batch(seed=0, rows=16, scale=1.0):
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return jnp.array(scale * rng.normal(size=shape), jnp.float32)

    def indicator():
        return jnp.array(rng.integers(0, 2, rows), jnp.float32)

    batch = Transition(
        normal(rows, 3),
        normal(rows, 2),
        normal(rows),
        indicator(),
        indicator(),
        normal(rows, 3),
    )
    return batch, normal(rows, 2)


# Contract over RISKS


@CONTRACT
def test_estimates_are_probabilities(make):
    measure = make(SMALL)
    batch, _ = random_batch(rows=200, scale=100.0)
    for seed in range(3):
        params = params_of(measure, seed)
        estimates = measure.estimate(params, batch.observation, batch.action)
        assert estimates.shape == (200,)
        assert ((estimates >= 0.0) & (estimates <= 1.0)).all()
        assert np.std(estimates) > 0.0


@CONTRACT
def test_an_estimate_keeps_leading_axes(make):
    measure = make(SMALL)
    params, (batch, _) = params_of(measure), random_batch(rows=12)
    flat = measure.estimate(params, batch.observation, batch.action)
    observation, action = batch.observation.reshape(3, 4, 3), batch.action[:12]
    stacked = measure.estimate(params, observation, action.reshape(3, 4, 2))
    one = measure.estimate(params, batch.observation[5], batch.action[5])
    np.testing.assert_allclose(stacked.reshape(12), flat, rtol=1e-6)
    np.testing.assert_allclose(one, flat[5], rtol=1e-6)


@CONTRACT
def test_the_gradient_is_finite_and_spares_targets_and_statistics(make):
    measure = make(SMALL)
    params, target_params = params_of(measure, 0), params_of(measure, 1)

    @jax.jit
    def gradients(params, target_params, batch, next_action):
        return jax.grad(measure.loss, argnums=(0, 1), has_aux=True)(
            params, target_params, batch, next_action
        )[0]

    to_params, to_target = gradients(params, target_params, *random_batch())
    for leaf in jax.tree.leaves((to_target, to_params["statistics"])):
        np.testing.assert_array_equal(leaf, 0.0)
    moved = [np.abs(leaf).max() for leaf in jax.tree.leaves(to_params["network"])]
    assert np.isfinite(moved).all()
    assert min(moved) > 0.0


@CONTRACT
def test_the_gradient_is_finite_where_estimates_saturate(make):
    measure = make(SMALL)
    params = params_of(measure)
    batch, next_action = random_batch(scale=1e6)
    gradient, _ = jax.grad(measure.loss, has_aux=True)(
        params, params, batch, next_action
    )
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


@CONTRACT
def test_inputs_are_standardised(make):
    measure, (batch, _) = make(SMALL), random_batch()
    plain = params_of(measure)
    shifted = plain | {"statistics": statistics(mean=3.0, std=2.0)}
    np.testing.assert_allclose(
        measure.estimate(shifted, batch.observation, batch.action),
        measure.estimate(
            plain, (batch.observation - 3.0) / 2.0, (batch.action - 3.0) / 2.0
        ),
        rtol=1e-5,
    )


# The ensemble, targets and loss of Q_risk


def members(params):
    """Parameters of each member alone."""
    return [
        params
        | {"network": jax.tree.map(lambda x, i=i: x[i : i + 1], params["network"])}
        for i in range(SMALL.ensemble_size)
    ]


def test_the_estimate_is_the_maximum_of_members():
    measure, (batch, _) = violation_probability(SMALL), random_batch()
    params = params_of(measure)
    alone = [
        measure.estimate(member, batch.observation, batch.action)
        for member in members(params)
    ]
    assert len(set(np.argmax(alone, axis=0))) > 1  # no one member is always highest
    np.testing.assert_allclose(
        measure.estimate(params, batch.observation, batch.action),
        np.max(alone, axis=0),
        rtol=1e-6,
    )


def test_the_logit_is_that_of_the_estimate():
    measure, (batch, _) = violation_probability(SMALL), random_batch()
    params = params_of(measure)
    estimate = measure.estimate(params, batch.observation, batch.action)
    logit = measure.logit(params, batch.observation, batch.action)
    np.testing.assert_allclose(logit, np.log(estimate / (1 - estimate)), atol=1e-5)


def test_the_logit_has_a_gradient_where_the_estimate_has_none():
    measure, (batch, _) = violation_probability(SMALL), random_batch(scale=1e4)
    params, where = params_of(measure), (batch.observation[0], batch.action[0])
    assert abs(measure.logit(params, *where)) > 100.0  # exp(-100) is no float32
    steep, flat = (
        np.abs(jax.grad(of, argnums=2)(params, *where)).max()
        for of in (measure.logit, measure.estimate)
    )
    assert steep > 1e-3
    assert flat == 0.0


def test_targets_are_violation_or_discounted_next_risk_unless_terminated():
    measure = violation_probability(SMALL)
    params, (batch, next_action) = params_of(measure), random_batch(rows=4)
    batch = batch._replace(
        cost=jnp.array([1.0, 1.0, 0.0, 0.0]), discount=jnp.array([0.0, 1.0, 1.0, 0.0])
    )
    next_risk = measure.estimate(params, batch.next_observation, next_action)
    targets = measure.target(params, batch, next_action)
    expected = [1.0, 1.0, 0.8 * next_risk[2], 0.0]  # a time limit keeps discount 1
    np.testing.assert_allclose(targets, expected, rtol=1e-6)


def test_the_loss_sums_the_members_mean_squared_errors():
    measure = violation_probability(SMALL)
    params, target_params = params_of(measure, 0), params_of(measure, 1)
    batch, next_action = random_batch()
    targets = measure.target(target_params, batch, next_action)
    estimates = [
        measure.estimate(member, batch.observation, batch.action)
        for member in members(params)
    ]
    expected = sum(np.mean((np.array(e) - targets) ** 2) for e in estimates)
    loss, metrics = measure.loss(params, target_params, batch, next_action)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert metrics["risk/loss"] == loss


def test_the_entropy_has_its_least_at_the_target_and_moves_what_is_saturated():
    settings = dataclasses.replace(SMALL, ensemble_size=1, error="entropy")
    measure, plain = violation_probability(settings), violation_probability(SMALL)
    params, target_params = params_of(measure, 0), params_of(plain, 1)
    batch, next_action = random_batch()
    y = np.asarray(plain.target(target_params, batch, next_action))
    q = np.asarray(measure.estimate(params, batch.observation, batch.action))
    loss, _ = measure.loss(params, target_params, batch, next_action)
    expected = np.mean(-y * np.log(q) - (1 - y) * np.log(1 - q))
    np.testing.assert_allclose(loss, expected, rtol=1e-4)
    network = params["network"]["params"]
    dense = network["Dense_1"] | {"bias": jnp.full((1, 1), 100.0)}  # all of it is 1
    network = {"params": network | {"Dense_1": dense}}
    safe = batch._replace(cost=0.0 * batch.cost)

    def slope(of):
        gradient = jax.grad(lambda p: of.loss(p, p, safe, next_action)[0])(
            params | {"network": network}
        )
        return float(gradient["network"]["params"]["Dense_1"]["bias"][0, 0])

    squared = violation_probability(dataclasses.replace(settings, error="squared"))
    discount = 0.8 * np.mean(safe.discount)  # of a target of 1 at the next state
    np.testing.assert_allclose(slope(measure), 1.0 - discount, rtol=1e-3)
    assert slope(squared) == 0.0


# Q_risk learned on a Markov chain

DISCOUNT = 0.8
VIOLATING, GOAL = 4, 5  # states 0 to 3 go on
ROWS_A_PAIR = 10  # probabilities are tenths, so rows hold each exactly
TENTHS = np.array(  # [state, action, next state]
    [
        [[2, 5, 0, 0, 3, 0], [5, 3, 2, 0, 0, 0]],
        [[0, 1, 3, 0, 6, 0], [4, 0, 6, 0, 0, 0]],
        [[0, 0, 1, 9, 0, 0], [0, 2, 0, 3, 1, 4]],
        [[0, 0, 0, 5, 5, 0], [0, 0, 1, 0, 0, 9]],
    ]
)


def exact_risk():
    """Q [state, action]: what is reached violates, or goes on at a random action."""
    probabilities = TENTHS / 10
    going_on = probabilities[:, :, :4]
    violating = probabilities[:, :, VIOLATING].reshape(8)
    # Q = violating + discount * sum over s' of P(s'|s, a) * mean over a' of Q(s', a')
    onward = np.repeat(going_on.reshape(8, 4) / 2, 2, axis=1)
    return np.linalg.solve(np.eye(8) - DISCOUNT * onward, violating).reshape(4, 2)


def chain_rows() -> Transition:
    """Each pair's next states in their exact proportions."""
    rows = [
        (state, action, reached)
        for state, action, reached in itertools.product(range(4), range(2), range(6))
        for _ in range(TENTHS[state, action, reached])
    ]
    state, action, reached = np.array(rows).T
    one_hot = np.eye(6, dtype=np.float32)
    terminated = (reached == VIOLATING) | (reached == GOAL)
    return Transition(
        observation=one_hot[state],
        action=np.float32(2 * action - 1)[:, None],
        reward=np.zeros(len(rows), np.float32),
        cost=np.float32(reached == VIOLATING),
        discount=np.float32(~terminated),
        next_observation=one_hot[reached],
    )


def either_action(key, observation):
    return jax.random.rademacher(key, (*observation.shape[:-1], 1), jnp.float32)


def learned_on_chain(measure, parts, recovery) -> tuple:
    """Trains the first parts of a prior on the chain; returns their parameters."""
    learner = pooled(
        parts, PooledConfig(steps=1500, lr=1e-2), FinetuneConfig(), replay.sample_rows
    )
    rows = chain_rows()
    assert rows.cost.shape == (8 * ROWS_A_PAIR,)
    batch = jax.tree.map(lambda x: jnp.array(x)[None], rows)  # one body, all rows
    fresh = init_params(jax.random.key(0), measure, recovery, statistics_of(rows))

    @jax.jit
    def learn(state):
        def step(state, i):
            key = jax.random.fold_in(jax.random.key(1), i)
            return learner.update(key, state, TaskBatch(batch, batch))[0], None

        return jax.lax.scan(step, state, jnp.arange(1500))[0]

    return learn(learner.init(fresh[: len(parts)])).prior.params


def risk_on_chain(measure, learned):
    """Estimates [state, action]."""
    actions = jnp.array([[-1.0], [1.0]])
    return jax.vmap(
        lambda state: jax.vmap(lambda a: measure.estimate(learned, state, a))(actions)
    )(jnp.eye(6)[:4])


def test_the_discounted_violation_probability_of_a_chain_is_learned():
    measure = violation_probability(RiskConfig(hidden=(32,), discount=DISCOUNT))
    recovery = recovery_policy(1, measure.estimate, (1,))
    critic_part, _ = safety_parts(measure, recovery, either_action, 0.0)
    (learned,) = learned_on_chain(measure, (critic_part,), recovery)
    expected = exact_risk()
    assert expected.min() < 0.1 < 0.6 < expected.max()  # neither all safe nor all not
    np.testing.assert_allclose(risk_on_chain(measure, learned), expected, atol=0.03)


# The avoid backup on the same chain


def avoidable_risk():
    """Q [state, action] of the policy that avoids: the least action from then on."""
    probabilities = TENTHS / 10
    q = np.zeros((4, 2))
    for _ in range(200):  # 0.8^200 is nothing
        q = probabilities[..., VIOLATING] + DISCOUNT * probabilities[..., :4] @ q.min(1)
    return q


def test_the_risk_of_the_recovery_policy_itself_is_learned_with_it():
    measure = avoid(RiskConfig(hidden=(32,), discount=DISCOUNT))
    recovery = recovery_policy(1, measure.logit, (32,))
    parts = safety_parts(measure, recovery, either_action, 0.0)
    learned, policy = learned_on_chain(measure, parts, recovery)
    expected = avoidable_risk()
    chosen = recovery.act(policy, jnp.eye(6)[:4])[:, 0]
    np.testing.assert_array_equal(np.sign(chosen), 2.0 * expected.argmin(1) - 1.0)
    assert len(set(expected.argmin(1))) == 2
    np.testing.assert_allclose(risk_on_chain(measure, learned), expected, atol=0.04)
    assert np.abs(expected - exact_risk()).max() > 0.2  # the random policy's is another


def test_each_risk_measure_has_its_choice():
    (field,) = (f for f in dataclasses.fields(RiskConfig) if f.name == "measure")
    assert field.metadata["choices"] == tuple(RISKS)
