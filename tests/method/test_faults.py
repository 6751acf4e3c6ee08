"""Fault schedules: on a plane where all is known by hand, and on Navigation 1.

The plane: a body at (x, y) moves by gain times its action, from (1, 2). The reward is
x + y before the step, and it violates where x > 9. The commands of `COMMANDS` are
sixteenths, so that every sum here is exact.
"""

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mesa_jax.domains import fault_notation, faults
from mesa_jax.domains.fault_notation import Fault, describe, parse, text_of
from mesa_jax.domains.faults import afflict, faulty, onset_of
from mesa_jax.domains.navigation import navigation1
from mesa_jax.settings import SettingError
from mesa_jax.types import Array, Domain, DomainSpec, Shapes, Transition

STEPS = 12
START = np.array([1.0, 2.0], np.float32)
COMMANDS = np.stack([np.arange(1, STEPS + 1), -np.arange(STEPS)], 1) / 16
COMMANDS = COMMANDS.astype(np.float32)


class Body(NamedTuple):
    gain: Array  # []
    steps: Array  # [] int32, what the plane's own clock says


def plane_step(key, state, action, task):
    del key
    reached = state + task.gain * action
    cost = (reached[0] > 9.0).astype(jnp.float32)
    return reached, Transition(state, action, state.sum(), cost, 1.0 - cost, reached)


def plane_shapes(state, task):
    ends = jnp.zeros((1, 2, 3)).at[:, :, :2].set(state)
    return Shapes(ends, task.gain[None])


PLANE = Domain(
    spec=DomainSpec("plane", observation_size=2, action_size=2, horizon=STEPS),
    train_tasks=None,
    test_tasks=None,
    reset=lambda key, task: START * task.gain,
    observe=lambda state: state,
    step=plane_step,
    success=lambda transition, episode_return: transition.discount == 0.0,
    solvable=lambda task: task.gain > 1.5,
    reference_policy=None,
    episode=None,
    decision_states=None,
    task_at=lambda task, env_steps: task._replace(steps=env_steps),
    shapes=plane_shapes,
    changes={"gain": lambda task, factor: task._replace(gain=task.gain * factor)},
)


def body(gain=1.0):
    return Body(jnp.float32(gain), jnp.zeros((), jnp.int32))


class Played(NamedTuple):
    first: np.ndarray  # [D] the first observation
    rows: Transition  # [H, ...]
    states: np.ndarray  # [H, D] the body's, reached
    observed: np.ndarray  # [H, D] after each step

    @property
    def moves(self):
        """What moved the body [H, A], if its gain is one."""
        return np.diff(self.states, axis=0, prepend=START[None])


def roll(domain, key, task, commands, clock=0):
    """One episode that starts at a step of the run."""
    start = domain.reset(
        jax.random.fold_in(key, len(commands)), domain.task_at(task, clock)
    )

    def advance(state, i):
        state, row = domain.step(
            jax.random.fold_in(key, i),
            state,
            jnp.asarray(commands)[i],
            domain.task_at(task, clock + i),
        )
        return state, (row, getattr(state, "state", state), domain.observe(state))

    ends = jax.lax.scan(advance, start, jnp.arange(len(commands)))[1]
    return Played(domain.observe(start), *ends)


@functools.cache
def program(domain_of, text):
    return jax.jit(functools.partial(roll, faulty(domain_of(), parse(text))))


def plane():
    return PLANE


def play(text, commands=COMMANDS, clock=0, seed=0, gain=1.0):
    task = afflict(parse(text), jax.random.key(9), body(gain))
    played = program(plane, text)(
        jax.random.key(seed), task, commands, jnp.int32(clock)
    )
    return jax.tree.map(np.asarray, played)


def between(low, high, faulty_rows, healthy_rows):
    """Rows [H, N] that are faulty from step `low` to before step `high`."""
    at = np.arange(len(healthy_rows))[:, None]
    return np.where((at >= low) & (at < high), faulty_rows, healthy_rows)


def only(part, changed, plain):
    """Rows of which one column is changed."""
    return np.where(np.arange(plain.shape[1]) == part, changed, plain)


