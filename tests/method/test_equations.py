"""Each equation against numbers worked out by hand or by SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mesa_jax import equations
from mesa_jax.networks.mlp import LOG_STD_RANGE, sample_squashed, squashed_gaussian


@pytest.mark.parametrize("next_risk", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("discount", [0.0, 0.8, 1.0])
def test_violation_is_certain_risk(discount, next_risk):
    assert equations.risk_backup(jnp.float32(1.0), discount, next_risk) == 1.0


def test_a_safe_step_passes_on_the_discounted_next_risk():
    backup = equations.risk_backup(jnp.float32(0.0), 0.8, 0.5)
    np.testing.assert_allclose(backup, 0.8 * 0.5, rtol=1e-6)


def test_termination_cuts_the_risk_bootstrap():
    assert equations.risk_backup(jnp.float32(0.0), 0.0, 0.9) == 0.0


def test_soft_q_backup_takes_the_lower_twin_and_adds_entropy():
    next_q = jnp.array([5.0, 3.0])
    backup = equations.soft_q_backup(2.0, 0.9, next_q, -1.5, 0.2)
    np.testing.assert_allclose(backup, 2.0 + 0.9 * (3.0 + 0.2 * 1.5), rtol=1e-6)


def test_termination_cuts_the_soft_q_bootstrap():
    assert equations.soft_q_backup(2.0, 0.0, jnp.array([5.0, 3.0]), -1.5, 0.2) == 2.0


def test_no_gradient_passes_a_backup():
    risk = jax.grad(equations.risk_backup, argnums=(0, 1, 2))(0.25, 0.8, 0.5)
    soft_q = jax.grad(equations.soft_q_backup, argnums=(0, 1, 2, 3, 4))(
        2.0, 0.9, jnp.array([5.0, 3.0]), -1.5, 0.2
    )
    for gradient in (*risk, *soft_q):
        np.testing.assert_array_equal(gradient, 0.0)


def test_a_backup_is_of_one_example():
    with pytest.raises(AssertionError, match="rank"):
        equations.risk_backup(jnp.zeros(3), jnp.zeros(3), jnp.zeros(3))
    with pytest.raises(AssertionError, match="rank"):
        equations.soft_q_backup(*(jnp.zeros(()),) * 5)


def test_temperature_loss_is_the_temperature_times_the_missing_entropy():
    # alpha 0.2, log pi -1 (entropy 1), wanted entropy -2: -0.2 * (-1 - 2)
    loss = equations.temperature_loss(jnp.log(0.2), jnp.float32(-1.0), -2.0)
    np.testing.assert_allclose(loss, 0.6, rtol=1e-6)


@pytest.mark.parametrize(("log_prob", "falls"), [(-1.0, True), (3.0, False)])
def test_descent_lowers_the_temperature_where_entropy_exceeds_its_target(
    log_prob, falls
):
    gradient = jax.grad(equations.temperature_loss)(jnp.log(0.2), log_prob, -2.0)
    assert (gradient > 0.0) == falls  # entropy -log_prob against -2


def test_no_gradient_reaches_the_policy_from_the_temperature():
    gradient = jax.grad(equations.temperature_loss, argnums=1)(0.0, 0.5, -2.0)
    assert gradient == 0.0


@pytest.mark.parametrize(("rate", "moved"), [(0.0, 2.0), (0.25, 3.0), (1.0, 6.0)])
def test_polyak_moves_targets_a_share_of_the_way(rate, moved):
    target = {"a": jnp.array([2.0]), "b": jnp.float32(-2.0)}
    online = {"a": jnp.array([6.0]), "b": jnp.float32(-6.0)}
    result = equations.polyak(target, online, rate)
    np.testing.assert_allclose(result["a"], [moved])
    np.testing.assert_allclose(result["b"], -moved)


def test_sgd_has_a_rate_a_tensor():
    params = (jnp.array([1.0, 2.0]), jnp.float32(3.0))
    gradients = (jnp.array([10.0, -10.0]), jnp.float32(2.0))
    moved = equations.sgd(params, gradients, (0.1, 0.5))
    np.testing.assert_allclose(moved[0], [1.0 - 1.0, 2.0 + 1.0])
    np.testing.assert_allclose(moved[1], 3.0 - 0.5 * 2.0)


@pytest.mark.parametrize("rate", [1e-3, 0.1, 2.0])
def test_softplus_of_its_inverse_is_the_value(rate):
    rho = equations.inverse_softplus(rate)
    np.testing.assert_allclose(np.log1p(np.exp(rho)), rate, rtol=1e-5)


@pytest.mark.parametrize("condition", [True, False])
def test_select_takes_a_whole_tree(condition):
    new, old = (jnp.ones(2), jnp.float32(1.0)), (jnp.zeros(2), jnp.float32(0.0))
    for leaf in equations.select(jnp.array(condition), new, old):
        np.testing.assert_array_equal(leaf, float(condition))


def test_standard_deviation_is_clipped_and_mean_is_not():
    mean, std = squashed_gaussian(jnp.array([50.0, -50.0, 50.0, -50.0]))
    low, high = LOG_STD_RANGE
    np.testing.assert_array_equal(mean, [50.0, -50.0])
    np.testing.assert_allclose(std, [np.exp(high), np.exp(low)], rtol=1e-6)


def test_squashed_density_is_the_slope_of_its_distribution_function(float64):
    mean, std = np.array([0.3, -0.8]), np.array([0.7, 0.2])
    keys = jax.random.split(jax.random.key(0), 50)
    actions, log_probs = jax.vmap(sample_squashed, in_axes=(0, None, None))(
        keys, jnp.array(mean), jnp.array(std)
    )

    def below(action):  # P(tanh(u) <= action), each dimension
        return stats.norm.cdf((np.arctanh(action) - mean) / std)

    step = 1e-6
    slope = (below(actions + step) - below(actions - step)) / (2 * step)
    np.testing.assert_allclose(log_probs, np.log(slope).sum(-1), atol=1e-5)


def test_squashed_density_keeps_its_digits_in_the_tails():
    means = np.array([0.0, -30.0, -12.0, 12.0, 30.0])  # tanh is +-1 in float32
    std, key = 1e-3, jax.random.key(0)
    _, log_probs = jax.vmap(lambda mean: sample_squashed(key, mean, std))(
        jnp.array(means)[:, None]
    )
    # the same noise at every mean, so that only the slope 1 / cosh^2 differs
    log_slope = -2.0 * (np.logaddexp(means, -means) - np.log(2.0))
    within = 2 * std * 5.0  # slopes change by at most 2 a unit; |noise| < 5
    np.testing.assert_allclose(log_probs - log_probs[0], -log_slope, atol=within)
