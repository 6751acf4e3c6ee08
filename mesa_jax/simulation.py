"""Bodies in motion without a learner: checked steps, offline episodes, true risk."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mesa_jax import equations
from mesa_jax.keys import reading_key
from mesa_jax.types import (
    Array,
    Decision,
    Domain,
    Key,
    Params,
    State,
    Task,
    Transition,
)


def all_finite(tree) -> Array:
    """Returns whether every number in a tree is finite, [] bool."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree)]))


def checked_step(
    domain: Domain, key: Key, state: State, action: Array, task: Task
) -> tuple[State, Transition, Array]:
    """Takes a step; returns state, transition and whether they are finite, [] bool.

    One that is not leaves the state as it was and comes as a step on the spot without
    reward or cost that ends the episode; it belongs into no replay and no dataset.

    Args:
      domain: in which the body moves.
      key: consumed.
      state: of the body.
      action: [A] in [-1, 1].
      task: one body.
    """
    reached, transition = domain.step(key, state, action, task)
    finite = all_finite((reached, transition))
    stayed = on_the_spot(domain.observe(state), action)
    reached, transition = equations.select(
        finite, (reached, transition), (state, stayed)
    )
    return reached, transition, finite


def on_the_spot(seen: Array, action: Array) -> Transition:
    """Returns what a step that is not finite comes as, at [D], for an action [A]."""
    nothing = jnp.zeros((), seen.dtype)
    return Transition(seen, jnp.zeros_like(action), *[nothing] * 3, seen)


def data_episodes(
    key: Key, domain: Domain, task: Task, count: int, hold: int = 1
) -> tuple[Transition, Array]:
    """Makes offline episodes [E, L, ...]; tells which steps are real, [E, L] bool.

    They are of the domain's published generator where it has one and `hold` is 1; else
    of its reference policy.

    Args:
      key: consumed.
      domain: in which the body moves.
      task: one body.
      count: E.
      hold: steps that each action is held for.
    """
    published = domain.episode is not None and hold == 1

    def one(key):
        if published:
            return domain.episode(key, task)
        return _held_actions(key, domain, task, hold)

    return jax.vmap(one)(jax.random.split(key, count))


