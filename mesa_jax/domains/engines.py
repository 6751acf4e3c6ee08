"""Brax's backends behind one interface: from `Limbs` to what each steps, and back."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from mesa_jax.domains.brax_engine import Limbs, quietly
from mesa_jax.types import Array


class Engine(NamedTuple):
    """Bundles how a backend steps: from `Limbs` to what it steps, and back."""

    resume: Callable[[Any, Limbs], Any]
    step: Callable[[Any, Any, Array], Any]  # system, what it steps, action [A]
    read: Callable[[Any, Any], Limbs]


def _limbs(q, qd, x, xd) -> Limbs:
    return Limbs(q, qd, x.pos, x.rot, xd.vel, xd.ang, jnp.zeros_like(qd))


def jointed(system: Any, q: Array, qd: Array) -> Limbs:
    """Puts links where the joints say.

    Args:
      system: of the body.
      q: [Q] joint positions.
      qd: [V] joint velocities.
    """
    from brax import kinematics

    return _limbs(q, qd, *kinematics.forward(system, q, qd))


def _mjx_engine() -> Engine:
    """MuJoCo XLA, without Brax's wrapper, whose state keeps more than a step needs."""
    from mujoco import mjx

    def resume(system, limbs):
        return mjx.make_data(system).replace(
            qpos=limbs.q, qvel=limbs.qd, qacc_warmstart=limbs.warmstart
        )

    def step(system, data, action):
        return mjx.step(system, data.replace(ctrl=action))

    def read(system, data):
        limbs = jointed(system, data.qpos, data.qvel)
        return limbs._replace(warmstart=data.qacc_warmstart)

    return Engine(resume, step, read)


def _generalized_engine() -> Engine:
    from brax.generalized import pipeline

    def resume(system, limbs):
        return pipeline.init(system, limbs.q, limbs.qd)

    def read(system, state):
        del system
        return _limbs(state.q, state.qd, state.x, state.xd)

    return Engine(resume, quietly()(pipeline.step), read)


def _links_engine(pipeline: Any) -> Engine:
    """Pipelines that move links, `spring` and `positional`.

    Joint angles follow from the links, and nothing needs them before the control step
    ends (no actuator here has feedback), so that a substep does without.
    """
    from brax import com, kinematics
    from brax.base import Motion, Transform

    def resume(system, limbs):
        fresh = pipeline.init(system, limbs.q, limbs.qd)
        x = Transform(pos=limbs.position, rot=limbs.rotation)
        xd = Motion(vel=limbs.velocity, ang=limbs.spin)
        x_i, xd_i = com.from_world(system, x, xd)
        j, jd, a_p, a_c = kinematics.world_to_joint(system, x, xd)
        return fresh.replace(
            x=x, xd=xd, x_i=x_i, xd_i=xd_i, j=j, jd=jd, a_p=a_p, a_c=a_c
        )

    def step(system, state, action):
        with quietly():
            moved = pipeline.step(system, state, action)
        return moved.replace(q=state.q, qd=state.qd)

    def read(system, state):
        q, qd = kinematics.inverse(system, state.j, state.jd)
        return _limbs(q, qd, state.x, state.xd)

    return Engine(resume, step, read)


def engine(backend: str) -> Engine:
    """Makes the engine of a Brax backend's name."""
    if backend == "mjx":
        return _mjx_engine()
    if backend == "generalized":
        return _generalized_engine()
    from brax.positional import pipeline as positional
    from brax.spring import pipeline as spring

    return _links_engine({"spring": spring, "positional": positional}[backend])
