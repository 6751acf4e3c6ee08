"""Cart-pole: its closed form against MuJoCo, and what is known of its bodies."""

import functools

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
import scipy.linalg

from mesa_jax.domains.base import PhysicsConfig
from mesa_jax.domains.cartpole import DISTRIBUTIONS, CartPoleTask, cartpole
from mesa_jax.domains.identification import NOISE_STD, least_squares
from mesa_jax.settings import SettingError

DOMAIN = cartpole()
KINDS = pytest.mark.parametrize("tasks", DISTRIBUTIONS)
DRAWS = pytest.mark.parametrize("draw", ["train_tasks", "test_tasks"])
LENGTHS = pytest.mark.parametrize("length", [0.4, 0.55, 0.8, 1.0])
DRAWN = 2000

# MESA's model, without the slider's stop; the cart weighs 10.472 kg.
MODEL = """
<mujoco>
  <option gravity="0 0 -9.81" integrator="RK4" timestep="0.02"/>
  <default><geom density="1000" contype="0" conaffinity="0"/></default>
  <worldbody>
    <body name="cart">
      <joint name="slider" type="slide" axis="1 0 0" damping="{friction}"/>
      <geom type="capsule" fromto="-0.1 0 0 0.1 0 0" size="0.1"/>
      <body name="pole">
        <joint name="hinge" type="hinge" axis="0 1 0" damping="{friction}"/>
        <geom type="capsule" fromto="0 0 0 0.001 0 {length}" size="0.049"/>
      </body>
    </body>
  </worldbody>
  <actuator>
    <motor joint="slider" gear="{gear}" ctrllimited="true" ctrlrange="-3 3"/>
  </actuator>
</mujoco>
"""


def body(length, gain=1.0, friction=1.0):
    return CartPoleTask(*(jnp.asarray(x, float) for x in (length, gain, friction)))


STEP = jax.jit(jax.vmap(DOMAIN.step, (0, 0, 0, None)))


def step(state, action, task):
    """One step of each state [N, 4] under each action [N, 1]; nothing is random."""
    keys = jax.random.split(jax.random.key(0), len(state))
    state, action = (jnp.asarray(x, float) for x in (state, action))
    return jax.tree.map(np.asarray, STEP(keys, state, action, task)[1])


def balanced(x, length):
    """A state [1, 4] in which nothing moves: the pole's centre above the hinge."""
    lean = np.arctan(np.float32(0.001) / np.float32(length))
    return np.array([[x, -lean, 0.0, 0.0]])


# Dynamics, against MuJoCo


def simulate(start, actions, length, gain=1.0, friction=1.0, substeps=2):
    """States [H, 4] that MuJoCo's model reaches under actions [H]."""
    model = mujoco.MjModel.from_xml_string(
        MODEL.format(length=length, gear=100 * gain, friction=friction)
    )
    data = mujoco.MjData(model)
    data.qpos, data.qvel = start[:2], start[2:]
    states = []
    for action in actions:
        data.ctrl = 3.0 * action
        mujoco.mj_step(model, data, substeps)
        states.append(np.concatenate([data.qpos, data.qvel]))
    return model, np.array(states)


def trajectory(start, actions, task, domain=DOMAIN):
    """States [H, 4] that the domain reaches, past violations too."""

    def advance(state, action):
        reached, transition = domain.step(jax.random.key(0), state, action, task)
        return reached, transition.next_observation

    actions = jnp.asarray(actions)[:, None]
    return jax.jit(lambda s: jax.lax.scan(advance, s, actions)[1])(jnp.asarray(start))


def assert_moves_as_mujoco(seed, length, gain=1.0, friction=1.0, substeps=2):
    rng = np.random.default_rng(seed)
    start, actions = rng.uniform(-0.01, 0.01, 4), rng.uniform(-1.2, 1.2, 30)
    _, expected = simulate(start, actions, length, gain, friction, substeps)
    domain = cartpole(physics=PhysicsConfig(frame_skip=substeps, horizon=200))
    states = trajectory(start, actions, body(length, gain, friction), domain)
    assert states.dtype == jnp.float64
    np.testing.assert_allclose(states, expected, rtol=0, atol=1e-10)
    assert abs(expected[:, 1]).max() > 0.5  # it went somewhere


