"""Half-cheetah and ant as bodies that fall: their starts, and impaired bodies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mesa_jax.domains import DOMAINS, brax_engine, engines
from mesa_jax.domains.base import PhysicsConfig
from mesa_jax.risk import RiskConfig, violation_probability
from mesa_jax.settings import SettingError
from mesa_jax.simulation import data_episodes

CHEETAH, ANT = "halfcheetah_disabled", "ant_disabled"
BOTH = pytest.mark.parametrize("name", [CHEETAH, ANT])
ACTIONS = {CHEETAH: 6, ANT: 8}
HORIZON = 100


# Starts


@BOTH
def test_no_body_starts_inside_the_floor_and_the_ant_starts_on_it(name):
    domain = DOMAINS[name].make("published", PhysicsConfig("spring", 5, HORIZON))
    task = jax.tree.map(lambda x: x[0], domain.test_tasks(jax.random.key(0), 1))

    def lowest(key):
        ends, radii = domain.shapes(domain.reset(key, task), task)
        return jnp.min(ends[..., 2] - radii[:, None])

    keys = jax.random.split(jax.random.key(1), 1000)
    heights = np.asarray(jax.jit(jax.vmap(lowest))(keys))
    assert heights.min() > -1e-4
    if name == ANT:
        assert heights.max() < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(("name", "backend"), [(CHEETAH, "spring"), (ANT, "mjx")])
def test_a_body_that_rests_from_its_start_does_not_fall(name, backend):
    domain = DOMAINS[name].make("intact", PhysicsConfig(backend, 5, HORIZON))
    still = domain._replace(
        reference_policy=lambda key, seen: jnp.zeros(ACTIONS[name]),
        spec=domain.spec._replace(continues=False),
    )
    task = jax.tree.map(lambda x: x[0], domain.test_tasks(jax.random.key(0), 1))
    play = jax.jit(lambda key: data_episodes(key, still, task, 24))
    rows, real = play(jax.random.key(1))
    assert real.all()
    assert rows.cost.sum() == 0.0


# Impaired bodies


def drawn(name, tasks, draw, count=2000):
    sampler = getattr(DOMAINS[name].make(tasks), draw)
    return jax.tree.map(np.asarray, sampler(jax.random.key(0), count))


def assert_uniform(values, low, high):
    values = np.sort(values.ravel())
    expected = np.linspace(low, high, len(values))
    np.testing.assert_allclose(values, expected, atol=0.05 * (high - low))


@pytest.mark.parametrize(
    ("tasks", "draw"),
    [
        ("impaired", "train_tasks"),
        ("impaired", "test_tasks"),
        ("impaired_outside", "train_tasks"),
        ("impaired_intact", "train_tasks"),
    ],
)
@BOTH
def test_impaired_bodies_have_one_or_two_actuators_of_any_strength(name, tasks, draw):
    bodies = drawn(name, tasks, draw)
    assert_uniform(bodies.mass, 0.7, 1.5)
    assert_uniform(bodies.friction, 0.5, 1.5)
    hit = bodies.strength != 1.0
    share = np.bincount(hit.sum(1), minlength=3) / len(hit)
    np.testing.assert_allclose(share, [0, 0.5, 0.5], atol=0.045)
    np.testing.assert_allclose(hit.mean(0), 1.5 / ACTIONS[name], atol=0.04)
    assert_uniform(bodies.strength[hit], -1.0, 1.0)
    numbers = np.column_stack(jax.tree.leaves(bodies))
    assert len(np.unique(numbers, axis=0)) == len(numbers)
    related = np.corrcoef(numbers.T) - np.eye(numbers.shape[1])
    assert abs(related).max() < 0.3  # a body's actuators exclude each other, no more


@BOTH
def test_bodies_outside_are_heavier_slippery_and_impaired_thrice(name):
    bodies = drawn(name, "impaired_outside", "test_tasks")
    assert_uniform(bodies.mass, 1.5, 2.0)
    assert_uniform(bodies.friction, 0.25, 0.5)
    hit = bodies.strength != 1.0
    np.testing.assert_array_equal(hit.sum(1), 3)
    assert_uniform(bodies.strength[hit], -1.0, 1.0)


@BOTH
def test_a_body_of_impaired_intact_is_whole_at_test(name):
    for leaf in drawn(name, "impaired_intact", "test_tasks", 3):
        np.testing.assert_array_equal(leaf, 1)


def test_a_reversed_actuator_does_what_the_opposite_command_does():
    domain = DOMAINS[CHEETAH].make("impaired", PhysicsConfig("spring", 5, HORIZON))
    task = jax.tree.map(lambda x: x[0], domain.test_tasks(jax.random.key(0), 1))
    keys = jax.random.split(jax.random.key(1), 2)
    action = jax.random.uniform(keys[0], (ACTIONS[CHEETAH],), minval=-1.0)
    state = domain.reset(keys[1], task)
    step = jax.jit(domain.step)
    sign = jnp.float32([1, -1, 1, 1, -1, 1])
    turned = task._replace(strength=sign * task.strength)
    reached, _ = step(None, state, action, task)
    same, _ = step(None, state, sign * action, turned)
    jax.tree.map(np.testing.assert_array_equal, reached, same)


@BOTH
def test_a_body_is_told_by_its_strengths_mass_and_friction(name):
    known = DOMAINS[name].make("impaired").parametrisation
    bodies = drawn(name, "impaired", "train_tasks", 3)
    numbers = jax.vmap(known.of)(jax.tree.map(jnp.asarray, bodies))
    assert numbers.shape == (3, len(known.names))
    np.testing.assert_array_equal(numbers[:, : ACTIONS[name]], bodies.strength)
    named = dict(zip(known.names, numbers.T, strict=True))
    np.testing.assert_array_equal(named["strength 1"], bodies.strength[:, 1])
    np.testing.assert_array_equal(named["mass"], bodies.mass)
    np.testing.assert_array_equal(named["friction"], bodies.friction)
    told = RiskConfig(conditioning="identified")
    with pytest.raises(SettingError, match="'none' or 'encoded'"):
        violation_probability(told, known)


# A body that lies lost


def tumbled(lost_after, upside_down):
    """Costs [6] of control steps of 0.05 s of an ant in the air, on its back or not."""
    domain = DOMAINS[ANT].make(
        "intact", PhysicsConfig("spring", 5, HORIZON, lost_after)
    )
    task = jax.tree.map(lambda x: x[0], domain.test_tasks(jax.random.key(0), 1))
    system = brax_engine.system(ANT, "spring")

    @jax.jit
    def play(key, turn):
        state = domain.reset(key, task)
        q = state.limbs.q.at[2].set(5.0).at[3:7].set(turn)
        state = state._replace(
            limbs=engines.jointed(system, q, jnp.zeros_like(state.limbs.qd))
        )

        def advance(state, _):
            state, transition = domain.step(None, state, jnp.zeros(8), task)
            return state, transition

        return jax.lax.scan(advance, state, length=6)[1]

    turn = [0.0, 1.0, 0.0, 0.0] if upside_down else [1.0, 0.0, 0.0, 0.0]
    return jax.tree.map(np.asarray, play(jax.random.key(1), jnp.float32(turn)))


@pytest.mark.parametrize(
    ("lost_after", "upside_down", "violating"),
    [(0.15, True, 3), (0.15, False, 6)],
)
def test_a_body_upside_down_for_longer_than_asked_violates(
    lost_after, upside_down, violating
):
    rows = tumbled(lost_after, upside_down)
    expected = np.arange(6) >= violating
    np.testing.assert_array_equal(rows.cost, expected)
    np.testing.assert_array_equal(rows.discount, ~expected)
    np.testing.assert_array_equal(rows.next_observation[:, -1], expected)


@pytest.mark.parametrize("name", ["navigation1", "cartpole_length"])
def test_a_domain_without_a_torso_refuses_that_it_lies(name):
    physics = PhysicsConfig(lost_after=0.5)
    with pytest.raises(SettingError, match="physics_lost_after must be 0"):
        DOMAINS[name].make("published", physics)
