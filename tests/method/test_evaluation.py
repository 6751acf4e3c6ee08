"""Quality of a risk measure: metrics by counting, truths in closed form."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mesa_jax import evaluation
from mesa_jax.types import Array, Domain, DomainSpec, Transition

THRESHOLD = 0.3


def several(seed=0, cases=40, states=60, levels=9):
    """Predictions and truths [cases, states] with many ties; some truths agree."""
    rng = np.random.default_rng(seed)
    truth = rng.random((cases, states)).astype(np.float32)
    noise = rng.normal(scale=0.4, size=truth.shape)
    prediction = np.clip(np.round((truth + noise) * levels) / levels, 0, 1)
    return prediction.astype(np.float32), truth


# Metrics of decisions


def auroc_of_pairs(prediction, positive):
    """Every pair of a positive and a negative, one by one."""
    above, below = prediction[positive][:, None], prediction[~positive]
    return np.mean((above > below) + 0.5 * (above == below))


def test_auroc_counts_every_pair_and_ties_for_half():
    prediction, truth = several()
    positive = truth > THRESHOLD
    found = jax.vmap(evaluation.auroc)(jnp.array(prediction), jnp.array(positive))
    expected = list(map(auroc_of_pairs, prediction, positive))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert np.ptp(expected) > 0.1


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        ([0.1, 0.2, 0.8, 0.9], 1.0),
        ([0.9, 0.8, 0.2, 0.1], 0.0),
        ([0.5, 0.5, 0.5, 0.5], 0.5),
        ([0.1, 0.5, 0.5, 0.2], (1 + 0.5 + 1 + 0) / 4),
    ],
    ids=["right", "reversed", "constant", "mixed"],
)
def test_auroc_by_hand(prediction, expected):
    positive = jnp.array([False, False, True, True])
    assert evaluation.auroc(jnp.array(prediction), positive) == expected


@pytest.mark.parametrize("states", [10, 23, 60, 99])
def test_bins_are_of_equal_mass_in_the_order_of_predictions(states):
    rng = np.random.default_rng(states)
    prediction, truth = rng.random((2, states)).astype(np.float32)
    order = np.argsort(prediction)
    starts = -(-np.arange(1, 10) * states // 10)  # bin k begins at k N / 10, upwards
    parts = np.split(order, starts)
    assert {len(part) for part in parts} <= {states // 10, -(-states // 10)}
    found = evaluation.bins(jnp.array(prediction), jnp.array(truth))
    for means, values in zip(found, (prediction, truth), strict=True):
        expected = [values[part].mean() for part in parts]
        np.testing.assert_allclose(means, expected, rtol=1e-5)
    error = evaluation.calibration_error(jnp.array(prediction), jnp.array(truth))
    gaps = [abs((prediction - truth)[part].mean()) for part in parts]
    np.testing.assert_allclose(error, np.mean(gaps), rtol=1e-5)


def test_a_calibrated_measure_need_not_be_sharp():
    # two states a bin, one certain and one safe: 0.5 is right on average
    truth = jnp.array([0.0, 1.0] * 10)
    assert evaluation.calibration_error(jnp.full(20, 0.5), truth) == 0.0
    assert evaluation.calibration_error(jnp.full(20, 0.2), truth) == pytest.approx(0.3)


def false_safe_by_search(prediction, dangerous, percent):
    """The lowest of all thresholds that differ, by whole numbers of false alarms."""
    safe = ~dangerous
    for threshold in [-np.inf, *np.unique(prediction)]:
        alarms = (prediction[safe] > threshold).sum()
        if 100 * alarms <= percent * safe.sum():
            return (prediction[dangerous] <= threshold).mean()
    raise AssertionError("the highest threshold raises no alarm")


@pytest.mark.parametrize("percent", [0, 2, 10, 50])
@pytest.mark.parametrize("levels", [4, 9, 10**6], ids=["4", "9", "no ties"])
def test_false_safe_at_a_false_alarm_is_that_of_a_search(levels, percent):
    prediction, truth = several(levels=levels)
    dangerous = truth > THRESHOLD
    found = jax.vmap(evaluation.false_safe_at, (0, 0, None))(
        jnp.array(prediction), jnp.array(dangerous), percent / 100
    )
    expected = [
        false_safe_by_search(*case, percent)
        for case in zip(prediction, dangerous, strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert np.ptp(expected) > 0.05


@pytest.mark.parametrize("percent", [2, 53])  # float32: 0.53 * 100 < 53
def test_an_allowed_share_that_is_a_whole_number_of_alarms_is_used_up(percent):
    rng = np.random.default_rng(0)
    counts = np.arange(50, 1000, 50)  # safe states of 1000
    dangerous = np.arange(1000) >= counts[:, None]
    prediction = rng.permutation(1000).astype(np.float32)
    found = jax.vmap(evaluation.false_safe_at, (None, 0, None))(
        jnp.array(prediction), jnp.array(dangerous), percent / 100
    )
    expected = [false_safe_by_search(prediction, case, percent) for case in dangerous]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_metrics_by_hand():
    # ten states, so that a bin is a state; the first four are dangerous
    truth = jnp.array([0.9, 0.7, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0, 0.0, 0.0])
    prediction = jnp.array([0.8, 0.6, 0.2, 0.3, 0.35, 0.1, 0.15, 0.05, 0.01, 0.0])
    found = evaluation.quality_metrics(prediction, truth, THRESHOLD)
    errors = np.array([0.1, 0.1, 0.3, 0.1, -0.05, 0.1, -0.05, -0.05, -0.01, 0.0])
    expected = {
        "squared_error": np.mean(errors**2),
        "auroc": (6 + 6 + 5 + 5) / 24,  # both misses lie below one safe state
        "calibration_error": np.mean(abs(errors)),
        "wrong_decisions": 3 / 10,  # misses of 0.5 and 0.4, and one false alarm
        "false_safe": 2 / 4,
        "false_alarm": 1 / 6,  # at 0.3 itself a state is safe
        "false_safe_matched": 2 / 4,  # no alarm at 0.35, below which both misses lie
    }
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, err_msg=name)


def test_a_right_measure_has_no_error():
    truth = jnp.linspace(0.0, 1.0, 50)
    found = evaluation.quality_metrics(truth, truth, THRESHOLD)
    assert found.pop("auroc") == 1.0
    assert all(value == 0.0 for value in found.values())


@pytest.mark.parametrize(
    ("truth", "empty", "of_the_others"),
    [
        (0.1, {"auroc", "false_safe", "false_safe_matched"}, "false_alarm"),
        (0.9, {"auroc", "false_alarm", "false_safe_matched"}, "false_safe"),
    ],
    ids=["no dangerous state", "no safe state"],
)
def test_a_rate_without_states_is_nan_and_no_other(truth, empty, of_the_others):
    prediction = jnp.array([0.2, 0.4] * 10)  # half of them on either side
    found = evaluation.quality_metrics(prediction, jnp.full(20, truth), THRESHOLD)
    assert {name for name, value in found.items() if np.isnan(value)} == empty
    assert found[of_the_others] == found["wrong_decisions"] == 0.5


def test_tradeoff_counts_both_errors_at_each_threshold():
    prediction, truth = (x[0] for x in several())
    asked = np.linspace(0.0, 1.0, 7, dtype=np.float32)
    found = evaluation.tradeoff(
        jnp.array(prediction), jnp.array(truth), THRESHOLD, jnp.array(asked)
    )
    dangerous = truth > THRESHOLD  # whatever the agent switches at
    alarms = [(prediction > at)[~dangerous].mean() for at in asked]
    misses = [(prediction <= at)[dangerous].mean() for at in asked]
    np.testing.assert_allclose(found[0], alarms, rtol=1e-6)
    np.testing.assert_allclose(found[1], misses, rtol=1e-6)
    assert (alarms[-1], misses[-1]) == (0.0, 1.0)


@pytest.mark.parametrize("level", [0.03, 0.2, 0.999])
def test_a_calibrated_threshold_lets_the_share_through_and_no_more(level):
    prediction, truth = (jnp.array(x) for x in several())
    prediction = 0.01 + 0.98 * prediction  # sigmoids are not 0
    found = evaluation.calibrated_threshold(prediction, truth, THRESHOLD, level)
    dangerous = prediction[truth > THRESHOLD]
    most = int(level * (len(dangerous) + 1))
    assert (dangerous <= found).sum() < most  # one place is the new state's
    assert (dangerous <= np.nextafter(found, 2.0)).sum() >= most


def test_a_calibrated_threshold_holds_for_another_state_on_average():
    """Conformal: over draws of 9 dangerous states and one more, exactly the level."""
    levels = jax.random.uniform(jax.random.key(0), (4000, 10))
    calibrate = jax.vmap(lambda p: evaluation.calibrated_threshold(p, 1.0, 0.5, 0.2))
    found = calibrate(levels[:, :9])
    share = np.mean(np.asarray(levels[:, 9] <= found))
    assert abs(share - 0.2) < 4 * np.sqrt(0.2 * 0.8 / 4000)


def test_with_too_few_dangerous_states_none_may_pass_and_without_any_all():
    prediction, truth = jnp.array([[0.2, 0.4, 0.9]]), jnp.array([[0.1, 0.7, 0.8]])
    found = evaluation.calibrated_threshold(prediction, truth, THRESHOLD, 0.05)
    assert found == 0.0  # of two, one in twenty
    assert evaluation.calibrated_threshold(prediction, truth, 0.9, 0.05) == 1.0


def bodies_of_their_own(key, count):
    """Predictions [count, 39] of dangerous states: a body's share of alarms differs."""
    levels = jax.random.uniform(key, (count, 39))
    ease = jax.random.uniform(jax.random.fold_in(key, 1), (count, 1), minval=0.3)
    return levels**ease


