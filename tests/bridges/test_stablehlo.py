"""Exported programs run where there is JAX and nothing of this package."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from mesa_jax import dense
from mesa_jax.bridges import exporting, stablehlo
from tests.bridges.filters import fitted_of, transitions

ALONE = """
import sys
for name in ("mesa_jax", "flax", "optax", "brax"):
    sys.modules[name] = None  # importing it fails
from typing import Any, NamedTuple
import jax, numpy as np
import jax.export

class Transition(NamedTuple):
    observation: Any
    action: Any
    reward: Any
    cost: Any
    discount: Any
    next_observation: Any

jax.export.register_namedtuple_serialization(
    Transition, serialized_name="mesa_jax.Transition"
)
def load(name):
    with open(name, "rb") as file:
        return jax.export.deserialize(bytearray(file.read()))
stored = dict(np.load("check.npz"))
rows = Transition(*(stored["transition_" + k] for k in Transition._fields))
decide, adapt = load("decide.jaxexport"), load("adapt.jaxexport")
print(decide.platforms, adapt.platforms)
batch = decide.call(stored["observation"], stored["proposed"])
single = decide.call(stored["observation"][:1], stored["proposed"][:1])
np.testing.assert_allclose(single["risk"], batch["risk"][:1], atol=1e-6)
weights = adapt.call(stored["root"], rows)
fewer = adapt.call(stored["root"], jax.tree.map(lambda x: x[:7], rows))
again = load("decide_by_weights.jaxexport").call(
    fewer, stored["observation"], stored["proposed"]
)
np.savez("found.npz", **batch)
np.savez("adapted.npz", **weights)
np.savez("again.npz", **again)
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A filter, and the folder in which a process with JAX alone used its export."""
    folder = tmp_path_factory.mktemp("alone")
    fitted = fitted_of("mesa_context", inner_loop={"steps": 2})
    for name, content in exporting.export(fitted, {}).files.items():
        (folder / name).write_bytes(content)
    told = subprocess.run(
        [sys.executable, "-I", "-c", ALONE],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )
    assert told.returncode == 0, told.stderr
    return fitted, folder, told.stdout


def arrays_of(path):
    with np.load(path) as arrays:
        return dict(arrays)


def test_one_file_is_for_three_platforms(ran):
    assert ran[2].count("('cpu', 'cuda', 'tpu')") == 2


def test_jax_alone_decides_as_stored(ran):
    stored, found = arrays_of(ran[1] / "check.npz"), arrays_of(ran[1] / "found.npz")
    assert found.keys() == {"action", "risk", "recovered", "fell_back"}
    for name in ("action", "risk"):
        np.testing.assert_allclose(found[name], stored[name], atol=1e-5)
    for name in ("recovered", "fell_back"):
        np.testing.assert_array_equal(found[name], stored[name])


def test_jax_alone_adapts_to_any_number_of_transitions(ran):
    fitted, folder, _ = ran

    def expected(rows):
        critic, recovery = fitted.adapt(fitted.root, rows)
        return dense.weights(fitted.guard.replace(critic=critic, recovery=recovery))

    adapted = arrays_of(folder / "adapted.npz")
    wanted = expected(fitted.transitions)
    assert adapted.keys() == wanted.keys()
    for name, values in wanted.items():
        np.testing.assert_allclose(adapted[name], values, atol=1e-5)
    stored, again = arrays_of(folder / "check.npz"), arrays_of(folder / "again.npz")
    fewer = expected(jax.tree.map(lambda x: x[:7], fitted.transitions))
    found = dense.decide(fewer, stored["observation"], stored["proposed"])
    np.testing.assert_allclose(again["risk"], found["risk"], atol=1e-5)
    assert not np.allclose(again["risk"][:50], stored["risk"][:50], atol=1e-3)


SLOW = [pytest.param(m, marks=pytest.mark.slow) for m in ("multi_task", "recovery_rl")]


@pytest.mark.parametrize("method", ["mesa", "context", *SLOW])
def test_adaptation_is_exported_for_sets_of_any_size(method):
    fitted, rows = fitted_of(method), transitions(8, count=30)

    def adapt(root, rows):
        critic, recovery = fitted.adapt(root, rows)
        return dense.weights(fitted.guard.replace(critic=critic, recovery=recovery))

    program, any_count = stablehlo.adaptation(adapt, fitted.transitions)
    assert any_count
    found = stablehlo.loaded(program)(fitted.root, rows)
    for name, values in jax.jit(adapt)(fitted.root, rows).items():
        np.testing.assert_allclose(found[name], values, atol=1e-5)


def test_draws_without_replacement_are_exported_for_one_size():
    fitted = fitted_of("mesa_published", finetune={"batch_size": 16})

    def adapt(root, rows):
        critic, recovery = fitted.adapt(root, rows)
        return dense.weights(fitted.guard.replace(critic=critic, recovery=recovery))

    _, any_count = stablehlo.adaptation(adapt, fitted.transitions)
    assert not any_count