def late(steps):
    return np.concatenate([np.zeros((steps, 2)), COMMANDS[: STEPS - steps]])


# What moves the body

ON_ACTIONS = {
    "dead:part=0,onset=3,duration=4": only(
        0, between(3, 7, 0.0 * COMMANDS, COMMANDS), COMMANDS
    ),
    "dead:onset=5": between(5, STEPS, 0.0 * COMMANDS, COMMANDS),
    "weak:part=1,severity=0.25,onset=2,duration=1": only(
        1, between(2, 3, 0.75 * COMMANDS, COMMANDS), COMMANDS
    ),
    "stuck:onset=3,duration=5": between(3, 8, COMMANDS[2], COMMANDS),
    "stuck:part=0,onset=3": only(0, between(3, STEPS, COMMANDS[2], COMMANDS), COMMANDS),
    "reversed:part=1,onset=3,duration=4": only(
        1, between(3, 7, -COMMANDS, COMMANDS), COMMANDS
    ),
    "stuck": np.tile(COMMANDS[0], (STEPS, 1)),  # there is none before: the first
    "delay:severity=2,onset=6,duration=3": between(6, 9, late(2), COMMANDS),
    "delay:severity=8": late(8),
    "delay:part=1,severity=1": only(1, late(1), COMMANDS),
    # on one actuator, in the order written
    "delay:severity=1,onset=2+weak:severity=0.5,onset=4": between(
        4, STEPS, late(1) / 2, between(2, 4, late(1), COMMANDS)
    ),
    "weak:severity=0.5,onset=2,duration=1+stuck:onset=3": between(
        3, STEPS, COMMANDS[2] / 2, between(2, 3, COMMANDS / 2, COMMANDS)
    ),
    "stuck:onset=3+weak:severity=0.5,onset=2,duration=1": between(
        3, STEPS, COMMANDS[2], between(2, 3, COMMANDS / 2, COMMANDS)
    ),
    "delay:severity=1+delay:severity=2": late(3),
    "dead:part=0,onset=2+dead:part=1,onset=4": only(
        0,
        between(2, STEPS, 0.0 * COMMANDS, COMMANDS),
        between(4, STEPS, 0.0 * COMMANDS, COMMANDS),
    ),
    # what observations suffer does not move the body
    "freeze:onset=2+bias:severity=3+dropout:severity=0.5": COMMANDS,
}


@pytest.mark.parametrize("text", ON_ACTIONS)
def test_commands_reach_the_body_as_the_faults_let_them(text):
    np.testing.assert_array_equal(play(text).moves, ON_ACTIONS[text])


@pytest.mark.parametrize("text", ON_ACTIONS)
def test_what_is_recorded_is_what_the_agent_commanded_and_the_bodys_outcome(text):
    played = play(text)
    np.testing.assert_array_equal(played.rows.action, COMMANDS)
    before = np.concatenate([START[None], played.states[:-1]])
    np.testing.assert_array_equal(played.rows.reward, before.sum(1))
    cost = (played.states[:, 0] > 9.0).astype(np.float32)
    np.testing.assert_array_equal(played.rows.cost, cost)
    np.testing.assert_array_equal(played.rows.discount, 1.0 - cost)


def test_commands_are_recorded_clipped_and_clipped_before_they_are_late():
    wild = 4.0 * np.sign(COMMANDS + 0.01)
    played = play("delay:severity=1", wild)
    np.testing.assert_array_equal(played.rows.action, np.sign(wild))
    np.testing.assert_array_equal(played.moves[1:], np.sign(wild)[:-1])


def test_memory_ends_with_the_episode():
    """In an episode that starts during the fault: the first command, none before."""
    np.testing.assert_array_equal(
        play("stuck:onset=3", clock=5).moves, np.tile(COMMANDS[0], (STEPS, 1))
    )
    np.testing.assert_array_equal(
        play("delay:severity=3,onset=3", clock=5).moves, late(3)
    )


