"""What meta-learners with inner steps have in common: state, optimizers, adaptation."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mesa_jax import equations
from mesa_jax.meta.config import InnerLoopConfig, MAMLConfig
from mesa_jax.meta.inner import (
    PLAIN,
    InnerLoop,
    adapt_in_turn,
    bounded,
    fixed_inner_gradient,
    inner_gradient,
    others,
    settle,
)
from mesa_jax.settings import SettingError
from mesa_jax.types import Array, MetaLearner, Metrics, Part, Prior, State

ADAPTATION = InnerLoopConfig()  # unless another is asked for


class MAMLState(NamedTuple):
    """Holds a prior that learns."""

    prior: Prior  # rates hold rho; a rate is softplus(rho)
    optimizer: State
    step: Array  # [] outer steps taken


def outer_losses(
    key, parts, prior: Prior, became: tuple, query
) -> tuple[Array, Metrics]:
    """Returns the sum of the parts' outer losses on one task's query, and metrics.

    Args:
      key: consumed.
      parts: that adapted.
      prior: from which they did.
      became: what they began from, as adapted, and their bootstrap targets.
      query: [B, ...] of the task.
    """
    begun, adapted, targets = became
    total, metrics = jnp.zeros(()), {}
    whole = adapted + prior.params[len(adapted) :]  # some may learn beside
    for i, part in enumerate(parts):
        loss, part_metrics = part.outer_loss(
            jax.random.fold_in(key, i),
            begun[i],
            adapted[i],
            targets[i],
            query,
            others(i, whole, whole),
        )
        total, metrics = total + loss, metrics | part_metrics
    return total, metrics


def even_rates(rate: float | Array) -> Callable[[tuple], tuple]:
    """Makes `parameters -> rho`, of which softplus is the same rate for each tensor.

    Args:
      rate: [] above 0.
    """
    rho = equations.inverse_softplus(rate)
    return lambda params: jax.tree.map(lambda x: jnp.full((), rho, x.dtype), params)


def _optimizers(parts: tuple[Part, ...], config: MAMLConfig) -> tuple[list, Any]:
    """Makes each part's optimizer, and the one of the rates."""
    schedule = optax.linear_schedule(
        config.outer_lr,
        config.outer_lr_end * config.outer_lr,
        config.steps // 2,
        config.steps // 2,
    )
    learned = optax.chain(
        optax.clip_by_global_norm(config.gradient_clip), optax.adam(schedule)
    )
    beside = optax.adam(config.beside_lr)
    return [beside if p.beside else learned for p in parts], optax.adam(config.rate_lr)


def _require_plain(parts: tuple[Part, ...], config: MAMLConfig, gradient) -> None:
    """Refuses what is not the same in a weight space of a part's own.

    A bound on the gradient in the weights is none on that in the parameters, which
    adaptation takes; and inner gradients held fixed still depend on a basis.
    """
    if all(part.space is None for part in parts):
        return
    if config.inner_clip:
        allowed = "0 where the critic's weights are latent"
        raise SettingError("inner_clip", config.inner_clip, allowed)
    if gradient is fixed_inner_gradient:
        allowed = "maml where the critic's weights are latent"
        raise SettingError("learner", "first_order", allowed)


def _adaptation(parts, gradient, config, adaptation) -> Callable:
    """Makes `adapt` of a `MetaLearner`."""
    loop = InnerLoop(parts, gradient, adaptation.target_rate)
    plain = (PLAIN,) * len(parts)  # parameters come back, not weights alone

    def adapt(key, prior, support, steps):
        if config.inner_steps == 0:
            steps = 0  # its rates have learned nothing
        adapted = adapt_in_turn(key, loop, prior, support, steps, plain)[0]
        if adaptation.settle_steps == 0:
            return adapted
        count = jnp.where(jnp.asarray(steps) > 0, adaptation.settle_steps, 0)
        optimizer = optax.adam(adaptation.settle_lr)
        return settle(key, parts, optimizer, count, adapted, support)

    return adapt


def learner(
    parts: tuple[Part, ...],
    config: MAMLConfig,
    adaptation: InnerLoopConfig,
    gradient: Callable,
    outer: Callable[[InnerLoop, MAMLConfig], Callable],
    first_rates: Callable[[tuple], tuple] | None = None,
) -> MetaLearner:
    """Makes a meta-learner whose inner loop descends by `gradient`.

    Args:
      parts: of the prior.
      config: of meta-training.
      adaptation: of test bodies.
      gradient: of an inner loss (`inner.inner_gradient`).
      outer: makes `(step, prior, key, task_batch) -> (gradient, metrics)`.
      first_rates: parameters -> rho of each tensor; None: all begin at `inner_lr`.
    """
    _require_plain(parts, config, gradient)
    optimizers_of, learn_rates = _optimizers(parts, config)
    if config.inner_clip:
        gradient = bounded(gradient, config.inner_clip)
    learned = sum(not part.beside for part in parts)  # the first ones
    loop = InnerLoop(parts[:learned], gradient, config.target_rate)
    outer_gradient = outer(loop, config)

    def init(params):
        rates = (first_rates or even_rates(config.inner_lr))(params)
        of_parts = zip(optimizers_of, params, strict=True)
        optimizer = (tuple(o.init(p) for o, p in of_parts), learn_rates.init(rates))
        return MAMLState(Prior(params, rates), optimizer, jnp.zeros((), jnp.int32))

    def update(key, state, task_batch):
        outer_key = (
            key if learned == len(parts) else jax.random.fold_in(key, len(parts))
        )
        gradient, metrics = outer_gradient(
            state.step, state.prior, outer_key, task_batch
        )
        part_optimizers, rate_optimizer = state.optimizer
        params, optimizers = (), ()
        for i, old in enumerate(state.prior.params):
            step = gradient.params[i]
            if parts[i].beside:
                step, found = _gradient_beside(
                    *(jax.random.fold_in(key, i), parts[i], old, task_batch.query),
                    others(i, params, state.prior.params),
                )
                metrics |= found
            metrics[f"meta/gradient_norm_{i}"] = optax.tree.norm(step)
            updates, optimizer = optimizers_of[i].update(step, part_optimizers[i])
            params += (optax.apply_updates(old, updates),)
            optimizers += (optimizer,)
        updates, rate_optimizer = learn_rates.update(gradient.rates, rate_optimizer)
        rates = optax.apply_updates(state.prior.rates, updates)
        optimizer = optimizers, rate_optimizer
        return MAMLState(Prior(params, rates), optimizer, state.step + 1), metrics

    adapt = _adaptation(parts, loop.gradient, config, adaptation)
    return MetaLearner(init, update, adapt)


def _gradient_beside(key, part, params, query, given):
    """Returns the gradient of a part that is trained beside the meta-learner.

    It is on all tasks' query transitions pooled; `given` are the other parts.
    """
    pooled = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), query)
    return inner_gradient(part.inner_loss)(key, params, params, pooled, given)