def _held_actions(key, domain, task, hold) -> tuple[Transition, Array]:
    """Makes an episode of the reference policy, each action held for `hold` steps.

    Its end is the horizon, a step that is not finite, or a termination, unless that is
    a violation past which physics goes on.
    """
    reset_key, act_key, step_key = jax.random.split(key, 3)
    state = domain.reset(reset_key, task)

    def advance(carry, i):
        state, alive = carry
        held_key = jax.random.fold_in(act_key, i // hold)
        action = domain.reference_policy(held_key, domain.observe(state))
        state, transition, finite = checked_step(
            domain, jax.random.fold_in(step_key, i), state, action, task
        )
        real = alive & finite
        return (state, real & ~ends_data(domain, transition)), (transition, real)

    carry = (state, jnp.ones((), bool))
    return jax.lax.scan(advance, carry, jnp.arange(domain.spec.horizon))[1]


class Filtered(NamedTuple):
    """Holds what an episode of a filter test gave."""

    violated: Array  # [] bool
    while_recovering: Array  # [] bool: the recovery policy acted on the last step
    recovered: Array  # [] steps on which it acted
    length: Array  # [] steps


class Reading(NamedTuple):
    """Says how a filter adapts anew in an episode, as it does in an online run."""

    adapt: Callable  # key, transitions [n, ...] -> params
    every: int  # steps
    latest: Transition  # [n, ...] before the episode


def filtered_episode(
    key: Key,
    domain: Domain,
    task: Task,
    params: Params,
    decide: Callable[[Params, State, Array], Decision],
    propose: Callable[[Key, Array], Array],
    hold: int | Array,
    reading: Reading | None = None,
) -> Filtered:
    """Plays an episode with the filter and no learner (protocol: filter test).

    Args:
      key: consumed.
      domain: in which the body moves.
      task: one body.
      params: of the filter, at the start.
      decide: params, state, proposed [A] -> decision.
      propose: key, observation [D] -> action [A].
      hold: [] steps that each proposal is held for.
      reading: how params become others on the way; None: they stay.
    """
    reset_key, act_key, step_key = jax.random.split(key, 3)
    horizon = domain.spec.horizon

    def advance(params, carry, i):
        state, going = carry
        held_key = jax.random.fold_in(act_key, i // hold)
        proposed = propose(held_key, domain.observe(state))
        decision = decide(params, state, proposed)
        state, transition, _ = checked_step(
            domain, jax.random.fold_in(step_key, i), state, decision.action, task
        )
        going &= i < horizon
        violated = going & (transition.cost > 0.5)
        counts = going & decision.recovered, going
        still = going & (transition.discount > 0.0)
        counted = violated, violated & decision.recovered, *counts
        return (state, still), (counted, transition)

    def advance_all(params, carry, steps):
        return jax.lax.scan(lambda c, i: advance(params, c, i), carry, steps)

    def read(carry, steps):
        """Takes some steps, and reads the latest transitions."""
        moving, params, latest = carry
        moving, (counted, made) = advance_all(params, moving, steps)
        join = lambda a, b: jnp.concatenate([a, b])[-len(a) :]  # noqa: E731
        latest = jax.tree.map(join, latest, made)
        params = reading.adapt(reading_key(step_key, steps[0]), latest)
        return (moving, params, latest), counted

    start = domain.reset(reset_key, task), jnp.ones((), bool)
    if reading is None:
        counted = advance_all(params, start, jnp.arange(horizon))[1][0]
    else:
        turns = -(-horizon // reading.every)
        steps = jnp.arange(turns * reading.every).reshape(turns, -1)
        counted = jax.lax.scan(read, (start, params, reading.latest), steps)[1]
    violated, recovering, recovered, length = counted
    return Filtered(violated.any(), recovering.any(), recovered.sum(), length.sum())


def falls(
    key: Key,
    domain: Domain,
    task: Task,
    state: State,
    action: Array,
    act: Callable[[Array], Array],
    steps: int,
) -> Array:
    """Simulates whether an action leads to a violation, [] bool.

    Args:
      key: consumed.
      domain: that is simulated.
      task: one body.
      state: of the body.
      action: [A] in [-1, 1], the first step.
      act: observation [D] -> action [A] from then on.
      steps: after the first.
    """

    def advance(carry, i):
        state, action, violated, alive = carry
        step_key = jax.random.fold_in(key, i)
        state, transition, _ = checked_step(domain, step_key, state, action, task)
        violated |= alive & (transition.cost > 0.5)
        alive &= transition.discount > 0.0
        return (state, act(transition.next_observation), violated, alive), None

    carry = state, action, jnp.zeros((), bool), jnp.ones((), bool)
    return jax.lax.scan(advance, carry, jnp.arange(steps + 1))[0][2]


def ends_data(domain: Domain, transition: Transition) -> Array:
    """Returns whether an offline episode ends here, [...] bool.

    It does not end at a violation past which physics goes on.

    Args:
      domain: says whether physics goes on past a violation.
      transition: [...] of any leading axes.
    """
    terminated = transition.discount == 0.0
    return terminated & ~((transition.cost > 0.5) & domain.spec.continues)


def truth_steps(discount: float, horizon: int, precision: float = 1e-4) -> int:
    """Returns the steps until a violation weighs less than `precision`.

    They are the horizon at most.
    """
    return min(horizon, math.ceil(math.log(precision) / math.log(discount)) + 1)


def risk_truth(
    key: Key,
    domain: Domain,
    task: Task,
    state: State,
    action: Array,
    discount: float,
    rollouts: int,
    precision: float = 1e-4,
) -> Array:
    """Simulates Q_risk at one state and action, [] in [0, 1] (protocol: truth).

        mean over rollouts of discount^(t - 1) 1[t exists],

    t the step that first reaches a violation after `action` and the reference policy
    from then on. The standard error is at most 0.5 / sqrt(rollouts).

    Args:
      key: consumed.
      domain: that is simulated.
      task: one body.
      state: of the body.
      action: [A] in [-1, 1].
      discount: gamma_risk.
      rollouts: simulations.
      precision: weight of the last step that a simulation takes.
    """

    def one(key):
        def advance(carry, i):
            state, action, alive, value = carry
            step_key, act_key = jax.random.split(jax.random.fold_in(key, i))
            state, transition, _ = checked_step(domain, step_key, state, action, task)
            value += alive * transition.cost * discount**i
            alive *= transition.discount * (1.0 - transition.cost)
            action = domain.reference_policy(act_key, transition.next_observation)
            return (state, action, alive, value), None

        steps = truth_steps(discount, domain.spec.horizon, precision)
        carry = (state, action, jnp.ones(()), jnp.zeros(()))
        return jax.lax.scan(advance, carry, jnp.arange(steps))[0][3]

    return jnp.mean(jax.vmap(one)(jax.random.split(key, rollouts)))