@pytest.mark.parametrize("clock", [0, 7, 1000])
def test_a_fault_strikes_at_a_step_of_the_run_whenever_the_episode_began(clock):
    played = play("dead:onset=1005,duration=3", clock=clock)
    low = 1005 - clock
    expected = between(low, low + 3, 0.0 * COMMANDS, COMMANDS)
    np.testing.assert_array_equal(played.moves, expected)


# What the agent is shown

PATH = START + np.cumsum(COMMANDS, axis=0)  # reached by a healthy body
ON_OBSERVATIONS = {  # the first one, and those after each step
    "bias:severity=0.5,onset=3,duration=4": (START, between(3, 7, PATH + 0.5, PATH)),
    "bias:part=1,severity=-2": (START - [0, 2], PATH - [0, 2]),
    # what step 3 started from stays
    "freeze:onset=3,duration=5": (START, between(3, 8, PATH[2], PATH)),
    "freeze:part=0,onset=3": (START, only(0, between(3, STEPS, PATH[2], PATH), PATH)),
    "freeze": (START, np.tile(START, (STEPS, 1))),
    "dropout:severity=1,part=0,onset=4,duration=2": (
        START,
        only(0, between(4, 6, 0.0 * PATH, PATH), PATH),
    ),
    "dropout:severity=1": (0.0 * START, 0.0 * PATH),
    "bias:severity=1,onset=2,duration=2+freeze:onset=4": (
        START,
        between(4, STEPS, PATH[3] + 1, between(2, 4, PATH + 1, PATH)),
    ),
    "freeze:onset=4+bias:severity=1,onset=2,duration=3": (
        START,
        between(4, STEPS, PATH[3], PATH) + between(2, 5, 1.0 + 0.0 * PATH, 0.0 * PATH),
    ),
    "dead+freeze:onset=3": (START, np.tile(START, (STEPS, 1))),  # it does not move
}


@pytest.mark.parametrize("text", ON_OBSERVATIONS)
def test_the_agent_is_shown_what_the_faults_let_through(text):
    played = play(text)
    first, later = ON_OBSERVATIONS[text]
    np.testing.assert_array_equal(played.first, first)
    np.testing.assert_array_equal(played.rows.next_observation, later)


@pytest.mark.parametrize("text", [*ON_OBSERVATIONS, "dropout:severity=0.5,onset=2"])
def test_what_was_shown_is_what_is_recorded_and_observed(text):
    played = play(text)
    rows = played.rows
    np.testing.assert_array_equal(played.observed, rows.next_observation)
    np.testing.assert_array_equal(rows.observation[0], played.first)
    np.testing.assert_array_equal(rows.observation[1:], rows.next_observation[:-1])


@pytest.mark.parametrize(
    ("text", "chance"),
    [
        ("dropout:severity=0.25,onset=2", 0.25),
        ("dropout:severity=0.25,onset=2+dropout:severity=0.5,onset=2", 1 - 0.75 * 0.5),
    ],
)
def test_each_entry_drops_out_by_itself_with_the_probability(text, chance):
    count = 400
    task = afflict(parse(text), jax.random.key(9), body())
    keys = jax.random.split(jax.random.key(1), count)
    many = jax.vmap(program(plane, text), (0, None, None, None))
    shown = np.asarray(many(keys, task, COMMANDS, 0).rows.next_observation)
    np.testing.assert_array_equal(shown[:, :2], np.tile(PATH[:2], (count, 1, 1)))
    dropped = shown[:, 2:] == 0.0
    np.testing.assert_array_equal(
        shown[:, 2:], np.where(dropped, 0.0, np.tile(PATH[2:], (count, 1, 1)))
    )
    both = dropped.all(2)
    for hits, expected in ((dropped, chance), (both, chance**2)):
        assert stats.binomtest(int(hits.sum()), hits.size, expected).pvalue > 1e-3
    assert len(np.unique(dropped.reshape(count, -1), axis=0)) > 0.9 * count


