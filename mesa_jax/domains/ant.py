"""Ant with a disabled leg: walk forward and keep the torso off the floor.

MESA's Ant-Disabled, whose action is held for 0.01 s (a frame skip of 1) and whose
horizon is 1000. `brax_engine` tells what is made of Brax's model. Unlike published, a
dead leg keeps its size, steps are Euler's, not Runge and Kutta's of four stages, and an
episode starts on the floor: the published start noise puts feet up to 0.3 m into it,
and contacts then throw the ant as high as 1 m.
"""

from typing import Any

import jax
import jax.numpy as jnp

from mesa_jax.domains import brax_engine, engines, limb_bodies
from mesa_jax.domains.base import PhysicsConfig
from mesa_jax.domains.limb_bodies import Distribution, LimbTask
from mesa_jax.domains.locomotion import (
    Anatomy,
    LimbState,
    locomotion,
    violates,
)
from mesa_jax.types import Array, Domain, Key

NAME = "ant_disabled"
LEGS = ((2, 3), (4, 5), (6, 7), (0, 1))  # actions of each leg
HELD_OUT = 3  # leg that is dead at test; each other one in training
ACTIONS = 8
POSITION_NOISE, VELOCITY_NOISE = 0.1, 0.1  # the stock environment's
CONTROL_COST, BONUS = 0.005, 0.05


def _bodies(legs: Array, strength: Array) -> LimbTask:
    """One body a leg [n], whose actuators keep strengths [n, 2]."""
    ones = jnp.ones(legs.shape[0])

    def body(leg, strength):
        return jnp.ones(ACTIONS).at[jnp.array(LEGS)[leg]].set(strength)

    return LimbTask(strength=jax.vmap(body)(legs, strength), mass=ones, friction=ones)


def _trained(key: Key, n: int) -> LimbTask:
    del key
    return _bodies(jnp.arange(n) % HELD_OUT, jnp.zeros((n, 2)))


def _held_out(key: Key, n: int) -> LimbTask:
    del key
    return _bodies(jnp.full((n,), HELD_OUT), jnp.zeros((n, 2)))


def _weakened(key: Key, n: int) -> LimbTask:
    leg_key, strength_key = jax.random.split(key)
    legs = jax.random.randint(leg_key, (n,), 0, len(LEGS))
    return _bodies(legs, jax.random.uniform(strength_key, (n, 2)))


def _anatomy(system: Any) -> Anatomy:
    from brax import math

    def start(key):
        position_key, velocity_key = jax.random.split(key)
        noise = jax.random.uniform(
            position_key, system.init_q.shape, minval=-1.0, maxval=1.0
        )
        q = system.init_q + POSITION_NOISE * noise
        q = q.at[3:7].divide(jnp.linalg.norm(q[3:7]))
        qd = VELOCITY_NOISE * jax.random.normal(velocity_key, (ACTIONS + 6,))
        placed = engines.jointed(system, q, qd)
        return q.at[2].add(-brax_engine.clearance(system, placed)), qd

    def observe(state: LimbState) -> Array:
        body = state.limbs
        center, velocity = brax_engine.center_of_mass(system, body)
        turn = math.quat_to_3x3(body.rotation[0]).reshape(-1)
        speed = velocity[:1] + BONUS
        flag = violates(state)[None].astype(turn.dtype)
        return jnp.concatenate([body.q, body.qd, turn, center, speed, flag])

    def reward(speed, action, acting):
        del acting
        return speed + BONUS - CONTROL_COST * jnp.sum(action**2)

    return Anatomy(43, ACTIONS, start, observe, reward)


PHYSICS = PhysicsConfig(backend="mjx", frame_skip=5, horizon=200)
DISTRIBUTIONS = {
    "published": Distribution(_trained, _held_out),
    "intact": Distribution(_trained, limb_bodies.whole(ACTIONS)),
    "partial": Distribution(_weakened, _weakened),
    **limb_bodies.distributions(ACTIONS),
}


def ant(
    tasks: str = "published",
    physics: PhysicsConfig = PHYSICS,
) -> Domain:
    """Makes the ant: 8 actions, 43 observations, no success.

    An observation is joint positions (15), their velocities (14), the torso's rotation
    matrix by rows (9), the centre of mass (3), its velocity along x plus 0.05, and
    whether the step violated. The reward is the velocity of the centre of mass along x
    plus 0.05 less 0.005 |action|^2. A violation is the torso on the floor, which the
    physics goes on from.

    Args:
      tasks: "published" (body i of training has leg i % 3 dead, every test body leg 3),
        "intact" (the same training; test bodies are whole until a fault strikes),
        "partial" (train and test: each actuator of one leg keeps a strength U(0, 1)),
        or one of `limb_bodies.distributions`.
      physics: a Brax backend.

    Raises:
      ValueError: on another task distribution or backend.
    """
    return locomotion(NAME, tasks, DISTRIBUTIONS, physics, _anatomy)
