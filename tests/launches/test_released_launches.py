"""Launches of the released code's rows."""

import jax
import numpy as np
import pytest

from experiments import evaluate
from mesa_jax.study import estimates
from mesa_jax.study.artifacts import data as data_artifacts
from tests.launching import TINY, launch, run_here

pytestmark = pytest.mark.slow  # three programs of their own, a minute


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A tiny evaluation of the three rows."""
    place = tmp_path_factory.mktemp("released") / "w"
    sections = {
        "data": TINY["data"] | {"transitions": 301, "adaptation": 61},
        "maml": TINY["maml"] | {"support_size": 17, "query_size": 17},
        "pooled": {"steps": 5, "query_size": 17},
    }
    methods = ("recovery_rl_published", "multi_task_published", "mesa_published")
    asked = launch(place, methods, **sections)
    return asked, run_here(asked, evaluate.main)


def test_published_rows_are_evaluated_beside_each_other(tiny):
    asked, output = tiny
    for method in asked.asked.methods:
        assert f"[evaluate] {method}: 2 bodies" in output
        kept = np.load(estimates.stored(asked.study, method, 0))
        assert np.isfinite(kept["estimates"]).all()
    assert (asked.study.folder / "report" / "risk_maps_bodies.png").exists()


def test_a_published_row_adapts_on_another_bodys_transitions(tiny):
    asked, _ = tiny
    theirs = data_artifacts.load_test_bodies(asked.of("mesa_published"), (0,))
    ours = data_artifacts.load_test_bodies(asked.study, (0,))
    jax.tree.map(np.testing.assert_array_equal, theirs.tasks, ours.tasks)

    def gain(found):
        moved = found.rows.next_observation - found.rows.observation
        x, a = moved[0, :, 0], found.rows.action[0, :, 0]
        return float((x * a).sum() / (a * a).sum())

    own = float(ours.tasks.gain[0, 0, 0])
    assert abs(gain(ours) - own) < 0.05 < abs(gain(theirs) - own)
