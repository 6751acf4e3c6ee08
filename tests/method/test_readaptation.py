"""Adaptation anew while a run goes on, with the scripted agent on the line."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mesa_jax import adaptation, replay, rollout
from mesa_jax.methods import METHODS
from mesa_jax.online import online_program, readaptation
from mesa_jax.run_state import OnlineConfig
from mesa_jax.study import resolve
from mesa_jax.types import Prior
from tests.worlds import LINE, SCRIPTED, Body, keys_of, safe_rows, script, stack

EPISODES, STEPS, EVERY, ROWS = 6, 24, 5, 4
RUNS = {
    "violates": (script(1.0), True),
    "times out": (script(0.5), True),
    "succeeds": (script(-1.0), True),  # done after 6 episodes of 2 steps or more
    "never adapts": (script(0.5), False),
    "wanders": (script(0.2, jitter=0.8), True),
}
ROW = {name: i for i, name in enumerate(RUNS)}
PRIOR = Prior((jnp.float32(0.25), jnp.float32(100.0)), ())
WEIGHTS = 10.0 ** np.arange(ROWS)  # each row of a support has its own digits

ONLINE = {"readapt_every": 10, "readapt_transitions": 5}


def adapted(key, prior, support):
    """What the script becomes: 1/4 more than before, and a number of its support."""
    del key
    proposal, rescue = prior.params
    digest = jnp.sum(support.observation[:, 0] * jnp.asarray(WEIGHTS, jnp.float32))
    return proposal + 0.25, rescue + digest


@functools.cache
def config(readapt_from="prior", every=EVERY, rows=ROWS):
    return OnlineConfig(
        episodes=EPISODES,
        start_steps=0,
        batch_size=4,
        evaluate_every=2,
        chunk_steps=1,
        readapt_every=every,
        readapt_transitions=rows,
        readapt_from=readapt_from,
    )


ALL = tuple(RUNS.values())


def started(runs=ALL):
    scripts, readapts = zip(*runs, strict=True)
    count = len(runs)
    bodies = Body(*(jnp.full(count, x, jnp.float32) for x in (2.5, np.inf)))

    def start(task, agent, readapts):
        return rollout.init_run(
            jax.random.key(0), LINE, config(), task, agent, safe_rows(-0.25), readapts
        )

    return jax.jit(jax.vmap(start))(bodies, stack(scripts), jnp.array(readapts))


@functools.cache
def chunk_of(config, adapt):
    renew = readaptation(SCRIPTED, config, adapt)
    return jax.jit(online_program(LINE, SCRIPTED, config, renew))


def stepwise(config, adapt, runs=ALL, steps=STEPS):
    """States before the first step and after each."""
    states = [started(runs)]
    for _ in range(steps):
        states.append(
            chunk_of(config, adapt)(*keys_of(len(runs)), states[-1], PRIOR)[0]
        )
    return [jax.tree.map(np.asarray, state) for state in states]


@functools.cache
def played(readapt_from="prior"):
    return stepwise(config(readapt_from), adapted)


def row(states, name):
    return jax.tree.map(lambda x: x[ROW[name]], states)


def assert_same(first, second):
    jax.tree.map(np.testing.assert_array_equal, first, second)


def due(before, every=EVERY):
    """Whether a run adapts as its next step begins."""
    steps = before.env_steps
    return (
        bool(before.readapts)
        and before.episode < EPISODES
        and steps > 0
        and steps % every == 0
    )


def turns(states, name):
    """(before, after) of every step at whose start a run is to adapt."""
    pairs = itertools.pairwise(states)
    return [(row(b, name), row(a, name)) for b, a in pairs if due(row(b, name))]


@pytest.mark.parametrize("name", RUNS)
def test_what_adapts_does_so_every_so_many_steps_and_at_no_other(name):
    changed = []
    for before, after in itertools.pairwise(played()):
        ours, theirs = row(before, name), row(after, name)
        changed.append(ours.agent.rescue != theirs.agent.rescue)
        assert changed[-1] == due(ours)
    final = row(played()[-1], name)  # its last step began one before
    expected = 0 if name == "never adapts" else (final.env_steps - 1) // EVERY
    assert sum(changed) == expected
    assert expected >= 3 or name == "never adapts"


@pytest.mark.parametrize("name", RUNS)
def test_it_starts_from_the_prior_with_the_most_recent_rows(name):
    for before, after in turns(played(), name):
        np.testing.assert_array_equal(after.agent.proposal, np.float32(0.5))
        held = int(before.safety_replay.added)
        rows = before.safety_replay.rows.observation[held - ROWS : held, 0]
        expected = 100.0 + (rows * WEIGHTS).sum()
        np.testing.assert_allclose(after.agent.rescue, expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["violates", "times out"])
def test_it_may_start_from_what_it_has_become(name):
    states = played("current")
    first = RUNS[name][0]
    proposal, rescue = float(first.proposal), float(first.rescue)
    assert len(turns(states, name)) >= 2
    for before, after in turns(states, name):
        held = int(before.safety_replay.added)
        rows = before.safety_replay.rows.observation[held - ROWS : held, 0]
        proposal, rescue = proposal + 0.25, rescue + float((rows * WEIGHTS).sum())
        np.testing.assert_allclose(after.agent.proposal, proposal, rtol=1e-5)
        np.testing.assert_allclose(after.agent.rescue, rescue, rtol=1e-4)


def test_the_step_that_follows_acts_with_what_was_adapted():
    for before, after in turns(played(), "violates"):
        newest = int(after.task_replay.added) - 1
        assert before.agent.proposal != 0.5 or before.env_steps > EVERY
        np.testing.assert_array_equal(after.task_replay.rows.action[newest], [0.5])


def test_where_fewer_rows_are_held_the_oldest_is_used_again():
    """Of 11 rows asked for at step 5 there are 2 to adapt on and 5 of the run."""

    def first_of(key, prior, support):
        return prior.params[0], jnp.sum(support.action[:4, 0])

    states = stepwise(config(rows=11), first_of, steps=EVERY + 1)
    after = row(states[-1], "violates")
    np.testing.assert_allclose(after.agent.rescue, 4 * -0.25)  # of 11, 5 the oldest


def test_a_finished_run_is_left_alone():
    states = played()
    lasting = [row(state, "succeeds") for state in states]
    ended = next(i for i, run in enumerate(lasting) if run.episode == EPISODES)
    assert ended < STEPS
    for later in lasting[ended:]:
        assert_same(later, lasting[ended])


def test_a_run_that_finishes_at_its_turn_is_left_alone_too():
    """Six episodes of two steps, and a turn every twelve."""
    runs = (RUNS["succeeds"], RUNS["times out"])
    states = stepwise(config(every=12), adapted, runs, steps=16)
    first = [jax.tree.map(lambda x: x[0], state) for state in states]
    assert first[12].env_steps == 12 and first[12].episode == EPISODES
    assert_same(first[-1], first[12])
    second = jax.tree.map(lambda x: x[1], states[-1])
    assert second.agent.rescue > 50.0  # it has adapted, beside it


def test_runs_that_do_not_adapt_are_as_without_any_that_do():
    plain = online_program(LINE, SCRIPTED, config())
    chunk, state = jax.jit(plain), started()
    for adapting in played()[1:]:
        state = chunk(*keys_of(len(RUNS)), state)[0]
        assert_same(row(state, "never adapts"), row(adapting, "never adapts"))
    ours, theirs = (row(s, "violates").agent.proposal for s in (state, played()[-1]))
    assert ours != theirs


def test_a_run_does_not_depend_on_when_its_neighbours_adapt():
    others = [(script(-0.7, jitter=0.3), i % 2 == 0) for i in range(len(RUNS) - 1)]
    states = stepwise(config(), adapted, (*others, RUNS["wanders"]))
    for ours, theirs in zip(states, played(), strict=True):
        assert_same(row(ours, "wanders"), row(theirs, "wanders"))


def drawn(key, prior, support):
    """Draws from what a step would split its key into."""
    return prior.params[0], jax.random.uniform(jax.random.split(key, 5)[0])


def test_each_adaptation_draws_from_a_key_that_nothing_else_uses():
    states = stepwise(config(), drawn)

    @jax.jit
    @jax.vmap
    def of_steps(env_steps):
        steps = [rollout.step_keys(key, env_steps) for key in keys_of(len(RUNS))[0]]
        return jnp.stack([jnp.stack([jax.random.uniform(k) for k in s]) for s in steps])

    used = set(np.ravel(of_steps(jnp.arange(STEPS))).tolist())
    found = [float(a.agent.rescue) for name in RUNS for _, a in turns(states, name)]
    assert len(set(found)) == len(found) > 12
    assert not used & set(found)


def test_one_program_serves_every_chunk_and_length():
    """As many steps in one dispatch as in many."""
    whole = dataclasses.replace(config(), chunk_steps=STEPS)
    chunk = chunk_of(whole, adapted)
    states, _ = chunk(*keys_of(len(RUNS)), started(), PRIOR)
    assert_same(states, played()[-1])


def test_an_agent_is_kept_where_no_adaptation_is_due():
    once = jax.jit(readaptation(SCRIPTED, config(), adapted))
    run = jax.tree.map(lambda x: x[0], started())
    key = jax.random.key(0)
    assert_same(once(key, run, PRIOR, jnp.zeros((), bool)), run.agent)
    renewed = once(key, run, PRIOR, jnp.ones((), bool))
    assert renewed.proposal == 0.5
    kept = renewed._replace(proposal=run.agent.proposal, rescue=run.agent.rescue)
    assert_same(kept, run.agent)


# From anywhere

_start = functools.cache(started)
run_numbers = functools.partial(hnp.arrays, np.int32, len(ALL))


@given(
    run_numbers(elements=st.integers(0, 21)),
    run_numbers(elements=st.integers(0, EPISODES)),
    hnp.arrays(bool, len(ALL)),
)
def test_runs_read_their_body_every_so_many_steps_while_they_last(
    steps, episodes, reads
):
    """One step of each run from anywhere: what was adapted has another proposal."""
    start = _start()._replace(env_steps=steps, episode=episodes, readapts=reads)
    after, _ = chunk_of(config(), adapted)(*keys_of(len(ALL)), start, PRIOR)
    lasts = episodes < EPISODES
    due = reads & lasts & (steps > 0) & (steps % EVERY == 0)
    expected = np.where(due, PRIOR.params[0] + 0.25, start.agent.proposal)
    np.testing.assert_array_equal(after.agent.proposal, expected)


@pytest.mark.parametrize("held", [3, 5, 9])
def test_a_filter_test_begins_with_what_a_run_would_read_first(held):
    settings = resolve.resolve("navigation1", "flip", "quick", {"online": ONLINE})
    numbers = jnp.arange(1.0, held + 1.0)
    some = jax.tree.map(
        lambda x: x[None] * numbers.reshape(-1, *[1] * x.ndim),
        jax.tree.map(lambda x: jnp.ones_like(x[0]), safe_rows(1)),
    )
    latest = adaptation.reading(settings, None, some).latest
    ring = replay.fill(replay.init(20, jax.tree.map(lambda x: x[0], some)), some)
    assert_same(latest, replay.latest(ring, 5))


@pytest.mark.parametrize(
    ("method", "layer", "expected"),
    [
        ("context", {}, True),
        ("mesa_context", {}, True),
        ("context", {"online": {"readapt_every": 0}}, False),
        ("mesa", {}, False),
        ("mesa_readapting", {}, False),  # by gradient steps, which no filter test takes
        ("oracle", {}, False),
    ],
)
def test_methods_that_encode_their_body_again_are_known(method, layer, expected):
    asked = resolve.resolve("navigation1", "flip", "quick", layer)
    settings = resolve.of_method(asked, method)
    assert adaptation.reads(settings, METHODS[method]) == expected
