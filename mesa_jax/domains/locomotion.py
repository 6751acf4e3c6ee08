"""Locomotion with impaired limbs: what half-cheetah and ant share as domains.

MESA's HalfCheetah-Disabled and Ant-Disabled. A body is the strength of its actuators,
its mass and its friction: data of one compiled system. A violation is a fragile part
that touches the floor at any substep of a control step, or, where it is asked for
(`PhysicsConfig.lost_after`), a torso that has lain upside down for too long; it ends
the episode, and the physics can go on from it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mesa_jax.domains import brax_engine as limbs
from mesa_jax.domains import engines
from mesa_jax.domains.base import (
    BRAX,
    PhysicsConfig,
    distribution_of,
    reference_states,
    require_backend,
    uniform_policy,
)
from mesa_jax.domains.brax_engine import BASIC_STEP, MODELS, Limbs
from mesa_jax.domains.limb_bodies import Distribution, LimbTask, parametrisation
from mesa_jax.types import Array, Domain, DomainSpec, Key, Transition

FOR_EVER = np.float32(2**20)  # control steps; float32 still counts there


class LimbState(NamedTuple):
    """Holds what the next step and an observation need."""

    limbs: Limbs
    clearance: Array  # [] m: lowest of the fragile part in the step that led here
    patience: Array = FOR_EVER  # [] control steps that it may still lie lost


class Anatomy(NamedTuple):
    """Bundles what a domain says of its body; the rest is shared."""

    observation_size: int
    action_size: int
    start: Callable[[Key], tuple[Array, Array]]  # q, qd
    observe: Callable[[LimbState], Array]
    reward: Callable[[Array, Array, Array], Array]  # m/s, action, what acts of it


def violates(state: LimbState) -> Array:
    """Returns whether the fragile part touched the floor or lies lost, [] bool."""
    return (state.clearance <= 0.0) | (state.patience < 0)


def _upside_down(state: Limbs) -> Array:
    """Whether the torso's up axis points below the horizontal, [] bool."""
    _, x, y, _ = state.rotation[0]
    return 1.0 - 2.0 * (x**2 + y**2) < 0.0


def _fit(system: Any, task: LimbTask) -> Any:
    """The system of one body.

    MuJoCo's softness of contacts goes by inverse weights, which are scaled as if joints
    had no armature, and of limits by others, which are left. In a half-cheetah of 1.5
    times the mass that moved the joints by at most 0.01 in 20 steps of 0.01 s.
    """
    mass = task.mass
    heavier = ("body_mass", "body_inertia", "body_subtreemass")
    changed = {name: getattr(system, name) * mass for name in heavier}
    inertia = system.link.inertia
    return system.tree_replace(
        changed
        | {
            "link.inertia.mass": inertia.mass * mass,
            "link.inertia.i": inertia.i * mass,
            "link.invweight": system.link.invweight / mass,
            "body_invweight0": system.body_invweight0 / mass,
            "geom_friction": system.geom_friction * task.friction,
        }
    )


def _step_of(
    system: Any,
    engine: engines.Engine,
    anatomy: Anatomy,
    fragile: str,
    substeps: int,
    seconds: float,
    patience: np.float32,
) -> Callable:
    """Makes a control step of `substeps` substeps that take `seconds` together.

    A body may lie lost for `patience` control steps.
    """

    def step(key, state, action, task):
        del key
        action = jnp.clip(action, -1.0, 1.0)
        acting = action * task.strength
        body = _fit(system, task)

        def substep(i, carry):
            del i
            moving, lowest = carry
            moving = engine.step(body, moving, acting)
            height = limbs.clearance(body, engine.read(body, moving), fragile)
            return moving, jnp.minimum(lowest, height)

        high = jnp.full_like(state.clearance, jnp.inf)
        carry = (engine.resume(body, state.limbs), high)
        moving, lowest = jax.lax.fori_loop(0, substeps, substep, carry)
        moved = engine.read(body, moving)
        left = jnp.where(_upside_down(moved), state.patience - 1, patience)
        reached = LimbState(moved, lowest, left)
        before, after = (
            limbs.center_of_mass(system, s.limbs)[0][0] for s in (state, reached)
        )
        cost = violates(reached).astype(action.dtype)
        return reached, Transition(
            observation=anatomy.observe(state),
            action=action,
            reward=anatomy.reward((after - before) / seconds, action, acting),
            cost=cost,
            discount=1.0 - cost,
            next_observation=anatomy.observe(reached),
        )

    return step


def locomotion(
    name: str,
    tasks: str,
    distributions: dict[str, Distribution],
    physics: PhysicsConfig,
    anatomy_of: Callable[[Any], Anatomy],
) -> Domain:
    """Makes the domain of a body with limbs.

    Reward is by the mean velocity of the centre of mass over the control step:
    displacement over time.

    Args:
      name: of the domain, in `MODELS`.
      tasks: a name in `distributions`.
      distributions: of bodies.
      physics: backend, frame skip, horizon.
      anatomy_of: the built system -> what is the domain's own.

    Raises:
      ValueError: on an unknown task distribution or backend.
    """
    distribution = distribution_of(tasks, distributions)
    require_backend(physics, BRAX)
    system = limbs.system(name, physics.backend)
    anatomy = anatomy_of(system)
    engine = engines.engine(physics.backend)
    fragile = MODELS[name].fragile
    substeps = physics.frame_skip * MODELS[name].substeps[physics.backend]
    seconds = BASIC_STEP * physics.frame_skip
    patience = FOR_EVER
    if physics.lost_after:
        patience = np.float32(round(physics.lost_after / seconds))

    def reset(key, task):
        del task
        start = engines.jointed(system, *anatomy.start(key))
        height = limbs.clearance(system, start, fragile)
        return LimbState(start, height, jnp.asarray(patience))

    step = _step_of(system, engine, anatomy, fragile, substeps, seconds, patience)
    policy = uniform_policy(anatomy.action_size)
    return Domain(
        spec=DomainSpec(
            name=name,
            observation_size=anatomy.observation_size,
            action_size=anatomy.action_size,
            horizon=physics.horizon,
            has_success=False,
            continues=True,
            seconds=seconds,
        ),
        train_tasks=distribution.train,
        test_tasks=distribution.test,
        reset=reset,
        observe=anatomy.observe,
        step=step,
        success=lambda transition, episode_return: jnp.zeros_like(episode_return, bool),
        solvable=lambda task: jnp.ones_like(task.mass, bool),
        reference_policy=policy,
        episode=None,
        decision_states=reference_states(
            reset, step, anatomy.observe, policy, physics.horizon
        ),
        shapes=lambda state, task: limbs.shapes(system, state.limbs),
        changes={
            "mass": lambda task, factor: task._replace(mass=task.mass * factor),
            "friction": lambda task, factor: task._replace(
                friction=task.friction * factor
            ),
        },
        parametrisation=parametrisation(anatomy.action_size),
    )


def html(name: str, physics: PhysicsConfig, states: LimbState) -> str:
    """Makes Brax's own page that plays states [H, ...]; it loads a viewer."""
    from brax import base
    from brax.io import html as page

    system = limbs.system(name, physics.backend)
    system = system.tree_replace({"opt.timestep": BASIC_STEP * physics.frame_skip})

    def frame(i):
        now = jax.tree.map(lambda x: jnp.asarray(x[i]), states.limbs)
        x = base.Transform(pos=now.position, rot=now.rotation)
        xd = base.Motion(vel=now.velocity, ang=now.spin)
        return base.State(q=now.q, qd=now.qd, x=x, xd=xd, contact=None)

    return page.render(system, [frame(i) for i in range(len(states.clearance))])
