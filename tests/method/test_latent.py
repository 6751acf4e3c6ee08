"""Latent layers: what they generate, and that the low-rank inner step is exact."""

import functools

import chex
import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest

from mesa_jax.agents import recovery_policy
from mesa_jax.configuration import override
from mesa_jax.meta import MAMLConfig, first_order, maml
from mesa_jax.meta.inner import PLAIN, descend, inner_gradient
from mesa_jax.networks import latent
from mesa_jax.networks.latent import LOW_RANK
from mesa_jax.networks.mlp import MLP, ensemble_init
from mesa_jax.prior import init_params, safety_parts
from mesa_jax.risk import RiskConfig, violation_probability
from mesa_jax.settings import SettingError
from mesa_jax.study.resolve import resolve
from mesa_jax.types import Statistics, TaskBatch
from tests.worlds import transitions

SIZE, WIDTHS, INPUTS = 6, (5, 4), 3  # observations of 2, actions of 1
STEPS = pytest.mark.parametrize("steps", [1, 3])
CONFIG = RiskConfig(hidden=WIDTHS, weights="latent", latent_size=SIZE)


def key():
    return jax.random.key(0)


def statistics():
    return Statistics(jnp.zeros(2), jnp.ones(2), jnp.zeros(1), jnp.ones(1))


def critic(members=1):
    """The risk measure, and parameters whose every tensor matters."""
    risk, params = _critic(members)
    return risk, precise(params)


@functools.cache
def _critic(members):
    config = RiskConfig(
        hidden=WIDTHS, weights="latent", latent_size=SIZE, ensemble_size=members
    )
    risk = violation_probability(config)
    with jax.enable_x64(False):
        return risk, jax.jit(lambda: risk.init(key(), statistics()))()


def precise(params):
    """Parameters in the precision of the test."""
    return jax.tree.map(lambda x: x.astype(jnp.zeros(()).dtype), params)


# Generation


def test_a_layers_weights_are_basis_times_latent_plus_offset():
    params = critic(members=2)[1]["network"]
    made = latent.generate(params)
    for name, layer in params["params"].items():
        for member in range(2):
            z, basis, offset = (np.asarray(x[member]) for x in layer)
            expected = np.array(
                [
                    [basis[i, o] @ z + offset[i, o] for o in range(offset.shape[1])]
                    for i in range(offset.shape[0])
                ]
            )
            kernel, bias = (made["params"][name][k][member] for k in ("kernel", "bias"))
            np.testing.assert_allclose(kernel, expected[:-1], rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(bias, expected[-1], rtol=1e-5, atol=1e-6)


def test_generated_weights_fit_the_network_and_are_their_own_generation():
    module, inputs = MLP(WIDTHS, 1), jnp.zeros(INPUTS)
    plain = ensemble_init(key(), module, 2, inputs)
    made = latent.generate(critic(members=2)[1]["network"])
    chex.assert_trees_all_equal_shapes_and_dtypes(made, plain)
    chex.assert_trees_all_equal(latent.generate(made), made)


def test_tensors_start_as_published():
    """The released code: z ~ N(0, 1 / outputs), F and f uniform in +-1 / sqrt(100)."""
    module = MLP((100, 100, 100), 1)

    @jax.jit
    def init():
        return latent.init(key(), ensemble_init(key(), module, 1, jnp.zeros(4)), 100)

    network = init()
    count = sum(x.size for x in jax.tree.leaves(network))
    weights = 4 * 100 + 100 + 2 * (100 * 100 + 100) + 100 + 1
    assert count == 101 * weights + 4 * 100  # 2.1 million
    for layer in network["params"].values():
        outputs = layer.offset.shape[-1]
        assert np.std(layer.z) * outputs == pytest.approx(1.0, abs=0.25)
        for tensor in layer[1:]:
            assert np.abs(tensor).max() <= 0.1
        assert np.std(layer.basis) == pytest.approx(0.1 / np.sqrt(3), rel=0.05)


# Inner steps


def rates_of(params):
    """A rate a tensor, each another one."""
    leaves, structure = jax.tree.flatten(params)
    return structure.unflatten(
        [jnp.asarray(0.3 + 0.05 * i, x.dtype) for i, x in enumerate(leaves)]
    )


def descent(risk, target_rate, steps, params, rates, space):
    """Weights after inner steps and their target's, on one task."""

    def inner(key, params, target, batch, given):
        next_action = jnp.zeros_like(batch.action)
        return risk.loss(params, target, batch, next_action)

    adapted, target = descend(
        key(),
        inner_gradient(inner),
        params,
        rates,
        target_rate,
        transitions(1),
        (),
        steps,
        space,
    )
    return tuple(latent.generate(x["network"]) for x in (adapted, target))


@STEPS
@pytest.mark.parametrize(("target_rate", "members"), [(0.0, 1), (0.4, 2), (1.0, 1)])
def test_low_rank_steps_are_the_plain_ones(float64, target_rate, members, steps):
    risk, params = critic(members)

    @jax.jit
    def both(params, rates):
        arguments = risk, target_rate, steps, params, rates
        return descent(*arguments, space=LOW_RANK), descent(*arguments, space=PLAIN)

    (found, found_target), (expected, expected_target) = both(params, rates_of(params))
    chex.assert_trees_all_close(found, expected, rtol=1e-9, atol=1e-12)
    chex.assert_trees_all_close(found_target, expected_target, rtol=1e-9, atol=1e-12)
    start = latent.generate(params["network"])
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), expected, start)
    assert min(jax.tree.leaves(moved)) > 1e-4  # a step of nothing would prove nothing


