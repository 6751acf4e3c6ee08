"""Encodings of adaptation sets, and what is conditioned on them."""

import functools
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mesa_jax import replay
from mesa_jax.agents import (
    RecoveryConfig,
    SACConfig,
    recovery_policy,
    recovery_rl,
    sac,
)
from mesa_jax.equations import inverse_softplus
from mesa_jax.meta import InnerLoopConfig, MAMLConfig, maml
from mesa_jax.meta.inner import InnerLoop, inner_gradient
from mesa_jax.meta.maml import _outer_loss
from mesa_jax.networks.encoder import conditioned, conditioned_size, set_encoder
from mesa_jax.networks.mlp import MLP, ensemble_apply, ensemble_init
from mesa_jax.online import readaptation
from mesa_jax.prior import init_params, input_statistics, safety_parts
from mesa_jax.risk import RiskConfig, violation_probability
from mesa_jax.run_state import OnlineConfig
from mesa_jax.settings import SettingError
from mesa_jax.types import DomainSpec, Parametrisation, Prior, TaskBatch
from tests.worlds import transitions

SIZE = 3
CONFIG = RiskConfig(
    hidden=(8,), conditioning="encoded", encoder=(6, 8), encoding_size=SIZE
)


def key():
    return jax.random.key(0)


def rows_of(*seeds, count=12):
    """Transitions [len(seeds), count, ...], stacked where there are several."""
    found = [transitions(seed, count) for seed in seeds]
    return jax.tree.map(stacked, *found) if found[1:] else found[0]


def stacked(*leaves):
    return jnp.asarray(np.stack(leaves))


def halves():
    """The risk measure, the recovery policy, and fresh parameters of both."""
    return _halves(jnp.zeros(()).dtype)


@functools.cache
def _halves(dtype):
    risk = violation_probability(CONFIG)
    policy = recovery_policy(1, risk.estimate, (8,), encoding_size=SIZE)

    @jax.jit
    def init(key, rows):
        inputs = input_statistics(rows, "standardized", changes=True)
        return init_params(key, risk, policy, inputs)

    params = init(key(), rows_of(0))
    return risk, policy, jax.tree.map(lambda x: x.astype(dtype), params)


def learner(inner_steps, anchor=0.0, adapted=None, **settings):
    risk, policy, params = halves()
    parts = safety_parts(risk, policy, _reference, anchor)
    config = MAMLConfig(inner_steps=inner_steps, anchor=anchor, steps=1000, **settings)
    adapted = InnerLoopConfig(inner_steps) if adapted is None else adapted
    return maml(parts, config, adapted), params


def _reference(key, observation):
    return jax.random.uniform(key, (*observation.shape[:-1], 1), minval=-1.0)


# The encoder


@jax.jit
def encoded(rows):
    statistics = input_statistics(rows_of(0), "standardized", changes=True)
    encoder = set_encoder((6, 8), SIZE)
    return encoder.encode(encoder.init(key(), statistics), statistics, rows)


def test_an_encoding_does_not_depend_on_the_order_of_the_rows():
    rows = rows_of(1)
    turned = jax.tree.map(lambda x: x[::-1], rows)
    assert encoded(rows).shape == (SIZE,)
    np.testing.assert_allclose(encoded(turned), encoded(rows), rtol=1e-5, atol=1e-6)


def test_an_encoding_does_not_depend_on_how_often_all_rows_are_there():
    rows = rows_of(1)
    twice = jax.tree.map(lambda x: jnp.concatenate([x, x]), rows)
    np.testing.assert_allclose(encoded(twice), encoded(rows), rtol=1e-5, atol=1e-6)