@pytest.mark.parametrize("text", ["freeze", "dropout:severity=1"])
def test_no_fault_hides_that_a_body_is_no_longer_finite(text):
    """Else it would reach replays; whoever steps looks at the transition."""
    commands = np.where(np.arange(STEPS)[:, None] == 4, np.nan, COMMANDS)
    shown = play(text, commands.astype(np.float32)).rows.next_observation
    assert np.isfinite(shown[:4]).all()
    assert np.isnan(shown[4]).all()


# What changes of the body


@pytest.mark.parametrize(
    ("text", "factors"),
    [
        ("gain:severity=2,onset=3,duration=4", [1] * 3 + [2] * 4 + [1] * 5),
        ("gain:severity=0.5,onset=3", [1] * 3 + [0.5] * 9),
        (
            "gain:severity=2,onset=3+gain:severity=4,onset=5,duration=1",
            [1] * 3 + [2] * 2 + [8] + [2] * 6,
        ),
        (
            "gain:severity=2,onset=3+weak:severity=0.75,onset=5",
            [1] * 3 + [2] * 2 + [0.5] * 7,
        ),
    ],
)
def test_a_change_multiplies_the_body_while_it_lasts(text, factors):
    expected = COMMANDS * np.array(factors)[:, None]
    np.testing.assert_array_equal(play(text).moves, expected)


def test_an_episode_starts_and_is_drawn_with_the_changed_body():
    text = "gain:severity=2,onset=3"
    domain = faulty(PLANE, parse(text))
    task = afflict(parse(text), jax.random.key(0), body())
    for clock, gain in ((2, 1.0), (3, 2.0)):
        now = domain.task_at(task, clock)
        state = domain.reset(jax.random.key(1), now)
        np.testing.assert_array_equal(domain.observe(state), START * gain)
        shapes = domain.shapes(state, now)
        assert shapes.radii == gain
        np.testing.assert_array_equal(shapes.ends[0, 0, :2], START * gain)


# Where no fault lasts, the plain domain

EVERY = (
    "dead:part=0,{when}+weak:severity=0.5,{when}+stuck:part=1,{when}"
    "+delay:severity=3,{when}+bias:severity=1,{when}+freeze:{when}"
    "+dropout:severity=0.5,{when}"
)


@functools.cache
def navigation():
    return navigation1("wind")


@functools.cache
def plain_navigation():
    return jax.jit(functools.partial(roll, navigation()))


def noisy_commands(count=30):
    return jax.random.uniform(jax.random.key(5), (count, 2), minval=-1.5, maxval=1.5)


def point_body(seed=2):
    return jax.tree.map(
        lambda x: x[0], navigation().train_tasks(jax.random.key(seed), 1)
    )


@pytest.mark.parametrize(
    "text",
    [
        "none",
        EVERY.format(when="onset=30"),
        EVERY.format(when="onset=1000..2000"),
        EVERY.format(when="onset=0,duration=5"),
    ],
)
def test_outside_of_its_faults_a_domain_is_the_plain_one_bit_for_bit(text):
    commands, key = noisy_commands(), jax.random.key(3)
    task = afflict(parse(text), jax.random.key(4), point_body())
    clock = jnp.int32(5 if "duration" in text else 0)
    ours = program(navigation, text)(key, task, commands, clock)
    plain = plain_navigation()(key, point_body(), commands)
    jax.tree.map(np.testing.assert_array_equal, ours, plain)


def test_after_its_faults_a_body_goes_on_as_the_plain_one_from_where_it_is():
    text, key = EVERY.format(when="onset=2,duration=8"), jax.random.key(6)
    domain = faulty(navigation(), parse(text))
    task = afflict(parse(text), jax.random.key(4), point_body())
    step, plain_step = jax.jit(domain.step), jax.jit(navigation().step)
    state = domain.reset(key, domain.task_at(task, 0))
    for i, command in enumerate(noisy_commands(20)):
        before, step_key = state, jax.random.fold_in(key, i)
        now = domain.task_at(task, i)
        state, row = step(step_key, before, command, now)
        reached, expected = plain_step(
            jax.random.clone(step_key), before.state, command, now.body
        )
        same_state = np.array_equal(state.state, reached)
        same_shown = np.array_equal(row.next_observation, expected.next_observation)
        assert same_state == same_shown == (not 2 <= i < 10), i
        np.testing.assert_array_equal(row.observation, before.seen)
        if same_state:
            same = row._replace(observation=expected.observation)
            jax.tree.map(np.testing.assert_array_equal, same, expected)