@STEPS
@pytest.mark.parametrize("target_rate", [0.0, 0.4])
def test_low_rank_outer_gradients_are_the_plain_ones(float64, target_rate, steps):
    risk, params = critic()

    def outer(space, params, rates):
        adapted, target = descent(risk, target_rate, steps, params, rates, space)
        query, action = transitions(2), jnp.zeros((12, 1))
        beside = {"statistics": statistics(), "discount": 0.8}
        given = [{"network": x} | beside for x in (adapted, target)]
        return risk.loss(*given, query, action)[0]

    found, expected = (
        jax.jit(jax.grad(functools.partial(outer, space), argnums=(0, 1)))(
            params, rates_of(params)
        )
        for space in (LOW_RANK, PLAIN)
    )
    chex.assert_trees_all_close(found, expected, rtol=1e-9, atol=1e-13)
    for gradient in expected:  # of every tensor and of every rate
        sizes = [np.abs(x).max() for x in jax.tree.leaves(gradient["network"])]
        assert len(sizes) == 9 and min(sizes) > 1e-9


@pytest.mark.parametrize("steps", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_meta_training_of_a_latent_critic_is_the_plain_computation(float64, steps):
    """The whole outer step: several tasks, anchor, recovery policy, Adam."""
    risk, _ = critic()
    recovery = recovery_policy(1, risk.estimate, (3,))

    def reference(key, observation):
        return jax.random.uniform(key, (*observation.shape[:-1], 1), minval=-1.0)

    config = MAMLConfig(
        steps=10, inner_steps=steps, inner_lr=0.3, outer_lr=0.01, target_rate=0.4
    )
    batch = TaskBatch(transitions(3, tasks=3), transitions(4, tasks=3))
    params = jax.jit(lambda: init_params(key(), risk, recovery, statistics()))()
    ends = []
    for space in (LOW_RANK, None):
        parts = safety_parts(risk, recovery, reference, 0.5, "inner", space)
        learner = maml(parts, config)
        state = learner.init(precise(params))
        update = jax.jit(learner.update)
        for i in range(2):
            state, metrics = update(jax.random.key(i), state, batch)
        ends.append((state.prior, metrics))
    chex.assert_trees_all_close(*ends, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("learner", "config", "named"),
    [(maml, MAMLConfig(inner_clip=1.0), "inner_clip"), (first_order, None, "learner")],
)
def test_what_adapts_otherwise_than_it_trains_is_refused(learner, config, named):
    """Training's bound would be on another gradient than adaptation's."""
    risk, _ = critic()
    recovery = recovery_policy(1, risk.estimate, (3,))
    parts = safety_parts(risk, recovery, lambda k, o: o, 0.5, "inner", LOW_RANK)
    with pytest.raises(SettingError, match=f"{named} must be .* latent"):
        learner(parts, config or MAMLConfig())


@pytest.mark.parametrize(
    "maml", [{"inner_clip": 1.0}, {"learner": "first_order"}], ids=str
)
def test_settings_of_a_latent_critic_are_checked_by_name(maml):
    settings = resolve("navigation1", "published", "quick")
    (name,) = maml
    latent = {"risk": {"weights": "latent"}, "maml": maml}
    with pytest.raises(SettingError, match=f"maml_{name} must be .*--risk_weights"):
        override(settings, latent)


def test_single_precision_keeps_six_digits():
    risk, params = critic()
    found, expected = (
        jax.jit(functools.partial(descent, risk, 0.0, 3, space=space))(
            params, rates_of(params)
        )[0]
        for space in (LOW_RANK, PLAIN)
    )
    chex.assert_trees_all_close(found, expected, atol=2e-6)


def test_other_parameters_of_a_latent_tree_descend_as_they_are():
    gradient = inner_gradient(lambda key, p, t, b, g: (jnp.sum(p["x"] ** 2), {}))
    params = {"x": jnp.array([1.0, -2.0])}
    adapted, _ = descend(
        key(),
        gradient,
        params,
        {"x": 0.25},
        0.0,
        None,
        (),
        2,
        LOW_RANK,
    )
    np.testing.assert_allclose(adapted["x"], [0.25, -0.5])


def test_no_task_has_a_copy_of_the_basis():
    """The point of it: nothing in an outer step is as large as tasks x basis."""
    risk, _ = critic()
    recovery = recovery_policy(1, risk.estimate, (3,))
    tasks = 64

    def largest(space):
        parts = safety_parts(
            risk, recovery, lambda k, o: o[..., :1], 0.0, "adapted", space
        )
        learner = maml(parts, MAMLConfig(inner_steps=1))
        init = lambda: learner.init(init_params(key(), risk, recovery, statistics()))  # noqa: E731
        state = jax.eval_shape(init)
        batch = TaskBatch(transitions(3, 2, tasks), transitions(4, 2, tasks))
        jaxpr = jax.make_jaxpr(learner.update)(key(), state, batch)
        return max(x.size for x in _values(jaxpr.jaxpr) if hasattr(x, "size"))

    basis = max(layer.basis.size for layer in critic()[1]["network"]["params"].values())
    assert largest(None) >= tasks * basis > 2 * largest(LOW_RANK)


def _values(jaxpr):
    for equation in jaxpr.eqns:
        yield from (v.aval for v in equation.outvars)
        for sub in jax.extend.core.jaxprs_in_params(equation.params):
            yield from _values(sub)