def test_an_encoding_weighs_rows_by_what_they_are():
    """Not their mean: two rows' encoding features need not lie half-way between."""
    statistics = input_statistics(rows_of(0), "standardized", changes=True)
    encoder = set_encoder((6, 8), SIZE)
    params = jax.jit(encoder.init)(key(), statistics)
    encode = jax.jit(lambda rows, p=params: encoder.encode(p, statistics, rows))
    rows = rows_of(1, count=2)
    one, other = (encode(jax.tree.map(lambda x: x[i : i + 1], rows)) for i in (0, 1))  # noqa: B023
    assert np.abs(encode(rows) - (one + other) / 2).max() > 1e-3
    flat = params | {"scores": jax.tree.map(jnp.zeros_like, params["scores"])}
    half = encode(rows, flat)  # without scores it is their mean
    np.testing.assert_allclose(half, (one + other) / 2, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("field", ["observation", "action", "cost", "next_observation"])
def test_every_column_of_a_transition_counts(field):
    rows = rows_of(1)
    other = rows._replace(**{field: getattr(rows, field).at[3].add(1.0)})
    assert np.abs(encoded(other) - encoded(rows)).max() > 1e-4


def test_what_does_not_tell_bodies_apart_does_not_count():
    rows = rows_of(1)
    other = rows._replace(reward=rows.reward + 1.0, discount=rows.discount + 1.0)
    np.testing.assert_array_equal(encoded(other), encoded(rows))


def test_a_set_of_one_row_can_be_encoded():
    assert np.isfinite(encoded(rows_of(1, count=1))).all()


def test_a_conditioned_network_takes_products_of_inputs_and_encoding():
    module, encoding = MLP((5,), 2), jnp.array([0.3, -1.2])
    inputs = jax.random.normal(key(), (4, 7, 3))
    size = conditioned_size(3, 2)
    assert size == 3 + 2 + 3 * 2 and conditioned_size(3, 0) == 3
    network = jax.tree.map(  # biases too
        lambda x: x + 0.1, ensemble_init(key(), module, 2, jnp.zeros(size))
    )
    own = conditioned(network, {"encoding": encoding})
    found = ensemble_apply(module, own, inputs)
    beside = jnp.broadcast_to(encoding, (4, 7, 2))
    products = (inputs[..., :, None] * encoding).reshape(4, 7, 6)
    wide = jnp.concatenate([inputs, beside, products], axis=-1)
    expected = ensemble_apply(module, network, wide)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert conditioned(network, {}) is network


def test_the_change_of_state_is_scaled_by_its_own_spread():
    rows = rows_of(0, count=400)
    found = input_statistics(rows, "standardized", changes=True)
    change = np.asarray(rows.next_observation - rows.observation)
    np.testing.assert_allclose(found.change_std, change.std(0), rtol=1e-5)
    assert input_statistics(rows, "raw", changes=False).change_std is None


# Conditioned critic and recovery policy


def test_encoding_changes_the_estimate_and_the_rescue_and_nothing_else():
    risk, policy, (critic, recovery) = halves()
    rows = rows_of(1)
    told = risk.encode(critic, rows)
    assert set(told) == set(critic)
    chex.assert_trees_all_equal(told | {"encoding": critic["encoding"]}, critic)
    estimates = [
        risk.estimate(p, rows.observation, rows.action) for p in (critic, told)
    ]
    assert np.abs(estimates[0] - estimates[1]).max() > 1e-4
    moved = policy.condition(recovery, told)
    np.testing.assert_array_equal(moved["encoding"], told["encoding"])
    rescues = [policy.act(p, rows.observation) for p in (recovery, moved)]
    assert np.abs(rescues[0] - rescues[1]).max() > 1e-4


def test_latent_weights_are_not_conditioned():
    with pytest.raises(SettingError, match="latent"):
        RiskConfig(conditioning="encoded", weights="latent")


def test_without_conditioning_nothing_is_encoded():
    risk = violation_probability(RiskConfig())
    policy = recovery_policy(1, risk.estimate)
    assert risk.encode is None and policy.condition is None
    parts = safety_parts(risk, policy, _reference, 1.0)
    assert [part.begin for part in parts] == [None, None]


# Adaptation and meta-training


def test_no_inner_step_is_one_forward_pass():
    learned, params = learner(0)
    support = rows_of(4)
    critic, recovery = learned.adapt(key(), learned.init(params).prior, support, 0)
    expected = halves()[0].encode(params[0], support)
    chex.assert_trees_all_close(critic, expected, atol=1e-6)
    np.testing.assert_allclose(recovery["encoding"], expected["encoding"], atol=1e-6)
    chex.assert_trees_all_equal(recovery["network"], params[1]["network"])


def test_inner_steps_move_weights_and_encoding_and_not_the_encoder():
    learned, params = learner(2)
    support = rows_of(4)
    prior = learned.init(params).prior
    before, after = (learned.adapt(key(), prior, support, k)[0] for k in (0, 2))
    chex.assert_trees_all_equal(after["encoder"], before["encoder"])
    assert np.abs(after["encoding"] - before["encoding"]).max() > 1e-5
    kernel = lambda p: jax.tree.leaves(p["network"])[0]  # noqa: E731
    assert np.abs(kernel(after) - kernel(before)).max() > 1e-5


def test_bodies_of_one_prior_adapt_apart():
    learned, params = learner(0)
    prior, sets = learned.init(params).prior, rows_of(4, 5)
    adapt = jax.vmap(lambda rows: learned.adapt(key(), prior, rows, 0))
    critic, recovery = adapt(sets)
    assert np.abs(critic["encoding"][0] - critic["encoding"][1]).max() > 1e-4
    np.testing.assert_array_equal(critic["encoding"], recovery["encoding"])


@pytest.mark.parametrize(("inner_steps", "anchor"), [(0, 0.0), (2, 0.5)])
def test_the_outer_gradient_reaches_the_encoder(inner_steps, anchor):
    """Against finite differences, in float64, in one direction of the encoder."""
    with jax.enable_x64(True):
        risk, policy, params = halves()
        parts = safety_parts(risk, policy, lambda k, o: 0.1 * o[..., :1], anchor)
        config = MAMLConfig(inner_steps=inner_steps, anchor=anchor, target_rate=0.0)
        batch = TaskBatch(rows_of(1, 2), rows_of(3, 4))
        # frozen targets, so that the loss's own derivative is what is asked for
        fixed = risk.encode(params[0], rows_of(9))

        def critic_inner(key, p, target, rows, given):
            del target, given
            return risk.loss(p, fixed, rows, rows.action)

        def critic_outer(key, begun, adapted, target, rows, given):
            loss, metrics = critic_inner(key, adapted, target, rows, given)
            before, _ = critic_inner(key, begun, target, rows, given)
            return loss + anchor * before, metrics

        critic = parts[0]._replace(inner_loss=critic_inner, outer_loss=critic_outer)

        loop = InnerLoop((critic,), inner_gradient, config.target_rate)
        rates = jax.tree.map(lambda x: jnp.full((), -1.0), params[:1])

        @jax.jit
        def loss(encoder):
            prior = Prior((params[0] | {"encoder": encoder},), rates)
            return _outer_loss(prior, key(), batch, loop, inner_steps)[0]

        encoder = params[0]["encoder"]
        direction = jax.tree.map(jnp.ones_like, encoder)
        step = lambda t: jax.tree.map(lambda x, d: x + t * d, encoder, direction)  # noqa: E731
        numeric = (loss(step(1e-5)) - loss(step(-1e-5))) / 2e-5
        exact = sum(map(jnp.sum, jax.tree.leaves(jax.jit(jax.grad(loss))(encoder))))
        assert abs(numeric) > 1e-6
        np.testing.assert_allclose(exact, numeric, rtol=1e-5)


def test_the_anchor_asks_the_encoded_critic():
    """Without an inner step it is the adapted one, so that both losses are the same."""
    risk, policy, params = halves()
    parts = safety_parts(risk, policy, lambda k, o: 0.1 * o[..., :1], 1.0)
    learned = maml(parts, MAMLConfig(inner_steps=0, anchor=1.0))
    batch = TaskBatch(rows_of(1, 2), rows_of(3, 4))
    metrics = jax.jit(learned.update)(key(), learned.init(params), batch)[1]
    np.testing.assert_allclose(
        metrics["risk/prior_loss"], metrics["risk/loss"], rtol=1e-6
    )


def test_an_outer_step_learns_encoder_critic_and_policy():
    learned, params = learner(0, outer_lr=1e-2)
    state = learned.init(params)
    batch = TaskBatch(rows_of(1, 2), rows_of(3, 4))
    after, metrics = jax.jit(learned.update)(key(), state, batch)
    for old, new in zip(state.prior.params, after.prior.params, strict=True):
        for name in set(old) - {"statistics", "encoding", "discount"}:
            pairs = zip(*map(jax.tree.leaves, (old[name], new[name])), strict=True)
            assert any(np.abs(a - b).max() > 1e-4 for a, b in pairs), name
        chex.assert_trees_all_equal(old["statistics"], new["statistics"])
    assert np.isfinite(metrics["risk/loss"])


def test_an_encoding_is_learned_that_tells_bodies_apart():
    """Two bodies whose violations have opposite causes: told from the set alone."""

    def judged(rows, sign):
        cost = (sign * rows.action[..., 0] > 0.0).astype(rows.reward.dtype)
        return rows._replace(cost=cost, discount=jnp.zeros_like(cost))

    learned, params = learner(0, outer_lr=1e-2)
    steps, signs = 300, np.array([[1.0], [-1.0]])
    rows = transitions(0, steps * 2 * 2 * 64)  # of support and query of both bodies
    rows = jax.tree.map(lambda x: x.reshape(steps, 2, 2, 64, *x.shape[1:]), rows)

    def step(state, drawn):
        i, rows = drawn
        support, query = (jax.tree.map(lambda x: x[j], rows) for j in (0, 1))  # noqa: B023
        batch = TaskBatch(support, query)
        return learned.update(jax.random.fold_in(key(), i), state, batch)[0], None

    learn = jax.jit(lambda *drawn: jax.lax.scan(step, learned.init(params), drawn)[0])
    prior = learn(jnp.arange(steps), judged(rows, signs)).prior
    risk, asked = halves()[0], transitions(10_001, 200)
    for sign in (1, -1):
        support = judged(transitions(10_000, 64), sign)
        critic = learned.adapt(key(), prior, support, 0)[0]
        found = risk.estimate(critic, asked.observation, asked.action) > 0.5
        assert np.mean(found == (sign * asked.action[:, 0] > 0)) > 0.9


def test_a_prior_without_inner_steps_takes_none_when_asked():
    learned, params = learner(0, adapted=InnerLoopConfig(5))
    prior = learned.init(params).prior
    none, five = (learned.adapt(key(), prior, rows_of(4), k) for k in (0, 5))
    chex.assert_trees_all_equal(five, none)


def test_inner_steps_are_taken_every_so_manieth_outer_step():
    """Those outer steps are `inner_every` 1's, the others a prior's that takes none."""
    batch = TaskBatch(rows_of(1, 2), rows_of(3, 4))
    kinds = (learner(k, **every)[0] for k, every in ((2, {}), (0, {})))
    full, none = (jax.jit(one.update) for one in kinds)
    mixed, params = learner(2, inner_every=3)
    state, update = mixed.init(params), jax.jit(mixed.update)
    for step in range(6):
        expected = (full if step % 3 == 2 else none)(key(), state, batch)
        state, metrics = update(key(), state, batch)
        chex.assert_trees_all_close((state, metrics), expected, atol=1e-6)
        rate = state.prior.rates[0]["network"]["params"]["Dense_0"]["kernel"]
        moved = np.abs(rate - inverse_softplus(0.1)) > 0
        assert moved == (step >= 2)  # rates learn from inner steps alone


# Online


class Run(NamedTuple):
    """What reading anew looks at of a run."""

    agent: Any
    safety_replay: Any


@pytest.mark.parametrize("start", ["prior", "current"])
def test_a_run_reads_its_latest_rows_when_it_is_due(start):
    risk, policy, params = halves()
    task_policy = sac(DomainSpec("probe", 2, 1, horizon=5), SACConfig(hidden=(4,)))
    agent = recovery_rl(task_policy, risk, policy, RecoveryConfig())

    @jax.jit
    def begun(params):
        state = agent.init(key(), *params, 0.3)
        return agent.update(key(), state, rows_of(1), rows_of(2), True, True)[0]

    state = begun(params)
    held = replay.fill(replay.init(20, tree_first(rows_of(1))), rows_of(1, count=12))
    run = Run(state, held)
    learned, params = learner(0)
    adapt = lambda key, prior, rows: learned.adapt(key, prior, rows, 0)  # noqa: E731
    online = OnlineConfig(readapt_transitions=5, readapt_from=start)
    once = jax.jit(readaptation(agent, online, adapt))
    prior = learned.init(params).prior
    read = once(key(), run, prior, jnp.array(True))
    before = {"prior": params, "current": agent.safety(state)}[start]
    last = jax.tree.map(lambda x: x[-5:], rows_of(1, count=12))
    expected = risk.encode(before[0], last)["encoding"]
    assert np.abs(expected - state.risk["encoding"]).max() > 1e-3
    for after, was in zip(agent.safety(read), before, strict=True):
        np.testing.assert_allclose(after["encoding"], expected, rtol=1e-5, atol=1e-6)
        chex.assert_trees_all_equal(after["network"], was["network"])
    chex.assert_trees_all_equal(read.sac, state.sac)
    chex.assert_trees_all_equal(once(key(), run, prior, jnp.array(False)), state)


def tree_first(rows):
    return jax.tree.map(lambda x: x[0], rows)


# Known parameters


def test_what_is_identified_is_the_encoding():
    known = Parametrisation(
        ("mean cost", "rows"),
        of=lambda task: task,
        identify=lambda rows: jnp.array([jnp.mean(rows.cost), len(rows.cost)]),
    )
    risk = violation_probability(RiskConfig(conditioning="identified"), known)
    inputs = input_statistics(rows_of(0), "standardized", changes=True)
    params = risk.init(key(), inputs)
    assert risk.encoding_size == 2 and params["encoding"].shape == (2,)
    read = risk.encode(params, rows_of(1, count=7))
    np.testing.assert_allclose(
        read["encoding"], [np.mean(rows_of(1, count=7).cost), 7.0]
    )
    one, other = (
        risk.estimate(p, rows_of(2).observation, rows_of(2).action)
        for p in (params, read)
    )
    assert np.abs(one - other).max() > 1e-3


def test_what_no_domain_knows_can_not_be_identified():
    with pytest.raises(SettingError, match="risk_conditioning"):
        violation_probability(RiskConfig(conditioning="identified"), None)
