"""Properties of schedules and bodies: faults, evaluations, readings, motion."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from mesa_jax import replay
from mesa_jax.domains.fault_notation import Fault
from mesa_jax.domains.faults import FaultyTask, afflict, faulty
from mesa_jax.domains.navigation import WALLS, navigation1
from mesa_jax.domains.point_bodies import NOISE_STD, PointTask, identify, travel_time
from mesa_jax.run_state import OnlineConfig
from mesa_jax.simulation import truth_steps
from mesa_jax.training import Sizes, sample_tasks
from mesa_jax.types import Transition
from tests.worlds import LINE, Body, numbered

seeds = st.integers(0, 2**31 - 1)

# Faults

STRUCK = faulty(LINE, (Fault("dead"), Fault("reversed")))
BODY = Body(jnp.float32(np.inf), jnp.float32(np.inf))


@jax.jit
def _moved(onset, end, clock, action):
    """Where the line's body is after a step from 0 at some clock."""
    task = FaultyTask(BODY, onset, end, jnp.ones(2), jnp.zeros((), jnp.int32))
    task = STRUCK.task_at(task, clock)
    key = jax.random.key(0)
    state = STRUCK.reset(key, task)
    return STRUCK.step(key, state, action[None], task)[1].next_observation[0]


times = st.integers(0, 6)


@given(st.tuples(times, times), st.tuples(times, times), times)
def test_a_fault_lasts_from_its_onset_up_to_its_end(dead, reversed_, clock):
    (onset, end), action = zip(dead, reversed_, strict=True), np.float32(0.5)
    onset, end = np.int32(onset), np.int32(end)
    lasts = (onset <= clock) & (clock < end)
    expected = 0.0 if lasts[0] else -action if lasts[1] else action
    assert _moved(onset, end, clock, action) == expected


@given(st.integers(0, 100), st.integers(0, 100), st.integers(1, 50), seeds)
def test_an_onset_is_drawn_from_its_range_and_the_end_follows(
    low, more, duration, seed
):
    fault = Fault("dead", onset=(low, low + more), duration=duration)
    found = afflict((fault,), jax.random.key(seed), BODY)
    assert low <= int(found.onset[0]) <= low + more
    assert int(found.end[0]) == int(found.onset[0]) + duration


# Runs

counts = st.integers(1, 60)


