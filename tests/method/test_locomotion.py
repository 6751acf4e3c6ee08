"""Half-cheetah and ant: against MuJoCo's own engine, and geometry by hand."""

import base64
import copy
import functools
import json
import re
import subprocess
import sys
import warnings
import zlib

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from mesa_jax.domains import DOMAINS, brax_engine, engines, locomotion
from mesa_jax.domains.base import PhysicsConfig
from mesa_jax.domains.locomotion import LimbState, LimbTask

CHEETAH, ANT = "halfcheetah_disabled", "ant_disabled"
BOTH = pytest.mark.parametrize("name", [CHEETAH, ANT])
BODIES, STEPS = 16, 20
ACTIONS = {CHEETAH: 6, ANT: 8}
FRAME_SKIP = {"mjx": 1, "spring": 5}  # mjx as published, one substep a step


def task_of(name, mass=1.0, friction=1.0, strength=1.0):
    """The same body [E] times."""
    full = np.broadcast_to(np.float32(strength), (BODIES, ACTIONS[name]))
    factors = (np.full(BODIES, x, np.float32) for x in (mass, friction))
    return LimbTask(full, *factors)


@functools.cache
def program_of(name, backend):
    """The domain, and its one program: rollouts [E] from joints, and resets by key.

    That the states stay of one structure and dtype is what lets a scan carry them.
    """
    physics = PhysicsConfig(backend, FRAME_SKIP[backend], horizon=STEPS)
    domain = DOMAINS[name].make("published", physics)
    system = brax_engine.system(name, backend)
    fragile = brax_engine.MODELS[name].fragile

    def rollout(key, q, qd, actions, task):
        start = engines.jointed(system, q, qd)
        start = LimbState(start, brax_engine.clearance(system, start, fragile))

        def advance(state, action):
            state, transition = domain.step(jax.random.key(0), state, action, task)
            return state, (state, transition, domain.shapes(state, task))

        moved = jax.lax.scan(advance, start, actions)[1]
        return domain.reset(key, task), (start, *moved)

    return domain, jax.jit(jax.vmap(rollout))


def in_numpy(tree):
    return jax.tree.map(np.asarray, tree)


def roll(name, backend, q, qd, actions, task):
    arrays = (np.float32(x) for x in (q, qd, actions))
    keys = jax.random.split(jax.random.key(0), BODIES)
    return in_numpy(program_of(name, backend)[1](keys, *arrays, task))


def starts(name, rng, height=None, pitch=None):
    """Joint positions and velocities [E] near the usual start, or as asked."""
    model = brax_engine.system(name, "mjx")
    q = np.tile(model.init_q, (BODIES, 1)) + 0.05 * rng.normal(size=(BODIES, model.nq))
    qd = 0.1 * rng.normal(size=(BODIES, model.nv))
    if name == ANT:
        q[:, 3:7] /= np.linalg.norm(q[:, 3:7], axis=1, keepdims=True)
        q[:, 2] = q[:, 2] if height is None else height
    else:
        q[:, 1] = q[:, 1] if height is None else height
        q[:, 2] = q[:, 2] if pitch is None else pitch
    return q, qd


def noise(name, rng):
    return rng.uniform(-1, 1, (BODIES, STEPS, ACTIONS[name]))


@functools.cache
def usual(name, backend):
    """Start states [E], and states, transitions and shapes [E, H] of random actions."""
    rng = np.random.default_rng(0)
    q, qd = starts(name, rng)
    strength = rng.uniform(0, 1, (BODIES, ACTIONS[name]))
    task = task_of(name, strength=strength)
    return task, *roll(name, backend, q, qd, 1.5 * noise(name, rng), task)[1]


@functools.cache
def falling(name, backend):
    """As `usual`, of bodies that fall on their backs."""
    rng = np.random.default_rng(1)
    low, high = {CHEETAH: (-0.37, -0.2), ANT: (0.2, 0.5)}[name]
    q, qd = starts(name, rng, np.linspace(low, high, BODIES), pitch=3.0)
    if name == ANT:
        q[:, 3:7] = [0, 1, 0, 0]
    return roll(name, backend, q, qd, noise(name, rng), task_of(name))[1]


def bodies_of(name, state):
    """MuJoCo's own engine at each state [E, H], [E * H] at a time."""
    model = brax_engine.system(name, "mjx").mj_model
    data = mujoco.MjData(model)
    for q, qd in zip(*(x.reshape(-1, x.shape[-1]) for x in state[:2]), strict=True):
        data.qpos[:], data.qvel[:] = q, qd
        mujoco.mj_forward(model, data)
        mujoco.mj_subtreeVel(model, data)
        yield model, data


# Contract