def test_a_threshold_calibrated_over_bodies_holds_for_all_but_a_share_of_them():
    """Nine bodies, one in ten may fail: the pooled threshold fails on far more."""
    failing, level = 0.1, 0.25

    def one(key):
        prediction = bodies_of_their_own(key, 10)
        known, new = prediction[:9], prediction[9]
        own = evaluation.calibrated_threshold(new, 1.0, 0.5, level)
        ours = evaluation.calibrate(known, jnp.ones((9, 39)), 0.5, level, failing)
        pooled = evaluation.calibrated_threshold(known, 1.0, 0.5, level)
        return own < ours.threshold, own < pooled

    fails = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), 3000))
    ours, pooled = (np.mean(x) for x in fails)
    assert abs(ours - failing) < 4 * np.sqrt(0.1 * 0.9 / 3000)
    assert pooled > 3 * failing


def test_bodies_of_few_dangerous_states_do_not_count_and_few_bodies_say_nothing():
    prediction = jnp.linspace(0.1, 0.9, 19) + jnp.arange(4)[:, None] / 100
    truth = jnp.ones((4, 19)).at[0, 1:].set(0.0)
    found = evaluation.calibrate(prediction, truth, 0.5, 0.05, 0.25)
    assert found.dangerous.tolist() == [1, 19, 19, 19]
    assert found.able.tolist() == [False, True, True, True]
    # the least of three bodies' own, each below its least dangerous prediction
    np.testing.assert_allclose(found.threshold, prediction[1, 0], rtol=1e-5)
    assert found.threshold < prediction[1, 0]
    assert np.isnan(evaluation.calibrate(prediction, truth, 0.5, 0.05, 0.2).threshold)
    repeated = jnp.tile(prediction, 8), jnp.tile(truth, 8)
    again = evaluation.calibrate(*repeated, 0.5, 0.05, 0.25, repeats=8)
    assert again.able.tolist() == found.able.tolist()