@LENGTHS
def test_every_length_moves_as_mujocos_model(float64, length):
    for seed in range(3):
        assert_moves_as_mujoco(seed, length)


@LENGTHS
def test_the_compared_model_has_the_published_masses(length):
    model, _ = simulate(np.zeros(4), [], length)
    _, cart, pole = model.body_mass
    np.testing.assert_allclose(cart, 10.472, atol=5e-4)
    np.testing.assert_allclose(pole, 7.543 * length + 0.493, atol=1e-3)


@pytest.mark.parametrize("gain", [-1.0, -0.5, 0.7, 1.5])
def test_a_gain_is_a_factor_of_the_motors_gear_sign_included(float64, gain):
    assert_moves_as_mujoco(3, 0.55, gain=gain)


@pytest.mark.parametrize("friction", [0.5, 3.0])
def test_friction_is_the_damping_of_both_joints(float64, friction):
    assert_moves_as_mujoco(4, 0.55, friction=friction)


@pytest.mark.parametrize("substeps", [1, 3, 4])
def test_an_action_is_held_for_the_frame_skip(float64, substeps):
    assert_moves_as_mujoco(5, 0.8, substeps=substeps)
    spec = cartpole(physics=PhysicsConfig(frame_skip=substeps, horizon=50)).spec
    assert (spec.seconds, spec.horizon) == (0.02 * substeps, 50)


def test_actions_are_clipped_to_the_unit_interval():
    state = np.tile([0.1, -0.2, 0.3, 0.4], (2, 1))
    wild = step(state, [[3.0], [-9.0]], body(0.6))
    edge = step(state, [[1.0], [-1.0]], body(0.6))
    jax.tree.map(np.testing.assert_array_equal, wild, edge)
    assert wild.action.tolist() == [[1.0], [-1.0]]
    assert (wild.next_observation[0] != wild.next_observation[1]).any()


# Reward, violation, success


def test_the_reward_is_the_tips_distance_from_upright_after_the_step():
    rng = np.random.default_rng(0)
    states = rng.uniform([-2, -1.5, -1, -1], [2, 1.5, 1, 1], (50, 4))
    for length in (0.4, 1.0):
        moved = step(states, rng.uniform(-1, 1, (50, 1)), body(length))
        x, theta = moved.next_observation.astype(float).T[:2]
        across, down = x / length + np.sin(theta), 1 - np.cos(theta)
        np.testing.assert_allclose(
            moved.reward, np.exp(-(across**2) - down**2), rtol=1e-4, atol=1e-6
        )
    at_rest = step(balanced(0.3, 0.6), [[0.0]], body(0.6))  # tip 0.299 m off
    np.testing.assert_allclose(at_rest.reward, np.exp(-((0.299 / 0.6) ** 2)), rtol=1e-5)


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_the_track_ends_at_2_4_metres_inclusive(side):
    end = np.float32(2.4)
    within = np.nextafter(end, np.float32(0))
    states = np.concatenate([balanced(side * x, 0.6) for x in (end, within)])
    rested = step(states, np.zeros((2, 1)), body(0.6))
    np.testing.assert_array_equal(rested.next_observation[:, 0], states[:, 0])
    np.testing.assert_array_equal(rested.cost, [1.0, 0.0])
    np.testing.assert_array_equal(rested.discount, [0.0, 1.0])


def test_a_pole_beyond_the_horizontal_violates():
    theta = np.linspace(1.2, 1.6, 2000)
    states = np.zeros((4000, 4))
    states[:, 1] = np.concatenate([theta, -theta])
    fallen = step(states, np.zeros((4000, 1)), body(0.6))
    reached = abs(fallen.next_observation[:, 1])
    expected = reached > np.float32(np.pi / 2)
    np.testing.assert_array_equal(fallen.cost, expected)
    np.testing.assert_array_equal(fallen.discount, ~expected)
    nearest = abs(reached - np.pi / 2)
    assert nearest[expected].max() > nearest[~expected].min()
    assert max(nearest[expected].min(), nearest[~expected].min()) < 5e-4


