"""Pooled pre-training and fine-tuning: what Multi-Task and Recovery RL are made of."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import optax

from mesa_jax import equations
from mesa_jax.meta.inner import others
from mesa_jax.settings import setting, validate
from mesa_jax.types import (
    Adapt,
    Array,
    Key,
    MetaLearner,
    Part,
    Prior,
    State,
    Transition,
)


@dataclasses.dataclass(frozen=True)
class PooledConfig:
    """Configures pre-training on the union of all training bodies' transitions."""

    steps: int = setting(3000, "updates", "[1, 10_000_000]")
    num_tasks: int = setting(20, "bodies an update, or all if fewer", "[1, 10_000]")
    query_size: int = setting(64, "transitions a body and update", "[1, 1_000_000]")
    lr: float = setting(1e-3, "Adam; decays over the second half", "(0, inf)")
    lr_end: float = setting(
        0.01, "share of it at the end; 1 keeps it constant", "(0, 1]"
    )
    bodies: str = setting(
        "apart",
        "batches hold as many rows of each body drawn, or of all bodies' rows at once",
        choices=("apart", "mixed"),
    )
    keep: str = setting(
        "best_of_second_half",  # what has learned little fits best, and adapts badly
        "which prior is kept: best (of the least held-out Bellman error), so of the "
        "second half of the steps, or last",
        choices=("best", "best_of_second_half", "last"),
    )

    def __post_init__(self):
        validate(self)


@dataclasses.dataclass(frozen=True)
class FinetuneConfig:
    """Configures gradient descent on one adaptation set."""

    steps: int = setting(100, "updates", "[0, 1_000_000]")
    optimizer: str = setting("sgd", "sgd or adam", choices=("sgd", "adam"))
    lr: float = setting(0.1, "learning rate", "(0, inf)")
    batch_size: int = setting(256, "transitions", "[1, 1_000_000]")
    replacement: str = setting(
        "with",
        "draws with it, or without it as many as there are",
        choices=("with", "without"),
    )
    target_rate: float = setting(
        1.0, "bootstrap target: 0 the frozen prior, 1 the adapting critic", "[0, 1]"
    )

    def __post_init__(self):
        validate(self)


class PooledState(NamedTuple):
    """Holds a prior that learns."""

    prior: Prior
    optimizer: State


Draw = Callable[[Key, Transition, int], Transition]  # key, rows [N], count -> [count]


def finetune(parts: tuple[Part, ...], config: FinetuneConfig, draw: Draw) -> Adapt:
    """Makes `adapt(key, prior, support, steps)` by an ordinary optimizer.

    Each step draws one batch of the support; the parts learn from it in turn, each with
    the parts before it as just updated. It adapts the prior of Multi-Task and, in
    Recovery RL, fresh parameters.

    Args:
      parts: of the prior.
      config: of the descent.
      draw: of a batch.
    """
    optimizer = {"sgd": optax.sgd, "adam": optax.adam}[config.optimizer](config.lr)

    def adapt(key, prior: Prior, support, steps: int | Array) -> tuple:
        def step(i, carry):
            params, targets, states = carry
            batch_key, loss_key = jax.random.split(jax.random.fold_in(key, i))
            batch = draw(batch_key, support, config.batch_size)
            params, states, _ = _learn_in_turn(
                loss_key, parts, optimizer, params, targets, states, batch
            )
            targets = equations.polyak(targets, params, config.target_rate)
            return params, targets, states

        params = prior.params
        carry = (params, params, tuple(map(optimizer.init, params)))
        return jax.lax.fori_loop(0, steps, step, carry)[0]

    return adapt


def pooled(
    parts: tuple[Part, ...],
    config: PooledConfig,
    adaptation: FinetuneConfig,
    draw: Draw,
) -> MetaLearner:
    """Makes pre-training on all tasks at once, without telling them apart (Multi-Task).

    Each part minimises its inner loss on all tasks' query transitions pooled,

        mean over tasks t and transitions of L_inner_i(theta_i; query_t),

    its own parameters the bootstrap target.

    Args:
      parts: of the prior.
      config: of pre-training.
      adaptation: of test bodies.
      draw: of a batch of an adaptation set.
    """
    schedule = optax.linear_schedule(
        config.lr, config.lr_end * config.lr, config.steps // 2, config.steps // 2
    )
    optimizer = optax.adam(schedule)

    def init(params):
        return PooledState(Prior(params, ()), tuple(map(optimizer.init, params)))

    def update(key, state, task_batch):
        rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), task_batch.query)
        params, states, metrics = _learn_in_turn(
            key,
            parts,
            optimizer,
            state.prior.params,
            state.prior.params,
            state.optimizer,
            rows,
        )
        return PooledState(Prior(params, ()), states), metrics

    return MetaLearner(init, update, finetune(parts, adaptation, draw))


def _learn_in_turn(key, parts, optimizer, params, targets, states, batch):
    """One optimizer step of each part; it sees earlier ones as just updated.

    Parameters beyond those of `parts` stay as they are.
    """
    learned, new_states, metrics = (), (), {}
    for i, part in enumerate(parts):
        gradients, part_metrics = jax.grad(part.inner_loss, argnums=1, has_aux=True)(
            *(jax.random.fold_in(key, i), params[i], targets[i], batch),
            others(i, learned, params),
        )
        updates, state = optimizer.update(gradients, states[i], params[i])
        learned += (optax.apply_updates(params[i], updates),)
        new_states, metrics = (*new_states, state), metrics | part_metrics
    count = len(parts)
    return learned + params[count:], new_states + states[count:], metrics
