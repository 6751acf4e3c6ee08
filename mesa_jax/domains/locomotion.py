"""What the half-cheetah and the ant share: limbs, their physics, and a body's domain.

MESA's HalfCheetah-Disabled and Ant-Disabled (paper.md, 3.4 and 3.5) on Brax's physics
pipelines. A body is the strength of its actuators, its mass and its friction; all are
data of one compiled system. Brax is imported only where a domain is built.
"""

import functools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple
from xml.etree import ElementTree

import jax
import jax.numpy as jnp
import numpy as np

from mesa_jax.domains.physics import BRAX, PhysicsConfig, require_backend
from mesa_jax.domains.reference import reference_states, uniform_policy
from mesa_jax.types import Array, Domain, DomainSpec, Key, Shapes, Transition

BASIC_STEP = 0.01  # s, the published control step
BALL, ROD = 2, 3  # MuJoCo's geom types


class LimbTask(NamedTuple):
    """One body."""

    strength: Array  # [A] in [0, 1]: factor on each action; 0 is a dead actuator
    mass: Array  # [] factor on every link's mass and inertia
    friction: Array  # [] factor


class Limbs(NamedTuple):
    """Where a body is and how it moves, for every backend; the torso is link 0."""

    q: Array  # [Q] joint positions
    qd: Array  # [V] joint velocities
    position: Array  # [L, 3] m, of links
    rotation: Array  # [L, 4] quaternions w, x, y, z
    velocity: Array  # [L, 3] m/s
    spin: Array  # [L, 3] rad/s
    warmstart: Array  # [V] acceleration that mjx's solver starts from; else unused


class LimbState(NamedTuple):
    """What the next step and an observation need."""

    limbs: Limbs
    clearance: Array  # [] m, of `Model.fragile`: the lowest since the step before


class Distribution(NamedTuple):
    """Where bodies come from; each sampler draws some, with leaves [n, ...]."""

    train: Callable[[Key, int], LimbTask]
    test: Callable[[Key, int], LimbTask]


class Model(NamedTuple):
    """What is made of one of Brax's MJCF assets."""

    asset: str
    colliding: tuple[str, ...]  # the geoms that cannot pass the floor
    fragile: str  # the geom whose contact with the floor is a violation
    total_mass: float | None  # kg; None: as the asset's densities make it
    substeps: dict[str, int]  # of a basic step, by backend


class Anatomy(NamedTuple):
    """What a domain says of its body; the rest is shared."""

    observation_size: int
    action_size: int
    start: Callable[[Key], tuple[Array, Array]]  # q, qd
    observe: Callable[[LimbState], Array]
    reward: Callable[[Array, Array, Array], Array]  # m/s, action, what acts of it


MODELS = {
    "halfcheetah_disabled": Model(
        asset="half_cheetah.xml",
        colliding=("head", "bthigh", "bfoot", "fthigh", "ffoot"),  # as in the asset
        fragile="head",
        total_mass=14.0,
        substeps={"spring": 4, "positional": 4, "mjx": 1, "generalized": 1},
    ),
    "ant_disabled": Model(
        asset="ant.xml",
        colliding=(  # in the asset only the feet, which are the ankle rods' far ends
            "torso_geom",
            "left_ankle_geom",
            "right_ankle_geom",
            "third_ankle_geom",
            "fourth_ankle_geom",
        ),
        fragile="torso_geom",
        total_mass=None,
        substeps={"spring": 2, "positional": 2, "mjx": 1, "generalized": 1},
    ),
}


@functools.cache
def system(name: str, backend: str) -> Any:
    """The brax.base.System of a domain, from Brax's asset edited as `MODELS` says."""
    import mujoco
    from brax.io import mjcf
    from etils import epath

    model = MODELS[name]
    path = epath.resource_path("brax") / "envs" / "assets" / model.asset
    tree = ElementTree.fromstring(mjcf.fuse_bodies(path.read_text()))
    tree.find("compiler").attrib.pop("settotalmass", None)  # set below
    tree.find("option").set("timestep", str(BASIC_STEP / model.substeps[backend]))
    tree.find("option").set("ls_iterations", "6")
    for geom in tree.iter("geom"):
        geom.set("contype", str(int(geom.get("name") in model.colliding)))
    built = mujoco.MjModel.from_xml_string(ElementTree.tostring(tree, "unicode"))
    if model.total_mass is not None:
        mujoco.mj_setTotalmass(built, model.total_mass)
        mujoco.mj_setConst(built, mujoco.MjData(built))
    with warnings.catch_warnings():
        # Brax's pipelines are no longer maintained: known, and stated in README
        warnings.filterwarnings("ignore", "Brax System, piplines", UserWarning)
        return mjcf.load_model(built)


