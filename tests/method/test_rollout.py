"""One online run's step, on a line where all is known by hand (`tests/worlds.py`)."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mesa_jax import rollout
from mesa_jax.agents import (
    RecoveryConfig,
    SACConfig,
    recovery_policy,
    recovery_rl,
    sac,
)
from mesa_jax.online import online_program
from mesa_jax.risk import RiskConfig, violation_probability
from mesa_jax.run_state import EpisodeRecord, OnlineConfig, StepKeys
from mesa_jax.types import Statistics
from tests.worlds import (
    HELD,
    HORIZON,
    LINE,
    SCRIPTED,
    Body,
    keys_of,
    line_step,
    safe_rows,
    script,
    scripted_proposal,
    scripted_update,
    stack,
)

RUNS = {
    "violates": script(1.0, mode=-1.0),
    "violates while recovering": script(1.0, mode=1.0, rescue=1.0, low=2.0),
    "violates after recovering": script(1.0, rescue=0.75, low=1.0, high=1.5),
    "times out": script(1.0, mode=1.0, rescue=-0.5, low=1.0),
    "succeeds": script(-1.0, mode=1.0),
    "always recovers": script(1.0, rescue=-0.25, low=-np.inf),
    "wanders": script(0.2, mode=0.5, rescue=-0.6, low=0.4, jitter=0.8),
}
ROW = {name: i for i, name in enumerate(RUNS)}
EPISODES, STEPS = 5, 20
CONFIG = OnlineConfig(
    episodes=EPISODES,
    start_steps=0,
    batch_size=4,
    violation_fraction=0.5,
    evaluate_every=2,
    chunk_steps=STEPS,
)


def runs_of(scripts, config=CONFIG, limit=2.5, broken=np.inf):
    count = len(scripts)
    bodies = Body(*(jnp.full(count, x, jnp.float32) for x in (limit, broken)))

    def start(task, agent):
        return rollout.init_run(
            jax.random.key(0), LINE, config, task, agent, safe_rows(-0.25)
        )

    return jax.vmap(start)(bodies, stack(scripts))


@functools.cache
def program(config):
    return jax.jit(online_program(LINE, SCRIPTED, config))


def play(config, states):
    """The runs after one chunk, and its metrics."""
    return program(config)(*keys_of(states.episode.shape[0]), states)


@functools.cache
def played():
    """All runs of the script after their five episodes."""
    return jax.tree.map(np.asarray, play(CONFIG, runs_of(RUNS.values()))[0])


def row(states, name):
    return jax.tree.map(lambda x: x[ROW[name]], states)


def assert_same(first, second):
    jax.tree.map(np.testing.assert_array_equal, first, second)


@pytest.mark.parametrize(
    ("limits", "shares"),
    [
        ({"episodes": 2}, [0, 0, 0, 1 / 2, 1 / 2, 1 / 2, 1 / 2, 1 / 2]),
        ({"episodes": 2, "steps": 5}, [0, 1 / 5, 2 / 5, 3 / 5, 4 / 5] + 3 * [4 / 5]),
    ],
)
def test_an_agent_that_asks_is_told_how_far_its_run_is(limits, shares):
    """Two episodes of three steps; what a finished run was told last stays."""
    config = dataclasses.replace(CONFIG, **limits)
    agent = SCRIPTED._replace(progress=lambda state, share: state._replace(mode=share))
    step = jax.jit(rollout.run_step(LINE, agent, config))
    state, told = jax.tree.map(lambda x: x[0], runs_of([script(1.0)], config)), []
    for key in jax.random.split(jax.random.key(2), len(shares)):
        state = step(key, state)[0]
        told.append(state.agent.mode)
    np.testing.assert_allclose(told, shares, rtol=1e-6)


# Records of episodes

EXPECTED = {  # length, return, violation, while recovering, success, recoveries
    # x 0, 1, 2 and 3 violates
    "violates": (3, 0 + 1 + 2, 1, 0, 0, 0),
    "violates while recovering": (3, 0 + 1 + 2, 1, 1, 0, 1),
    # x 0, 1, then 1.75 by recovery, and the proposal violates
    "violates after recovering": (3, 0 + 1 + 1.75, 1, 0, 0, 1),
    # x 0, 1, 0.5 by recovery, 1.5, 1 by recovery, and time is up
    "times out": (4, 0 + 1 + 0.5 + 1.5, 0, 0, 0, 2),
    # x 0, -1, -2 is the goal
    "succeeds": (2, 0 - 1, 0, 0, 1, 0),
    # x 0, -0.25, -0.5, -0.75, -1
    "always recovers": (4, -0.25 - 0.5 - 0.75, 0, 0, 0, 4),
}


def record_of(expected, env_steps):
    length, total, violation, recovering, success, recoveries = expected
    return EpisodeRecord(
        env_steps, total, length, violation, recovering, success, recoveries
    )


@pytest.mark.parametrize("name", EXPECTED)
def test_every_episode_is_recorded(name):
    records = row(played(), name).records
    for episode in range(EPISODES):
        env_steps = EXPECTED[name][0] * (episode + 1)
        expected = record_of(EXPECTED[name], env_steps)
        assert_same(jax.tree.map(lambda x, i=episode: x[i], records), expected)


def test_environment_steps_are_counted_while_a_run_goes_on():
    states = played()
    assert row(states, "succeeds").env_steps == 2 * EPISODES
    assert row(states, "times out").env_steps == STEPS
    np.testing.assert_array_equal(states.episode, EPISODES)


# What is remembered


def remembered(run):
    """Rows of the task and of the safety replay, the adaptation set left out."""
    count = run.env_steps
    assert run.task_replay.added == count
    assert run.safety_replay.added == HELD + count
    task = jax.tree.map(lambda x: x[:count], run.task_replay.rows)
    safety = jax.tree.map(lambda x: x[HELD : HELD + count], run.safety_replay.rows)
    return task, safety


def test_the_task_replay_holds_proposed_and_the_safety_replay_executed_actions():
    task, safety = remembered(row(played(), "times out"))
    np.testing.assert_array_equal(task.action[:, 0], np.ones(STEPS))
    np.testing.assert_array_equal(safety.action[:, 0], np.tile([1.0, -0.5], 10))
    assert_same(task._replace(action=0), safety._replace(action=0))


EXECUTED = dataclasses.replace(CONFIG, relabel="executed", start_steps=15)


def test_without_relabelling_both_replays_hold_executed_actions():
    states = jax.tree.map(np.asarray, play(EXECUTED, runs_of(RUNS.values()))[0])
    task, safety = remembered(row(states, "always recovers"))
    np.testing.assert_array_equal(task.action, np.full((STEPS, 1), -0.25))
    assert_same(task, safety)


def test_a_time_limit_does_not_terminate_and_the_next_episode_starts_anew():
    task, safety = remembered(row(played(), "times out"))
    for rows in (task, safety):
        np.testing.assert_array_equal(rows.discount, 1.0)
        np.testing.assert_array_equal(rows.observation[:, 0], [0, 1, 0.5, 1.5] * 5)
        np.testing.assert_array_equal(rows.next_observation[:, 0], [1, 0.5, 1.5, 1] * 5)


def test_violation_and_goal_terminate():
    violating, _ = remembered(row(played(), "violates"))
    np.testing.assert_array_equal(violating.cost, [0, 0, 1] * EPISODES)
    np.testing.assert_array_equal(violating.discount, [1, 1, 0] * EPISODES)
    succeeding, _ = remembered(row(played(), "succeeds"))
    np.testing.assert_array_equal(succeeding.cost, 0.0)
    np.testing.assert_array_equal(succeeding.discount, [1, 0] * EPISODES)


def test_the_safety_replay_starts_as_the_adaptation_set():
    held = jax.tree.map(lambda x: x[:HELD], row(played(), "wanders").safety_replay.rows)
    assert_same(held, safe_rows(-0.25))


def test_replays_have_room_for_every_step_and_no_more():
    run = row(played(), "wanders")
    assert run.task_replay.rows.cost.shape == (EPISODES * HORIZON,)
    assert run.safety_replay.rows.cost.shape == (EPISODES * HORIZON + HELD,)


# What is learned from


@pytest.mark.parametrize(("name", "steps"), [("times out", STEPS), ("succeeds", 10)])
def test_learning_starts_when_a_replay_holds_more_rows_than_a_batch(name, steps):
    agent = row(played(), name).agent
    assert agent.task_updates == sum(t > 4 for t in range(steps))
    assert agent.risk_updates == sum(HELD + t > 4 for t in range(steps))


def test_the_task_learns_from_proposals_and_the_risk_from_executed_actions():
    agent = row(played(), "always recovers").agent
    assert agent.task_action == 1.0
    assert agent.safety_action == -0.25  # the adaptation set's as well


def test_a_safety_batch_holds_its_share_of_violations():
    assert row(played(), "violates").agent.safety_violations == 2.0  # half of four
    assert row(played(), "times out").agent.safety_violations == 0.0


def test_first_proposals_are_uniform():
    states, _ = play(EXECUTED, runs_of([script(0.125)] * len(RUNS), limit=100.0))
    proposed = np.asarray(states.task_replay.rows.action[:, :, 0])
    first, later = np.split(proposed, [15], axis=1)
    np.testing.assert_array_equal(later, 0.125)
    assert len(np.unique(first)) == first.size
    assert stats.kstest(first.ravel(), "uniform", (-1, 2)).pvalue > 1e-3


# Evaluation

EVALUATED = {  # what the mode does
    "violates": (2, 0 - 1, 0, 0, 1, 0),  # -1 to the goal
    "violates while recovering": EXPECTED["violates while recovering"],
    "times out": EXPECTED["times out"],
    "succeeds": EXPECTED["violates"],
    "always recovers": EXPECTED["always recovers"],
}


@pytest.mark.parametrize("name", EVALUATED)
def test_evaluation_plays_the_mode_through_the_switch(name):
    evaluations = row(played(), name).evaluations
    for i in range(EPISODES // 2):
        record = jax.tree.map(lambda x, i=i: x[i], evaluations)
        expected = record_of(EVALUATED[name], record.env_steps)
        assert_same(record, expected)


@pytest.mark.parametrize("name", EVALUATED)
def test_an_evaluation_stands_at_the_step_of_the_episode_before_it(name):
    """An evaluation takes no step of the run, so none may be added to its count."""
    run = row(played(), name)
    np.testing.assert_array_equal(
        run.evaluations.env_steps, run.records.env_steps[[1, 3]]
    )


@functools.cache
def stepwise():
    """The same runs one step a chunk: states after each, compiled once."""
    config = dataclasses.replace(CONFIG, chunk_steps=1)
    chex.clear_trace_counter()
    chunk = jax.jit(chex.assert_max_traces(online_program(LINE, SCRIPTED, config), n=1))
    states = [runs_of(RUNS.values())]
    for _ in range(STEPS):
        states.append(chunk(*keys_of(len(RUNS)), states[-1])[0])
    return [jax.tree.map(np.asarray, state) for state in states]


def test_chunks_of_one_step_equal_one_chunk_and_compile_once():
    assert_same(stepwise()[-1], played())


def form_of(tree):
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(x.shape, x.dtype, x.weak_type) for x in leaves]


def test_a_chunk_keeps_the_form_of_its_state():
    states = runs_of(RUNS.values())
    assert form_of(play(CONFIG, states)[0]) == form_of(states)


def test_evaluations_come_exactly_after_every_second_episode():
    for state in stepwise():
        for i in range(EPISODES // 2):
            evaluated = state.evaluations.length[:, i] > 0
            np.testing.assert_array_equal(evaluated, state.episode >= 2 * (i + 1))


def test_a_finished_run_keeps_its_whole_state():
    states = stepwise()
    finished = row(states[10], "succeeds")  # five episodes of two steps
    assert finished.episode == EPISODES
    assert row(states[10], "times out").episode < EPISODES
    for later in states[11:]:
        assert_same(row(later, "succeeds"), finished)
    assert_same(play(CONFIG, played())[0], played())


def test_a_run_does_not_depend_on_its_neighbours():
    others = [script(-0.7, mode=-0.3, jitter=0.3)] * (len(RUNS) - 1)
    states, _ = play(CONFIG, runs_of([*others, RUNS["wanders"]]))
    assert_same(row(states, "wanders"), row(played(), "wanders"))
    with pytest.raises(AssertionError):
        assert_same(row(states, "succeeds"), row(played(), "succeeds"))


def test_metrics_are_the_runs_own_means():
    _, metrics = play(CONFIG, runs_of(RUNS.values()))
    expected = [agent.proposal for agent in RUNS.values()]
    np.testing.assert_allclose(metrics["script/proposal"], expected, rtol=1e-6)


# What is not finite


FINITE = {  # length, return, violation, while recovering, success, recoveries
    # the step from x >= 1.5 is no number; it ends the episode where it was, with 0
    "violates": (3, 0 + 1 + 0, 0, 0, 0, 0),
    "violates while recovering": (3, 0 + 1 + 0, 0, 0, 0, 1),
    "violates after recovering": (3, 0 + 1 + 0, 0, 0, 0, 1),
    "times out": (4, 0 + 1 + 0.5 + 0, 0, 0, 0, 2),
    "succeeds": EXPECTED["succeeds"],
    "always recovers": EXPECTED["always recovers"],
}
BREAKING = [name for name in FINITE if FINITE[name] != EXPECTED[name]]


@functools.cache
def broken():
    """All runs where the reward is no number from x = 1.5 on."""
    return jax.tree.map(np.asarray, play(CONFIG, runs_of(RUNS.values(), broken=1.5))[0])


@pytest.mark.parametrize("name", FINITE)
def test_physics_that_is_not_finite_ends_the_episode_and_not_the_run(name):
    run, length = row(broken(), name), FINITE[name][0]
    assert run.episode == EPISODES
    assert run.env_steps == EPISODES * length
    assert run.broken_at == -1
    for episode in range(EPISODES):
        expected = record_of(FINITE[name], length * (episode + 1))
        assert_same(jax.tree.map(lambda x, i=episode: x[i], run.records), expected)


@pytest.mark.parametrize("name", FINITE)
def test_steps_that_are_not_finite_are_counted_and_in_no_replay(name):
    run = row(broken(), name)
    ended = EPISODES * (name in BREAKING)
    assert run.non_finite == ended
    assert run.task_replay.added == run.env_steps - ended
    assert run.safety_replay.added == HELD + run.env_steps - ended
    for memory, held in ((run.task_replay, 0), (run.safety_replay, HELD)):
        rows = jax.tree.map(lambda x, n=memory.added: x[:n], memory.rows)
        assert all(np.isfinite(field).all() for field in rows)
        assert (rows.observation[held:] < 1.5).all()


def test_a_run_that_is_finite_counts_nothing():
    assert (played().non_finite == 0).all()
    assert (played().broken_at == -1).all()


def test_the_first_step_whose_learning_is_no_number_is_named():
    """The learner of one run breaks at its fifth update of the task."""

    def update(key, state, task_batch, safety_batch, learn_task, learn_risk):
        state, metrics = scripted_update(
            key, state, task_batch, safety_batch, learn_task, learn_risk
        )
        breaks = (state.task_updates >= 5) & (state.mode == RUNS["times out"].mode)
        bad = jnp.where(breaks & (state.rescue == -0.5), jnp.inf, 0.0)
        return state, metrics | {"script/bad": bad}

    agent = SCRIPTED._replace(update=update)
    chunk = jax.jit(online_program(LINE, agent, CONFIG))
    states, _ = chunk(*keys_of(len(RUNS)), runs_of(RUNS.values()))
    # the replay holds more than a batch of 4 from step 5 on, so step 9 is the fifth
    expected = [9 if name == "times out" else -1 for name in RUNS]
    np.testing.assert_array_equal(states.broken_at, expected)
    np.testing.assert_array_equal(states.non_finite, 0)


def test_a_finished_run_can_not_break():
    """Its state is kept, so what a step of it would have given is not looked at."""
    finished = jax.tree.map(jnp.asarray, played())
    body = finished.task._replace(broken=jnp.full(len(RUNS), -1.0))  # at once
    finished = finished._replace(task=body)
    assert_same(play(CONFIG, finished)[0], finished)


# The keys of a step


def test_a_steps_keys_are_its_own_and_differ():
    key = jax.random.key(3)
    drawn = [
        tuple(jax.random.key_data(part).tolist())
        for env_steps in range(20)
        for part in rollout.step_keys(key, jnp.int32(env_steps))
    ]
    assert len(set(drawn)) == 20 * len(StepKeys._fields)


def test_a_run_can_be_repeated_from_its_keys_alone():
    """Episode starts and moves draw from `reset` and `move`, the proposal from `act`.

    The line shows which: its start and its moves are noisy here.
    """

    def noisy(key, state, action, task):
        chance = jax.random.uniform(key, maxval=0.1)
        reached, moved = line_step(None, state, action + chance, task)
        return reached, moved._replace(action=action)

    domain = LINE._replace(
        reset=lambda key, task: jax.random.uniform(key, maxval=0.1), step=noisy
    )
    body = Body(jnp.float32(2.5), jnp.float32(jnp.inf))
    config = dataclasses.replace(CONFIG, episodes=3)
    doing = script(0.4, jitter=0.5)
    key = jax.random.key(6)

    @jax.jit
    def run():
        states = jax.tree.map(
            lambda x: x[None],
            rollout.init_run(
                jax.random.key(5), domain, config, body, doing, safe_rows(-0.25)
            ),
        )
        chunk = online_program(domain, SCRIPTED, config)
        return chunk(key[None], jax.random.key(7)[None], states)[0]

    states = jax.tree.map(lambda x: np.asarray(x[0]), run())
    count = int(states.env_steps)
    assert states.episode == 3
    rows = jax.tree.map(lambda x: x[:count], states.task_replay.rows)
    ends = set((states.records.env_steps - 1).tolist())

    @jax.jit
    def once(state, env_steps):
        keys = rollout.step_keys(key, env_steps)
        proposal_key, _ = jax.random.split(keys.act)
        proposed = scripted_proposal(proposal_key, doing, state[None])
        return domain.step(keys.move, state, proposed, body), proposed, keys.reset

    state = domain.reset(jax.random.key(5), body)
    for i in range(count):
        (state, moved), proposed, reset_key = once(state, jnp.int32(i))
        for ours, theirs in (
            (rows.action[i], proposed),
            (rows.observation[i], moved.observation),
            (rows.next_observation[i], moved.next_observation),
        ):
            np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)
        if i in ends:
            state = domain.reset(reset_key, body)


# The real agent


INPUTS = Statistics(jnp.zeros(1), jnp.ones(1), jnp.zeros(1), jnp.ones(1))


def test_a_learning_run_does_not_depend_on_its_neighbours():
    risk = violation_probability(RiskConfig(hidden=(8,)))
    recovery = recovery_policy(1, risk.estimate, (8,))
    agent = recovery_rl(
        sac(LINE.spec, SACConfig(hidden=(8,), lr=0.01)),
        risk,
        recovery,
        RecoveryConfig(lr=0.01),
    )
    config = OnlineConfig(episodes=4, start_steps=4, batch_size=4, chunk_steps=10)

    @jax.jit
    @jax.vmap
    def start(seed, limit):
        keys = jax.random.split(jax.random.key(seed), 4)
        params = risk.init(keys[0], INPUTS), recovery.init(keys[1], INPUTS)
        learner = agent.init(keys[2], *params, 0.5)
        body = Body(limit, jnp.float32(jnp.inf))
        return rollout.init_run(keys[3], LINE, config, body, learner, safe_rows(0.3))

    chunk = jax.jit(online_program(LINE, agent, config))
    ends = []
    for seeds, limits in (([3, 4, 5], [1.0, 2.0, 3.0]), ([3, 8, 9], [1.0, 0.1, 0.0])):
        states = start(jnp.array(seeds), jnp.array(limits))
        for _ in range(2):
            states, metrics = chunk(*keys_of(3), states)
        assert all(np.isfinite(x).all() for x in metrics.values())
        ends.append(states)
    first, others = (
        [jax.tree.map(lambda x, i=i: x[i], end) for end in ends] for i in (0, 1)
    )
    assert_same(*first)
    with pytest.raises(AssertionError):
        assert_same(*others)


# A budget of steps


BUDGET = 7


def test_a_run_ends_after_its_steps():
    config = dataclasses.replace(CONFIG, steps=BUDGET)
    ended = play(config, runs_of(RUNS.values(), config))[0]
    np.testing.assert_array_equal(ended.env_steps, BUDGET)
    np.testing.assert_array_equal(ended.task_replay.added, BUDGET)
    for name, (length, *_) in EXPECTED.items():
        assert row(ended, name).episode == BUDGET // length
    ours, theirs = row(ended, "succeeds"), row(played(), "succeeds")
    assert_same(  # three episodes of two steps each, as without a budget
        jax.tree.map(lambda x: x[:3], ours.records),
        jax.tree.map(lambda x: x[:3], theirs.records),
    )
    assert_same(play(config, jax.tree.map(jnp.copy, ended))[0], ended)  # at rest


@pytest.mark.parametrize(("steps", "rows"), [(0, 20), (7, 7), (99, 20)])
def test_a_replay_holds_what_a_run_can_make(steps, rows):
    config = dataclasses.replace(CONFIG, steps=steps)
    assert config.rows(HORIZON) == rows  # five episodes of four steps
    runs = runs_of(RUNS.values(), config)
    assert runs.task_replay.rows.cost.shape == (len(RUNS), rows)
    held = safe_rows(-0.25).cost.shape[0]
    assert runs.safety_replay.rows.cost.shape == (len(RUNS), rows + held)


def test_episodes_end_a_run_before_its_steps_do():
    config = dataclasses.replace(CONFIG, steps=10 * STEPS)
    states = play(config, runs_of(RUNS.values(), config))[0]
    np.testing.assert_array_equal(states.episode, EPISODES)
    np.testing.assert_array_equal(states.env_steps, played().env_steps)
