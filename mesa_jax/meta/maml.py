"""MAML with learned inner rates (Finn et al., 2017; rates per tensor as in MACAW).

A prior is a tuple with one entry a `Part`. The parts adapt in turn: the first takes its
K inner steps, the second its K steps with the first as adapted held fixed, and so on
(protocol: order of the inner loop). The outer gradient of `maml` is of second order: it
goes through every inner step, to the parameters and to the rates; `first_order` takes
the inner gradients for constants.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from mesa_jax import sharding
from mesa_jax.meta.config import InnerLoopConfig, MAMLConfig
from mesa_jax.meta.inner import (
    PLAIN,
    InnerLoop,
    adapt_in_turn,
    fixed_inner_gradient,
    inner_gradient,
)
from mesa_jax.meta.learner import ADAPTATION, learner, outer_losses
from mesa_jax.types import Array, MetaLearner, Metrics, Part, Prior


def _outer_loss(
    prior: Prior, key, task_batch, loop: InnerLoop, inner_steps: int
) -> tuple[Array, Metrics]:
    """Returns the outer objective (Finn et al., 2017, section 2.2) of all parts.

        1/T sum over tasks t of sum over parts i of
            L_outer_i(theta_i, theta'_{t,i}; query_t),

    theta'_{t,i} the part after K inner steps on the support of t
    (`inner.adapt_in_turn`). What the parts' losses are, `prior.safety_parts` says.
    """
    spaces = tuple(part.space or PLAIN for part in loop.parts)

    def task_loss(key, batch):
        inner_key, outer_key = jax.random.split(key)
        adapted, targets, begun = adapt_in_turn(
            inner_key, loop, prior, batch.support, inner_steps, spaces
        )
        became = begun, adapted, targets
        return outer_losses(outer_key, loop.parts, prior, became, batch.query)

    tasks = jax.tree.leaves(task_batch)[0].shape[0]
    losses, metrics = sharding.vmap(task_loss)(jax.random.split(key, tasks), task_batch)
    metrics = jax.tree.map(jnp.mean, metrics)
    return jnp.mean(losses), metrics | {"meta/task_loss": losses}


def outer_gradient(loop: InnerLoop, config: MAMLConfig) -> Callable:
    """Makes `(step, prior, key, task_batch) -> (gradient, metrics)` of the outer loss.

    Where `config.inner_every` is n > 1, every n-th outer step takes the inner steps and
    the others none.
    """

    def after(inner_steps):
        loss = functools.partial(_outer_loss, loop=loop, inner_steps=inner_steps)
        return jax.grad(loss, has_aux=True)

    def gradient(step, *arguments):
        if config.inner_every == 1 or config.inner_steps == 0:
            return after(config.inner_steps)(*arguments)
        due = step % config.inner_every == config.inner_every - 1
        return jax.lax.cond(due, after(config.inner_steps), after(0), *arguments)

    return gradient


def maml(
    parts: tuple[Part, ...],
    config: MAMLConfig,
    adaptation: InnerLoopConfig = ADAPTATION,
) -> MetaLearner:
    """Makes model-agnostic meta-learning of a prior and of its inner rates.

    The outer gradient of `_outer_loss` goes through every inner step (second order).

    Args:
      parts: of the prior.
      config: of meta-training.
      adaptation: of test bodies.
    """
    return learner(parts, config, adaptation, inner_gradient, outer_gradient)


def first_order(
    parts: tuple[Part, ...],
    config: MAMLConfig,
    adaptation: InnerLoopConfig = ADAPTATION,
) -> MetaLearner:
    """Makes first-order MAML (Finn et al., 2017, section 5.2).

    Rates learn as in `maml`. The outer gradient takes the inner gradients for
    constants: it reaches the prior unchanged, and each rate by way of the steps that it
    scaled.

    Args:
      parts: of the prior.
      config: of meta-training.
      adaptation: of test bodies.
    """
    return learner(parts, config, adaptation, fixed_inner_gradient, outer_gradient)