def center_of_mass(system: Any, limbs: Limbs) -> tuple[Array, Array]:
    """Of the whole body: position [3] in m and velocity [3] in m/s."""
    from brax import math

    arms = jax.vmap(math.rotate)(system.link.inertia.transform.pos, limbs.rotation)
    share = system.link.inertia.mass / system.link.inertia.mass.sum()
    velocity = limbs.velocity + jnp.cross(limbs.spin, arms)
    return share @ (limbs.position + arms), share @ velocity


def shapes(system: Any, limbs: Limbs, name: str | None = None) -> Shapes:
    """Every rod and ball of a body in the world, or the one of a name."""
    from brax import math

    model = system.mj_model
    shown = np.flatnonzero(np.isin(model.geom_type, (BALL, ROD)))
    if name is not None:
        shown = np.array([model.geom(name).id])
    half = np.where(model.geom_type[shown] == ROD, model.geom_size[shown, 1], 0.0)
    axis = np.array([0.0, 0.0, 1.0])
    along = np.array([math.rotate_np(axis, turn) for turn in model.geom_quat[shown]])
    sides = np.stack([along, -along], axis=1) * half[:, None, None]
    local = jnp.asarray(model.geom_pos[shown, None] + sides, jnp.float32)
    link = model.geom_bodyid[shown] - 1

    def place(ends, position, rotation):
        return position + jax.vmap(math.rotate, (0, None))(ends, rotation)

    ends = jax.vmap(place)(local, limbs.position[link], limbs.rotation[link])
    return Shapes(ends, jnp.asarray(model.geom_size[shown, 0], jnp.float32))


def clearance(system: Any, limbs: Limbs, name: str) -> Array:
    """Height of the lowest point of a rod or ball over the floor, [] in m."""
    ends, radii = shapes(system, limbs, name)
    return jnp.min(ends[:, :, 2].min(1) - radii)


def violates(state: LimbState) -> Array:
    """Whether the fragile part touched the floor, [] bool."""
    return state.clearance <= 0.0


class _Engine(NamedTuple):
    """One backend: how `Limbs` become what it steps, and back."""

    resume: Callable[[Any, Limbs], Any]
    step: Callable[[Any, Any, Array], Any]  # system, what it steps, action [A]
    read: Callable[[Any, Any], Limbs]


def _limbs(q, qd, x, xd, warmstart) -> Limbs:
    return Limbs(q, qd, x.pos, x.rot, xd.vel, xd.ang, warmstart)


def _jointed(system: Any, q: Array, qd: Array, warmstart: Array) -> Limbs:
    """Links where the joints put them."""
    from brax import kinematics

    return _limbs(q, qd, *kinematics.forward(system, q, qd), warmstart)


def _mjx_engine() -> _Engine:
    """MuJoCo XLA, without Brax's wrapper, whose state keeps more than a step needs."""
    from mujoco import mjx

    def resume(system, limbs):
        return mjx.make_data(system).replace(
            qpos=limbs.q, qvel=limbs.qd, qacc_warmstart=limbs.warmstart
        )

    def step(system, data, action):
        return mjx.step(system, data.replace(ctrl=action))

    def read(system, data):
        return _jointed(system, data.qpos, data.qvel, data.qacc_warmstart)

    return _Engine(resume, step, read)


def _generalized_engine() -> _Engine:
    from brax.generalized import pipeline

    def resume(system, limbs):
        return pipeline.init(system, limbs.q, limbs.qd)

    def read(system, state):
        del system
        return _limbs(state.q, state.qd, state.x, state.xd, jnp.zeros_like(state.qd))

    return _Engine(resume, pipeline.step, read)


def _links_engine(pipeline: Any) -> _Engine:
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
        return pipeline.step(system, state, action).replace(q=state.q, qd=state.qd)

    def read(system, state):
        q, qd = kinematics.inverse(system, state.j, state.jd)
        return _limbs(q, qd, state.x, state.xd, jnp.zeros_like(qd))

    return _Engine(resume, step, read)