def test_errors_leave_out_the_noise_of_the_truth():
    """Of 40 simulations of a risk of 0.4, an error of 0.1 is 0.01, noise or no."""
    hits = jax.random.bernoulli(jax.random.key(0), 0.4, (2, 40_000, 20))
    halves, prediction = hits.mean(-1), jnp.full(40_000, 0.5)
    found = float(evaluation.squared_error(prediction, halves))
    assert found == pytest.approx(0.01, abs=5e-4)
    noisy = float(
        evaluation.quality_metrics(prediction, halves.mean(0), 0.3)["squared_error"]
    )
    assert noisy == pytest.approx(0.01 + 0.24 / 40, abs=5e-4)
    floor = float(evaluation.noise_floor(halves))
    assert noisy - floor == pytest.approx(found, abs=1e-5)


def test_rates_at_a_threshold_count_danger_by_the_risk_threshold():
    prediction, truth = (jnp.array(x[0]) for x in several())
    found = evaluation.at_threshold(prediction, truth, THRESHOLD, jnp.float32(0.6))
    dangerous = truth > THRESHOLD
    expected = (prediction <= 0.6)[dangerous].mean(), (prediction > 0.6)[~dangerous]
    assert found["threshold_calibrated"] == np.float32(0.6)
    np.testing.assert_allclose(found["false_safe_calibrated"], expected[0], rtol=1e-6)
    np.testing.assert_allclose(
        found["false_alarm_calibrated"], expected[1].mean(), rtol=1e-6
    )


