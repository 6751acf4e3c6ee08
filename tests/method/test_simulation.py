"""Steps that are looked at, offline episodes, the truth of risk: on a line."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mesa_jax import simulation
from mesa_jax.evaluation.filtering import filter_test
from mesa_jax.types import Decision, DomainSpec, Transition
from tests.worlds import GOAL, LINE, Body, line_step

SOUND = Body(jnp.float32(2.5), jnp.float32(jnp.inf))


def assert_same(first, second):
    jax.tree.map(np.testing.assert_array_equal, first, second)


# A step that is looked at


def hurt(where, value, entry=0):
    """A line whose state is a pair, with `value` in one entry of what a step gives."""

    def step(key, state, action, task):
        reached, moved = line_step(key, state["x"], action, task)
        given = moved._asdict() | {"next_observation": jnp.stack([reached, reached])}
        given["observation"] = jnp.stack([state["x"], state["x"]])
        given = {"x": reached, "hidden": state["hidden"] + 1.0} | given
        given[where] = jnp.reshape(given[where], (-1,)).at[entry].set(value)
        given[where] = given[where] if given[where].size > 1 else given[where][0]
        given["action"] = jnp.reshape(given["action"], (1,))
        states = {name: given.pop(name) for name in ("x", "hidden")}
        return states, Transition(**given)

    return LINE._replace(
        step=step, observe=lambda state: jnp.stack([state["x"], state["x"]])
    )


@functools.partial(jax.jit, static_argnums=(0, 2))
def looked_at(where, value, entry=0):
    state = {"x": jnp.float32(1.0), "hidden": jnp.float32(5.0)}
    domain, key = hurt(where, value, entry), jax.random.key(0)
    return simulation.checked_step(domain, key, state, jnp.array([0.5]), SOUND)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("where", "entry"),
    [
        *((name, 0) for name in Transition._fields),
        ("next_observation", 1),
        ("x", 0),
        ("hidden", 0),
    ],
)
def test_a_step_that_is_not_finite_anywhere_stays_and_ends_without_cost(
    where, entry, value
):
    reached, moved, finite = looked_at(where, value, entry)
    assert not finite
    assert_same(reached, {"x": np.float32(1.0), "hidden": np.float32(5.0)})
    here, nothing = np.ones(2), np.zeros(())
    neutral = Transition(here, np.zeros(1), nothing, nothing, nothing, here)
    assert_same(moved, neutral)


def test_a_finite_step_is_the_domains_own():
    reached, moved, finite = looked_at("hidden", 7.0)
    assert finite
    assert_same(reached, {"x": np.float32(1.5), "hidden": np.float32(7.0)})
    here, there = np.full(2, 1.0), np.full(2, 1.5)
    one = np.ones(())
    assert_same(moved, Transition(here, [0.5], one, 0.0 * one, one, there))


def test_bodies_are_looked_at_one_by_one():
    bodies = Body(jnp.full(3, 2.5), jnp.array([jnp.inf, 0.0, jnp.inf]))
    states, actions = jnp.array([0.0, 1.0, -1.0]), jnp.full((3, 1), 0.5)
    keys = jax.random.split(jax.random.key(0), 3)
    step = functools.partial(simulation.checked_step, LINE)
    reached, moved, finite = jax.vmap(step)(keys, states, actions, bodies)
    np.testing.assert_array_equal(finite, [True, False, True])
    np.testing.assert_array_equal(reached, [0.5, 1.0, -0.5])
    np.testing.assert_array_equal(moved.reward, [0.0, 0.0, -1.0])
    np.testing.assert_array_equal(moved.discount, [1.0, 0.0, 1.0])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_finite_is_every_number_of_a_tree(value):
    tree = {"a": np.zeros((2, 3), np.float32), "b": (np.arange(4), np.ones(2, bool))}
    assert simulation.all_finite(tree)
    tree["a"][1, 2] = value
    assert not simulation.all_finite(tree)


# Offline episodes

LONG, EPISODES, HOLD = 12, 300, 5


def uniform(key, observation):
    return jax.random.uniform(key, observation.shape, minval=-1.0)


def wandering(continues=False, **changes):
    spec = LINE.spec._replace(horizon=LONG, continues=continues)
    return LINE._replace(spec=spec, reference_policy=uniform, **changes)


@functools.cache
def episodes(continues=False, limit=1.0, broken=np.inf, hold=1):
    """Transitions [E, L] and their validity [E, L] of a body that acts by chance."""
    domain, body = wandering(continues), Body(*jnp.float32([limit, broken]))
    make = jax.jit(
        lambda key: simulation.data_episodes(key, domain, body, EPISODES, hold)
    )
    return jax.tree.map(np.asarray, make(jax.random.key(0)))


def expected_validity(rows, limit, broken, continues):
    """By the actions alone: a transition is real as long as nothing ended before."""
    valid = np.zeros(rows.reward.shape, bool)
    for episode, actions in enumerate(rows.action[..., 0]):
        x = np.float32(0.0)
        for i, action in enumerate(actions):
            if x >= broken:  # the step from here is no number
                break
            valid[episode, i], x = True, x + action
            if x <= GOAL or (x > limit and not continues):
                break
    return valid


CASES = [
    (continues, limit, broken)
    for continues in (False, True)
    for limit, broken in ((1.0, np.inf), (1.0, 1.5), (1.5, 0.5), (99.0, np.inf))
]


@pytest.mark.parametrize(("continues", "limit", "broken"), CASES)
def test_an_episode_goes_on_past_a_violation_only_where_physics_does(
    continues, limit, broken
):
    rows, valid = episodes(continues, limit, broken)
    expected = expected_validity(rows, limit, broken, continues)
    np.testing.assert_array_equal(valid, expected)
    assert valid[:, 0].all()
    assert 0 < valid[:, -1].sum() < EPISODES  # some reach the horizon, some do not
    violating = (rows.cost == 1.0) & valid
    assert violating.any() == (limit < min(99.0, 1.0 + broken))  # a step is below 1
    after = violating[:, :-1] & valid[:, 1:]
    assert after.any() == (continues and limit < min(99.0, broken))


def test_what_is_real_is_finite_chained_and_says_what_happened():
    rows, valid = episodes(True, 1.0, 1.5)
    for field in rows:
        assert np.isfinite(field).all()
    x = np.concatenate([np.zeros((EPISODES, 1)), rows.action[..., 0].cumsum(1)], 1)
    seen, reached = rows.observation[..., 0], rows.next_observation[..., 0]
    np.testing.assert_allclose(seen[valid], x[:, :-1][valid], atol=1e-5)
    np.testing.assert_allclose(reached[valid], x[:, 1:][valid], atol=1e-5)
    np.testing.assert_array_equal(rows.cost[valid], reached[valid] > 1.0)
    assert not valid[(rows.action == 0.0)[..., 0]].any()  # no step that was replaced


@pytest.mark.parametrize("hold", [1, HOLD])
def test_an_action_is_held_for_as_many_steps_and_then_drawn_anew(hold):
    rows, _ = episodes(True, 99.0, hold=hold)
    actions = rows.action[..., 0]
    blocks = [actions[:, i : i + hold] for i in range(0, LONG, hold)]
    for block in blocks:
        np.testing.assert_array_equal(block, np.broadcast_to(block[:, :1], block.shape))
    drawn = np.stack([block[:, 0] for block in blocks], 1)  # [E, draws]
    assert drawn.shape == (EPISODES, -(-LONG // hold))
    assert len(np.unique(drawn)) > 0.99 * drawn.size
    assert stats.kstest(drawn.ravel(), "uniform", (-1, 2)).pvalue > 1e-3


def test_a_published_generator_makes_the_data_unless_actions_are_held():
    marked = 3.0 * jnp.ones(())

    def published(key, task):
        row = Transition(marked[None], marked[None], *[marked] * 3, marked[None])
        rows = jax.tree.map(lambda x: jnp.stack([x, x]), row)
        return rows._replace(reward=jax.random.uniform(key, (2,))), jnp.array([1, 0])

    domain = wandering(episode=published)
    rows, valid = simulation.data_episodes(jax.random.key(0), domain, SOUND, 4)
    assert len(np.unique(rows.reward)) == 8  # a key an episode
    np.testing.assert_array_equal(rows.cost, np.full((4, 2), 3.0))
    np.testing.assert_array_equal(valid, [[1, 0]] * 4)
    rows, valid = simulation.data_episodes(jax.random.key(0), domain, SOUND, 4, HOLD)
    assert valid.shape == (4, LONG)
    assert (abs(rows.action) <= 1.0).all()


# The truth of risk


def truth(state, action, discount, rollouts=1, domain=LINE, task=SOUND):
    return simulation.risk_truth(
        jax.random.key(0),
        domain,
        task,
        jnp.float32(state),
        jnp.array([action], jnp.float32),
        discount,
        rollouts,
    )


@pytest.mark.parametrize(
    ("state", "action", "expected"),
    [
        (2.0, 1.0, 1.0),  # the action violates
        (0.0, 1.0, 0.7**2),  # x 1, 2, then 3
        (1.0, -1.0, 0.7**3),  # x 0, then the reference policy to 1, 2, 3
        (0.0, -1.0, 0.0),  # it would be the fifth of four steps
        (-1.5, -1.0, 0.0),  # the goal ends it
        (1.0, -3.0, 0.0),
    ],
)
def test_truth_weighs_the_first_violation_by_its_step(state, action, expected):
    np.testing.assert_allclose(truth(state, action, 0.7), expected, rtol=1e-6)


def test_truth_is_of_the_first_violation_where_none_ends_an_episode():
    """x 1, 2, 3, 4 from 0: the third and the fourth are over the limit."""

    def goes_on(key, state, action, task):
        reached, transition = line_step(key, state, action, task)
        return reached, transition._replace(discount=jnp.ones(()))

    domain = LINE._replace(step=goes_on)
    np.testing.assert_allclose(truth(0.0, 1.0, 0.7, domain=domain), 0.7**2, rtol=1e-6)


def chance_step(key, state, action, task):
    """Violates with the probability that the task is, and ends with chance 0.1."""
    violation_key, end_key = jax.random.split(key)
    violation = jax.random.bernoulli(violation_key, task)
    ended = violation | jax.random.bernoulli(end_key, 0.1)
    cost = violation.astype(jnp.float32)
    discount = 1.0 - ended.astype(jnp.float32)
    row = Transition(state[None], action, state, cost, discount, state[None])
    return state, row


CHANCE, DISCOUNT, ROLLOUTS = 0.2, 0.8, 20_000


def chances(step, horizon):
    spec = DomainSpec("chance", observation_size=1, action_size=1, horizon=horizon)
    domain = LINE._replace(spec=spec, step=step)
    return truth(0.0, 0.0, DISCOUNT, ROLLOUTS, domain, jnp.float32(CHANCE))


def expected_truth(go_on, horizon):
    """p + q p + q^2 p + ..., q the discount times the chance to go on, of a step."""
    ratio = DISCOUNT * go_on
    return CHANCE * (1.0 - ratio**horizon) / (1.0 - ratio)


NOISE = 4 * 0.5 / np.sqrt(ROLLOUTS)


@pytest.mark.parametrize("horizon", [3, 100])
def test_truth_is_the_discounted_probability_of_a_violation(horizon):
    expected = expected_truth((1.0 - CHANCE) * 0.9, horizon)
    np.testing.assert_allclose(chances(chance_step, horizon), expected, atol=NOISE)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_where_the_physics_breaks_a_rollout_ends_without_a_violation(value):
    """A quarter of the steps break, half of the state and whatever else they did."""

    def breaking(key, state, action, task):
        break_key, step_key = jax.random.split(key)
        broken = jax.random.bernoulli(break_key, 0.25)
        reached, moved = chance_step(step_key, state, action, task)
        worse = jnp.where(broken, value, 0.0)
        return reached + worse, moved._replace(next_observation=(state + worse)[None])

    spec = DomainSpec("chance", observation_size=1, action_size=1, horizon=100)
    domain = LINE._replace(spec=spec, step=breaking)
    found = truth(0.0, 0.0, DISCOUNT, ROLLOUTS, domain, jnp.float32(CHANCE))
    sound = 0.75
    ratio = DISCOUNT * sound * (1.0 - CHANCE) * 0.9
    np.testing.assert_allclose(found, sound * CHANCE / (1.0 - ratio), atol=NOISE)


def test_a_body_whose_physics_breaks_does_not_touch_the_truth_of_others():
    bodies = Body(jnp.full(3, 2.5), jnp.array([jnp.inf, 1.5, 0.0]))
    asked = jax.vmap(lambda body: truth(0.0, 1.0, 0.7, 4, task=body))
    # x 1, 2, then 3; the second breaks where it stands at 2, the third at once
    np.testing.assert_allclose(asked(bodies), [0.7**2, 0.0, 0.0], rtol=1e-6)


@pytest.mark.parametrize("discount", [0.5, 0.8, 0.95])
def test_truth_stops_where_a_violation_hardly_weighs(discount):
    steps = simulation.truth_steps(discount, 10**6)
    assert discount**steps < 1e-4 < discount ** (steps - 3)
    assert simulation.truth_steps(discount, 5) == 5
    assert simulation.truth_steps(discount, 10**6, 1e-2) < steps


# The filter test


@pytest.mark.parametrize(
    ("rescue", "from_x", "expected"),
    [
        (0.0, 9.0, (True, False, 0, 3)),  # never acts: 1, 2, 3 and over the limit
        (0.0, 1.0, (False, False, 3, 4)),  # holds the body at 1
        (2.0, 1.0, (True, True, 1, 2)),  # throws it over the limit
        (-9.0, 1.0, (False, False, 1, 2)),  # ends the episode at the goal
    ],
)
def test_a_filtered_episode_counts_what_the_filter_did(rescue, from_x, expected):
    """Proposed is 1 on every step of a line that violates beyond 2.5."""

    def decide(params, state, proposed):
        recovered = state >= from_x
        action = jnp.where(recovered, rescue, proposed)
        return Decision(action, proposed, recovered)

    found = simulation.filtered_episode(
        jax.random.key(0), LINE, SOUND, (), decide, LINE.reference_policy, hold=2
    )
    assert tuple(x.item() for x in found) == expected


@pytest.mark.parametrize(
    ("state", "action", "rescue", "steps", "expected"),
    [
        (2.0, 1.0, 0.0, 1, True),  # the action itself
        (1.0, 1.0, 0.4, 1, False),  # 2, then 2.4
        (1.0, 1.0, 0.4, 2, True),  # then 2.8
        (1.0, 1.0, -0.5, 50, False),
        (-1.5, -1.0, 9.0, 3, False),  # the goal ends it
    ],
)
def test_a_fall_is_seen_within_the_steps_that_are_simulated(
    state, action, rescue, steps, expected
):
    given = jnp.float32(state), jnp.array([action]), lambda seen: jnp.array([rescue])
    found = simulation.falls(jax.random.key(0), LINE, SOUND, *given, steps)
    assert found.item() == expected


@pytest.mark.parametrize(
    ("look_ahead", "expected"),
    [
        (1, (True, True, 2, 4)),  # 1, 2; then it is too late: 2.4, 2.8
        (2, (False, False, 3, 4)),  # 1, then 1.4, 1.8, 2.2
    ],
)
def test_a_filter_that_simulates_acts_where_its_recovery_policy_would_fail(
    look_ahead, expected
):
    """Proposed is 1 on every step, the recovery policy does 0.4, the limit is 2.5."""
    recovery = types.SimpleNamespace(act=lambda params, seen: jnp.array([0.4]))
    given = LINE, None, recovery, ((), ()), SOUND, jnp.array(0.5), 1
    found = filter_test(jax.random.key(0), *given, look_ahead=look_ahead)
    assert tuple(x.item() for x in found) == expected


def switched(params, state, proposed):
    """Recovers, standing still, where the parameter says so."""
    return Decision(jnp.where(params, 0.0, proposed), proposed, params)


def test_a_filter_reads_the_latest_transitions_every_few_steps():
    """Of steps 0, 1 | 2, 3 | 4, 5 | 6 the body stands still where it moved before.

    Each reads the latest three transitions; before the episode stand three of 5.
    """
    seen = []

    def adapt(key, latest):
        jax.debug.callback(lambda x: seen.append(x[:, 0].tolist()), latest.action)
        return latest.action[-1, 0] > 0.5

    five = jnp.full((3,), 5.0)
    before = Transition(five[:, None], five[:, None], five, five, five, five[:, None])
    reading = simulation.Reading(adapt, 2, before)
    domain = LINE._replace(spec=LINE.spec._replace(horizon=7))
    still = SOUND._replace(limit=jnp.float32(100.0))
    given = domain, still, jnp.array(False), switched, domain.reference_policy, 1
    found = simulation.filtered_episode(jax.random.key(0), *given, reading)
    jax.effects_barrier()
    assert seen == [[5, 1, 1], [1, 0, 0], [0, 1, 1], [1, 0, 0]]
    assert (found.recovered.item(), found.length.item()) == (3, 7)  # 2, 3 and 6
    stays = simulation.Reading(lambda key, latest: jnp.array(False), 3, before)
    some = [
        simulation.filtered_episode(jax.random.key(0), *given, how)
        for how in (None, stays)
    ]
    assert_same(*some)