def test_the_state_reached_is_judged_not_the_one_left():
    leaving, returning = [2.3, 0, 4, 0], [2.5, 0, -4, 0]
    moved = step([leaving, returning], np.zeros((2, 1)), body(0.6))
    np.testing.assert_array_equal(moved.cost, [1.0, 0.0])


def test_success_is_a_return_above_four_fifths_of_the_horizon():
    last = jax.tree.map(lambda x: x[0], step(balanced(0, 0.6), [[0.0]], body(0.6)))
    short = cartpole(physics=PhysicsConfig(frame_skip=2, horizon=50))
    for domain, threshold in ((DOMAIN, 160.0), (short, 40.0)):
        verdicts = [domain.success(last, jnp.float32(threshold + x)) for x in (0, 0.1)]
        assert [bool(verdict) for verdict in verdicts] == [False, True]
        assert (verdicts[0].shape, verdicts[0].dtype) == ((), bool)


def feedback(moves, pushes):
    """Optimal feedback [4] of a linear system, by its Riccati equation."""
    weight, effort = np.diag([1.0, 1.0, 0.1, 0.1]), np.eye(1)
    value = scipy.linalg.solve_discrete_are(moves, pushes, weight, effort)
    reply = pushes.T @ value
    return -np.linalg.solve(effort + reply @ pushes, reply @ moves)[0]


def test_every_body_is_held_up_by_a_linear_feedback():
    domains = [cartpole(tasks) for tasks in DISTRIBUTIONS]
    draws = [draw for d in domains for draw in (d.train_tasks, d.test_tasks)]
    drawn = [draw(jax.random.key(i), 12) for i, draw in enumerate(draws)]
    bodies = jax.tree.map(lambda *x: jnp.concatenate(x), *drawn)

    def reach(state, action, task):
        return DOMAIN.step(jax.random.key(0), state, action, task)[0]

    linear = jax.jit(jax.vmap(jax.jacobian(reach, (0, 1)), (None, None, 0)))
    moves, pushes = linear(jnp.zeros(4), jnp.zeros(1), bodies)
    pairs = zip(np.asarray(moves, float), np.asarray(pushes, float), strict=True)
    gains = jnp.array([feedback(*pair) for pair in pairs], jnp.float32)

    def held(key, task, gain):
        def advance(state, _):
            action = (gain @ state)[None]
            return DOMAIN.step(jax.random.key(0), state, action, task)

        return jax.lax.scan(advance, DOMAIN.reset(key, task), length=200)[1]

    keys = jax.random.split(jax.random.key(99), len(gains))
    moved = jax.jit(jax.vmap(held))(keys, bodies, gains)
    assert (moved.cost == 0.0).all()
    last = jax.tree.map(lambda x: x[:, -1], moved)
    assert jax.vmap(DOMAIN.success)(last, moved.reward.sum(1)).all()
    solvable = jax.vmap(DOMAIN.solvable)(bodies)
    assert (solvable.dtype, solvable.shape) == (bool, (len(gains),))
    assert solvable.all()


# Bodies and starts


def assert_uniform(values, low, high):
    """Values [N] fill a range evenly; means are right to four standard errors."""
    slack = 0.01 * (high - low)
    assert low <= values.min() < low + slack
    assert high - slack < values.max() <= high
    error = 4 * (high - low) / np.sqrt(12 * len(values))
    np.testing.assert_allclose(values.mean(), (low + high) / 2, atol=error)


@DRAWS
@KINDS
def test_bodies_fill_the_distributions_ranges(tasks, draw):
    bodies = getattr(cartpole(tasks), draw)(jax.random.key(0), DRAWN)
    for field in bodies:
        assert (field.shape, field.dtype) == ((DRAWN,), jnp.float32)
    length, gain, friction = (np.asarray(field, float) for field in bodies)
    if (tasks, draw) == ("published", "test_tasks"):
        np.testing.assert_array_equal(length, 1.0)
    else:
        assert_uniform(length, np.float32(0.4), np.float32(0.8))
    if tasks != "actuator":
        np.testing.assert_array_equal([gain, friction], 1.0)
        return
    assert_uniform(abs(gain), 0.5, 1.5)
    assert_uniform(friction, 0.5, 3.0)
    assert abs(np.mean(gain > 0) - 0.5) < 4 * 0.5 / np.sqrt(DRAWN)
    parts = np.corrcoef([length, abs(gain), np.sign(gain), friction]) - np.eye(4)
    assert abs(parts).max() < 4 / np.sqrt(DRAWN)


