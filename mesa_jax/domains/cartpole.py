"""Cartpole-Length: a pole on a driven cart, whose length differs between bodies.

MESA's cartpole (after CARL, arXiv 2008.06622), whose MuJoCo model is here in closed
form. A state is (x [m], theta [rad], their rates [m/s, rad/s]); theta is 0 upright
and is not wrapped. A body is the pole's length (its mass follows, at a density of
1000 kg/m^3), the motor's gain and the joints' friction. The model's slider stop, at
2.5 m, is left out: it lies beyond the violation, which ends the episode.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mesa_jax.domains.base import (
    CLOSED_FORM,
    PhysicsConfig,
    distribution_of,
    reference_states,
    require_backend,
    uniform_policy,
)
from mesa_jax.domains.identification import least_squares
from mesa_jax.domains.point_bodies import Distribution
from mesa_jax.domains.pole import (
    CART_LENGTH,
    CART_RADIUS,
    POLE_RADIUS,
    TIME_STEP,
    integrate,
    pole_of,
    slope,
)
from mesa_jax.types import (
    Array,
    Domain,
    DomainSpec,
    Key,
    Parametrisation,
    Shapes,
    Transition,
)

FORCE = 300.0  # N, the motor's largest at gain 1: a control of 3 by a gear of 100
TRACK = 2.4  # m, |x| from which on a state violates
FALLEN = jnp.pi / 2  # rad, |theta| beyond which a state violates
START_NOISE = 0.01  # of each entry of the start state, either way
SUCCESS_SHARE = 0.8  # of the horizon, in return: above 160 of 200
PHYSICS = PhysicsConfig(frame_skip=2, horizon=200)  # published: 0.04 s an action


class CartPoleTask(NamedTuple):
    """Describes one body."""

    length: Array  # [] m, of the pole
    gain: Array  # [] factor on the motor's force, sign included
    friction: Array  # [] damping of both joints, N s/m and N m s; 1 where published


def _varied_length(key: Key) -> CartPoleTask:
    length = jax.random.uniform(key, minval=0.4, maxval=0.8)
    return CartPoleTask(length, gain=jnp.ones(()), friction=jnp.ones(()))


def _longest(key: Key) -> CartPoleTask:
    """The published test body, always the same."""
    del key
    return CartPoleTask(length=jnp.ones(()), gain=jnp.ones(()), friction=jnp.ones(()))


def _varied_actuator(key: Key) -> CartPoleTask:
    """Published lengths; the motor's strength and sense and the friction vary."""
    length_key, gain_key, sign_key, friction_key = jax.random.split(key, 4)
    gain = jax.random.uniform(gain_key, minval=0.5, maxval=1.5)
    sign = jax.random.rademacher(sign_key, (), float)
    friction = jax.random.uniform(friction_key, minval=0.5, maxval=3.0)
    return _varied_length(length_key)._replace(gain=sign * gain, friction=friction)


DISTRIBUTIONS = {
    "published": Distribution(_varied_length, _longest),
    "in_support": Distribution(_varied_length, _varied_length),
    "actuator": Distribution(_varied_actuator, _varied_actuator),
}


def _tip(state: Array, task: CartPoleTask) -> Array:
    """The pole's upper end, [2] x and z from the middle of the track."""
    x, theta = state[:2]
    up = jnp.stack([jnp.sin(theta), jnp.cos(theta)])
    return task.length * up + jnp.stack([x, jnp.zeros_like(x)])


def _fallen(state: Array) -> Array:
    """Whether the pole of a state [..., 4] lies."""
    return jnp.abs(state[..., 1]) > FALLEN


def _out(state: Array) -> Array:
    """Whether the cart of a state [..., 4] is at an end of the track."""
    return jnp.abs(state[..., 0]) >= TRACK


CONSTRAINTS = {
    "pole": lambda transition: _fallen(transition.next_observation),
    "cart": lambda transition: _out(transition.next_observation),
}