@pytest.mark.parametrize("draw", ["train_tasks", "test_tasks"])
def test_the_same_bodies_are_drawn_as_of_the_plain_domain(draw):
    schedule = parse("dead:onset=10..20+weak:severity=mild,onset=4,duration=3")
    tasks = getattr(faulty(navigation(), schedule), draw)(jax.random.key(0), 50)
    bodies = getattr(navigation(), draw)(jax.random.key(0), 50)
    jax.tree.map(np.testing.assert_array_equal, tasks.body, bodies)
    assert tasks.onset.shape == (50, 2)
    assert len(np.unique(tasks.onset[:, 0])) > 5
    np.testing.assert_array_equal(tasks.end[:, 1], 7)


def test_data_episodes_and_solvability_are_the_healthy_bodys():
    domain = faulty(navigation(), parse("dead"))
    task = afflict(parse("dead"), jax.random.key(0), point_body())
    ours, plain = (
        d.episode(jax.random.key(1), t)
        for d, t in ((domain, task), (navigation(), point_body()))
    )
    jax.tree.map(np.testing.assert_array_equal, ours, plain)
    assert faulty(PLANE, parse("dead")).episode is None
    for gain in (1.0, 2.0):
        task = afflict(parse("dead"), jax.random.key(0), body(gain))
        assert faulty(PLANE, parse("dead")).solvable(task) == (gain == 2.0)


def test_decision_states_are_the_healthy_bodys_as_the_agent_is_shown_them():
    schedule = parse("bias:severity=2,onset=5+dropout:severity=0.5,part=1,onset=5")
    domain = faulty(navigation(), schedule)
    task = domain.task_at(afflict(schedule, jax.random.key(0), point_body()), 5)
    states = domain.decision_states(jax.random.key(1), 200, task)
    plain = navigation().decision_states(jax.random.key(1), 200, point_body())
    np.testing.assert_array_equal(states.state, plain)
    shown = np.asarray(jax.vmap(domain.observe)(states))
    np.testing.assert_array_equal(shown[:, 0], plain[:, 0] + 2.0)
    dropped = shown[:, 1] == 0.0
    assert stats.binomtest(int(dropped.sum()), 200, 0.5).pvalue > 1e-3
    np.testing.assert_array_equal(shown[~dropped, 1], plain[~dropped, 1] + 2.0)


def test_the_domains_own_clock_and_changes_are_reached_through_the_fault():
    domain = faulty(PLANE, parse("dead:onset=3"))
    task = domain.task_at(afflict(parse("dead:onset=3"), jax.random.key(0), body()), 4)
    assert (task.clock, task.body.steps) == (4, 4)
    changed = domain.changes["gain"](task, 3.0)
    assert changed.body.gain == 3.0
    assert changed.clock == 4


# Onsets that are drawn


def drawn(text, count):
    keys = jax.random.split(jax.random.key(0), count)
    return jax.vmap(lambda key: afflict(parse(text), key, body()))(keys)


def test_onsets_are_drawn_uniformly_with_both_ends_and_by_the_key():
    text, count = "dead:onset=5..9,duration=4+weak:severity=1,onset=5..9+stuck", 2000
    tasks = drawn(text, count)
    onsets = np.asarray(onset_of(tasks))
    assert (onsets.shape, onsets.dtype) == ((count, 3), np.int32)
    for column in onsets[:, :2].T:
        values, seen = np.unique(column, return_counts=True)
        np.testing.assert_array_equal(values, [5, 6, 7, 8, 9])
        assert stats.chisquare(seen).pvalue > 1e-3
    assert np.corrcoef(onsets[:, :2].T)[0, 1] < 0.1  # each fault draws its own
    np.testing.assert_array_equal(onsets[:, 2], 0)
    np.testing.assert_array_equal(tasks.end[:, 0], onsets[:, 0] + 4)
    assert (tasks.end[:, 1:] >= fault_notation.LIMIT).all()
    np.testing.assert_array_equal(onset_of(drawn(text, count)), onsets)


