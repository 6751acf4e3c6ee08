"""A filter as plain arrays decides as the filter, and never by what is not finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mesa_jax import dense
from mesa_jax.equations import recovery_switch
from mesa_jax.settings import SettingError
from tests.bridges.filters import fitted_of

NAN, INF = np.nan, np.inf
MEASURED = {"risk": {"measure": "avoid", "ensemble_size": 2}}
KINDS = [
    ("mesa", {}),
    ("multi_task", MEASURED),
    ("recovery_rl", {}),
    ("context", {}),
    ("mesa_context", MEASURED),
    ("system_id", {}),
    ("mesa_published", {}),  # latent layers
]


def asked(count=50):
    keys = jax.random.split(jax.random.key(5))
    observation = jnp.array([-30.0, 0.0]) + 30.0 * jax.random.normal(
        keys[0], (count, 2)
    )
    return observation, jax.random.uniform(keys[1], (count, 2), minval=-1.0)


@pytest.mark.parametrize(("method", "sections"), KINDS)
def test_plain_arrays_decide_as_the_filter(method, sections):
    guard, (observation, proposed) = fitted_of(method, **sections).guard, asked()
    risk = guard.risk(observation, proposed)
    rescue = guard.policy.act(guard.recovery, observation)
    expected = recovery_switch(risk, guard.threshold, proposed, rescue)
    found = dense.decide(dense.weights(guard), observation, proposed)
    assert 5 < expected.recovered.sum() < 45
    np.testing.assert_array_equal(found["recovered"], expected.recovered)
    np.testing.assert_allclose(found["action"], expected.action, atol=1e-6)
    np.testing.assert_allclose(found["risk"], risk, atol=1e-6)
    assert not found["fell_back"].any()


def test_nothing_that_is_not_finite_is_executed():
    """Threshold 0.5: the second row recovers, what follows lacks something."""
    good, proposed, rescue = [0.0, 0.0], [0.1, 0.2], [-1.0, 1.0]
    rows = [  # risk, observation, proposed, rescue -> action, recovered, fell_back
        (0.4, good, proposed, rescue, proposed, False, False),
        (0.6, good, proposed, rescue, rescue, True, False),
        (0.4, [NAN, 0.0], proposed, rescue, proposed, False, True),
        (0.4, good, [0.1, INF], rescue, rescue, True, True),
        (0.4, [NAN, 0.0], [0.1, INF], rescue, [0.0, 0.0], False, True),
        (NAN, good, proposed, rescue, rescue, True, True),
        (0.6, good, proposed, [NAN, 1.0], proposed, False, True),
        (0.4, good, proposed, [NAN, 1.0], proposed, False, False),  # never asked
    ]
    columns = [jnp.array(column) for column in zip(*rows, strict=True)]
    risk, observation, proposed, rescue, action, recovered, fell_back = columns
    found = dense.outcome(jnp.float32(0.5), risk, observation, proposed, rescue)
    np.testing.assert_allclose(found["action"], action)
    np.testing.assert_array_equal(found["recovered"], recovered)
    np.testing.assert_array_equal(found["fell_back"], fell_back)
    judged = [True, True, False, False, False, False, True, True]
    np.testing.assert_allclose(found["risk"], jnp.where(jnp.array(judged), risk, NAN))


def test_a_threshold_that_nothing_reaches_never_recovers():
    given = jnp.zeros((2, 1)), jnp.array([[0.1], [NAN]]), jnp.ones((2, 1))
    found = dense.outcome(jnp.float32(INF), jnp.array([0.9, NAN]), *given)
    np.testing.assert_allclose(found["action"], [[0.1], [0.0]])
    assert not found["recovered"].any()


def test_other_networks_are_refused_by_name():
    guard = fitted_of("mesa").guard
    unknown = guard.replace(critic=guard.critic | {"attention": jnp.ones(3)})
    with pytest.raises(SettingError, match=r"critic parameters.*attention"):
        dense.weights(unknown)
    layers = guard.recovery["network"]["params"]
    other = {"params": layers | {"LayerNorm_0": layers["Dense_0"]}}
    normed = guard.replace(recovery=guard.recovery | {"network": other})
    with pytest.raises(SettingError, match=r"layers of the recovery.*LayerNorm_0"):
        dense.weights(normed)


def test_a_filter_of_several_bodies_is_refused():
    guard = fitted_of("mesa").guard
    several = jax.tree.map(lambda x: jnp.stack([x, x]), guard)
    with pytest.raises(SettingError, match="of one body: take the i-th"):
        dense.weights(several)
