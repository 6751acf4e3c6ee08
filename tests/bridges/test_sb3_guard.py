"""The example with Stable-Baselines3, small."""

import os
import pathlib
import subprocess
import sys

import pytest

from mesa_jax.filter import METHOD
from mesa_jax.study import store
from mesa_jax.study.artifacts import priors
from tests import launching

pytest.importorskip("stable_baselines3")
ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.slow
def test_an_agent_from_outside_learns_bare_and_guarded(tmp_path):
    study = launching.launch(tmp_path / "w", tasks="flip").study
    with store.opened(study.folder, study.common):
        priors.trained_prior(study.of(METHOD), "maml")
    command = [sys.executable, "-m", "experiments.examples.sb3_guard"]
    command += [f"--workdir={study.folder}", "--steps=200", "--bodies=1"]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=True
    )
    assert "| SAC, guarded |" in done.stdout
    assert "(200 of them)" in done.stdout
    assert (study.folder / "report" / "sb3_guard.png").exists()