@given(counts, st.integers(1, 12))
def test_every_evaluation_of_a_run_has_a_slot_of_its_own(episodes, every):
    config = OnlineConfig(episodes=episodes, evaluate_every=every)
    due = [e for e in range(1, episodes + 1) if e % every == 0]
    slots = [e // every - 1 for e in due]  # as `pipeline.run_online` writes them
    assert slots == list(range(len(due)))
    assert config.evaluation_slots == max(1, len(due))


@given(
    counts, st.integers(0, 200), st.lists(st.integers(1, 9), min_size=60, max_size=60)
)
def test_a_run_ends_by_episodes_or_steps_and_has_room_for_all(episodes, steps, lengths):
    """Episodes of these lengths, one step at a time."""
    config = OnlineConfig(episodes=episodes, steps=steps)
    made, episode, length = 0, 0, 0
    while config.active(SimpleNamespace(env_steps=made, episode=np.int32(episode))):
        made, length = made + 1, length + 1
        if length == lengths[episode]:
            episode, length = episode + 1, 0
    total = sum(lengths[:episodes])
    assert made == (min(total, steps) if steps else total)
    assert made <= config.rows(horizon=9)


# Meta-training's samples


_tasks = jax.jit(sample_tasks, static_argnums=(2, 3))


@given(seeds, st.sampled_from([0, 3]), st.sampled_from([0.0, 0.5]))
def test_an_outer_step_draws_each_bodys_own_rows(seed, least, fraction):
    """Row i of body t is number 100 t + i."""
    bodies, count, sizes = 4, 20, Sizes(3, 8, 5, least)
    rows = numbered(100 * np.arange(bodies)[:, None] + np.arange(count))
    cost = np.tile(np.arange(count) % 2, (bodies, 1)).astype(np.float32)
    rows = rows._replace(cost=cost)
    batch, drawn = _tasks(jax.random.key(seed), rows, sizes, fraction)
    assert len(set(drawn.tolist())) == sizes.num_tasks
    for some, length in ((batch.support, sizes.support), (batch.query, sizes.query)):
        number = np.asarray(some.reward, int)
        assert number.shape == (sizes.num_tasks, length)
        assert (number // 100 == np.asarray(drawn)[:, None]).all()
        np.testing.assert_array_equal(some.cost, number % 2)
        np.testing.assert_array_equal(some.observation[..., 0], number)
    if least:
        different = [len(set(one)) for one in np.asarray(batch.support.reward).tolist()]
        assert min(different) >= 1


# Truth


@given(st.floats(0.05, 0.99), st.integers(1, 300), st.floats(1e-6, 0.5))
def test_truth_looks_until_a_violation_hardly_weighs(discount, horizon, precision):
    steps = truth_steps(discount, horizon, precision)
    assert 1 <= steps <= horizon
    if steps < horizon:  # the first step that is left out weighs too little,
        assert discount**steps <= precision * (1 + 1e-9)
    if steps > 2:  # and the last but one does not
        assert discount ** (steps - 2) >= precision * (1 - 1e-9)


# The point robot


def _task(seed):
    """A body with an invertible gain."""
    draw = np.random.default_rng(seed)
    gain = draw.normal(size=(2, 2)) + 2 * np.eye(2) * draw.choice([-1, 1], 2)
    assume(abs(np.linalg.det(gain)) > 0.5)
    return PointTask(np.float32(gain), np.float32(draw.uniform(-0.8, 0.8, 2)))


_time = jax.jit(travel_time)


@given(seeds, st.floats(-np.pi, np.pi), st.floats(1, 50))
def test_a_travel_time_is_the_least_that_actions_allow(seed, angle, distance):
    task = _task(seed)
    way = np.float32(distance * np.array([np.cos(angle), np.sin(angle)]))
    found = float(_time(task, way))

    def possible(time):
        action = np.linalg.solve(task.gain, way / time - task.drift)
        return (np.abs(action) <= 1.0).all()

    if np.isinf(found):
        assert not any(possible(time) for time in np.geomspace(0.1, 1e4, 50))
    else:
        assert possible(found * 1.001) or possible(found * 0.9999)
        assert not any(
            possible(found * share) for share in np.linspace(0.05, 0.999, 20)
        )


DOMAIN = navigation1()
_step = jax.jit(DOMAIN.step)


@given(st.floats(-110, 160), st.floats(-12, 12), seeds)
def test_a_step_violates_exactly_where_it_ends_in_a_wall(x, y, seed):
    task, state = _task(seed), np.float32([x, y])
    action = np.random.default_rng(seed).uniform(-1.5, 1.5, 2).astype(np.float32)
    reached, found = _step(jax.random.key(seed), state, action, task)

    def in_a_wall(point):
        return any(
            np.float32(x0) <= point[0] <= x1 and np.float32(y0) <= point[1] <= y1
            for x0, x1, y0, y1 in WALLS
        )

    assert found.cost == in_a_wall(np.asarray(reached))
    assert found.discount == (not found.cost and np.linalg.norm(state) >= 1.0)
    np.testing.assert_allclose(found.reward, -np.hypot(x, y), rtol=1e-5, atol=1e-6)
    if in_a_wall(state):
        np.testing.assert_array_equal(reached, state)
    else:
        expected = state + task.gain @ np.clip(action, -1, 1) + task.drift
        assert np.abs(reached - expected).max() < 6 * NOISE_STD


@given(seeds)
def test_a_body_is_identified_as_by_ridge_regression(seed):
    draw, count = np.random.default_rng(seed), 12
    task = _task(seed)
    states, actions = draw.normal(size=(count, 2)), draw.uniform(-1, 1, (count, 2))
    noise = NOISE_STD * draw.normal(size=(count, 2))
    reached = states + actions @ task.gain.T + task.drift + noise
    number = np.zeros(count, np.float32)
    rows = Transition(
        *map(np.float32, (states, actions)), number, number, number, np.float32(reached)
    )
    inputs = np.c_[actions, np.ones(count)]
    normal = inputs.T @ inputs + NOISE_STD**2 * np.eye(3)
    solved = np.linalg.solve(normal, inputs.T @ (reached - states))
    expected = [*solved[:2].T.ravel(), *solved[2]]
    np.testing.assert_allclose(jax.jit(identify)(rows), expected, atol=2e-2)


# A ring beside a run


@given(st.integers(0, 30), st.integers(1, 7))
def test_a_filled_ring_is_as_if_rows_had_been_added_in_turn(first, count):
    rows = numbered(first + np.arange(7.0))
    some = jax.tree.map(lambda x: x[:count], rows)
    ring = replay.fill(replay.init(7, numbered(0)), some)
    assert int(ring.added) == count
    np.testing.assert_array_equal(ring.rows.reward[:count], first + np.arange(count))
