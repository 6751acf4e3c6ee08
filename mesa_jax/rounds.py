"""Rounds: what happens to bodies in which a disturbed policy acts.

Offline data of a reference policy say nothing of the states that a recovery policy
leads to, where its own risk is asked for (`risk.avoid`). In every round it acts in the
training bodies, and is learned anew from all that was seen.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from mesa_jax import equations
from mesa_jax.settings import setting, validate
from mesa_jax.simulation import checked_step
from mesa_jax.types import (
    Array,
    Domain,
    Key,
    Task,
    Transition,
)

EPISODES = 16  # of a filter test, a body


@dataclasses.dataclass(frozen=True)
class RoundsConfig:
    """Configures rounds of simulation in training bodies."""

    count: int = setting(
        0, "rounds in which a recovery policy acts in the training bodies", "[0, 100]"
    )
    transitions: int = setting(1000, "of a body, a round", "[1, 1_000_000]")
    copies: int = setting(4, "of a body, that are stepped side by side", "[1, 10_000]")
    longest: int = setting(
        8, "most steps that a disturbance, a random action, is held for", "[1, 10_000]"
    )
    every: int = setting(
        20,
        "steps until the next disturbance, on average; one begins each episode",
        "[1, 1_000_000]",
    )
    hold: int = setting(
        4, "steps that what the filter test proposes is held for", "[1, 10_000]"
    )
    steps: int = setting(
        3000, "updates of critic and policy, a round", "[1, 10_000_000]"
    )
    num_tasks: int = setting(16, "bodies an update, or all if fewer", "[1, 10_000]")
    query_size: int = setting(64, "transitions a body and update", "[1, 1_000_000]")
    lr: float = setting(1e-3, "Adam; decays over the second half", "(0, inf)")

    def __post_init__(self):
        validate(self)


def disturbed_steps(
    key: Key,
    domain: Domain,
    task: Task,
    act: Callable[[Array], Array],
    steps: int,
    config: RoundsConfig,
) -> tuple[Transition, Array]:
    """Plays a body for some steps; tells which of them are finite, [steps] bool.

    `act` acts, but for disturbances: one begins each episode, and others follow at
    random. In each the reference policy's action is held for 1 to `config.longest`
    steps. An episode ends where it terminates or at the horizon, and the next begins.

    Args:
      key: consumed.
      domain: in which the body moves.
      task: one body.
      act: observation [D] -> action [A].
      steps: of all episodes together.
      config: of the disturbances.

    Returns:
      Transitions [steps, ...] in the order they were made.
    """
    reset_key, key = jax.random.split(key)

    def advance(carry, i):
        state, length, left, held = carry
        keys = jax.random.split(jax.random.fold_in(key, i), 5)
        seen = domain.observe(state)
        struck = jax.random.bernoulli(keys[0], 1.0 / config.every) & (left == 0)
        struck |= length == 0
        span = jax.random.randint(keys[1], (), 1, config.longest + 1)
        left = jnp.where(struck, span, left)
        held = jnp.where(struck, domain.reference_policy(keys[2], seen), held)
        action = jnp.where(left > 0, held, act(seen))
        reached, transition, finite = checked_step(domain, keys[3], state, action, task)
        length = length + 1
        ended = (transition.discount == 0.0) | (length >= domain.spec.horizon)
        fresh = domain.reset(keys[4], task), jnp.zeros_like(length)
        state, length = equations.select(ended, fresh, (reached, length))
        return (state, length, jnp.maximum(left - 1, 0), held), (transition, finite)

    zero = jnp.zeros((), jnp.int32)
    still = jnp.zeros(domain.spec.action_size)
    carry = (domain.reset(reset_key, task), zero, zero, still)
    return jax.lax.scan(advance, carry, jnp.arange(steps))[1]


def disturbed_transitions(
    key: Key,
    domain: Domain,
    task: Task,
    act: Callable[[Array], Array],
    config: RoundsConfig,
) -> Transition:
    """Makes `config.transitions` of a body, [n, ...], by `disturbed_steps` of copies.

    In place of a step that is not finite another one comes again.
    """
    steps = -(-config.transitions // config.copies)
    play = lambda key: disturbed_steps(key, domain, task, act, steps, config)  # noqa: E731
    played = jax.vmap(play)(jax.random.split(key, config.copies))
    rows, finite = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), played)
    order = jnp.argsort(~finite, stable=True)
    index = order[jnp.arange(config.transitions) % jnp.maximum(finite.sum(), 1)]
    return jax.tree.map(lambda x: x[index], rows)
