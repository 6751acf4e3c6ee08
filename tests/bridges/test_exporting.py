"""An export is checked: what decides otherwise is an error, what lacks is said."""

import numpy as np
import pytest

from mesa_jax import bridges
from mesa_jax.bridges import exporting, numpy_filter, onnx, stablehlo
from mesa_jax.study.errors import ExportError
from tests.bridges.filters import fitted_of

JAX_ONLY = {"decide.jaxexport", "decide_by_weights.jaxexport", "adapt.jaxexport"}
NUMPY = {"filter.py", "check.py", "weights.npz"}


@pytest.fixture(scope="module")
def fitted():
    return fitted_of("mesa")


@pytest.fixture(autouse=True)
def few_calls(monkeypatch):
    monkeypatch.setattr(exporting, "CALLS", 20)
    monkeypatch.setattr(exporting, "ADAPTATIONS", 2)


@pytest.fixture
def without_onnx(monkeypatch):
    def missing(weights):
        raise bridges.MissingExtraError('pip install "mesa_jax[onnx]"')

    monkeypatch.setattr(onnx, "model", missing)


def test_a_form_without_its_extra_is_left_out_in_one_line(fitted, without_onnx):
    made = exporting.export(fitted, {})
    assert made.files.keys() == JAX_ONLY | NUMPY | {"check.npz", "export.json"}
    assert made.notes == ['ONNX is left out: pip install "mesa_jax[onnx]"']
    assert [x for line in made.lines for x in line.files if x not in made.files] == []
    assert all(line.difference <= 1e-5 for line in made.lines)
    assert all(line.p99 >= line.p50 > 0 for line in made.lines)
    for line in made.lines:
        assert line.size == sum(len(made.files[name]) for name in line.files)


def test_a_method_that_is_told_its_body_has_no_adaptation(fitted, without_onnx):
    made = exporting.export(fitted._replace(adapt=None), {})
    assert "adapt.jaxexport" not in made.files
    assert "adaptation is left out" in made.notes[-1]


def test_a_form_that_decides_otherwise_is_an_error(fitted, without_onnx, monkeypatch):
    honest = numpy_filter.Filter.decide

    def wrong(self, observation, proposed):
        action, info = honest(self, observation, proposed)
        return action, info | {"risk": info["risk"] + np.float32(2e-5)}

    monkeypatch.setattr(numpy_filter.Filter, "decide", wrong)
    with pytest.raises(ExportError, match=r"NumPy decides otherwise.*2\.0e-05"):
        exporting.export(fitted, {})


def test_a_form_that_errs_on_single_rows_alone_is_an_error(
    fitted, without_onnx, monkeypatch
):
    honest = numpy_filter.Filter.decide

    def wrong(self, observation, proposed):
        action, info = honest(self, observation, proposed)
        if np.ndim(observation) == 1:
            info = info | {"recovered": ~info["recovered"]}
        return action, info

    monkeypatch.setattr(numpy_filter.Filter, "decide", wrong)
    with pytest.raises(ExportError, match="differ by inf"):
        exporting.export(fitted, {})


def test_networks_that_are_described_wrongly_are_an_error(fitted, without_onnx):
    """As of a measure whose networks have our parameters, and other activations."""
    honest = fitted.guard.measure

    def estimate(params, observation, action):
        return honest.estimate(params, observation, action) ** 2

    guard = fitted.guard.replace(measure=honest._replace(estimate=estimate))
    with pytest.raises(ExportError, match="decides otherwise than JAX"):
        exporting.export(fitted._replace(guard=guard), {})


def test_an_adaptation_that_comes_out_otherwise_is_left_out(
    fitted, without_onnx, monkeypatch
):
    honest = stablehlo.loaded

    def other(program):
        run = honest(program)

        def call(*given):
            found = run(*given)
            name = "critic_bias_0"
            return found | {name: found[name] + 1e-3} if name in found else found

        return call

    monkeypatch.setattr(stablehlo, "loaded", other)
    made = exporting.export(fitted, {})
    assert "adapt.jaxexport" not in made.files
    assert "weights differ by 1.0e-03" in made.notes[-1]