def test_runs_with_their_own_onsets_and_severities_are_one_program():
    text = "delay:severity=1,onset=2..8+bias:severity=1,onset=2..8,duration=2"
    tasks = drawn(text, 8)
    delays, shifts = np.tile([1, 3], 4), np.arange(8.0)
    tasks = tasks._replace(severity=jnp.array([delays, shifts], jnp.float32).T)
    many = jax.jit(jax.vmap(program(plane, text), (None, 0, None, None)))
    played = many(jax.random.key(0), tasks, COMMANDS, 0)
    assert len(np.unique(tasks.onset)) > 3
    for i, (first, second) in enumerate(np.asarray(tasks.onset)):
        moves = between(first, STEPS, late(delays[i]), COMMANDS)
        path = START + np.cumsum(moves, axis=0)
        np.testing.assert_array_equal(played.states[i], path)
        shown = between(second, second + 2, path + shifts[i], path)
        np.testing.assert_array_equal(played.rows.next_observation[i], shown)


def form_of(tree):
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(x.shape, x.dtype, x.weak_type) for x in leaves]


def test_a_step_keeps_the_form_of_state_and_task_and_compiles_once():
    text = EVERY.format(when="onset=1..3")
    domain = faulty(navigation(), parse(text))
    task = afflict(parse(text), jax.random.key(4), point_body())
    state = domain.reset(jax.random.key(6), task)
    chex.clear_trace_counter()
    step = jax.jit(chex.assert_max_traces(domain.step, n=1))
    for i in range(5):
        now = domain.task_at(task, i)
        assert form_of(now) == form_of(task)
        reached, _ = step(jax.random.key(10 + i), state, noisy_commands()[i], now)
        assert form_of(reached) == form_of(state)
        state = reached


# How faults are written

WRITTEN = {
    "": ((), "no fault"),
    "none": ((), "no fault"),
    "dead": ((Fault("dead"),), "all actuators dead from step 0 on"),
    "dead:part=2,onset=10000": (
        (Fault("dead", (2,), (10000, 10000)),),
        "actuator 2 dead from step 10,000 on",
    ),
    "weak:part=1/0,onset=5000..15000,severity=moderate": (
        (Fault("weak", (0, 1), (5000, 15000), None, 0.5),),
        "actuators 0 and 1 weakened by 0.5 from a step drawn from 5,000 to 15,000 on",
    ),
    "freeze:part=3,duration=7 + bias : part=8/1 , severity=-0.1": (
        (Fault("freeze", (3,), (0, 0), 7), Fault("bias", (1, 8), severity=-0.1)),
        "observation 3 frozen from step 0 for 7 steps; "
        "observations 1 and 8 biased by -0.1 from step 0 on",
    ),
    "delay:severity=2,onset=5,duration=1000+delay:severity=mild+stuck:onset=1": (
        (
            Fault("delay", (), (5, 5), 1000, 2.0),
            Fault("delay", severity=1.0),
            Fault("stuck", (), (1, 1)),
        ),
        "all actuators delayed by 2 steps from step 5 for 1,000 steps; "
        "all actuators delayed by 1 step from step 0 on; "
        "all actuators stuck from step 1 on",
    ),
    "pole_length:severity=held_out+dropout:severity=0": (
        (Fault("pole_length", severity=3.0), Fault("dropout", severity=0.0)),
        "pole length times 3 from step 0 on; "
        "all observations dropped with probability 0 from step 0 on",
    ),
}


@pytest.mark.parametrize("text", WRITTEN)
def test_faults_are_read_and_told_in_words(text):
    expected, words = WRITTEN[text]
    assert parse(text) == expected
    assert describe(expected) == words


