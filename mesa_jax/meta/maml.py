"""MAML with learned inner rates (Finn et al., 2017; rates per tensor as in MACAW).

A prior is a tuple with one entry a `Part`. The parts adapt in turn: the first takes its
K inner steps, the second its K steps with the first as adapted held fixed, and so on
(protocol: order of the inner loop). The outer gradient of `maml` is of second order: it
goes through every inner step, to the parameters and to the rates; `first_order` takes
the inner gradients for constants.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from mesa_jax import equations
from mesa_jax.meta.inner import (
    PLAIN,
    InnerLoop,
    adapt_in_turn,
    bounded,
    fixed_inner_gradient,
    inner_gradient,
    settle,
)
from mesa_jax.settings import SettingError, setting, validate
from mesa_jax.types import (
    Array,
    MetaLearner,
    Metrics,
    Part,
    Prior,
    State,
)


@dataclasses.dataclass(frozen=True)
class MAMLConfig:
    """Meta-training by MAML."""

    steps: int = setting(2500, "outer steps", "[1, 10_000_000]")
    num_tasks: int = setting(5, "bodies an outer step", "[1, 10_000]")
    support_size: int = setting(
        200, "transitions the inner loop adapts on", "[1, 1_000_000]"
    )
    query_size: int = setting(256, "transitions of the outer loss", "[1, 1_000_000]")
    support_least: int = setting(
        0,
        "transitions that an outer step's support has at least, their number drawn "
        "log-uniformly; 0: it has support_size",
        "[0, 1_000_000]",
    )
    inner_steps: int = setting(5, "K", "[0, 1_000]")
    inner_every: int = setting(
        1,
        "outer steps, of which one takes the inner ones and the others none",
        "[1, 1_000_000]",
    )
    inner_lr: float = setting(0.1, "alpha at the start; learned per tensor", "(0, inf)")
    inner_clip: float = setting(
        0.0,
        "global norm of an inner step's gradient, at training and test; 0: any",
        "[0, inf)",
    )
    learner: str = setting(
        "maml",
        "outer gradient through the inner steps' own gradients, or past them",
        choices=("maml", "first_order"),
    )
    target_rate: float = setting(
        1.0, "bootstrap target: 0 the frozen prior, 1 the adapting critic", "[0, 1]"
    )
    outer_target: str = setting(
        "adapted",
        "whose bootstrap target the outer loss takes: the adapted critic's, or the "
        "inner loop's last",
        choices=("adapted", "inner"),
    )
    anchor: float = setting(
        1.0,
        "weight of the un-adapted critic's own TD loss in the outer loss",
        "[0, inf)",
    )
    outer_lr: float = setting(
        1e-3, "beta, Adam; decays over the second half", "(0, inf)"
    )
    outer_lr_end: float = setting(
        0.01, "share of it at the end; 1 keeps it constant", "(0, 1]"
    )
    recovery: str = setting(
        "meta",
        "policy learned by the outer loss, or beside it against the critic as it is",
        choices=("meta", "beside"),
    )
    beside_lr: float = setting(
        1e-4, "Adam of a recovery policy learned beside", "(0, inf)"
    )
    keep: str = setting(
        "best",
        "prior: of the least Bellman error on held-out bodies, or the last",
        choices=("best", "best_of_second_half", "last"),
    )
    rate_lr: float = setting(1e-3, "Adam on the learned rates", "(0, inf)")
    gradient_clip: float = setting(40.0, "global norm of a part's gradient", "(0, inf)")

    def __post_init__(self):
        validate(self)
        if self.support_least > self.support_size:
            allowed = f"at most maml_support_size ({self.support_size})"
            raise SettingError("support_least", self.support_least, allowed)


@dataclasses.dataclass(frozen=True)
class InnerLoopConfig:
    """Adaptation of a prior by its learned inner steps."""

    steps: int = setting(5, "inner steps on a test body", "[0, 100_000]")
    steps_outside: int = setting(
        0,
        "inner steps where an encoded adaptation set lies outside what the prior was "
        "trained on; 0: as inside",
        "[0, 100_000]",
    )
    target_rate: float = setting(
        1.0, "bootstrap target: 0 the frozen prior, 1 the adapting critic", "[0, 1]"
    )
    settle_steps: int = setting(
        0,
        "Adam steps of the recovery policy after its inner ones, against the adapted "
        "critic: on some bodies those end half-way from the prior; none where the "
        "critic takes none",
        "[0, 1_000_000]",
    )
    settle_lr: float = setting(3e-3, "their rate", "(0, inf)")

    def __post_init__(self):
        validate(self)


class MAMLState(NamedTuple):
    prior: Prior  # rates hold rho; a rate is softplus(rho)
    optimizer: State
    step: Array  # [] outer steps taken


def _outer_loss(
    prior: Prior, key, task_batch, loop: InnerLoop, inner_steps: int
) -> tuple[Array, Metrics]:
    """Mean over tasks of the parts' outer losses after adaptation."""
    spaces = tuple(part.space or PLAIN for part in loop.parts)

    def task_loss(key, batch):
        inner_key, outer_key = jax.random.split(key)
        adapted, targets, begun = adapt_in_turn(
            inner_key, loop, prior, batch.support, inner_steps, spaces
        )
        total, metrics = jnp.zeros(()), {}
        for i, part in enumerate(loop.parts):
            loss, part_metrics = part.outer_loss(
                jax.random.fold_in(outer_key, i),
                begun[i],
                adapted[i],
                targets[i],
                batch.query,
                jax.lax.stop_gradient(adapted[:i]),
            )
            total, metrics = total + loss, metrics | part_metrics
        return total, metrics

    tasks = jax.tree.leaves(task_batch)[0].shape[0]
    losses, metrics = jax.vmap(task_loss)(jax.random.split(key, tasks), task_batch)
    metrics = jax.tree.map(jnp.mean, metrics)
    return jnp.mean(losses), metrics | {"meta/task_loss": losses}


