"""Sends what metrics.jsonl gets to a tracker too (--track)."""

import contextlib
from collections.abc import Iterator

from mesa_jax.bridges import wandb
from mesa_jax.configuration import to_json
from mesa_jax.settings import known
from mesa_jax.study import metrics_log
from mesa_jax.study.study import Study

TRACKERS = {"wandb": wandb.mirrored}


@contextlib.contextmanager
def tracked(name: str, study: Study) -> Iterator[None]:
    """Mirrors the metrics of a study to a tracker, until the launch ends.

    Raises:
      SettingError: if there is no such tracker.
      MissingExtraError: if it is not installed.
    """
    mirror = TRACKERS[known("track", name, TRACKERS)]
    config = to_json(study.configuration) | {"meta_seed": study.meta_seed}
    with mirror(study.folder, config) as take, metrics_log.mirrored(take):
        yield
