"""Gymnasium bodies: their data, and online runs that equal the compiled program's.

The environment is the line of `tests/worlds.py` in Python.
"""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium")

import mesa_jax as mesa  # noqa: E402
from mesa_jax import online as compiled  # noqa: E402
from mesa_jax import rollout  # noqa: E402
from mesa_jax.bridges import gymnasium_bodies as bodies  # noqa: E402
from mesa_jax.bridges import gymnasium_online as online  # noqa: E402
from mesa_jax.bridges import gymnasium_spaces as spaces  # noqa: E402
from mesa_jax.domains.recorded import NoSimulatorError  # noqa: E402
from mesa_jax.run_state import OnlineConfig  # noqa: E402
from mesa_jax.settings import SettingError  # noqa: E402
from tests.worlds import (  # noqa: E402
    GOAL,
    HORIZON,
    LINE,
    SCRIPTED,
    Body,
    safe_rows,
    script,
    stack,
)

Box = gymnasium.spaces.Box


class LineEnv(gymnasium.Env):
    """The line; at `broken` and beyond its reward is no number."""

    observation_space = Box(-np.inf, np.inf, (1,), np.float32)
    action_space = Box(-2.0, 2.0, (1,), np.float32)

    def __init__(self, body):
        self.broken = body["broken"]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = np.zeros(1, np.float32)
        return self.x, {}

    def step(self, action):
        before = self.x
        self.x = before + action / np.float32(2.0)  # a command of 2 moves it by 1
        reward = np.nan if before[0] >= self.broken else float(before[0])
        return self.x, reward, bool(self.x[0] <= GOAL), False, {}


LIMIT = 2.5
FAMILY = bodies.Family(
    make=LineEnv,
    train=[{"broken": np.inf}] * 2,
    test={"broken": np.array([np.inf, np.inf, np.inf])},
    violates=lambda seen, action, reached, info: reached[0] > LIMIT,
)


def system_of(collector="random", hold=1, online=None, agent=None):
    """As much of a system as collecting and running take."""
    config = types.SimpleNamespace(
        collect=mesa.CollectConfig(collector=collector, hold=hold), online=online
    )
    domain = bodies.maker(FAMILY, HORIZON)()
    return types.SimpleNamespace(configuration=config, domain=domain, agent=agent)


# Spaces


def test_actions_go_to_a_box_and_back():
    box = Box(*np.array([[-2.0, 0.0], [2.0, 10.0]], np.float32))
    np.testing.assert_allclose(spaces.to_box(box, [0.5, -1.0]), [1.0, 0.0])
    np.testing.assert_allclose(spaces.to_box(box, [3.0, -3.0]), [2.0, 0.0])
    np.testing.assert_allclose(spaces.to_unit(box, np.array([1.0, 5.0])), [0.5, 0.0])


def test_observations_are_flat_and_scaled_where_they_have_bounds():
    held = gymnasium.spaces.Dict(
        {"a": Box(-8.0, 8.0, (1,)), "b": Box(-np.inf, np.inf, (2,))}
    )
    seen = {"a": np.array([4.0]), "b": np.array([30.0, -7.0])}
    np.testing.assert_allclose(spaces.observing(held)(seen), [0.5, 30.0, -7.0])


@pytest.mark.parametrize(
    ("name", "space"),
    [
        ("action_space", gymnasium.spaces.Discrete(3)),
        ("action_space", Box(-np.inf, np.inf, (1,))),
        ("observation_space", gymnasium.spaces.Sequence(Box(-1.0, 1.0, (1,)))),
    ],
)
def test_a_space_that_does_not_fit_is_named(name, space):
    env = LineEnv(FAMILY.train[0])
    setattr(env, name, space)
    with pytest.raises(SettingError, match=name):
        spaces.sizes_of(env)


# Bodies


