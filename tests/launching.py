"""Launches very small, in this process."""

import contextlib
import io
from unittest import mock

from mesa_jax.agents import COMPARED
from mesa_jax.runtime import config, flags

EPISODES, EVERY, CHUNK, ADAPTATION = 3, 2, 60, 60
SEEDS = (0, 1)
NETWORK = {"hidden": (8, 8)}
TINY = {
    "data": {
        "train_bodies": 3,
        "heldout_bodies": 1,
        "transitions": 300,
        "adaptation": ADAPTATION,
    },
    "maml": {
        "steps": 4,
        "num_tasks": 2,
        "inner_steps": 2,
        "support_size": 16,
        "query_size": 16,
    },
    "pooled": {"steps": 4, "query_size": 16},
    "recovery_rl": {"steps": 5},
    "multi_task": {"steps": 5},
    "multi_task_few": {"steps": 2},
    "mesa": {"steps": 3},
    "risk": NETWORK,
    "recovery": NETWORK,
    "sac": NETWORK,
    "quality": {
        "decision_states": 20,
        "rollouts": 4,
        "rows": (50, 60),
        "steps": (0, 5),
    },
    "online": {
        "episodes": EPISODES,
        "batch_size": 16,
        "chunk_steps": CHUNK,
        "evaluate_every": EVERY,
    },
}


def launch(place, methods=COMPARED, seeds=SEEDS, **sections) -> flags.Launch:
    """What the command line of a tiny launch resolves to."""
    settings = config.preset_settings("navigation1", "published", "quick")
    settings = config.override(config.override(settings, TINY), sections)
    return flags.Launch(place, settings, methods, seeds, 0)


def run_here(launch: flags.Launch, main) -> str:
    """Runs a launch in this process, without its command line; what it printed."""
    output = io.StringIO()
    with (
        mock.patch.object(flags, "launch", return_value=launch),
        contextlib.redirect_stdout(output),
    ):
        main()
    return output.getvalue()
