"""Recorded bodies: a domain without a simulator, and outcomes in place of the truth."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mesa_jax as mesa
from mesa_jax.domains import entry_of
from mesa_jax.domains.recorded import NoSimulatorError, name_of, recorded, sizes_of
from mesa_jax.evaluation import dangerous_and_decided, observed_risk
from mesa_jax.phases import calibration
from mesa_jax.settings import SettingError
from mesa_jax.types import DomainSpec, Transition

BODIES, ROWS = 6, 60
NETWORK = {"hidden": (8, 8)}
SMALL = {
    "data": {"train_bodies": 4, "heldout_bodies": 2, "adaptation": 10},
    "maml": {"steps": 2, "num_tasks": 2, "support_size": 8, "query_size": 8},
    "risk": NETWORK | {"discount": 0.5},
    "recovery": NETWORK
    | {"risk_threshold": 0.3, "false_safe": 0.4, "false_safe_bodies": 0.4},
    "inner_loop": {"steps": 1, "settle_steps": 1},
}


def test_a_name_holds_the_sizes():
    assert sizes_of(name_of(17, 6)) == (17, 6)
    for name in ("recorded", "recorded-0x1", "recorded-1x", "recorded-1x2x3", "navig"):
        assert sizes_of(name) is None
    domain = entry_of("recorded-17x6").make("files", mesa.PhysicsConfig())
    assert domain.spec.observation_size == 17 and domain.spec.action_size == 6
    assert not domain.spec.simulated


@pytest.mark.parametrize(
    ("name", "tasks", "physics"),
    [
        ("recorded-2x1", "published", {}),
        ("recorded-2x1", "files", {"frame_skip": 2}),
        ("recorded-2x1", "files", {"backend": "spring"}),
        ("recorded-0x1", "files", {}),
    ],
)
def test_what_it_has_not_is_refused(name, tasks, physics):
    with pytest.raises(SettingError):
        entry_of(name).make(tasks, mesa.PhysicsConfig(**physics))


def test_bodies_are_numbers_and_the_reference_policy_is_uniform():
    domain = recorded(DomainSpec("mine", 2, 3, horizon=5))
    assert domain.train_tasks(None, 3).body.tolist() == [0, 1, 2]
    actions = domain.reference_policy(jax.random.key(0), jnp.zeros((500, 2)))
    assert actions.shape == (500, 3)
    assert -1 <= float(actions.min()) < -0.9 and 0.9 < float(actions.max()) <= 1
    assert recorded(domain.spec, max).reference_policy is max


@pytest.mark.parametrize(
    ("what", "count"),
    [
        ("reset", 2),
        ("observe", 1),
        ("step", 4),
        ("solvable", 1),
        ("decision_states", 3),
    ],
)
def test_nothing_moves_and_the_message_says_so(what, count):
    domain = recorded(DomainSpec("mine", 2, 3, horizon=5))
    with pytest.raises(NoSimulatorError, match="mine is recorded and has no simulator"):
        getattr(domain, what)(*[None] * count)


def _rows(cost, discount, broken=()):
    """Rows that go on, but where they are broken."""
    seen = np.arange(len(cost), dtype=np.float32)[:, None]
    reached = seen + 1
    reached[list(broken)] += 100
    cost, discount = np.array(cost, np.float32), np.array(discount, np.float32)
    return Transition(seen, np.zeros_like(seen), cost, cost, discount, reached)


def test_an_outcome_is_the_discounted_violation_that_followed_in_the_episode():
    rows = _rows([0, 0, 1, 0, 0, 0], [1, 1, 0, 1, 1, 0])
    np.testing.assert_array_equal(
        observed_risk(rows, 0.5), [[0.25, 0.5, 1, 0, 0, 0]] * 2
    )


def test_where_an_episode_was_cut_the_outcome_is_only_bounded():
    rows = _rows([0, 0, 0, 1, 0, 0], [1, 1, 1, 0, 1, 1], broken=(1,))
    low, high = observed_risk(rows, 0.5)
    np.testing.assert_array_equal(low, [0, 0, 0.5, 1, 0, 0])
    np.testing.assert_array_equal(high, [0.25, 0.5, 0.5, 1, 0.25, 0.5])
    dangerous, decided = dangerous_and_decided(jnp.stack([low, high]), 0.3)
    assert dangerous.tolist() == [False, False, True, True, False, False]
    assert decided.tolist() == [True, False, True, True, True, False]


def _world(key, horizon=5):
    """Bodies on a line that violate beyond 1, whose actions push by another gain."""
    draw = np.random.default_rng(key)
    bodies = []
    for _ in range(BODIES):
        gain, x, made = draw.choice([-1.0, 1.0]), 0.0, []
        for i in range(ROWS):
            action = draw.uniform(-1, 1)
            reached = x + gain * action
            hit = abs(reached) > 1.0
            made.append(([x], [action], 0.0, hit, not hit, [reached]))
            x = 0.0 if hit or i % horizon == horizon - 1 else reached
        columns = zip(*made, strict=True)
        bodies.append([np.array(column, np.float32) for column in columns])
    return Transition(*(np.stack(column) for column in zip(*bodies, strict=True)))


@pytest.fixture(scope="module")
def trained():
    config = mesa.configure("recorded-1x1", method="mesa").override(**SMALL)
    system, data = mesa.build(config), _world(0)
    prior = mesa.meta_train(jax.random.key(0), system, data, method="mesa")
    return system, data, prior


def test_meta_training_adaptation_and_calibration_take_no_simulator(trained):
    system, data, prior = trained
    held = jax.tree.map(lambda x: x[4:], data)
    few = jax.tree.map(lambda x: jnp.asarray(x[:, :10]), held)
    guard = mesa.adapt(jax.random.key(1), system, prior, few, method="mesa")
    found = mesa.calibrate_on(jax.random.key(2), system, prior, held, method="mesa")
    assert 0.0 < float(found.threshold) < 1.0
    low = jax.vmap(lambda x: observed_risk(x, 0.5)[0])(
        jax.tree.map(lambda x: jnp.asarray(x[:, ROWS // 2 :]), held)
    )
    assert found.dangerous.tolist() == (low > 0.3).sum(1).tolist()
    guard = guard.replace(threshold=jnp.full_like(guard.threshold, found.threshold))
    action, _ = guard.decide(few.observation, few.action)
    assert action.shape == (2, 10, 1)


class _Known:
    """A filter whose risk is known: how far out the body is."""

    def risk(self, observation, action):
        return jnp.abs(observation[..., 0]) / 2 + 0.01 * jnp.abs(action[..., 0])


def test_a_threshold_is_just_below_the_kth_least_dangerous_prediction(
    trained, monkeypatch
):
    system, data, _ = trained
    monkeypatch.setattr(calibration, "adapt", lambda *arguments: _Known())
    found = mesa.calibrate_on(jax.random.key(2), system, None, data, method="mesa")
    own = []
    for body in range(BODIES):
        mine = jax.tree.map(lambda x: x[body, ROWS // 2 :], data)  # noqa: B023
        dangerous, low = [], 0.0
        for i in reversed(range(ROWS // 2)):
            goes_on = i + 1 < ROWS // 2 and (
                mine.next_observation[i] == mine.observation[i + 1]
            )
            low = 1.0 if mine.cost[i] else 0.5 * low * bool(goes_on)
            if low > 0.3:
                far = abs(mine.observation[i, 0]) / 2
                dangerous.append(far + 0.01 * abs(mine.action[i, 0]))
        k = int(0.4 * (len(dangerous) + 1))
        own.append(sorted(dangerous)[k - 1])
    k = int(0.4 * (BODIES + 1))
    assert float(found.threshold) == pytest.approx(sorted(own)[k - 1], abs=1e-6)


def test_too_few_dangerous_transitions_are_counted(trained):
    system, data, prior = trained
    held = jax.tree.map(lambda x: x[4:], data)
    safe = held._replace(cost=np.zeros_like(held.cost))
    with pytest.raises(SettingError, match="0 of 2 held-out bodies have the 2 danger"):
        mesa.calibrate_on(jax.random.key(2), system, prior, safe, method="mesa")
    off = system.configuration.override(recovery={"false_safe": 0.0})
    with pytest.raises(SettingError, match="recovery_false_safe"):
        mesa.calibrate_on(
            jax.random.key(2), mesa.build(off), prior, held, method="mesa"
        )