def _step(frame_skip, key, state, action, task) -> tuple[Array, Transition]:
    """Holds a force for some time steps; the state then reached is judged."""
    del key
    action = jnp.clip(action, -1.0, 1.0)
    slope_of = functools.partial(
        slope,
        force=FORCE * task.gain * action[0],
        pole=pole_of(task.length),
        friction=task.friction,
    )
    reached = jax.lax.fori_loop(
        0, frame_skip, lambda _, moving: integrate(slope_of, moving), state, unroll=2
    )
    violation = _fallen(reached) | _out(reached)
    miss = (_tip(reached, task) - _tip(jnp.zeros_like(state), task)) / task.length
    dtype = state.dtype
    return reached, Transition(
        observation=state,
        action=action,
        reward=jnp.exp(-jnp.sum(miss**2)),
        cost=violation.astype(dtype),
        discount=1.0 - violation.astype(dtype),
        next_observation=reached,
    )


def _reset(key: Key, task: CartPoleTask) -> Array:
    """Upright at rest in the middle, but for a little noise."""
    del task
    return jax.random.uniform(key, (4,), minval=-START_NOISE, maxval=START_NOISE)


def _shapes(state: Array, task: CartPoleTask) -> Shapes:
    """The cart and the pole, hinge at z = 0."""
    x, (tip_x, tip_z) = state[0], _tip(state, task)
    cart = [(x + side * CART_LENGTH, 0.0, 0.0) for side in (-0.5, 0.5)]
    pole = [(x, 0.0, 0.0), (tip_x, 0.0, tip_z)]
    return Shapes(jnp.array([cart, pole]), jnp.array([CART_RADIUS, POLE_RADIUS]))


def _identify(step: Callable, transitions: Transition) -> Array:
    """Finds length, gain and friction [3] of the body of transitions [n, ...]."""

    def body(numbers):
        log_length, gain, friction = numbers
        return CartPoleTask(jnp.exp(log_length), gain, friction)

    def reached(numbers):
        move = lambda state, action: step(None, state, action, body(numbers))[0]  # noqa: E731
        return jax.vmap(move)(transitions.observation, transitions.action)

    mean, std = jnp.array([jnp.log(0.6), 0.0, 1.5]), jnp.array([0.3, 1.0, 1.0])
    return jnp.stack(
        body(least_squares(reached, transitions.next_observation, mean, std))
    )


CHANGES = {
    "length": lambda task, factor: task._replace(length=task.length * factor),
    "gain": lambda task, factor: task._replace(gain=task.gain * factor),
    "friction": lambda task, factor: task._replace(friction=task.friction * factor),
}


def cartpole(tasks: str = "published", physics: PhysicsConfig = PHYSICS) -> Domain:
    """Makes Cartpole-Length: keep a pole up and its cart in the middle of a track.

    The reward, after the step, is exp(-d^2), d the distance of the pole's tip from
    where it stands upright in the middle, in pole lengths. A state violates where the
    pole is beyond the horizontal or the cart at an end of the track. An episode is a
    success if its return is above 0.8 of the horizon, which every body can reach.

    Args:
      tasks: `published`, pole lengths U(0.4, 0.8) m in training and 1 m at test;
        `in_support`, U(0.4, 0.8) m in both; or `actuator`, the same and the motor's
        gain U(0.5, 1.5) with a random sign, the joints' friction U(0.5, 3).
      physics: time steps of 0.02 s that an action is held for, and the horizon.

    Raises:
      ValueError: on another task distribution or backend.
    """
    bodies = distribution_of(tasks, DISTRIBUTIONS)
    require_backend(physics, (CLOSED_FORM,))
    step = functools.partial(_step, physics.frame_skip)
    policy = uniform_policy(1)

    def observe(state):
        return state

    return Domain(
        spec=DomainSpec(
            name="cartpole_length",
            observation_size=4,
            action_size=1,
            horizon=physics.horizon,
            seconds=TIME_STEP * physics.frame_skip,
        ),
        train_tasks=lambda key, n: jax.vmap(bodies.train)(jax.random.split(key, n)),
        test_tasks=lambda key, n: jax.vmap(bodies.test)(jax.random.split(key, n)),
        reset=_reset,
        observe=observe,
        step=step,
        success=lambda transition, episode_return: (
            episode_return > SUCCESS_SHARE * physics.horizon
        ),
        solvable=lambda task: jnp.ones((), bool),
        reference_policy=policy,
        episode=None,
        decision_states=reference_states(
            _reset, step, observe, policy, physics.horizon
        ),
        shapes=_shapes,
        changes=CHANGES,
        constraints=CONSTRAINTS,
        parametrisation=Parametrisation(
            names=CartPoleTask._fields,
            of=jnp.stack,
            identify=functools.partial(_identify, step),
        ),
    )
