"""Reptile: the prior moves to where the tasks' own steps lead (Nichol et al., 2018)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mesa_jax import sharding
from mesa_jax.meta.config import InnerLoopConfig, MAMLConfig
from mesa_jax.meta.inner import PLAIN, InnerLoop, adapt_in_turn, inner_gradient
from mesa_jax.meta.learner import ADAPTATION, learner, outer_losses
from mesa_jax.settings import SettingError
from mesa_jax.types import MetaLearner, Part, Prior


def reptile(
    parts: tuple[Part, ...],
    config: MAMLConfig,
    adaptation: InnerLoopConfig = ADAPTATION,
) -> MetaLearner:
    """Makes Reptile, of no second derivative and no outer loss.

    A task takes K inner steps on its support and K more on its query, two batches, as
    the method asks. With theta' where they end, the outer optimizer takes the mean of
    theta - theta' over tasks for the gradient. Inner rates stay as they begin.

    Args:
      parts: of the prior.
      config: of meta-training.
      adaptation: of test bodies.

    Raises:
      SettingError: where a part reads the support before it adapts (no step leads to
        its encoder), or where no inner step is taken.
    """
    if any(part.begin is not None for part in parts):
        allowed = "maml where the critic reads its body"
        raise SettingError("learner", "reptile", allowed)
    if config.inner_steps == 0:
        raise SettingError("inner_steps", 0, "at least 1 with reptile")
    return learner(parts, config, adaptation, inner_gradient, _to_adapted)


def _to_adapted(loop: InnerLoop, config: MAMLConfig) -> Callable:
    """Makes `(step, prior, key, task_batch) -> (theta - theta', metrics)`."""
    spaces = (PLAIN,) * len(loop.parts)

    def of_task(key, batch, prior):
        *keys, judge_key = jax.random.split(key, 3)
        moved = prior
        for inner_key, transitions in zip(keys, batch, strict=True):
            adapted, targets, _ = adapt_in_turn(
                inner_key, loop, moved, transitions, config.inner_steps, spaces
            )
            rest = prior.params[len(adapted) :]  # some may learn beside
            moved = Prior(adapted + rest, prior.rates)
        became = prior.params[: len(adapted)], adapted, targets
        loss, metrics = outer_losses(judge_key, loop.parts, prior, became, batch.query)
        return jax.tree.map(jnp.subtract, prior.params, moved.params), loss, metrics

    def gradient(step, prior, key, task_batch):
        del step
        count = jax.tree.leaves(task_batch)[0].shape[0]
        over_tasks = sharding.vmap(of_task, (0, 0, None))
        gap, losses, metrics = over_tasks(
            jax.random.split(key, count), task_batch, prior
        )
        gap, metrics = jax.tree.map(lambda x: jnp.mean(x, axis=0), (gap, metrics))
        still = jax.tree.map(jnp.zeros_like, prior.rates)
        return Prior(gap, still), metrics | {"meta/task_loss": losses}

    return gradient