def test_an_episode_starts_upright_at_rest_but_for_noise():
    keys = jax.random.split(jax.random.key(0), DRAWN)
    starts = np.asarray(jax.vmap(DOMAIN.reset, (0, None))(keys, body(0.6)), float)
    assert starts.shape == (DRAWN, 4)
    for entry in starts.T:
        assert_uniform(entry, -np.float32(0.01), np.float32(0.01))
    assert abs(np.corrcoef(starts.T) - np.eye(4)).max() < 4 / np.sqrt(DRAWN)


def test_a_fault_multiplies_one_part_of_a_body():
    assert set(DOMAIN.changes) == {"length", "gain", "friction"}
    task = body(0.6, -0.8, 2.0)
    for name, change in DOMAIN.changes.items():
        expected = task._replace(**{name: 0.5 * getattr(task, name)})
        assert change(task, jnp.float32(0.5)) == expected


# Contract


@functools.cache
def rollouts(tasks, steps=20, count=64):
    """Bodies [T] and their transitions [T, H] under the reference policy."""
    domain = cartpole(tasks)

    def rollout(key, task):
        def advance(state, i):
            act_key, step_key = jax.random.split(jax.random.fold_in(key, i))
            action = domain.reference_policy(act_key, domain.observe(state))
            return domain.step(step_key, state, action, task)

        start = domain.reset(jax.random.fold_in(key, steps), task)
        return jax.lax.scan(advance, start, jnp.arange(steps))[1]

    bodies = domain.train_tasks(jax.random.key(0), count)
    keys = jax.random.split(jax.random.key(1), count)
    return bodies, jax.jit(jax.vmap(rollout))(keys, bodies)


@KINDS
def test_rollouts_are_finite_in_range_and_of_the_specified_shape(tasks):
    _, moved = rollouts(tasks)
    spec, lead = cartpole(tasks).spec, (64, 20)
    assert (spec.name, spec.plane, spec.continues) == ("cartpole_length", None, False)
    assert (spec.horizon, spec.seconds, spec.has_success) == (200, 0.04, True)
    assert moved.observation.shape == (*lead, spec.observation_size)
    assert moved.next_observation.shape == (*lead, spec.observation_size)
    assert moved.action.shape == (*lead, spec.action_size)
    for field in moved:
        assert (field.shape[:2], field.dtype) == (lead, jnp.float32)
        assert np.isfinite(field).all()
    assert ((moved.reward > 0.0) & (moved.reward <= 1.0)).all()
    assert np.isin(moved.cost, (0.0, 1.0)).all()
    np.testing.assert_array_equal(moved.discount, 1.0 - moved.cost)
    reached = moved.next_observation[:, :-1]
    np.testing.assert_array_equal(moved.observation[:, 1:], reached)


def test_the_reference_policy_acts_uniformly_and_falls_within_a_second():
    _, moved = rollouts("published", steps=60)
    assert_uniform(np.asarray(moved.action, float).ravel(), -1.0, 1.0)
    falls = np.argmax(np.asarray(moved.cost) == 1.0, axis=1) + 1
    assert 13 < falls.mean() < 19  # the paper's data: 15 to 19 steps


def test_bodies_together_move_as_one_at_a_time():
    bodies, moved = rollouts("actuator")
    stepped = jax.jit(DOMAIN.step)
    for i in range(4):
        task, first = (jax.tree.map(lambda x, i=i: x[i], t) for t in (bodies, moved))
        first = jax.tree.map(lambda x: x[7], first)
        key = jax.random.key(i)
        reached, alone = stepped(key, first.observation, first.action, task)
        np.testing.assert_array_equal(reached, alone.next_observation)
        for one, many in zip(alone, first, strict=True):
            np.testing.assert_allclose(one, many, rtol=1e-5, atol=1e-5)