KINDS = pytest.mark.parametrize(
    ("name", "backend"),
    [
        (CHEETAH, "spring"),
        (CHEETAH, "mjx"),
        pytest.param(ANT, "spring", marks=pytest.mark.slow),
        (ANT, "mjx"),
    ],
)


@KINDS
def test_rollouts_are_finite_and_of_the_specified_shape(name, backend):
    domain, _ = program_of(name, backend)
    _, start, states, transitions, shapes = usual(name, backend)
    spec, lead = domain.spec, (BODIES, STEPS)
    assert (spec.name, spec.continues, spec.has_success) == (name, True, False)
    assert spec.action_size == ACTIONS[name]
    np.testing.assert_allclose(spec.seconds, 0.01 * FRAME_SKIP[backend])
    sizes = (spec.observation_size, spec.action_size, None)
    shapes_of = [(*lead, sizes[i]) for i in (0, 1)] + [lead] * 3 + [(*lead, sizes[0])]
    assert [x.shape for x in transitions] == shapes_of
    for leaf in jax.tree.leaves((start, states, transitions, shapes)):
        assert leaf.dtype == np.float32
        assert np.isfinite(leaf).all()
    assert abs(transitions.action).max() == 1.0
    np.testing.assert_array_equal(
        transitions.observation[:, 1:], transitions.next_observation[:, :-1]
    )
    assert shapes.ends.shape == (*lead, shapes.radii.shape[-1], 2, 3)


@KINDS
def test_a_dead_actuator_does_nothing(name, backend):
    rng = np.random.default_rng(2)
    q, qd = (np.tile(x[:1], (BODIES, 1)) for x in starts(name, rng))
    actions = np.tile(noise(name, rng)[:1], (BODIES, 1, 1))
    strength = np.ones((BODIES, ACTIONS[name]))
    for joint in range(ACTIONS[name]):  # bodies 2 j and 2 j + 1 differ in action j
        actions[2 * joint + 1, :, joint] *= -1
        strength[2 * joint : 2 * joint + 2, joint] = 0.0
    dead = roll(name, backend, q, qd, actions, task_of(name, strength=strength))
    whole = roll(name, backend, q, qd, actions, task_of(name))
    pairs = ACTIONS[name]
    for (_, (_, state, *_)), same in ((dead, True), (whole, False)):
        for joint in range(pairs):
            first, second = (state.limbs.q[2 * joint + i] for i in (0, 1))
            assert np.array_equal(first, second) == same


@BOTH
def test_a_reset_does_not_violate(name):
    rng = np.random.default_rng(4)
    state = roll(name, "mjx", *starts(name, rng), noise(name, rng), task_of(name))[0]
    assert (state.clearance > 0.1).all()
    stds = {CHEETAH: (0.01, 0.1), ANT: (0.1 / np.sqrt(3), 0.1)}[name]
    spread = [x[:, -6:].std(0).mean() for x in (state.limbs.q, state.limbs.qd)]
    np.testing.assert_allclose(spread, stds, rtol=0.2)
    assert abs(state.limbs.q[:, :2].mean(0)).max() < 0.1


# Against MuJoCo


@BOTH
def test_observations_are_what_mujoco_makes_of_the_joints(name):
    _, _, states, transitions, _ = usual(name, "mjx")
    expected = []
    for _, data in bodies_of(name, states.limbs):
        center, velocity = data.subtree_com[1], data.subtree_linvel[1]
        if name == CHEETAH:
            expected.append([*data.qpos[1:], *data.qvel, *center[1:]])
        else:
            low = data.qpos[2] <= 0.25
            joints = [*data.qpos, *data.qvel, *data.xmat[1]]
            expected.append([*joints, *center, velocity[0] + 0.05, low])
    expected = np.reshape(expected, transitions.next_observation.shape)
    np.testing.assert_allclose(transitions.next_observation, expected, atol=2e-5)


@BOTH
def test_the_reward_is_forward_motion_less_effort(name):
    task, start, states, transitions, _ = usual(name, "mjx")
    both = (
        np.concatenate([x[:, None], y], axis=1)
        for x, y in zip(start.limbs[:2], states.limbs[:2], strict=True)
    )
    x = [data.subtree_com[1][0] for _, data in bodies_of(name, tuple(both))]
    speed = np.diff(np.reshape(x, (BODIES, STEPS + 1))) / 0.01
    action = transitions.action
    if name == CHEETAH:
        acting = action * task.strength[:, None]
        expected = speed - 0.05 * np.sum(acting**2, -1)
    else:
        expected = speed + 0.05 - 0.005 * np.sum(action**2, -1)
    np.testing.assert_allclose(transitions.reward, expected, atol=2e-4)