def test_bodies_are_a_list_or_arrays():
    assert bodies.bodies_of([1, 2]) == [1, 2]
    held = bodies.bodies_of({"mass": np.arange(3.0), "sign": np.ones(3)})
    assert held[2] == {"mass": 2.0, "sign": 1.0}
    with pytest.raises(SettingError, match="as many entries"):
        bodies.bodies_of({"mass": np.arange(3.0), "sign": np.ones(2)})


def test_the_domain_has_sizes_and_says_where_its_bodies_are():
    domain = bodies.maker(FAMILY, HORIZON)()
    assert domain.spec[1:4] == (1, 1, HORIZON) and not domain.spec.simulated
    with pytest.raises(NoSimulatorError, match="live in Python"):
        domain.step(None, None, None, None)
    with pytest.raises(SettingError, match="tasks must be bodies"):
        bodies.maker(FAMILY, HORIZON)("flip")


# Data


def test_data_end_an_episode_where_it_violates_terminates_or_is_out_of_time():
    commands = iter([2.0] * 3 + [-2.0] * 2 + [0.0] * 4 + [1.0])
    data = bodies.collect(
        jax.random.key(0),
        system_of(),
        FAMILY,
        [FAMILY.train[0]],
        10,
        policy=lambda seen: np.array([next(commands)]),
    )
    (x,), (reached,) = data.observation[..., 0], data.next_observation[..., 0]
    np.testing.assert_array_equal(x, [0, 1, 2, 0, -1, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(reached, [1, 2, 3, -1, -2, 0, 0, 0, 0, 0.5])
    np.testing.assert_array_equal(data.cost[0], [0, 0, 1, 0, 0, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(data.discount[0], [1, 1, 0, 1, 0, 1, 1, 1, 1, 1])
    np.testing.assert_array_equal(data.action[0, :4, 0], [1, 1, 1, -1])
    np.testing.assert_array_equal(data.reward[0, :4], [0, 1, 2, 0])


@pytest.mark.parametrize("hold", [1, 3])
def test_a_sticky_action_is_held_and_begins_anew_with_an_episode(hold):
    system = system_of("sticky", hold)
    data = bodies.collect(jax.random.key(1), system, FAMILY, FAMILY.train, 60)
    assert data.action.shape == (2, 60, 1) and data.action.dtype == jnp.float32
    actions, starts = np.asarray(data.action[0, :, 0]), []
    age = 0
    for x in np.asarray(data.observation[0, :, 0]):
        age = 0 if x == 0.0 else age + 1
        starts.append(age % hold == 0)
    changes = np.append(True, actions[1:] != actions[:-1])
    np.testing.assert_array_equal(changes, starts)
    assert not np.array_equal(data.action[0], data.action[1])


def test_the_same_key_gives_the_same_data():
    make = lambda: bodies.collect(  # noqa: E731
        jax.random.key(2), system_of(), FAMILY, FAMILY.test, 20
    )
    jax.tree.map(np.testing.assert_array_equal, make(), make())


def test_a_learning_collector_is_refused_and_steps_that_are_not_finite_left_out():
    first, second, third = jax.random.split(jax.random.key(3), 3)
    with pytest.raises(SettingError, match="collector must be random or sticky"):
        bodies.collect(first, system_of("sac"), FAMILY, FAMILY.train, 5)
    broken = [{"broken": 0.5}]
    data = bodies.collect(second, system_of(), FAMILY, broken, 20)
    assert np.isfinite(data.reward).all() and (data.reward < 0.5).all()
    with pytest.raises(FloatingPointError, match="20 of 20 steps"):
        bodies.collect(third, system_of(), FAMILY, [{"broken": -9.0}], 10)


# Online


CONFIG = OnlineConfig(
    episodes=5,
    start_steps=2,
    batch_size=4,
    violation_fraction=0.5,
    evaluate_every=10,
    chunk_steps=12,
)
SCRIPTS = [
    script(1.0, rescue=0.75, low=1.0, high=1.5),
    script(-1.0),
    script(0.2, rescue=-0.6, low=0.4, jitter=0.8),
]


def started(domain, task, broken, config):
    def start(task, agent):
        return rollout.init_run(
            jax.random.key(0), domain, config, task, agent, safe_rows(-0.25)
        )

    state = jax.vmap(start)(task, stack(SCRIPTS))
    env = lambda: bodies.Body(FAMILY, {"broken": broken}, HORIZON, seed=0)  # noqa: E731
    return online.Runs(state, [env() for _ in SCRIPTS])


@pytest.mark.parametrize("broken", [np.inf, 1.0])
def test_runs_in_python_equal_those_of_the_compiled_program(broken):
    count, keys = len(SCRIPTS), jax.random.split(jax.random.key(4), len(SCRIPTS))
    limits = Body(*(jnp.full(count, x, jnp.float32) for x in (LIMIT, broken)))
    theirs = started(LINE, limits, broken, CONFIG).state
    system = system_of(online=CONFIG, agent=SCRIPTED)
    mine = started(system.domain, jnp.zeros((count, 1)), broken, CONFIG)

    chunk = online.online_program(system)
    program = jax.jit(compiled.online_program(LINE, SCRIPTED, CONFIG))
    for _ in range(3):
        mine, _ = chunk(jax.random.clone(keys), mine)
        folded = jax.vmap(jax.random.fold_in, (0, None))(jax.random.clone(keys), 0)
        theirs, _ = program(folded, jax.random.clone(folded), theirs)
    assert int(mine.state.episode.min()) == CONFIG.episodes  # all are finished
    for name in ("agent", "task_replay", "safety_replay", "env_steps", "episode"):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6),
            getattr(mine.state, name),
            getattr(theirs, name),
        )
    for name in set(theirs.records._fields) - {"success"}:  # the line's own
        a, b = getattr(mine.state.records, name), getattr(theirs.records, name)
        np.testing.assert_allclose(a, b, rtol=1e-6, err_msg=name)
    np.testing.assert_array_equal(mine.state.non_finite, theirs.non_finite)
    assert bool(mine.state.non_finite.any()) == np.isfinite(broken)


def test_the_last_turn_of_a_chunk_is_not_lost():
    """Chunks of any length give the same run, environments included."""
    keys, states = jax.random.split(jax.random.key(5), len(SCRIPTS)), []
    for steps, chunks in ((6, 1), (2, 3)):
        config = dataclasses.replace(CONFIG, chunk_steps=steps)
        system = system_of(online=config, agent=SCRIPTED)
        first = jnp.zeros((len(SCRIPTS), 1))
        runs = started(system.domain, first, np.inf, config)
        chunk = online.online_program(system)
        for _ in range(chunks):
            runs, _ = chunk(jax.random.clone(keys), runs)
        states.append(runs.state)
    jax.tree.map(np.testing.assert_array_equal, *states)


NETWORK = {"hidden": (8, 8)}
SMALL = {
    "physics": {"horizon": 30},
    "data": {"train_bodies": 20, "transitions": 300},
    "maml": {"steps": 3, "num_tasks": 2, "support_size": 16, "query_size": 16},
    "online": {"steps": 40, "chunk_steps": 20, "batch_size": 16},
    "risk": NETWORK,
    "recovery": NETWORK,
    "sac": NETWORK,
}


@pytest.mark.slow
def test_the_example_runs_small(capsys):
    from experiments.examples import gym_pendulum

    gym_pendulum.main(few=30, **SMALL)
    printed = capsys.readouterr().out
    assert "online: 480 steps" in printed  # 40 of 2 methods on 6 bodies
    assert "SAC, filter: violations [" in printed and "bellman_error" in printed


@pytest.mark.slow
def test_the_hopper_runs_small(capsys):
    pytest.importorskip("mujoco")
    pytest.importorskip("imageio")
    from experiments.examples import gym_hopper

    gym_hopper.main(few=30, **SMALL)
    assert "SAC, filter: violations [" in capsys.readouterr().out
