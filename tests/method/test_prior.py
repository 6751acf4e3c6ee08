"""The safety half as parts of a prior: statistics, losses, Bellman error."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mesa_jax import replay
from mesa_jax.agents import recovery_policy
from mesa_jax.meta import (
    FinetuneConfig,
    MAMLConfig,
    PooledConfig,
    anil,
    maml,
    pooled,
)
from mesa_jax.prior import (
    MIN_STD,
    NEXT_ACTIONS,
    bellman_error,
    init_params,
    input_statistics,
    safety_parts,
    statistics,
)
from mesa_jax.risk import RiskConfig, avoid, violation_probability
from mesa_jax.types import RiskMeasure, TaskBatch, Transition

# Statistics and the Bellman error


def transitions(seed, *lead):
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return jnp.array(rng.normal(size=(*lead, *shape)), jnp.float32)

    def indicator():
        return jnp.array(rng.integers(0, 2, lead), jnp.float32)

    return Transition(
        normal(2), normal(1), normal(), indicator(), indicator(), normal(2)
    )


def test_statistics_are_moments_over_all_leading_axes():
    rows = transitions(0, 3, 20)
    rows = rows._replace(observation=rows.observation * jnp.array([5.0, 0.0]) + 7.0)
    found = statistics(rows)
    observation, action = np.reshape(rows.observation, (60, 2)), np.ravel(rows.action)
    np.testing.assert_allclose(found.observation_mean, observation.mean(0), rtol=1e-5)
    np.testing.assert_allclose(
        found.observation_std, [observation[:, 0].std(), MIN_STD], rtol=1e-5
    )
    np.testing.assert_allclose(found.action_mean, [action.mean()], rtol=1e-5)
    np.testing.assert_allclose(found.action_std, [action.std()], rtol=1e-5)


def known_risk() -> RiskMeasure:
    """An estimate and a target that NumPy can repeat; params are one number."""
    return RiskMeasure(
        init=None,
        estimate=lambda params, observation, action: params * action[..., 0],
        target=lambda params, batch, next_action: (
            batch.cost + params * next_action[:, 0]
        ),
        loss=None,
    )


def test_the_bellman_error_is_to_the_target_averaged_over_next_actions():
    rows, key = transitions(0, 12), jax.random.key(3)

    def policy(key, observation):
        return jax.random.normal(key, (*observation.shape[:-1], 1))

    error = bellman_error(key, known_risk(), policy, jnp.float32(0.5), rows)
    keys = jax.random.split(jax.random.key(3), NEXT_ACTIONS)
    drawn = np.stack([policy(key, rows.next_observation)[:, 0] for key in keys])
    target = (rows.cost + 0.5 * drawn).mean(0)
    residual = 0.5 * np.asarray(rows.action[:, 0]) - target
    np.testing.assert_allclose(error, np.mean(residual**2), rtol=1e-5)


# The parts of a prior


RISK = violation_probability(RiskConfig(hidden=(8,)))
RECOVERY = recovery_policy(1, RISK.estimate, (8,))


def half_action(key, observation):
    del key
    return jnp.full((*observation.shape[:-1], 1), 0.5)


@jax.jit
def params_of(key, rows):
    return init_params(key, RISK, RECOVERY, statistics(rows))


def fresh_params(seed=0):
    return params_of(jax.random.key(seed), transitions(9, 50))


def task_batch():
    return TaskBatch(transitions(1, 3, 6), transitions(2, 3, 6))


@pytest.mark.parametrize("anchor", [0.0, 0.4])
def test_the_critics_outer_loss_anchors_the_unadapted_critic(anchor):
    critic, _ = safety_parts(RISK, RECOVERY, half_action, anchor)
    prior, adapted = fresh_params(0)[0], fresh_params(1)[0]
    query = transitions(3, 6)
    asked = half_action(None, query.next_observation)
    own = [RISK.loss(p, p, query, asked)[0] for p in (adapted, prior)]
    loss, metrics = critic.outer_loss(
        jax.random.key(0), prior, adapted, prior, query, ()
    )
    np.testing.assert_allclose(loss, own[0] + anchor * own[1], rtol=1e-6)
    if anchor:
        np.testing.assert_allclose(metrics["risk/prior_loss"], own[1], rtol=1e-6)
    np.testing.assert_allclose(metrics["risk/loss"], own[0], rtol=1e-6)


@pytest.mark.parametrize(("whose", "row"), [("adapted", 1), ("inner", 2)])
def test_the_critics_outer_loss_bootstraps_from_whom_it_is_told(whose, row):
    critic, _ = safety_parts(RISK, RECOVERY, half_action, 0.0, whose)
    params = [fresh_params(i)[0] for i in range(3)]  # prior, adapted, inner target
    query = transitions(3, 6)
    asked = half_action(None, query.next_observation)
    loss, _ = critic.outer_loss(jax.random.key(0), *params, query, ())
    losses = [RISK.loss(params[1], target, query, asked)[0] for target in params]
    np.testing.assert_allclose(loss, losses[row], rtol=1e-6)
    assert len({float(x) for x in losses}) == 3


def test_the_critics_inner_loss_bootstraps_from_its_target_alone():
    critic, _ = safety_parts(RISK, RECOVERY, half_action, 1.0)
    params, target = fresh_params(0)[0], fresh_params(1)[0]
    batch = transitions(3, 6)
    asked = half_action(None, batch.next_observation)
    loss, _ = critic.inner_loss(jax.random.key(0), params, target, batch, ())
    np.testing.assert_allclose(loss, RISK.loss(params, target, batch, asked)[0])


def test_offline_targets_ask_the_reference_policy_with_their_key():
    seen = []

    def policy(key, observation):
        seen.append(jax.random.normal(key, (*observation.shape[:-1], 1)))
        return seen[-1]

    critic, _ = safety_parts(RISK, RECOVERY, policy, 1.0)
    params, batch = fresh_params()[0], transitions(3, 6)
    losses = [
        critic.inner_loss(jax.random.key(i), params, params, batch, ())[0]
        for i in range(2)
    ]
    expected = [RISK.loss(params, params, batch, asked)[0] for asked in seen]
    np.testing.assert_allclose(losses, expected)
    assert losses[0] != losses[1]


def test_the_risk_of_the_recovery_policy_asks_it_in_place_of_the_reference_policy():
    own, batch = avoid(RiskConfig(hidden=(8,))), transitions(3, 6)
    critic, _ = safety_parts(own, RECOVERY, half_action, 0.0)
    (params, policy), (target, _) = fresh_params(0), fresh_params(1)
    asked = RECOVERY.act(policy, batch.next_observation)
    inner, _ = critic.inner_loss(jax.random.key(0), params, target, batch, (policy,))
    np.testing.assert_allclose(inner, RISK.loss(params, target, batch, asked)[0])
    outer, _ = critic.outer_loss(
        jax.random.key(0), params, target, params, batch, (policy,)
    )
    np.testing.assert_allclose(outer, RISK.loss(target, target, batch, asked)[0])


def test_a_recovery_policy_that_is_asked_knows_what_the_critic_knows():
    own = avoid(RiskConfig(hidden=(8,), conditioning="encoded", encoding_size=3))
    recovery = recovery_policy(1, own.logit, (8,), encoding_size=own.encoding_size)
    batch = transitions(3, 6)
    inputs = input_statistics(batch, "standardized", changes=True)
    params, policy = init_params(jax.random.key(0), own, recovery, inputs)
    params = own.encode(params, batch)
    critic, _ = safety_parts(own, recovery, half_action, 0.0)
    loss, _ = critic.inner_loss(jax.random.key(0), params, params, batch, (policy,))
    knowing = recovery.condition(policy, params)
    asked = recovery.act(knowing, batch.next_observation)
    assert np.abs(asked - recovery.act(policy, batch.next_observation)).max() > 1e-3
    np.testing.assert_allclose(loss, own.loss(params, params, batch, asked)[0])


def test_the_recovery_policy_is_judged_by_the_adapted_critic():
    _, part = safety_parts(RISK, RECOVERY, half_action, 1.0)
    (critic, policy), (_, other) = fresh_params(0), fresh_params(1)
    batch = transitions(3, 6)
    actions = RECOVERY.act(policy, batch.observation)
    expected = np.mean(RISK.estimate(critic, batch.observation, actions))
    inner, _ = part.inner_loss(jax.random.key(0), policy, other, batch, (critic,))
    outer, _ = part.outer_loss(
        jax.random.key(1), other, policy, other, batch, (critic,)
    )
    np.testing.assert_allclose([inner, outer], expected, rtol=1e-6)


def learners(parts):
    config = MAMLConfig(inner_steps=2, steps=10)
    return {
        "maml": maml(parts, config),
        "pooled": pooled(
            parts, PooledConfig(steps=10), FinetuneConfig(), replay.sample_rows
        ),
    }


@pytest.mark.parametrize("name", ["maml", "pooled"])
def test_the_recovery_loss_sends_no_gradient_to_the_critic(name):
    parts = safety_parts(RISK, RECOVERY, half_action, 1.0)
    with_recovery = learners(parts)[name]
    alone = learners(parts[:1])[name]
    critic, policy = fresh_params()
    both, one = with_recovery.init((critic, policy)), alone.init((critic,))
    for i in range(2):
        both, _ = jax.jit(with_recovery.update)(jax.random.key(i), both, task_batch())
        one, _ = jax.jit(alone.update)(jax.random.key(i), one, task_batch())
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7),
        (both.prior.params[0], both.prior.rates[:1]),
        (one.prior.params[0], one.prior.rates),
    )
    moved = jax.tree.map(
        lambda new, old: np.abs(new - old).max(), both.prior.params[1], policy
    )
    assert min(jax.tree.leaves(moved["network"])) > 0.0  # while the policy learns
    np.testing.assert_array_equal(jax.tree.leaves(moved["statistics"]), 0.0)


def test_the_critics_outer_loss_consumes_its_key_once():
    def policy(key, observation):
        return jax.random.normal(key, (*observation.shape[:-1], 1))

    critic, _ = safety_parts(RISK, RECOVERY, policy, 1.0)
    params = fresh_params()[0]
    critic.outer_loss(jax.random.key(0), params, params, params, transitions(3, 6), ())


@pytest.mark.parametrize("conditioning", ["none", "encoded"])
def test_of_a_critic_and_of_a_policy_the_last_layer_is_the_head(conditioning):
    """An encoder has layers of the same names: they are no head."""
    risk = violation_probability(RiskConfig(hidden=(8, 7), conditioning=conditioning))
    recovery = recovery_policy(1, risk.estimate, (6,), encoding_size=risk.encoding_size)
    parts = safety_parts(risk, recovery, None, 1.0)
    rows = transitions(3, 12)
    inputs = input_statistics(rows, "standardized", conditioning == "encoded")
    prior = init_params(jax.random.key(0), risk, recovery, inputs)
    for part, params, last in zip(parts, prior, ("Dense_2", "Dense_1"), strict=True):
        marked = jax.tree_util.tree_leaves_with_path(part.head(params))
        found = {jax.tree_util.keystr(path) for path, mine in marked if mine}
        head = f"['network']['params']['{last}']"
        assert found == {f"{head}['kernel']", f"{head}['bias']"}


def test_head_only_adaptation_moves_the_last_layers_alone():
    risk = violation_probability(RiskConfig(hidden=(8, 7)))
    recovery = recovery_policy(1, risk.estimate, (6,))
    policy = lambda key, seen: jax.random.uniform(key, (*seen.shape[:-1], 1))  # noqa: E731
    parts = safety_parts(risk, recovery, policy, 1.0)
    rows = transitions(3, 12)
    params = init_params(jax.random.key(0), risk, recovery, statistics(rows))
    learner = anil(parts, MAMLConfig())
    prior = learner.init(params).prior
    adapted = learner.adapt(jax.random.key(1), prior, rows, 2)
    for part, before, after in zip(parts, params, adapted, strict=True):
        moved = jax.tree.map(lambda x, y: bool((x != y).any()), before, after)
        assert moved == part.head(before)