@pytest.mark.parametrize("text", WRITTEN)
def test_faults_are_written_as_they_are_read(text):
    written = text_of(parse(text))
    assert parse(written) == parse(text)
    assert text_of(parse(written)) == written
    assert len(written) <= max(len(text), len("none"))


KIND_NAMES = "dead, weak, stuck, reversed, delay, bias, freeze, dropout"


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("daed:part=2", rf"kinds {KIND_NAMES} \('daed' is none; nearest: dead\)"),
        ("freze", "nearest: freeze"),
        ("dead:onst=3", "fields part, onset, duration, severity .*nearest: onset"),
        ("dead:onset", "name=value, with one onset"),
        ("dead:part=1,part=2", "name=value, with one part"),
        ("dead:", "fields part"),
        ("+", f"kinds {KIND_NAMES}"),
        ("dead:severity=1", "without a severity: dead has none"),
        ("weak", r"with a severity: weak takes a number in \[0, 1\], or mild \(0.25\)"),
        ("weak:severity=1.01", "severity that it has"),
        ("weak:severity=nan", "severity that it has"),
        ("weak:severity=hard", "moderate .0.5., severe .0.75., held_out"),
        ("delay:severity=9", r"delay takes a whole number in \[1, 8\]"),
        ("delay:severity=1.5", "a whole number"),
        ("delay:severity=0", "severity that it has"),
        ("gain:severity=0", r"gain takes a number in \[0.01, 100\]"),
        ("gain:severity=2,part=1", "change of the body with a severity and no part"),
        ("gain", "change of the body with a severity and no part"),
        ("dead:part=-1", "part that is a whole number from 0"),
        ("dead:part=1.5", "part that is a whole number"),
        ("dead:onset=1e4", "onset that is a whole number"),
        ("dead:onset=9..8", "onset low..high that rises"),
        (f"dead:onset={2**30}", f"from 0 to {2**30 - 1}"),
        ("dead:duration=0", "duration that is a whole number from 1"),
        ("dead:onset=²", "onset that is a whole number"),
        pytest.param("dead:onset=" + "9" * 5000, "onset that is a", id="long onset"),
        pytest.param(
            "delay:severity=" + "9" * 400, "severity that", id="long severity"
        ),
    ],
)
def test_a_text_that_is_wrong_is_refused_with_what_is_allowed(text, allowed):
    with pytest.raises(SettingError, match=allowed) as caught:
        parse("stuck+" + text if text != "+" else text)
    assert caught.value.name == "fault"
    assert caught.value.value in text  # of several, the one that is wrong


def test_kinds_are_known_at_once_where_the_changes_are():
    text = "mass:severity=2"
    assert parse(text, ("mass",)) == parse(text) == (Fault("mass", severity=2.0),)
    with pytest.raises(SettingError, match=r"dropout, mass \('mas' .*nearest: mass"):
        parse("mas:severity=2", ("mass",))


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("gian:severity=2", f"kinds of plane, {KIND_NAMES}, gain .*nearest: gain"),
        ("dead:part=0/2", "action parts below 2 in plane"),
        ("bias:severity=1,part=7", "observation parts below 2 in plane"),
    ],
)
def test_a_domain_refuses_what_it_does_not_have(text, allowed):
    with pytest.raises(SettingError, match=allowed) as caught:
        faulty(PLANE, parse("stuck+" + text))
    assert caught.value.name == "fault"
    assert parse(caught.value.value) == parse(text)


def test_every_kind_has_an_effect():
    assert faults.EFFECTS.keys() == fault_notation.KINDS.keys()


@pytest.mark.parametrize("name", [*fault_notation.KINDS, "gain"])
def test_named_severities_are_in_range_and_what_is_held_out_is_beyond(name):
    kind = fault_notation.KINDS.get(name, fault_notation.CHANGE)
    severities = [
        parse(f"{name}:severity={level}")[0].severity for level in kind.levels
    ]
    assert severities == sorted(set(severities))
    assert list(kind.levels) in ([], ["mild", "moderate", "severe", "held_out"])
    faulty(PLANE, tuple(Fault(name, severity=x) for x in severities))