def maml(
    parts: tuple[Part, ...],
    config: MAMLConfig,
    adaptation: InnerLoopConfig = InnerLoopConfig(),
) -> MetaLearner:
    """Model-agnostic meta-learning of a prior and of its inner rates."""
    return _learner(parts, config, adaptation, inner_gradient)


def first_order(
    parts: tuple[Part, ...],
    config: MAMLConfig,
    adaptation: InnerLoopConfig = InnerLoopConfig(),
) -> MetaLearner:
    """First-order MAML (Finn et al., 2017, section 5.2); rates learn as in `maml`.

    The outer gradient takes the inner gradients for constants: it reaches the prior
    unchanged, and each rate by way of the steps that it scaled.
    """
    return _learner(parts, config, adaptation, fixed_inner_gradient)


def _optimizers(parts, config: MAMLConfig):
    """Each part's, and the one of the rates."""
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
        settling = optax.adam(adaptation.settle_lr), count
        return settle(key, parts, *settling, adapted, support)

    return adapt


def _learner(parts, config, adaptation, gradient) -> MetaLearner:
    _require_plain(parts, config, gradient)
    optimizers_of, learn_rates = _optimizers(parts, config)
    if config.inner_clip:
        gradient = bounded(gradient, config.inner_clip)
    learned = sum(not part.beside for part in parts)  # the first ones
    loop = InnerLoop(parts[:learned], gradient, config.target_rate)

    def init(params):
        rho = equations.inverse_softplus(config.inner_lr)
        rates = jax.tree.map(lambda x: jnp.full((), rho, x.dtype), params)
        of_parts = zip(optimizers_of, params, strict=True)
        optimizer = (tuple(o.init(p) for o, p in of_parts), learn_rates.init(rates))
        return MAMLState(Prior(params, rates), optimizer, jnp.zeros((), jnp.int32))

    def outer_gradient(step, *arguments):
        def after(inner_steps):
            gradient = jax.grad(_outer_loss, has_aux=True)
            return lambda *given: gradient(*given, loop, inner_steps)

        if config.inner_every == 1 or config.inner_steps == 0:
            return after(config.inner_steps)(*arguments)
        due = step % config.inner_every == config.inner_every - 1
        return jax.lax.cond(due, after(config.inner_steps), after(0), *arguments)

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
                    jax.random.fold_in(key, i), parts[i], old, task_batch.query, params
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
    """Of a part that is not meta-learned, over all tasks' rows, the prior as given."""
    rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), query)
    return inner_gradient(part.inner_loss)(key, params, params, rows, given)
