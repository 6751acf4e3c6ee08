"""ONNX models decide as JAX does, in onnxruntime; and say what they lack."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mesa_jax import bridges, dense
from mesa_jax.bridges import onnx as bridge
from mesa_jax.bridges import stablehlo
from tests.bridges.filters import fitted_of, transitions

NAMES = ("action", "risk", "recovered", "fell_back")
AVOID = {"risk": {"measure": "avoid", "ensemble_size": 3}}
KINDS = [
    ("mesa", {}),
    ("multi_task", AVOID),
    ("recovery_rl", {}),
    ("context", {}),
    ("mesa_context", AVOID),
    ("mesa_published", {}),
]


@pytest.fixture
def libraries():
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")


def weights_of(guard):
    return {k: np.asarray(x) for k, x in dense.weights(guard).items()}


def asked(count):
    rows = transitions(9, count=count)
    return np.array(rows.observation), np.array(rows.action)


@pytest.mark.parametrize(("method", "sections"), KINDS)
def test_a_model_decides_as_the_filter(libraries, method, sections):
    guard = fitted_of(method, **sections).guard
    decide = bridge.loaded(bridge.model(weights_of(guard)))
    for count in (1, 40):
        observation, proposed = asked(count)
        expected = jax.jit(stablehlo.decides(guard))(observation, proposed)
        found = decide(observation, proposed)
        assert found.keys() == set(NAMES)
        np.testing.assert_array_equal(found["recovered"], expected["recovered"])
        np.testing.assert_allclose(found["action"], expected["action"], atol=1e-5)
        np.testing.assert_allclose(found["risk"], expected["risk"], atol=1e-5)
    assert 0 < found["recovered"].sum() < 40


def test_a_model_executes_nothing_that_is_not_finite(libraries):
    guard = fitted_of("mesa").guard
    observation, proposed = asked(6)
    observation[1, 0], proposed[2, 1], observation[3] = np.nan, np.inf, -np.inf
    proposed[4] = np.nan
    found = bridge.loaded(bridge.model(weights_of(guard)))(observation, proposed)
    rescue = guard.policy.act(guard.recovery, observation)
    np.testing.assert_array_equal(found["fell_back"], [False] + 4 * [True] + [False])
    np.testing.assert_array_equal(found["action"][[1, 3]], proposed[[1, 3]])
    np.testing.assert_allclose(
        found["action"][[2, 4]], rescue[jnp.array([2, 4])], atol=1e-5
    )
    np.testing.assert_array_equal(found["recovered"][1:5], [False, True, False, True])
    assert np.isnan(found["risk"][1:5]).all()
    assert np.isfinite(found["risk"][[0, 5]]).all()


def test_a_threshold_that_nothing_reaches_never_recovers(libraries):
    guard = fitted_of("mesa").guard
    never = weights_of(guard) | {"threshold": np.float32(np.inf)}
    observation, proposed = asked(20)
    found = bridge.loaded(bridge.model(never))(observation, proposed)
    assert not found["recovered"].any()
    np.testing.assert_array_equal(found["action"], proposed)


def test_the_model_asks_for_no_new_runtime(libraries):
    onnx = importlib.import_module("onnx")
    model = onnx.load_from_string(bridge.model(weights_of(fitted_of("mesa").guard)))
    assert (model.ir_version, model.opset_import[0].version) == (8, 17)
    assert {node.domain for node in model.graph.node} == {""}  # the standard's own


def test_a_missing_extra_is_named(monkeypatch):
    def refuse(name, *rest):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(bridges.MissingExtraError, match=r"mesa_jax\[onnx\]"):
        bridge.model({})
    with pytest.raises(bridges.MissingExtraError, match=r"mesa_jax\[onnx\]"):
        bridge.loaded(b"")