@pytest.mark.parametrize(
    ("prediction", "dangerous", "expected"),
    [
        ([0.1] * 100, 2, -1),
        ([0.3] * 100, 100, -1),  # at the threshold a state is called safe
        ([0.1] * 100, 1, 0),  # 1 % is too few
        ([0.1] * 100, 0, 0),
        ([0.9] * 100, 98, 1),
        ([0.9] * 100, 0, 1),
        ([0.9] * 100, 99, 0),
        ([0.9] * 100, 100, 0),
        ([0.9] + [0.1] * 99, 50, 0),
        ([0.1] + [0.9] * 99, 50, 0),
    ],
)
def test_a_collapsed_critic_tells_no_states_apart(prediction, dangerous, expected):
    truth = jnp.where(jnp.arange(100) < dangerous, 0.8, 0.2)
    found = jax.jit(evaluation.collapse)(jnp.array(prediction), truth, THRESHOLD)
    assert found == expected
    assert found.dtype == jnp.int32


# Truth by simulation, on a chain whose risk is known


class Chain(NamedTuple):
    """A body that violates by chance, and for certain at the end of its chain."""

    forward: Array  # chance of a violation a step under positive actions
    backward: Array  # under the others
    end: Array  # place that violates


GAMMA = 0.9
NEVER = 1e6


def chain(horizon: int) -> Domain:
    """Walks one place a step; the reference policy acts backward."""

    def step(key, place, action, task):
        chance = jnp.where(action[0] > 0.0, task.forward, task.backward)
        violates = jax.random.uniform(key) < chance
        violates = (violates | (place + 1.0 >= task.end)).astype(jnp.float32)
        transition = Transition(
            observation=place[None],
            action=action,
            reward=jnp.zeros(()),
            cost=violates,
            discount=1.0 - violates,
            next_observation=place[None] + 1.0,
        )
        return place + 1.0, transition

    def decision_states(key, count, task):
        return jax.random.uniform(key, (count,), maxval=task.end)

    unused = dict.fromkeys(Domain._fields)
    return Domain(
        **unused
        | {
            "spec": DomainSpec("chain", 1, 1, horizon),
            "step": step,
            "observe": lambda place: place[None],
            "reference_policy": lambda key, observation: jnp.full((1,), -1.0),
            "decision_states": decision_states,
        }
    )


def by_chance(forward, backward) -> Chain:
    return Chain(*map(jnp.float32, (forward, backward, NEVER)))


def at_the_end(*ends) -> Chain:
    """Deterministic bodies [T]."""
    ends = jnp.array(ends, jnp.float32)
    return Chain(jnp.zeros_like(ends), jnp.zeros_like(ends), ends)


def asked_at(places, actions) -> evaluation.DecisionSet:
    actions = jnp.array(actions, jnp.float32)
    return evaluation.DecisionSet(jnp.array(places, jnp.float32), actions[:, None])


def chance_of_violation(chance, steps):
    """sum over t of gamma^(t-1) p (1-p)^(t-1)."""
    t = np.arange(steps)
    return np.sum(GAMMA**t * chance * (1.0 - chance) ** t)


def test_true_risk_is_that_of_the_first_action_and_then_of_the_reference_policy():
    task, asked = by_chance(0.5, 0.1), asked_at([0.0, 0.0], [1.0, -1.0])
    halves = jax.jit(
        lambda key: evaluation.true_risk(key, chain(12), task, asked, GAMMA, 40_000)
    )(jax.random.key(0))
    expected = [
        0.5 + 0.5 * GAMMA * chance_of_violation(0.1, 11),
        chance_of_violation(0.1, 12),
    ]
    assert halves.shape == (2, 2)
    four_errors = 4 * 0.5 / np.sqrt(20_000)  # of a half
    np.testing.assert_allclose(halves, [expected] * 2, atol=four_errors)
    assert (halves[0] != halves[1]).all()


@pytest.mark.parametrize(("place", "steps"), [(4.0, 1), (2.0, 3), (0.0, 5), (-1.0, 6)])
def test_a_certain_violation_in_t_steps_is_discounted_t_minus_one_times(place, steps):
    task = jax.tree.map(lambda x: x[0], at_the_end(5.0))
    halves = evaluation.true_risk(
        jax.random.key(0), chain(5), task, asked_at([place], [1.0]), GAMMA, 4
    )
    expected = GAMMA ** (steps - 1) if steps <= 5 else 0.0  # beyond the horizon
    np.testing.assert_allclose(halves, expected, rtol=1e-6)