def test_a_step_keeps_the_states_type_and_does_not_depend_on_the_key():
    task = body(0.6)
    state = DOMAIN.reset(jax.random.key(0), task)
    ends = [DOMAIN.step(jax.random.key(i), state, jnp.ones(1), task) for i in (1, 2)]
    jax.tree.map(np.testing.assert_array_equal, *ends)
    reached = ends[0][0]
    assert jax.typeof(reached) == jax.typeof(state)
    assert jax.typeof(DOMAIN.observe(state)) == jax.typeof(ends[0][1].observation)


@KINDS
def test_decision_states_are_a_falling_poles_before_it_has_fallen(tasks):
    domain, count = cartpole(tasks), 500
    task = jax.tree.map(lambda x: x[0], domain.train_tasks(jax.random.key(0), 1))
    draw = jax.jit(domain.decision_states, static_argnums=1)
    states = draw(jax.random.key(1), count, task)
    assert (states.shape, states.dtype) == ((count, 4), jnp.float32)
    x, theta = abs(np.asarray(states)[:, :2]).T
    assert (x < 2.4).all()
    assert (theta <= np.float32(np.pi / 2)).all()
    assert theta.max() > 1.0  # soon to fall
    assert theta.min() < 0.01  # just begun
    keys = jax.random.split(jax.random.key(2), count)
    upright = jax.vmap(domain.reset, (0, None))(keys, task)
    assert np.std(states, 0).min() > 5 * np.std(upright, 0).max()


def test_shapes_are_a_cart_and_a_pole_in_the_plane_of_motion():
    states = jnp.array([[0.5, 0.0, 1.0, 2.0], [-0.5, np.pi / 2, 0.0, 0.0]])
    shapes = jax.vmap(DOMAIN.shapes, (0, None))(states, body(0.8))
    carts = [[[0.4, 0, 0], [0.6, 0, 0]], [[-0.6, 0, 0], [-0.4, 0, 0]]]
    poles = [[[0.5, 0, 0], [0.5, 0, 0.8]], [[-0.5, 0, 0], [0.3, 0, 0]]]
    np.testing.assert_allclose(shapes.ends[:, 0], carts, atol=1e-6)
    np.testing.assert_allclose(shapes.ends[:, 1], poles, atol=1e-6)
    np.testing.assert_allclose(shapes.radii, [[0.1, 0.049]] * 2)


@KINDS
def test_a_body_is_identified_from_its_transitions(tasks):
    bodies, moved = rollouts(tasks)
    known = cartpole(tasks).parametrisation
    assert known.names == ("length", "gain", "friction")
    true = jax.vmap(known.of)(bodies)
    np.testing.assert_array_equal(true, np.stack(bodies, axis=1))
    identify = jax.jit(jax.vmap(known.identify))
    np.testing.assert_allclose(identify(moved), true, atol=2e-3)
    few = identify(jax.tree.map(lambda x: x[:, :1], moved))  # three unknowns
    assert np.isfinite(few).all() and (few[:, 0] > 0.0).all()
    assert np.abs(few - true).max() > 0.1


def test_a_body_far_from_those_trained_on_is_identified():
    one = body(length=1.3, gain=-0.2, friction=4.5)
    rng = np.random.default_rng(0)
    state, action = rng.uniform(-1, 1, (40, 4)), rng.uniform(-1, 1, (40, 1))
    rows = jax.tree.map(jnp.asarray, step(state, action, one))
    found = DOMAIN.parametrisation.identify(rows)
    np.testing.assert_allclose(found, [1.3, -0.2, 4.5], rtol=5e-3)


def test_least_squares_weighs_the_prior():
    """A slope as large as the noise and a prior of deviation 1: halfway to the data."""
    faint = lambda numbers: NOISE_STD * numbers  # noqa: E731
    observed, mean = jnp.array([NOISE_STD]), jnp.zeros(1)
    found = least_squares(faint, observed, mean, jnp.ones(1))
    np.testing.assert_allclose(found, [0.5], atol=1e-3)


def test_an_unknown_distribution_or_backend_is_refused():
    with pytest.raises(ValueError, match="nonsense") as caught:
        cartpole("nonsense")
    for known in DISTRIBUTIONS:
        assert known in str(caught.value)
    with pytest.raises(SettingError, match="closed_form"):
        cartpole(physics=PhysicsConfig(backend="mjx", frame_skip=2, horizon=200))
    assert DOMAIN.episode is None  # published data are a learning agent's
