"""Half-cheetah with disabled joints: run forward and keep the head off the floor.

MESA's HalfCheetah-Disabled, whose action is held for 0.01 s (a frame skip of 1) and
whose horizon is 1000. `brax_engine` tells what is made of Brax's model.
"""

from typing import Any

import jax
import jax.numpy as jnp

from mesa_jax.domains import brax_engine, limb_bodies
from mesa_jax.domains.base import PhysicsConfig
from mesa_jax.domains.limb_bodies import Distribution, LimbTask
from mesa_jax.domains.locomotion import (
    Anatomy,
    LimbState,
    locomotion,
)
from mesa_jax.types import Array, Domain, Key

NAME = "halfcheetah_disabled"
JOINTS = ("bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot")
TRAINED, HELD_OUT = (1, 2, 3, 4), 5  # joints dead in training and at test
CONTROL_COST = 0.05
POSITION_NOISE, VELOCITY_NOISE = 0.01, 0.1


def _bodies(strength: Array) -> LimbTask:
    ones = jnp.ones(strength.shape[0])
    return LimbTask(strength=strength, mass=ones, friction=ones)


def _dead(joints: Array) -> LimbTask:
    """One body a joint [n], which is dead."""
    return _bodies(1.0 - jax.nn.one_hot(joints, len(JOINTS)))


def _trained(key: Key, n: int) -> LimbTask:
    del key
    return _dead(jnp.array(TRAINED)[jnp.arange(n) % len(TRAINED)])


def _held_out(key: Key, n: int) -> LimbTask:
    del key
    return _dead(jnp.full((n,), HELD_OUT))


def _weak(key: Key) -> Array:
    """Strengths [A]: one actuator keeps U(0, 1), and in half of the bodies another."""
    joint_key, strength_key, second_key = jax.random.split(key, 3)
    joints = jax.random.choice(joint_key, len(JOINTS), (2,), replace=False)
    strength = jax.random.uniform(strength_key, (2,))
    second = jax.random.bernoulli(second_key)
    strength = strength.at[1].set(jnp.where(second, strength[1], 1.0))
    return jnp.ones(len(JOINTS)).at[joints].set(strength)


def _weakened(key: Key, n: int) -> LimbTask:
    return _bodies(jax.vmap(_weak)(jax.random.split(key, n)))


def _anatomy(system: Any) -> Anatomy:
    size = len(JOINTS) + 3

    def start(key):
        position_key, velocity_key = jax.random.split(key)
        q = system.init_q + POSITION_NOISE * jax.random.normal(position_key, (size,))
        return q, VELOCITY_NOISE * jax.random.normal(velocity_key, (size,))

    def observe(state: LimbState) -> Array:
        center, _ = brax_engine.center_of_mass(system, state.limbs)
        return jnp.concatenate([state.limbs.q[1:], state.limbs.qd, center[1:]])

    def reward(speed, action, acting):
        del action
        return speed - CONTROL_COST * jnp.sum(acting**2)

    return Anatomy(19, len(JOINTS), start, observe, reward)


PHYSICS = PhysicsConfig(backend="spring", frame_skip=5, horizon=200)
DISTRIBUTIONS = {
    "published": Distribution(_trained, _held_out),
    "intact": Distribution(_trained, limb_bodies.whole(len(JOINTS))),
    "partial": Distribution(_weakened, _weakened),
    **limb_bodies.distributions(len(JOINTS)),
}


def half_cheetah(
    tasks: str = "published",
    physics: PhysicsConfig = PHYSICS,
) -> Domain:
    """Makes the half-cheetah: 6 actions, 19 observations, no success.

    An observation is the joints' positions without the root's x (8), their velocities
    (9), and y and z of the centre of mass (2). The reward is the velocity of the centre
    of mass along x less 0.05 |action that acts|^2. A violation is the head on the
    floor, which the physics goes on from.

    Args:
      tasks: "published" (body i of training has joint 1 + i % 4 dead, every test body
        joint 5), "intact" (the same training; test bodies are whole until a fault
        strikes), "partial" (train and test: one actuator keeps a strength U(0, 1), and
        in half of the bodies another one too), or one of `limb_bodies.distributions`.
      physics: a Brax backend.

    Raises:
      ValueError: on another task distribution or backend.
    """
    return locomotion(NAME, tasks, DISTRIBUTIONS, physics, _anatomy)