@BOTH
def test_shapes_are_where_mujoco_puts_the_geoms(name):
    _, _, states, _, shapes = usual(name, "mjx")
    expected = []
    for model, data in bodies_of(name, states.limbs):
        half = model.geom_size[1:, 1] * (model.geom_type[1:] == 3)  # rods; 0 is floor
        along = half[:, None] * data.geom_xmat[1:].reshape(-1, 3, 3)[:, :, 2]
        center = data.geom_xpos[1:]
        expected.append(np.stack([center + along, center - along], axis=1))
        radii = model.geom_size[1:, 0]
    expected = np.reshape(expected, shapes.ends.shape)
    np.testing.assert_allclose(shapes.ends, expected, atol=1e-5)
    np.testing.assert_allclose(shapes.radii[0, 0], radii, rtol=1e-6)


def mujoco_rollout(name, q, qd, actions, mass, friction):
    """Joint positions [E, H, Q] of MuJoCo's engine in float64."""
    model = copy.copy(brax_engine.system(name, "mjx").mj_model)
    model.body_mass *= mass
    model.body_inertia *= mass
    model.geom_friction *= friction
    mujoco.mj_setConst(model, mujoco.MjData(model))
    reached = np.zeros((BODIES, STEPS, model.nq))
    for body in range(BODIES):
        data = mujoco.MjData(model)
        data.qpos[:], data.qvel[:] = q[body], qd[body]
        for i, action in enumerate(actions[body]):
            data.ctrl[:] = action
            mujoco.mj_step(model, data)
            reached[body, i] = data.qpos
    return reached


@pytest.mark.parametrize(
    ("mass", "friction", "tolerance"),
    [(1.0, 1.0, 2e-5), (1.0, 0.6, 2e-5), (1.5, 1.0, 0.02)],
    ids=["stock", "slippery", "heavy"],
)
@BOTH
def test_mjx_moves_as_mujoco_does(name, mass, friction, tolerance):
    rng = np.random.default_rng(3)
    # low enough to be in contact from the first steps on
    q, qd = starts(name, rng, {CHEETAH: -0.15, ANT: 0.5}[name])
    actions = noise(name, rng)
    expected = mujoco_rollout(name, q, qd, actions, mass, friction)
    task = task_of(name, mass, friction)
    reached = roll(name, "mjx", q, qd, actions, task)[1][1].limbs.q
    # a heavy body's contacts and limits are a little too hard or soft (`_fit`)
    np.testing.assert_allclose(reached, expected, atol=tolerance)
    stock = mujoco_rollout(name, q, qd, actions, 1.0, 1.0)
    changed = (mass, friction) != (1.0, 1.0)
    assert (abs(stock - expected).max() > 3 * tolerance) == changed


# Violation


def head_clearance(q):
    """Of the cheetah's head by hand, from half_cheetah.xml."""
    pitch = q[..., 2]
    heights = []
    for sign in (1, -1):  # a rod of radius 0.046 and half-length 0.15, turned by 0.87
        x, z = 0.6 + sign * 0.15 * np.sin(0.87), 0.1 + sign * 0.15 * np.cos(0.87)
        heights.append(0.7 + q[..., 1] - np.sin(pitch) * x + np.cos(pitch) * z)
    return np.minimum(*heights) - 0.046


CLEARANCE = {CHEETAH: head_clearance, ANT: lambda q: q[..., 2] - 0.25}


@BOTH
def test_a_violation_is_the_fragile_part_on_the_floor(name):
    _, states, transitions, _ = falling(name, "mjx")
    height = CLEARANCE[name](states.limbs.q)
    sure = abs(height) > 1e-5
    assert 0.1 < transitions.cost.mean() < 0.9
    np.testing.assert_array_equal(transitions.cost[sure], (height <= 0)[sure])
    np.testing.assert_array_equal(transitions.discount, 1.0 - transitions.cost)
    if name == ANT:
        np.testing.assert_array_equal(
            transitions.next_observation[..., -1], transitions.cost
        )


def test_a_touch_between_control_steps_is_a_violation():
    _, states, transitions, _ = falling(CHEETAH, "spring")
    height = head_clearance(states.limbs.q)
    assert transitions.cost[height < -1e-3].all()
    assert (transitions.cost[height > 0.002] == 1.0).any()
    assert (transitions.cost == 0.0).any()


@BOTH
def test_the_physics_goes_on_past_a_violation(name):
    _, states, transitions, _ = falling(name, "mjx")
    after = np.maximum.accumulate(transitions.cost, axis=1) == 1.0
    assert (CLEARANCE[name](states.limbs.q)[after] > -0.06).all()
    assert np.isfinite(states.limbs.qd).all()


# Bodies


def drawn(name, tasks, draw, count):
    sampler = getattr(DOMAINS[name].make(tasks), draw)
    return in_numpy(sampler(jax.random.key(0), count))


