"""Mirrors metrics.jsonl to Weights & Biases: one of its runs a stage and run of ours.

The stages of a workdir are a group. Mode, project and entity are those of wandb's own
variables (WANDB_MODE=offline, WANDB_PROJECT, ...); a launch that goes on from its
checkpoint goes on in the same runs.
"""

import contextlib
import hashlib
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

from mesa_jax.bridges import needed
from mesa_jax.settings import SettingError
from mesa_jax.study import files, provenance

PROJECT = "mesa_jax"  # where the user's environment names none


@contextlib.contextmanager
def mirrored(
    workdir: pathlib.Path, config: dict[str, Any]
) -> Iterator[Callable[[dict], None]]:
    """Yields what takes each record of metrics.jsonl; at the end all runs are finished.

    A run begins with its first record.

    Args:
      config: what the runs are labelled by.

    Raises:
      MissingExtraError: if wandb is not installed.
      SettingError: if it is to send, and nobody has logged in.
    """
    wandb, runs = needed("wandb", "wandb"), {}
    if wandb.setup().settings.mode == "online" and not wandb.login(prompt=False):
        allowed = "used after `wandb login`, or with WANDB_MODE=offline"
        raise SettingError("track", "wandb", allowed)

    def take(record: dict) -> None:
        key = record["stage"], record["run"]
        if key not in runs:
            labels = {k: v for k, v in record.items() if k not in ("values", "step")}
            runs[key] = wandb.init(
                dir=workdir,
                project=wandb.env.get_project() or PROJECT,
                group=workdir.resolve().name,
                name="/".join(key),
                id=_id(workdir, key),
                resume="allow",
                reinit="create_new",  # the runs of a program go on side by side
                config=config | labels,
                settings=wandb.Settings(console="off", silent=True),
            )
        runs[key].log(record["values"], step=record["step"])

    try:
        yield take
    finally:
        for run in runs.values():
            run.finish()


def _id(workdir: pathlib.Path, key: tuple[str, str]) -> str:
    """Returns a run's id: one in all launches of a workdir, another in a new one."""
    launches = files.read_json(workdir / provenance.PROVENANCE)
    made = repr((launches[0], key))
    return hashlib.sha256(made.encode()).hexdigest()[:16]
