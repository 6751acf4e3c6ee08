"""Domains: their contract, and what is known of both navigations and their bodies.

The contract is asked of the domains that move by their own equations; those on Brax,
whose programs take long to compile, have theirs in `test_locomotion.py`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mesa_jax.domains import DOMAINS
from mesa_jax.domains.base import CLOSED_FORM, PhysicsConfig
from mesa_jax.domains.point_bodies import PointTask
from mesa_jax.settings import SettingError
from mesa_jax.simulation import data_episodes
from mesa_jax.study.resolve import resolve


def physics_of(name, tasks="published"):
    return resolve(name, tasks, "quick").physics


@functools.cache
def made(name, tasks):
    return DOMAINS[name].make(tasks, physics_of(name, tasks))


KINDS = [
    (name, tasks)
    for name, entry in DOMAINS.items()
    if physics_of(name).backend == CLOSED_FORM
    for tasks in entry.task_distributions
]
CONTRACT = pytest.mark.parametrize(("name", "tasks"), KINDS)
POINTS = ("navigation1", "navigation2")
OF_POINTS = pytest.mark.parametrize(
    ("name", "tasks"), [kind for kind in KINDS if kind[0] in POINTS]
)
BODIES, STEPS = 6, 20


@functools.cache
def rollout_of(name, tasks):
    domain = made(name, tasks)

    def rollout(key, task):
        def advance(state, i):
            act_key, step_key = jax.random.split(jax.random.fold_in(key, i))
            action = domain.reference_policy(act_key, domain.observe(state))
            return domain.step(step_key, state, action, task)

        start = domain.reset(jax.random.fold_in(key, STEPS), task)
        return jax.lax.scan(advance, start, jnp.arange(STEPS))[1]

    return domain, jax.jit(jax.vmap(rollout))


def rollouts(name, tasks, seed=0):
    """Bodies [T] and their transitions [T, H] under the reference policy."""
    domain, rollout = rollout_of(name, tasks)
    bodies = domain.train_tasks(jax.random.key(seed), BODIES)
    keys = jax.random.split(jax.random.key(seed + 1), BODIES)
    return bodies, rollout(keys, bodies)


# Contract over DOMAINS and their distributions of bodies


def test_the_contract_is_asked_of_every_domain_that_is_cheap_to_compile():
    assert {name for name, _ in KINDS} == {*POINTS, "cartpole_length"}


@CONTRACT
def test_rollouts_are_finite_in_range_and_of_the_specified_shape(name, tasks):
    domain = made(name, tasks)
    _, transitions = rollouts(name, tasks)
    spec, lead = domain.spec, (BODIES, STEPS)
    assert spec.name == name
    assert transitions.observation.shape == (*lead, spec.observation_size)
    assert transitions.next_observation.shape == (*lead, spec.observation_size)
    assert transitions.action.shape == (*lead, spec.action_size)
    for field in transitions:
        assert field.shape[:2] == lead
        assert field.dtype == jnp.float32
        assert np.isfinite(field).all()
    assert (abs(transitions.action) <= 1.0).all()
    assert np.isin(transitions.cost, (0.0, 1.0)).all()
    assert np.isin(transitions.discount, (0.0, 1.0)).all()
    assert (transitions.discount[transitions.cost == 1.0] == 0.0).all()


@CONTRACT
def test_the_same_key_gives_the_same_rollout(name, tasks):
    first, again, other = (rollouts(name, tasks, seed)[1] for seed in (0, 0, 7))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert not np.array_equal(first.observation, other.observation)


@CONTRACT
def test_bodies_are_told_apart_by_what_an_action_does(name, tasks):
    domain = made(name, tasks)

    def reached(body):
        state = domain.reset(jax.random.key(1), body)
        action = jnp.ones(domain.spec.action_size)
        for i in range(3):
            state, moved = domain.step(jax.random.key(2 + i), state, action, body)
        return moved.next_observation

    distinct = {}
    for draw in ("train_tasks", "test_tasks"):
        bodies = getattr(domain, draw)(jax.random.key(0), BODIES)
        leaves = [np.reshape(x, (BODIES, -1)) for x in jax.tree.leaves(bodies)]
        distinct[draw] = len(np.unique(np.concatenate(leaves, 1), axis=0))
        ends = jax.jit(jax.vmap(reached))(bodies)
        assert len(np.unique(np.round(ends, 5), axis=0)) == distinct[draw]
    one_pole = (name, tasks) == ("cartpole_length", "published")  # of 1 m, at test
    tests = 1 if one_pole else BODIES
    assert distinct == {"train_tasks": BODIES, "test_tasks": tests}


@CONTRACT
def test_states_are_asked_for_and_judged_one_by_one(name, tasks):
    domain = made(name, tasks)
    bodies, transitions = rollouts(name, tasks)
    body, last = (jax.tree.map(lambda x: x[0], t) for t in (bodies, transitions))
    last = jax.tree.map(lambda x: x[-1], last)
    states = domain.decision_states(jax.random.key(0), 9, body)
    observations = jax.vmap(domain.observe)(states)
    assert observations.shape == (9, domain.spec.observation_size)
    for verdict in (domain.solvable(body), domain.success(last, jnp.zeros(()))):
        assert (verdict.shape, verdict.dtype) == ((), bool)


@CONTRACT
def test_data_episodes_are_chained_and_end_where_they_terminate(name, tasks):
    domain = made(name, tasks)
    body = jax.tree.map(lambda x: x[0], domain.train_tasks(jax.random.key(0), 1))
    collect = jax.jit(lambda key, body: data_episodes(key, domain, body, 200))
    rows, valid = jax.tree.map(np.asarray, collect(jax.random.key(1), body))
    assert valid[:, 0].all()
    ended = rows.discount == 0.0
    assert (ended & valid).any()
    assert (valid[:, 1:] <= (valid[:, :-1] & ~ended[:, :-1])).all()
    follows = valid[:, 1:]
    np.testing.assert_array_equal(
        rows.observation[:, 1:][follows], rows.next_observation[:, :-1][follows]
    )


@pytest.mark.parametrize("name", DOMAINS)
def test_an_unknown_distribution_is_refused_with_the_known_ones(name):
    with pytest.raises(ValueError, match="nonsense") as caught:
        DOMAINS[name].make("nonsense", physics_of(name))
    for known in DOMAINS[name].task_distributions:
        assert known in str(caught.value)


# Bodies

PUBLISHED = ((0.5, 1.5), (0.5, 1.5))  # gains in training and at test
GAIN_RANGES = {"out_of_support": ((0.5, 1.0), (1.5, 2.0))}
SIGNED, TURNED, DRIFTING = "flip", "rotation", "wind"
DRAWN = 2000
DRAWS = pytest.mark.parametrize("draw", ["train_tasks", "test_tasks"])


@functools.cache
def drawn(name, tasks, draw, count=DRAWN):
    """Bodies [count] of a distribution, in NumPy."""
    sampler = getattr(made(name, tasks), draw)
    return jax.tree.map(np.asarray, sampler(jax.random.key(0), count))


def assert_uniform(values, low, high):
    """Columns [n, D] fill their range evenly and know nothing of each other."""
    count, slack = len(values), 0.01 * (high - low)
    assert (values >= low - 1e-6).all()
    assert (values <= high + 1e-6).all()
    assert (values.min(0) < low + slack).all()
    assert (values.max(0) > high - slack).all()
    error = 4 * (high - low) / np.sqrt(12 * count)  # four standard errors
    np.testing.assert_allclose(values.mean(0), (low + high) / 2, atol=error)
    correlations = np.corrcoef(values.T) - np.eye(values.shape[1])
    assert abs(correlations).max() < 4 / np.sqrt(count)


@DRAWS
@OF_POINTS
def test_actions_are_scaled_by_gains_in_the_distributions_range(name, tasks, draw):
    train, test = GAIN_RANGES.get(tasks, PUBLISHED)
    scales = np.linalg.norm(drawn(name, tasks, draw).gain, axis=1)  # by action
    assert_uniform(scales, *(train if draw == "train_tasks" else test))


@DRAWS
@OF_POINTS
def test_only_rotation_turns_what_an_action_moves(name, tasks, draw):
    gain = drawn(name, tasks, draw).gain
    if tasks != TURNED:
        np.testing.assert_array_equal(gain[:, [0, 1], [1, 0]], 0.0)
        return
    first, second = gain[:, :, 0], gain[:, :, 1]  # what each action moves
    np.testing.assert_allclose((first * second).sum(1), 0.0, atol=1e-6)
    angles = np.arctan2(first[:, 1], first[:, 0])
    scales = np.linalg.norm(gain, axis=1)
    assert_uniform(angles[:, None], -np.pi, np.pi)
    assert abs(np.corrcoef(angles, scales.T)[0, 1:]).max() < 4 / np.sqrt(DRAWN)


@DRAWS
@OF_POINTS
def test_only_flip_reverses_actions_and_each_as_often_as_not(name, tasks, draw):
    gain = drawn(name, tasks, draw).gain
    if tasks == TURNED:
        assert (np.linalg.det(gain) > 0.0).all()  # turned, never mirrored
        return
    signs = np.sign(np.diagonal(gain, axis1=1, axis2=2))
    if tasks != SIGNED:
        np.testing.assert_array_equal(signs, 1.0)
        return
    _, counts = np.unique(signs, axis=0, return_counts=True)
    assert len(counts) == 4
    assert (abs(counts - DRAWN / 4) < 4 * np.sqrt(DRAWN * 0.25 * 0.75)).all()


@DRAWS
@OF_POINTS
def test_only_wind_drifts(name, tasks, draw):
    bodies = drawn(name, tasks, draw)
    if tasks != DRIFTING:
        np.testing.assert_array_equal(bodies.drift, np.zeros((DRAWN, 2)))
        return
    assert_uniform(bodies.drift, -0.8, 0.8)
    scales = np.linalg.norm(bodies.gain, axis=1)
    across = np.corrcoef(bodies.drift.T, scales.T)[:2, 2:]
    assert abs(across).max() < 4 / np.sqrt(DRAWN)


# Both navigations

NAVIGATION = made("navigation1", "published")
AROUND = made("navigation2", "published")
BOTH = pytest.mark.parametrize(
    "domain", [NAVIGATION, AROUND], ids=lambda d: d.spec.name
)
UNIT = PointTask(jnp.eye(2), jnp.zeros(2))


@functools.cache
def compiled_step(name):
    step = jax.vmap(made(name, "published").step, in_axes=(0, 0, 0, None))
    return jax.jit(step)


def step(seed, state, action, task, domain=NAVIGATION):
    """Transitions [B] from states [B, 2] and actions [B, 2]."""
    keys = jax.random.split(jax.random.key(seed), state.shape[0])
    return compiled_step(domain.spec.name)(keys, state, action, task)[1]


def stay(points, domain=NAVIGATION):
    points = jnp.array(points, jnp.float32)
    return step(0, points, jnp.zeros_like(points), UNIT, domain)


def test_both_navigations_move_and_reward_alike_away_from_obstacles():
    rng = np.random.default_rng(0)
    state = jnp.array(rng.uniform([-14, -3], [3, 3], (200, 2)), jnp.float32)
    action = jnp.array(rng.uniform(-1.5, 1.5, (200, 2)), jnp.float32)
    first, second = (step(3, state, action, UNIT, d) for d in (NAVIGATION, AROUND))
    jax.tree.map(np.testing.assert_array_equal, first, second)
    assert (first.discount == 0.0).any()  # at the goal
    assert (NAVIGATION.spec.horizon, AROUND.spec.horizon) == (100, 100)


@OF_POINTS
def test_least_squares_tells_a_body_from_its_rows(name, tasks):
    domain = made(name, tasks)
    body = jax.tree.map(lambda x: x[0], domain.test_tasks(jax.random.key(3), 1))
    collect = jax.jit(lambda key, body: data_episodes(key, domain, body, 60))
    episodes, real = jax.tree.map(np.asarray, collect(jax.random.key(4), body))
    rows = jax.tree.map(lambda x: x[real], episodes)
    known = domain.parametrisation
    found = known.identify(rows)
    assert found.shape == (len(known.names),)
    np.testing.assert_allclose(found, known.of(body), atol=0.05)
    few = known.identify(jax.tree.map(lambda x: x[:1], rows))  # of three unknowns
    assert np.isfinite(few).all() and np.abs(few).max() < 3.0


@BOTH
def test_the_map_shows_start_goal_and_decision_states(domain):
    plane = domain.spec.plane
    x0, x1, y0, y1 = plane.region
    states = domain.decision_states(jax.random.key(0), 500, UNIT)
    for x, y in (plane.start, plane.goal, *states.tolist()):
        assert x0 < x < x1
        assert y0 < y < y1


@pytest.mark.parametrize(
    ("gain", "drift"),
    [([[0.5, 0.0], [0.0, 1.5]], [0.0, 0.0]), ([[0.3, -1.2], [0.7, 0.4]], [0.2, -0.5])],
)
def test_a_step_adds_gain_times_action_drift_and_noise(gain, drift):
    task = PointTask(jnp.array(gain), jnp.array(drift))
    state, action, samples = np.array([-10.0, 1.0]), np.array([0.8, -0.4]), 4000
    moved = step(1, *(jnp.tile(x, (samples, 1)) for x in (state, action)), task)
    noise = moved.next_observation - (state + np.array(gain) @ action + drift)
    error = 4 * 0.05 / np.sqrt(samples)  # four standard errors
    np.testing.assert_allclose(noise.mean(0), 0.0, atol=error)
    np.testing.assert_allclose(np.cov(noise.T), 0.05**2 * np.eye(2), atol=2e-4)


def test_actions_are_clipped_to_the_unit_box():
    state = jnp.tile(jnp.array([-10.0, 0.0]), (3, 1))
    wild = step(0, state, jnp.array([[3.0, -9.0]] * 3), UNIT)
    edge = step(0, state, jnp.array([[1.0, -1.0]] * 3), UNIT)
    jax.tree.map(np.testing.assert_array_equal, wild, edge)


def test_the_reward_is_the_distance_before_the_step():
    start = jnp.array([[-3.0, 4.0], [-40.0, 3.0]])
    moved = step(0, start, jnp.ones((2, 2)), UNIT)
    np.testing.assert_allclose(moved.reward, [-5.0, -np.hypot(40.0, 3.0)], rtol=1e-6)


def test_an_episode_ends_one_step_after_the_goal_is_reached():
    arriving = step(0, jnp.array([[-1.5, 0.0]]), jnp.array([[1.0, 0.0]]), UNIT)
    assert np.linalg.norm(arriving.next_observation) < 1.0
    assert arriving.discount[0] == 1.0
    after = step(1, arriving.next_observation, jnp.array([[-1.0, 0.0]]), UNIT)
    assert (after.discount[0], after.cost[0]) == (0.0, 0.0)
    assert stay([(1.01, 0.0)]).discount[0] == 1.0


@BOTH
def test_success_is_a_last_reward_above_minus_four(domain):
    near, far = (stay([(x, 0.0)], domain) for x in (-3.9, -4.1))
    assert domain.success(near, jnp.zeros(()))
    assert not domain.success(far, jnp.zeros(()))


@BOTH
def test_an_episode_starts_around_the_start(domain):
    keys = jax.random.split(jax.random.key(0), 4000)
    starts = jax.vmap(domain.reset, in_axes=(0, None))(keys, UNIT)
    np.testing.assert_allclose(starts.mean(0), [-50.0, 0.0], atol=4 / np.sqrt(4000))
    np.testing.assert_allclose(starts.std(0), 1.0, atol=0.05)


@pytest.mark.parametrize("name", POINTS)
@pytest.mark.parametrize(
    ("changed", "named"),
    [({"backend": "spring"}, "backend"), ({"frame_skip": 2}, "frame_skip")],
)
def test_a_point_robot_has_no_other_physics(name, changed, named):
    with pytest.raises(SettingError, match=f"^{named} must be "):
        DOMAINS[name].make("published", PhysicsConfig(**changed))


@pytest.mark.parametrize("name", POINTS)
def test_a_horizon_is_the_episodes_and_what_can_be_reached_in_it(name):
    short = DOMAINS[name].make("published", PhysicsConfig(horizon=60))
    assert short.spec.horizon == 60
    for gain, in_60, in_100 in ((1.0, True, True), (0.7, False, True)):
        task = PointTask(gain * jnp.eye(2), jnp.zeros(2))
        assert short.solvable(task) == in_60  # 46 units by 0.7 take 65.7 steps
        assert made(name, "published").solvable(task) == in_100


# Navigation 1

CORNERS = [(-100, -10), (150, 10), (-100, 10), (150, -10)]
EDGES = [(0, 5), (0, -5), (-80, 0), (-100, 0), (0, 10), (0, -10), (150, 7), (150, -7)]


def test_walls_are_closed_rectangles():
    walls = stay([*CORNERS, *EDGES, (0, 7), (-90, 2), (-99, 6)])
    np.testing.assert_array_equal(walls.cost, 1.0)
    free = [(0, 4.5), (0, -4.5), (-79.5, 0), (-100.5, 0), (0, 10.5), (0, -10.5)]
    np.testing.assert_array_equal(
        stay([*free, (150.5, 7), (155, -7), (200, 0)]).cost, 0.0
    )


def test_a_body_in_a_wall_stays_there():
    inside = stay(EDGES)
    np.testing.assert_array_equal(inside.next_observation, inside.observation)


def test_a_violation_terminates():
    into = step(0, jnp.array([[0.0, 4.6]]), jnp.array([[0.0, 1.0]]), UNIT)
    assert (into.cost[0], into.discount[0]) == (1.0, 0.0)


def rotated(gain, angle):
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return turn @ np.diag(gain)


# 46 units (50, less the success radius of 4) in the 99 steps before the last one need
# 0.465 units a step along x, with y held level.
SOLVABLE = {
    "fast enough": (np.diag([0.5, 1.0]), (0, 0), True),
    "too slow": (np.diag([0.4, 1.5]), (0, 0), False),
    "backwards": (np.diag([-0.5, -1.0]), (0, 0), True),
    "second action drives x": (rotated([0.2, 0.5], np.pi / 2), (0, 0), True),
    "second action too slow": (rotated([1.5, 0.4], np.pi / 2), (0, 0), False),
    # the square turned by 45 degrees reaches gain * sqrt(2) along x
    "diagonal": (rotated([0.35, 0.35], np.pi / 4), (0, 0), True),
    "diagonal too slow": (rotated([0.3, 0.3], np.pi / 4), (0, 0), False),
    "against a drift": (np.eye(2), (-0.5, 0), True),
    "against too much drift": (np.eye(2), (-0.6, 0), False),
    "with a drift": (np.diag([0.1, 1.0]), (0.4, 0), True),
    "y cannot be held down": (np.diag([1.5, 0.5]), (0, 0.6), False),
    "y cannot be held up": (np.diag([1.5, 0.5]), (0, -1.4), False),
    "y can be held": (np.diag([1.5, 0.7]), (0, 0.6), True),
}


@pytest.mark.parametrize("case", SOLVABLE)
def test_a_body_is_solvable_where_it_can_reach_success_in_time(case):
    gain, drift, expected = SOLVABLE[case]
    task = PointTask(jnp.array(gain, jnp.float32), jnp.array(drift, jnp.float32))
    assert NAVIGATION.solvable(task) == expected


@DRAWS
@OF_POINTS
def test_every_body_without_wind_is_solvable(name, tasks, draw):
    verdicts = jax.vmap(made(name, tasks).solvable)(drawn(name, tasks, draw))
    # |gain| 0.5 is enough: 46 units in a line, and 21.4 + 10 + 17.4 round the obstacle
    assert verdicts.all() == (tasks != DRIFTING)


def test_a_wind_is_solvable_where_y_is_held_and_x_is_fast_enough():
    bodies = drawn("navigation1", "wind", "test_tasks")
    gains = np.diagonal(bodies.gain, axis1=1, axis2=2)
    held = gains[:, 1] >= abs(bodies.drift[:, 1])
    expected = held & (gains[:, 0] + bodies.drift[:, 0] >= 46 / 99)
    assert 0.5 < expected.mean() < 0.9
    np.testing.assert_array_equal(jax.vmap(NAVIGATION.solvable)(bodies), expected)


@functools.cache
def published_data():
    """Episodes [T, E, L] of bodies with gains 0.5, 1 and 1.5, and of 21 drawn ones."""
    drawn = NAVIGATION.train_tasks(jax.random.key(0), 21).gain
    equal = jnp.array([0.5, 1.0, 1.5])[:, None, None] * jnp.eye(2)
    bodies = PointTask(jnp.concatenate([equal, drawn]), jnp.zeros((24, 2)))
    keys = jax.random.split(jax.random.key(1), 24)
    collect = jax.vmap(lambda key, body: data_episodes(key, NAVIGATION, body, 400))
    return jax.tree.map(np.asarray, jax.jit(collect)(keys, bodies))


def test_the_generator_starts_near_the_walls():
    rows, valid = published_data()
    assert valid.shape == (24, 400, 11)
    x, y = np.moveaxis(np.asarray(rows.observation[:, :, 0]), -1, 0)
    assert (x.min() >= -80.0) & (x.min() < -79.0)
    assert (x.max() > 49.0) & (x.max() <= 50.0)
    assert (abs(y).min() >= 2.0) & (abs(y).min() < 2.1)
    assert (abs(y).max() > 4.9) & (abs(y).max() <= 5.0)
    assert abs(np.mean(y > 0) - 0.5) < 4 * 0.5 / np.sqrt(y.size)


def test_the_generators_episodes_are_cut_only_where_they_terminate():
    rows, valid = published_data()
    goes_on = valid & (rows.discount == 1.0)
    np.testing.assert_array_equal(valid[:, :, 1:], goes_on[:, :, :-1])


def test_the_generator_acts_by_clipped_normals():
    rows, valid = published_data()
    actions = rows.action[valid]
    assert abs(actions).max() == 1.0
    clipped = 2 * 0.15866  # P(|N(0, 1)| > 1)
    share = np.mean(abs(actions) == 1.0)
    assert abs(share - clipped) < 4 * np.sqrt(clipped * (1 - clipped) / actions.size)


def simulated_share(gain, episodes=4000):
    """Share of violating transitions of the published generator, in NumPy."""
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-80, 50, episodes), rng.uniform(2, 5, episodes)
    y, on = y * rng.choice([-1, 1], episodes), np.ones(episodes, bool)
    transitions = violations = 0
    for _ in range(11):
        at_goal = np.hypot(x, y) < 1
        x, y = (
            z
            + gain * np.clip(rng.normal(size=episodes), -1, 1)
            + 0.05 * rng.normal(size=episodes)
            for z in (x, y)
        )
        violating = (abs(y) >= 5) | (x <= -80)
        transitions += on.sum()
        violations += (on & violating).sum()
        on &= ~violating & ~at_goal
    return violations / transitions


def test_few_of_the_generators_transitions_violate():
    rows, valid = published_data()
    shares = (rows.cost * valid).sum((1, 2)) / valid.sum((1, 2))
    expected = [simulated_share(gain) for gain in (0.5, 1.0, 1.5)]
    np.testing.assert_allclose(shares[:3], expected, atol=0.012)
    assert expected[0] > 0.025
    assert expected[2] < 0.1
    # the released generator's bodies have 4.6 to 8.8 %
    assert 0.046 < shares[3:].mean() < 0.088


def test_decision_states_fill_the_corridor():
    states = NAVIGATION.decision_states(jax.random.key(0), 4000, UNIT)
    np.testing.assert_allclose(states.min(0), [-80.0, -5.0], atol=0.2)
    np.testing.assert_allclose(states.max(0), [50.0, 5.0], atol=0.2)
    center, width = np.array([-15.0, 0.0]), np.array([130.0, 10.0])
    error = 4 * width / np.sqrt(12 * 4000)
    assert (abs(states.mean(0) - center) < error).all()


# Navigation 2

SIDES = {  # starts x0, x1, y0, y1; axis and range of the aimed action; longest episode
    "left": ((-35, -30, -12, 12), 0, (0.5, 1.0), 11),
    "right": ((-20, -15, -12, 12), 0, (-1.0, -0.5), 11),
    "top": ((-30, -20, 10, 15), 1, (-1.0, -0.5), 10),
    "bottom": ((-30, -20, -15, -10), 1, (0.5, 1.0), 10),
}


def test_the_obstacle_is_a_closed_rectangle():
    corners = [(-30, -7.5), (-30, 7.5), (-20, -7.5), (-20, 7.5)]
    inside = stay([*corners, (-30, 0), (-20, 3), (-25, 7.5), (-25, -7.5)], AROUND)
    np.testing.assert_array_equal(inside.cost, 1.0)
    np.testing.assert_array_equal(inside.discount, 0.0)
    np.testing.assert_array_equal(inside.next_observation, inside.observation)
    near = stay([(-30.5, 0), (-19.5, 3), (-25, 8), (-25, -8), (-30.5, 8)], AROUND)
    np.testing.assert_array_equal(near.cost, 0.0)


def test_nothing_stands_around_the_obstacle():
    walls = [(0, 7), (0, -7), (-90, 0), (-50, 9), (-25, 100)]
    free = stay(walls, AROUND)
    np.testing.assert_array_equal(free.cost, 0.0)
    assert (free.next_observation != free.observation).all()


@functools.cache
def sided_data():
    """Episodes [T, E, L] of published bodies, and the side where each starts [T, E]."""
    bodies = AROUND.train_tasks(jax.random.key(0), 24)
    keys = jax.random.split(jax.random.key(1), 24)
    collect = jax.vmap(lambda key, body: data_episodes(key, AROUND, body, 400))
    rows, valid = jax.tree.map(np.asarray, jax.jit(collect)(keys, bodies))
    x, y = np.moveaxis(rows.observation[:, :, 0], -1, 0)
    flank = np.where(x < -25, "left", "right")
    end = np.where(y > 0, "top", "bottom")
    return rows, valid, np.where((x < -30) | (x > -20), flank, end)


def test_an_episodes_side_is_drawn_uniformly():
    side = sided_data()[2]
    error = 4 * np.sqrt(0.25 * 0.75 / side.size)
    for name in SIDES:
        assert abs(np.mean(side == name) - 0.25) < error


@pytest.mark.parametrize("name", SIDES)
def test_episodes_of_a_side_start_uniformly_beside_the_obstacle(name):
    rows, _, side = sided_data()
    x0, x1, y0, y1 = SIDES[name][0]
    x, y = rows.observation[:, :, 0][side == name].T
    assert_uniform(x[:, None], x0, x1)
    assert_uniform(y[:, None], y0, y1)


@pytest.mark.parametrize("name", SIDES)
def test_episodes_of_a_side_head_for_the_obstacle(name):
    rows, valid, side = sided_data()
    _, axis, (low, high), _ = SIDES[name]
    actions = rows.action[valid & (side == name)[:, :, None]]
    assert_uniform(actions[:, axis, None], low, high)
    free = actions[:, 1 - axis]
    error = 4 / np.sqrt(free.size)
    for end in (-1.0, 1.0):  # a clipped normal: P(N(0, 1) > 1) = 0.159 at each end
        assert abs(np.mean(free == end) - 0.15866) < error
    assert abs(np.mean(abs(free) < 0.5) - 0.38292) < error


@pytest.mark.parametrize("name", SIDES)
def test_episodes_of_a_side_last_until_they_terminate_or_their_limit(name):
    rows, valid, side = sided_data()
    longest = SIDES[name][3]
    lengths = valid.sum(2)[side == name]
    last = np.take_along_axis(rows.discount[side == name], lengths[:, None] - 1, 1)[
        :, 0
    ]
    assert lengths.max() == longest
    assert (last[lengths < longest] == 0.0).all()
    assert (last[lengths == longest] == 1.0).any()


def test_about_a_tenth_of_the_transitions_violates():
    rows, valid, _ = sided_data()
    shares = (rows.cost * valid).sum((1, 2)) / valid.sum((1, 2))
    # the released generator's bodies have 8 to 13 %
    assert 0.08 < shares.mean() < 0.13


def test_decision_states_fill_the_band_around_the_obstacle_by_area():
    count = 20_000
    states = AROUND.decision_states(jax.random.key(0), count, UNIT)
    x, y = np.asarray(states).T
    assert (x.min() >= -34) & (x.max() <= -16) & (abs(y).max() <= 11.5)
    assert not ((x > -30) & (x < -20) & (abs(y) < 7.5)).any()
    columns, rows = [-34, -32, -30, -25, -20, -18, -16], [-11.5, -7.5, 0, 7.5, 11.5]
    counts, _, _ = np.histogram2d(x, y, (columns, rows))
    areas = np.outer(np.diff(columns), np.diff(rows))
    areas[2:4, 1:3] = 0.0  # the obstacle
    assert areas.sum() == 18 * 23 - 10 * 15
    expected = count * areas / areas.sum()
    assert (abs(counts - expected) <= 4 * np.sqrt(expected)).all()


# Legs (20, 7.5), (10, 0) and (20, -7.5) less 4 of its length: (16.255, -6.096), or the
# same below. A level body needs the longer of its times in x and in y, 99 steps in all.
ROUND = {
    "fast enough": (np.diag([0.47, 0.47]), (0, 0), True),  # 46.255 / 0.47 = 98.4
    "too slow": (np.diag([0.465, 0.465]), (0, 0), False),  # 99.5
    "backwards": (np.diag([-0.47, -0.47]), (0, 0), True),
    "rises in time": (np.diag([1.5, 0.15]), (0, 0), True),  # 50 + 6.7 + 40.6
    "rises too late": (np.diag([1.5, 0.145]), (0, 0), False),  # 51.7 + 6.7 + 42.0
    # up at 0.9, down at 0.1: 20 + 10 + 61.0 above, 75 + 10 + 16.3 below
    "above only": (np.diag([1, 0.5]), (0, 0.4), True),
    "below only": (np.diag([1, 0.5]), (0, -0.4), True),
    "neither": (np.diag([1, 0.5]), (0, 0.42), False),  # down at 0.08: 76.2 instead
    "never down": (np.diag([1, 0.5]), (0, 0.6), False),
    "against a drift": (np.eye(2), (-0.53, 0), True),
    "against too much drift": (np.eye(2), (-0.54, 0), False),  # 46.255 / 0.46
    # x at 0.3 or more: 66.7 steps to the obstacle, in which y must have risen by 7.5
    "blown past it": (np.diag([0.5, 0.15]), (0.8, 0), True),  # 50 + 7.7 + 40.6
    "blown into it": (np.diag([0.5, 0.11]), (0.8, 0), False),
    # the square turned by 45 degrees: |v_x| + |v_y| at most gain * sqrt(2), so
    # (27.5 + 10 + 22.351) / (gain * sqrt(2))
    "diagonal": (rotated([0.43, 0.43], np.pi / 4), (0, 0), True),  # 98.4
    "diagonal too slow": (rotated([0.425, 0.425], np.pi / 4), (0, 0), False),  # 99.6
}


@pytest.mark.parametrize("case", ROUND)
def test_a_body_is_solvable_where_it_can_go_round_the_obstacle_in_time(case):
    gain, drift, expected = ROUND[case]
    task = PointTask(jnp.array(gain, jnp.float32), jnp.array(drift, jnp.float32))
    assert AROUND.solvable(task) == expected