def _engine(backend: str) -> _Engine:
    if backend == "mjx":
        return _mjx_engine()
    if backend == "generalized":
        return _generalized_engine()
    from brax.positional import pipeline as positional
    from brax.spring import pipeline as spring

    return _links_engine({"spring": spring, "positional": positional}[backend])


def _fit(system: Any, task: LimbTask) -> Any:
    """The system of one body.

    MuJoCo's softness of contacts goes by inverse weights, which here scale as if there
    were no armature.
    """
    heavier = {
        "link.inertia.mass": system.link.inertia.mass,
        "link.inertia.i": system.link.inertia.i,
        "body_mass": system.body_mass,
        "body_inertia": system.body_inertia,
        "body_subtreemass": system.body_subtreemass,
    }
    lighter = {
        "link.invweight": system.link.invweight,
        "body_invweight0": system.body_invweight0,
    }
    return system.tree_replace(
        {
            "geom_friction": system.geom_friction * task.friction,
            **{name: value * task.mass for name, value in heavier.items()},
            **{name: value / task.mass for name, value in lighter.items()},
        }
    )


def locomotion(
    name: str,
    tasks: str,
    distributions: dict[str, Distribution],
    physics: PhysicsConfig,
    anatomy: Anatomy,
) -> Domain:
    """The domain of a body with limbs, from what is its own.

    Reward is by the mean velocity of the centre of mass over the control step:
    displacement over time.

    Raises:
      ValueError: on an unknown task distribution or backend.
    """
    if tasks not in distributions:
        known = ", ".join(distributions)
        raise ValueError(f"tasks must be one of {known}, got {tasks!r}.")
    require_backend(physics, BRAX)
    built = system(name, physics.backend)
    engine = _engine(physics.backend)
    fragile = MODELS[name].fragile
    substeps = physics.frame_skip * MODELS[name].substeps[physics.backend]
    seconds = BASIC_STEP * physics.frame_skip

    def reset(key, task):
        del task
        q, qd = anatomy.start(key)
        limbs = _jointed(built, q, qd, jnp.zeros_like(qd))
        return LimbState(limbs, clearance(built, limbs, fragile))

    def step(key, state, action, task):
        del key
        action = jnp.clip(action, -1.0, 1.0)
        acting = action * task.strength
        body = _fit(built, task)

        def substep(i, carry):
            del i
            moving, lowest = carry
            moving = engine.step(body, moving, acting)
            height = clearance(body, engine.read(body, moving), fragile)
            return moving, jnp.minimum(lowest, height)

        carry = (engine.resume(body, state.limbs), jnp.float32(jnp.inf))
        moving, lowest = jax.lax.fori_loop(0, substeps, substep, carry)
        reached = LimbState(engine.read(body, moving), lowest)
        before, after = (center_of_mass(built, s.limbs)[0][0] for s in (state, reached))
        cost = violates(reached).astype(action.dtype)
        return reached, Transition(
            observation=anatomy.observe(state),
            action=action,
            reward=anatomy.reward((after - before) / seconds, action, acting),
            cost=cost,
            discount=1.0 - cost,
            next_observation=anatomy.observe(reached),
        )

    policy = uniform_policy(anatomy.action_size)
    distribution = distributions[tasks]
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
        shapes=lambda state, task: shapes(built, state.limbs),
        changes={
            "mass": lambda task, factor: task._replace(mass=task.mass * factor),
            "friction": lambda task, factor: task._replace(
                friction=task.friction * factor
            ),
        },
    )


def html(name: str, physics: PhysicsConfig, states: LimbState) -> str:
    """Brax's own page that plays states [H, ...] of a domain; it loads a viewer."""
    from brax import base
    from brax.io import html as page

    built = system(name, physics.backend)
    built = built.tree_replace({"opt.timestep": BASIC_STEP * physics.frame_skip})

    def frame(limbs):
        x = base.Transform(pos=limbs.position, rot=limbs.rotation)
        xd = base.Motion(vel=limbs.velocity, ang=limbs.spin)
        return base.State(q=limbs.q, qd=limbs.qd, x=x, xd=xd, contact=None)

    limbs = jax.tree.map(jnp.asarray, states.limbs)
    steps = range(len(limbs.q))
    return page.render(
        built, [frame(jax.tree.map(lambda x, i=i: x[i], limbs)) for i in steps]
    )
