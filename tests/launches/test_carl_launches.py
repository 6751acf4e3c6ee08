"""Launches of what plans in a model."""

import numpy as np
import pytest

from experiments import online
from mesa_jax.study import records
from tests.launching import EPISODES, SEEDS, launch, run_here

pytestmark = pytest.mark.slow  # two programs of their own

PLANNER = {"horizon": 3, "candidates": 8, "elites": 2, "iterations": 2}


def test_what_plans_runs_beside_what_does_not_and_goes_on(tmp_path):
    asked = launch(
        tmp_path / "w", ("unconstrained", "carl", "carl_reward"), planner=PLANNER
    )
    first = run_here(asked, online.main)
    rows = records.RESULTS.read(asked.study.folder)
    rows = [row for row in rows if row["stage"] == "train"]
    for method in asked.asked.methods:
        mine = [row for row in rows if row["method"] == method]
        assert len(mine) == EPISODES * len(SEEDS)
        assert all(np.isfinite(row["return"]) for row in mine)
        assert all(row["recoveries"] == 0 for row in mine)  # nothing is handed over
    models = list((asked.study.folder / "checkpoints").glob("pooled-*"))
    assert len(models) == 1  # both begin with one
    assert "| carl_reward" in first
    again = run_here(asked, online.main)
    assert "nothing to do" in again