def test_training_joints_take_turns_and_joint_5_is_held_out():
    one = np.eye(6)
    trained = drawn(CHEETAH, "published", "train_tasks", 5).strength
    np.testing.assert_array_equal(trained, 1 - one[[1, 2, 3, 4, 1]])
    held_out = drawn(CHEETAH, "published", "test_tasks", 2).strength
    np.testing.assert_array_equal(held_out, 1 - one[[5, 5]])


def test_training_legs_take_turns_and_leg_3_is_held_out():
    legs = np.array([[2, 3], [4, 5], [6, 7], [2, 3]])
    trained = drawn(ANT, "published", "train_tasks", 4).strength
    for strength, leg in zip(trained, legs, strict=True):
        np.testing.assert_array_equal(np.flatnonzero(strength == 0), leg)
    held_out = drawn(ANT, "published", "test_tasks", 2)
    np.testing.assert_array_equal(held_out.strength, [[0, 0, 1, 1, 1, 1, 1, 1]] * 2)
    np.testing.assert_array_equal(held_out.mass, [1, 1])
    np.testing.assert_array_equal(held_out.friction, [1, 1])


@BOTH
def test_an_intact_test_body_is_whole(name):
    np.testing.assert_array_equal(drawn(name, "intact", "test_tasks", 3).strength, 1)
    trained = drawn(name, "intact", "train_tasks", 7).strength
    expected = drawn(name, "published", "train_tasks", 7).strength
    np.testing.assert_array_equal(trained, expected)


@pytest.mark.parametrize("draw", ["train_tasks", "test_tasks"])
@BOTH
def test_partial_bodies_keep_some_strength(name, draw):
    count = 2000
    strength = drawn(name, "partial", draw, count).strength
    weak = strength < 1
    if name == CHEETAH:  # one actuator or, as often, two
        share = np.bincount(weak.sum(1), minlength=3) / count
        np.testing.assert_allclose(share, [0, 0.5, 0.5], atol=0.045)
        often = 1.5 / 6
    else:
        for leg in ((2, 3), (4, 5), (6, 7), (0, 1)):
            np.testing.assert_array_equal(weak[:, leg[0]], weak[:, leg[1]])
        assert (weak.sum(1) == 2).all()
        often = 1 / 4
    np.testing.assert_allclose(weak.mean(0), often, atol=0.04)
    kept = np.sort(strength[weak])
    np.testing.assert_allclose(kept, np.linspace(0, 1, len(kept)), atol=0.04)


@BOTH
def test_faults_may_change_mass_and_friction(name):
    changes = DOMAINS[name].make("published").changes
    body = LimbTask(jnp.ones(2), jnp.float32(2.0), jnp.float32(3.0))
    assert changes["mass"](body, 0.5) == body._replace(mass=1.0)
    assert changes["friction"](body, 0.5) == body._replace(friction=1.5)
    assert set(changes) == {"mass", "friction"}


# Building


@BOTH
def test_what_a_domain_has_not_is_refused(name):
    with pytest.raises(ValueError, match="nonsense"):
        DOMAINS[name].make("nonsense")
    with pytest.raises(ValueError, match="closed_form"):
        DOMAINS[name].make("published", PhysicsConfig("closed_form"))


@BOTH
def test_the_model_is_the_published_one_and_brax_does_not_warn(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = brax_engine.system.__wrapped__(name, "spring").mj_model
    mass, gears = {
        CHEETAH: (14.0, [120, 90, 60, 120, 60, 30]),
        ANT: (0.4839 + 4 * (0.0392 + 0.0676), [150] * 8),  # density 5
    }[name]
    np.testing.assert_allclose(model.body_mass.sum(), mass, atol=1e-3)
    np.testing.assert_array_equal(model.actuator_gear[:, 0], gears)
    colliding = {CHEETAH: 5, ANT: 1 + 4 + 4}[name]  # torso, feet and knees
    assert model.geom_contype.sum() == colliding


def test_brax_is_imported_only_where_a_body_is_built():
    check = "import sys, mesa_jax.domains; sys.exit('brax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_a_page_plays_every_state():
    _, _, states, _, _ = usual(CHEETAH, "spring")
    played = jax.tree.map(lambda x: x[0, :3], states)
    physics = PhysicsConfig("spring", 5, 200)
    page = locomotion.html(CHEETAH, physics, played)
    packed = max(re.findall(r"[A-Za-z0-9+/=]{1000,}", page), key=len)
    scene = json.loads(zlib.decompress(base64.b64decode(packed)))
    np.testing.assert_allclose(
        [x["pos"] for x in scene["states"]["x"]], played.limbs.position, atol=1e-6
    )
    np.testing.assert_allclose(scene["opt"]["timestep"], 0.05)
