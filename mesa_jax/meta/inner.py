"""The inner loop: a few descending steps of each part of a prior on one task."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mesa_jax import equations
from mesa_jax.types import (
    Array,
    InnerLoss,
    Key,
    Metrics,
    Params,
    Part,
    Prior,
    WeightSpace,
)

Gradient = Callable[..., tuple[Params, Metrics]]  # arguments of an `InnerLoss`


def inner_gradient(loss: InnerLoss) -> Gradient:
    """Makes the gradient of a loss in the parameters, itself differentiable."""
    return jax.grad(loss, argnums=1, has_aux=True)


def fixed_inner_gradient(loss: InnerLoss) -> Gradient:
    """Makes the same gradient, taken for a constant by whoever differentiates."""

    def gradient(*arguments):
        return jax.lax.stop_gradient(inner_gradient(loss)(*arguments))

    return gradient


def bounded(
    gradient_of: Callable[[InnerLoss], Gradient], norm: float
) -> Callable[[InnerLoss], Gradient]:
    """Makes the gradients of `gradient_of`, of a global norm of at most `norm`.

    Differentiable where the gradient is 0, as `optax.clip_by_global_norm` is not.
    """

    def of(loss):
        gradient = gradient_of(loss)

        def shortened(*arguments):
            found, metrics = gradient(*arguments)
            length = jnp.sqrt(optax.tree.norm(found, squared=True) + 1e-12)  # at 0 too
            share = jnp.minimum(1.0, norm / length)
            return jax.tree.map(lambda x: share * x, found), metrics

        return shortened

    return of


PLAIN = WeightSpace(  # the parameters themselves
    begin=lambda params: params,
    weights=lambda params, adapted: adapted,
    step=lambda params, adapted, rates, gradient: equations.sgd(
        adapted, gradient, rates
    ),
    follow=lambda params, target, adapted, rate: equations.polyak(
        target, adapted, rate
    ),
)


def descend(
    key: Key,
    gradient: Gradient,
    params: Params,
    rates: Params,
    target_rate: float | Array,
    support: Any,
    given: tuple,
    steps: int | Array,
    space: WeightSpace = PLAIN,
) -> tuple[Params, Params]:
    """Takes `steps` inner steps of one part on one task's support.

    With theta_0 the part's parameters and target_0 = theta_0,

        theta_{k+1} = theta_k - alpha grad L(theta_k; target_k, support),
        target_{k+1} = target_k + rate (theta_{k+1} - target_k):

    MAML's inner loop (Finn et al., 2017, section 2.2), its bootstrap target following
    the adapting parameters (protocol: inner loop).

    Args:
      key: consumed; step k draws from `fold_in(key, k)`.
      gradient: of the inner loss L.
      params: theta_0.
      rates: alpha, positive, like `params`: one a tensor.
      target_rate: [] rate, 0 the frozen prior, 1 the adapting parameters.
      support: [n, ...] of one task.
      given: weights of the other parts, held fixed.
      steps: [] K; a traced number can not be differentiated through.
      space: how parameters stand for the weights of the loss.

    Returns:
      The weights as adapted, and those of the bootstrap target.
    """
    fixed = jax.lax.stop_gradient(params)

    def inner_step(i, carry):
        adapted, target = carry
        gradients, _ = gradient(
            jax.random.fold_in(key, i),
            space.weights(params, adapted),
            space.weights(fixed, target),
            support,
            given,
        )
        adapted = space.step(params, adapted, rates, gradients)
        target = space.follow(
            fixed, target, jax.lax.stop_gradient(adapted), target_rate
        )
        return adapted, target

    carry = (space.begin(params), space.begin(fixed))
    if space.grows:
        for i in range(steps):
            carry = inner_step(i, carry)
    else:
        carry = jax.lax.fori_loop(0, steps, inner_step, carry)
    adapted, target = carry
    return space.weights(params, adapted), space.weights(fixed, target)


def others(i: int, adapted: tuple, params: tuple) -> tuple:
    """Returns all parts' parameters but those of part i, held fixed.

    Those before it are as adapted, those after it as they are.
    """
    return jax.lax.stop_gradient(adapted[:i] + params[i + 1 :])


class InnerLoop(NamedTuple):
    """Holds what the parts' inner loops have in common."""

    parts: tuple[Part, ...]
    gradient: Callable[[InnerLoss], Gradient]
    target_rate: float | Array


def adapt_in_turn(
    key: Key,
    loop: InnerLoop,
    prior: Prior,
    support: Any,
    steps: int | Array,
    spaces: tuple[WeightSpace, ...],
) -> tuple[tuple, tuple, tuple]:
    """Adapts every part in turn, each with the other parts as they are held fixed.

    Args:
      key: consumed; part i draws from `fold_in(key, i)`.
      loop: the parts, and how they descend.
      prior: their parameters and inner rates (before softplus).
      support: [n, ...] of one task.
      steps: [] of each part.
      spaces: one a part.

    Returns:
      The parts' weights as adapted, their bootstrap targets' at the end, and the
      parameters that they began from.
    """
    adapted, targets, begun = (), (), ()
    for i, (part, space) in enumerate(zip(loop.parts, spaces, strict=True)):
        params, given = prior.params[i], others(i, adapted, prior.params)
        if part.begin is not None:
            params = part.begin(params, support, given)
        weights, target = descend(
            jax.random.fold_in(key, i),
            loop.gradient(part.inner_loss),
            params,
            jax.tree.map(jax.nn.softplus, prior.rates[i]),
            loop.target_rate,
            support,
            given,
            steps,
            space,
        )
        adapted, targets = (*adapted, weights), (*targets, target)
        begun += (params,)
    return adapted, targets, begun


def settle(
    key: Key,
    parts: tuple[Part, ...],
    optimizer: optax.GradientTransformation,
    count: int | Array,
    adapted: tuple,
    support: Any,
) -> tuple:
    """Returns the parts after `count` more steps of each but the first.

    They descend in turn, against the other parts.

    Args:
      key: consumed.
      parts: of the prior.
      optimizer: of the steps.
      count: [] steps of each part.
      adapted: parameters, one entry a part.
      support: [n, ...] of one task.
    """
    settled = adapted[:1]
    for i, part in enumerate(parts[1:], 1):
        gradient = inner_gradient(part.inner_loss)
        own_key = jax.random.fold_in(key, len(parts) + i)
        given = settled + adapted[i + 1 :]

        def step(n, carry, gradient=gradient, own_key=own_key, given=given):
            params, state = carry
            step_key = jax.random.fold_in(own_key, n)
            found, _ = gradient(step_key, params, params, support, given)
            updates, state = optimizer.update(found, state)
            return optax.apply_updates(params, updates), state

        carry = adapted[i], optimizer.init(adapted[i])
        settled += (jax.lax.fori_loop(0, count, step, carry)[0],)
    return settled
