"""The NumPy module decides as JAX, where JAX is not installed; and its check sees."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest

from mesa_jax import dense
from mesa_jax.bridges import exporting, numpy_check, numpy_filter
from tests.bridges.filters import fitted_of

BLOCKED = """
import sys
for name in ("jax", "jaxlib", "flax", "scipy", "mesa_jax"):
    sys.modules[name] = None  # importing it fails
sys.path.insert(0, ".")
"""


def run(folder, code):
    command = [sys.executable, "-I", "-c", BLOCKED + code]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=60
    )


@pytest.fixture(scope="module")
def robot(tmp_path_factory):
    """A folder as it lies on a robot."""
    folder = tmp_path_factory.mktemp("robot")
    fitted = fitted_of("mesa_context", risk={"ensemble_size": 2})
    for name, content in exporting.export(fitted, {}).files.items():
        (folder / name).write_bytes(content)
    return folder


def stored_of(folder):
    with np.load(folder / "check.npz") as arrays:
        return dict(arrays)


def test_a_robot_with_numpy_alone_decides_as_stored(robot):
    stored = stored_of(robot)
    code = """
import numpy as np
from filter import decide
stored = np.load("check.npz")
action, info = decide(stored["observation"], stored["proposed"])
one, told = decide(stored["observation"][3], stored["proposed"][3])
np.savez("found.npz", action=action, one=one, one_risk=told["risk"], **info)
print(one.shape, told["risk"].shape, bool(told["recovered"]))
"""
    ran = run(robot, code)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["(2,)", "()", str(stored["recovered"][3])]
    with np.load(robot / "found.npz") as arrays:
        found = dict(arrays)
    for name in ("action", "risk"):
        np.testing.assert_allclose(found[name], stored[name], atol=1e-5)
    for name in ("recovered", "fell_back"):
        np.testing.assert_array_equal(found[name], stored[name])
    np.testing.assert_allclose(found["one"], stored["action"][3], atol=1e-5)
    np.testing.assert_allclose(found["one_risk"], stored["risk"][3], atol=1e-5)


def test_what_is_stored_tells_every_case(robot):
    stored = stored_of(robot)
    assert stored["fell_back"].sum() == stored["fell_back"][-4:].sum() == 4
    assert 20 < stored["recovered"].sum() < len(stored["recovered"]) - 20
    assert np.isfinite(stored["action"]).all()
    np.testing.assert_array_equal(stored["recovered"][-4:], [False, True, True, False])
    np.testing.assert_array_equal(stored["action"][-4], stored["proposed"][-4])
    np.testing.assert_array_equal(stored["action"][-1], 0.0)


def test_the_check_of_a_robot_sees_other_weights(robot, tmp_path):
    code = "import runpy; runpy.run_path('check.py', run_name='__main__')"
    ran = run(robot, code)
    assert ran.returncode == 0, ran.stderr
    assert "largest difference" in ran.stdout
    assert "p99" in ran.stdout
    for path in robot.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = dict(np.load(robot / "weights.npz"))
    weights["critic_bias_2"] = weights["critic_bias_2"] + 1e-3
    np.savez(tmp_path / "weights.npz", **weights)
    assert run(tmp_path, code).returncode == 1


def test_the_module_is_short():
    lines = pathlib.Path(numpy_filter.__file__).read_text(encoding="utf-8").splitlines()
    assert len(lines) < 100


@pytest.fixture(scope="module")
def small():
    guard = fitted_of("mesa").guard
    return numpy_filter.Filter(
        {k: np.asarray(x) for k, x in dense.weights(guard).items()}
    )


@pytest.mark.parametrize(
    ("observation", "proposed"),
    [
        (np.zeros(3), np.zeros(2)),
        (np.zeros(2), np.zeros((1, 2))),
        (np.zeros((4, 2)), np.zeros((3, 2))),
        (np.zeros((2, 2, 2)), np.zeros((2, 2, 2))),
        (0.0, np.zeros(2)),
    ],
)
def test_other_shapes_are_refused(small, observation, proposed):
    with pytest.raises(ValueError, match=r"must be \[2\] and \[2\], or batches"):
        small.decide(observation, proposed)


def test_arguments_and_earlier_answers_are_left_alone(small):
    observation, proposed = np.zeros((3, 2), np.float32), np.zeros((3, 2), np.float32)
    proposed[0] = np.nan
    given = observation.copy(), proposed.copy()
    first, told = small.decide(observation, proposed)
    kept = first.copy(), told["risk"].copy()
    small.decide(observation + 5.0, proposed + 1.0)
    np.testing.assert_array_equal(observation, given[0])
    np.testing.assert_array_equal(proposed, given[1])
    np.testing.assert_array_equal(first, kept[0])
    np.testing.assert_array_equal(told["risk"], kept[1])


def test_a_batch_of_none_is_a_batch(small):
    action, info = small.decide(np.zeros((0, 2)), np.zeros((0, 2)))
    assert action.shape == (0, 2)
    assert info["risk"].shape == (0,)


STORED = {
    "threshold": np.float32(0.5),
    "action": np.array([[0.1], [0.2], [0.3]]),
    "risk": np.array([0.4, 0.5 + 5e-6, np.nan]),
    "recovered": np.array([False, True, False]),
    "fell_back": np.array([False, False, True]),
}


def found(**changes):
    info = {k: STORED[k].copy() for k in ("risk", "recovered", "fell_back")}
    action = STORED["action"].copy()
    for name, (at, value) in changes.items():
        (action if name == "action" else info[name])[at] = value
    return action, info


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 0.0),
        ({"risk": (0, 0.41)}, 0.01),
        ({"action": (2, 0.5)}, 0.2),
        ({"recovered": (0, True)}, np.inf),
        ({"fell_back": (2, False)}, np.inf),
        ({"recovered": (1, False), "action": (1, -0.9)}, 0.0),  # at the threshold
        ({"risk": (0, np.nan)}, np.nan),  # which is within nothing
    ],
)
def test_differences_are_seen_but_at_the_threshold(changes, expected):
    gap = numpy_check.difference(STORED, *found(**changes))
    np.testing.assert_allclose(gap, expected, atol=1e-9)