@pytest.fixture(scope="module")
def one_step_halves():
    """[2, N] of 16 simulations of one step that violates with chance 0.3."""
    asked = asked_at(np.zeros(4000), np.ones(4000))
    return np.asarray(
        jax.jit(
            lambda key: evaluation.true_risk(
                key, chain(1), by_chance(0.3, 0.0), asked, GAMMA, 16
            )
        )(jax.random.key(1))
    )


def test_each_half_holds_half_of_the_simulations(one_step_halves):
    violations = one_step_halves * 8
    np.testing.assert_array_equal(violations, np.round(violations))
    assert set(np.unique(violations)) > {0, 1, 2, 3, 4, 5}


def test_halves_and_states_are_independent(one_step_halves):
    first, second = one_step_halves
    bound = 4 / np.sqrt(len(first))
    assert abs(np.corrcoef(first, second)[0, 1]) < bound
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < bound
    variance = 0.3 * 0.7 / 8  # of a mean of 8 independent simulations
    np.testing.assert_allclose(one_step_halves.var(1), variance, rtol=0.1)


def test_the_noise_floor_is_the_error_of_the_mean_of_both_halves(one_step_halves):
    floor = evaluation.noise_floor(jnp.array(one_step_halves))
    error = np.mean((one_step_halves.mean(0) - 0.3) ** 2)
    np.testing.assert_allclose(floor, 0.3 * 0.7 / 16, rtol=0.1)
    np.testing.assert_allclose(floor, error, rtol=0.1)


def test_the_noise_floor_expects_the_variance_of_the_mean():
    rng = np.random.default_rng(0)
    truth, deviation = rng.random(200_000), rng.uniform(0.0, 0.5, 200_000)
    halves = truth + deviation * rng.normal(size=(2, 200_000))
    floor = evaluation.noise_floor(jnp.array(halves, jnp.float32))
    np.testing.assert_allclose(floor, np.mean(deviation**2) / 2, rtol=0.02)


def test_without_adaptation_the_bodies_mean_truth_is_expected():
    tasks, asked = at_the_end(1.0, 3.0, 4.0), asked_at([0.0, 1.0, -2.0], [1.0] * 3)
    found = evaluation.true_risk_without_adaptation(
        jax.random.key(0), chain(5), tasks, asked, GAMMA, 6
    )
    expected = [  # steps to each body's end; at it or beyond, one
        np.mean([1.0, GAMMA**2, GAMMA**3]),
        np.mean([1.0, GAMMA, GAMMA**2]),
        np.mean([GAMMA**2, GAMMA**4, 0.0]),  # six steps are too many
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_without_adaptation_the_bodies_share_the_simulations():
    chances = jnp.array([0.1, 0.5, 0.9])
    tasks = Chain(chances, chances, jnp.full(3, NEVER))
    asked = asked_at(np.zeros(4000), np.ones(4000))
    found = jax.jit(
        lambda key: evaluation.true_risk_without_adaptation(
            key, chain(1), tasks, asked, GAMMA, 16
        )
    )(jax.random.key(2))
    violations = np.asarray(found) * 18  # 6 a body: the even number from 16 / 3 up
    np.testing.assert_allclose(violations, np.round(violations), atol=1e-4)
    variance = np.mean(chances * (1 - chances)) / 18  # independent bodies
    np.testing.assert_allclose(found.mean(), 0.5, atol=4 * np.sqrt(variance / 4000))
    np.testing.assert_allclose(found.var(), variance, rtol=0.1)


# Decision states


def decisions(seed, count=2000):
    task = by_chance(0.0, 0.0)._replace(end=jnp.float32(7.0))
    return evaluation.decision_set(jax.random.key(seed), chain(1), task, count)


def test_decisions_are_the_domains_states_and_uniform_actions():
    asked = decisions(0)
    assert asked.states.shape == (2000,)
    assert asked.actions.shape == (2000, 1)
    actions = np.asarray(asked.actions[:, 0])
    assert (abs(actions) <= 1.0).all()
    assert stats.kstest(actions, stats.uniform(-1, 2).cdf).pvalue > 0.01
    states = np.asarray(asked.states)
    assert stats.kstest(states, stats.uniform(0, 7).cdf).pvalue > 0.01
    assert abs(np.corrcoef(states, actions)[0, 1]) < 4 / np.sqrt(2000)


def test_other_keys_give_other_decisions_and_the_same_key_the_same():
    one, again, other = decisions(0, 5), decisions(0, 5), decisions(1, 5)
    for mine, same, another in zip(one, again, other, strict=True):
        np.testing.assert_array_equal(mine, same)
        assert (mine != another).all()
