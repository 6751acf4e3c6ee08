"""Constrained agents: their contract, and probes whose limits are known."""

import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mesa_jax import configuration, equations
from mesa_jax.agents import (
    AGENTS,
    ConstraintConfig,
    RecoveryConfig,
    SACConfig,
    recovery_policy,
    sac,
)
from mesa_jax.agents.constraint import KINDS, dual_ascent
from mesa_jax.agents.sac import SAC
from mesa_jax.agents.sqrl import first_within
from mesa_jax.configuration import Configuration
from mesa_jax.methods import CONSTRAINED, METHODS, PENALISED, begins_as, program_of
from mesa_jax.risk import RiskConfig, violation_probability
from mesa_jax.settings import SettingError
from mesa_jax.study import resolve
from mesa_jax.types import DomainSpec, Policy, RiskMeasure, Statistics, Transition

SPEC = DomainSpec("probe", observation_size=1, action_size=1, horizon=10)
INPUTS = Statistics(jnp.zeros(1), jnp.ones(1), jnp.zeros(1), jnp.ones(1))
YES, NO = jnp.array(True), jnp.array(False)
THRESHOLD = 0.3
KINDS_OF_OURS = [kind for kind in KINDS if kind not in ("recovery_rl", "carl")]
TASK = sac(
    SPEC,
    SACConfig(hidden=(8,), lr=1e-2, discount=0.9, target_rate=0.05, temperature=1e-3),
)


def rows(action, reward, cost):
    """Transitions [B, ...] of state 0, each the last of its episode."""
    column = jnp.zeros((len(action), 1))
    numbers = [jnp.asarray(x, jnp.float32) for x in (reward, cost)]
    action = jnp.asarray(action, jnp.float32)[:, None]
    return Transition(column, action, *numbers, jnp.zeros(len(action)), column)


ACTIONS = np.linspace(-1.0, 1.0, 32)
RISKY = rows(ACTIONS, ACTIONS, ACTIONS > 0)  # what is worth most violates


def settings(kind, recovery=RecoveryConfig(), **values):  # noqa: B008
    values = {"weight": 2.0, "samples": 16} | values
    constraint = ConstraintConfig(kind=kind, **values)
    return Configuration(recovery=recovery, constraint=constraint)


def known_risk(estimate):
    """A risk measure that has nothing to learn."""

    def loss(params, target_params, batch, next_action):
        del target_params, batch, next_action
        return 0.0 * params, {}

    return RiskMeasure(
        lambda key, statistics: jnp.zeros(()), estimate, target=None, loss=loss
    )


IDLE = Policy(
    init=lambda key, statistics: jnp.zeros(()),
    act=lambda params, observation: jnp.zeros_like(observation),
    loss=lambda params, risk_params, observation: (0.0 * params, {}),
)
STEEP = known_risk(
    lambda params, observation, action: jax.nn.sigmoid(9 * action[..., 0])
)
EVEN = known_risk(lambda params, observation, action: jnp.full(action.shape[:-1], 0.25))


def probing(kind, risk=STEEP, task=TASK, threshold=THRESHOLD, **values):
    """An agent on a known risk, and its first state."""
    made, start = prober(kind, risk, task, **values)
    return made, start(jax.random.key(0), threshold)


@functools.cache
def prober(kind, risk, task, **values):
    """An agent on a known risk, and what makes its first state."""
    made = AGENTS[kind](task, risk, IDLE, settings(kind, **values))

    def start(key, threshold):
        return made.init(key, jnp.zeros(()), jnp.zeros(()), threshold)

    return made, jax.jit(start)


def learned(agent, state, updates, batch=RISKY):
    """The state after some updates of both halves, on all rows of a batch."""
    return learning(agent)(state, batch, updates)


@functools.cache
def learning(agent):
    """Compiles an agent's updates, as many as asked for."""

    def several(state, batch, updates):
        def step(i, state):
            key = jax.random.fold_in(jax.random.key(1), i)
            return agent.update(key, state, batch, batch, YES, YES)[0]

        return jax.lax.fori_loop(0, updates, step, state)

    return jax.jit(several)


def same(new, old):
    return all(jax.tree.leaves(jax.tree.map(np.array_equal, new, old)))


def form_of(tree):
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(x.shape, x.dtype, x.weak_type) for x in leaves]


# Contracts


@functools.cache
def whole(kind):
    """A small agent of real parts, its first state and its one compiled update."""
    risk = violation_probability(RiskConfig(hidden=(8,)))
    recovery = recovery_policy(1, risk.estimate, (8,))
    of = settings(kind, RecoveryConfig(lr=0.01))
    agent = AGENTS[kind](TASK, risk, recovery, of)

    def start(key):
        agent_key, risk_key, recovery_key = jax.random.split(key, 3)
        params = risk.init(risk_key, INPUTS), recovery.init(recovery_key, INPUTS)
        return agent.init(agent_key, *params, THRESHOLD)

    chex.clear_trace_counter()
    update = jax.jit(chex.assert_max_traces(agent.update, n=1))
    return agent, jax.jit(start)(jax.random.key(0)), update


def test_every_kind_has_its_agent():
    assert tuple(AGENTS) == KINDS
    assert [*CONSTRAINED, *PENALISED] and {*CONSTRAINED, *PENALISED} == {*KINDS_OF_OURS}


@pytest.mark.parametrize("kind", KINDS_OF_OURS)
def test_update_compiles_once_keeps_its_state_and_learns_only_what_it_may(kind):
    _, state, update = whole(kind)
    for i, (task, risk) in enumerate(itertools.product((YES, NO), repeat=2)):
        new, metrics = update(jax.random.key(i), state, RISKY, RISKY, task, risk)
        assert form_of(new) == form_of(state)
        assert all(np.isfinite(x).all() for x in jax.tree.leaves((new, metrics)))
        for name in ("sac", "risk", "risk_target", "recovery", "optimizers"):
            may = task if name == "sac" else risk
            assert same(getattr(new, name), getattr(state, name)) != may, name
        moves = kind not in ("reward_penalty", "rspo") and bool(task)
        assert same(new.multiplier, state.multiplier) != moves
        state = new


@pytest.mark.parametrize("kind", KINDS_OF_OURS)
def test_what_it_proposes_is_executed_and_its_mode_is_without_chance(kind):
    agent, state, _ = whole(kind)
    observation = jnp.array([0.5])
    first, second = (
        agent.propose(jax.random.key(i), state, observation) for i in (2, 3)
    )
    mode = agent.propose_mode(state, observation)
    for proposed in (first, second, mode):
        assert proposed.shape == (1,)
        assert (abs(proposed) <= 1.0).all()
        decision = agent.decide(state, observation, proposed)
        assert same((decision.action, decision.proposed), (proposed, proposed))
        assert not decision.recovered
    assert not same(first, second)
    assert same(mode, agent.propose_mode(state, observation))


def test_a_new_safety_half_leaves_the_multiplier():
    agent, state, update = whole("lagrangian")
    state, _ = update(jax.random.key(0), state, RISKY, RISKY, YES, YES)
    renewed = agent.with_safety(state, *agent.safety(state))
    assert form_of(renewed) == form_of(state)
    assert same((renewed.multiplier, renewed.sac), (state.multiplier, state.sac))


# Limits


@pytest.mark.parametrize("kind", KINDS_OF_OURS)
def test_the_actor_gives_up_a_reward_that_costs_too_much(kind):
    """Reward a, a violation where a > 0: without a price to the right, else not."""
    free = learned(*probing(kind, weight=0.0), 300)
    dear = learned(*probing(kind, weight=20.0), 300)
    right, left = (TASK.mode(state.sac, jnp.zeros(1))[0] for state in (free, dear))
    assert right > 0.5
    assert left < 0.0


@pytest.mark.parametrize("kind", ["lagrangian", "rspo", "rcpo", "reward_penalty"])
def test_a_penalty_of_nothing_is_sac_bit_for_bit(kind):
    plain = learned(*probing("recovery_rl"), 5)
    free = learned(*probing(kind, weight=0.0), 5)
    assert same(free.sac, plain.sac)


@pytest.mark.parametrize("kind", ["lagrangian", "rspo", "rcpo", "sqrl", "conservative"])
def test_without_a_threshold_it_is_sac(kind):
    plain = learned(*probing("recovery_rl"), 5)
    free = learned(*probing(kind, threshold=np.inf, weight=20.0), 5)
    assert same(free.sac, plain.sac)


# The multiplier


@pytest.mark.parametrize(("excess", "sign"), [(0.2, 1.0), (-0.2, -1.0)])
def test_a_dual_step_is_adam_on_the_logarithm(excess, sign):
    """The first step of Adam is its rate, against the gradient's sign."""
    multiplier = dual_ascent(ConstraintConfig(weight=5.0, lr=0.01))
    moved = multiplier.update(multiplier.init(0.3), jnp.float32(excess))
    expected = 5.0 * np.exp(sign * 0.01)
    np.testing.assert_allclose(multiplier.value(moved), expected, rtol=1e-5)


def test_the_dual_objective_is_a_hand_derived_number():
    """-log 2 x 0.3, and in log lambda its slope is -0.3."""
    given = jnp.log(2.0), jnp.float32(0.3)
    np.testing.assert_allclose(equations.multiplier_loss(*given), -0.20794, rtol=1e-4)
    slope = jax.grad(equations.multiplier_loss)(*given)
    np.testing.assert_allclose(slope, -0.3, rtol=1e-6)


@pytest.mark.parametrize("kind", ["lagrangian", "sqrl", "rcpo", "conservative"])
@pytest.mark.parametrize(("threshold", "grows"), [(0.2, True), (0.3, False)])
def test_lambda_grows_while_the_constraint_is_violated(kind, threshold, grows):
    agent, state = probing(kind, EVEN, threshold=threshold, lr=0.1)  # risk 0.25
    after = learned(agent, state, 3)
    assert (after.multiplier.log > state.multiplier.log) == grows
    assert (after.multiplier.log < state.multiplier.log) != grows


def test_rspo_begins_at_twice_the_price_and_ends_at_none():
    agent, state = probing("rspo", weight=5.0)
    update = jax.jit(agent.update)
    for i, (share, expected) in enumerate([(0.0, 10.0), (0.25, 7.5), (1.0, 0.0)]):
        told = agent.progress(state, share)
        assert form_of(told) == form_of(state)
        key = jax.random.key(i)
        state, metrics = update(key, told, RISKY, RISKY, YES, YES)
        np.testing.assert_allclose(metrics["constraint/multiplier"], expected)


def test_only_rspo_asks_how_far_its_run_is():
    asking = [kind for kind in KINDS if probing(kind)[0].progress is not None]
    assert asking == ["rspo"]


# What is priced


def told(key, state, batch, cost=None):
    """SAC's update that learns nothing and tells what it was given."""
    del key
    metrics = {"told/reward": batch.reward}
    if cost is not None:
        costs, about = cost(batch.observation, batch.action)
        metrics |= {"told/cost": costs} | about
    return state, metrics


TELLS = SAC(
    init=lambda key: jnp.zeros(()),
    sample=lambda key, state, observation: jnp.zeros_like(observation),
    mode=lambda state, observation: jnp.zeros_like(observation),
    update=told,
)
ONE = rows([0.5, -0.5], [1.0, 3.0], [1.0, 0.0])


def metrics_of(kind, **values):
    agent, state = probing(kind, EVEN, TELLS, weight=2.0, **values)
    return agent.update(jax.random.key(1), state, ONE, ONE, YES, YES)[1]


def test_rcpo_s_critic_learns_the_reward_less_the_price_of_risk():
    """1 - 2 x 0.25 and 3 - 2 x 0.25: with no next state, the critic's targets."""
    np.testing.assert_allclose(metrics_of("rcpo")["told/reward"], [0.5, 2.5])


def test_a_violation_costs_its_penalty():
    """1 - 2 x 1 and 3 - 2 x 0."""
    found = metrics_of("reward_penalty")["told/reward"]
    np.testing.assert_allclose(found, [-1.0, 3.0])


@pytest.mark.parametrize("kind", ["lagrangian", "sqrl", "conservative"])
def test_lr_s_actor_pays_for_risk_beyond_the_threshold(kind):
    """2 (0.25 - 0.2), whatever the reward; rspo begins at twice that."""
    found = metrics_of(kind, threshold=0.2)
    np.testing.assert_allclose(found["told/cost"], [0.1, 0.1], rtol=1e-5)
    np.testing.assert_array_equal(found["told/reward"], ONE.reward)
    twice = metrics_of("rspo", threshold=0.2)["told/cost"]
    np.testing.assert_allclose(twice, [0.2, 0.2], rtol=1e-5)


# Rejection


def test_the_first_action_within_is_taken_else_the_one_of_least_risk():
    risks = jnp.array([[0.9, 0.9], [0.2, 0.5], [0.1, 0.4]])
    np.testing.assert_array_equal(first_within(risks, 0.3), [1, 2])


@pytest.mark.parametrize("kind", ["sqrl", "conservative"])
def test_risky_samples_are_rejected(kind):
    """sigmoid(9 a) <= 0.3 is a <= -0.094; 0 rejects all, and the least is left."""
    observations = jnp.zeros((200, 1))

    def keys():
        return jax.random.split(jax.random.key(3), 200)

    def proposals(agent, state):
        return jax.vmap(agent.propose, (0, None, 0))(keys(), state, observations)[:, 0]

    strict, free = (probing(kind, threshold=at) for at in (0.3, 1.0))
    assert (proposals(*strict) <= np.log(0.3 / 0.7) / 9).all()
    assert strict[0].propose_mode(strict[1], jnp.zeros(1)) <= np.log(0.3 / 0.7) / 9
    assert (proposals(*free) > 0).any()
    never = proposals(*probing(kind, threshold=0.0))
    draws = jax.vmap(lambda key: TASK.sample(key, strict[1].sac, jnp.zeros((16, 1))))
    np.testing.assert_allclose(never, draws(keys()).min((1, 2)), rtol=1e-5)


def test_sqrl_that_allows_everything_is_lagrangian():
    mine, theirs = (probing(kind, threshold=1.0) for kind in ("sqrl", "lagrangian"))
    seen = jnp.zeros(1)
    for _ in range(2):
        (agent, state), (other, its) = mine, theirs
        proposals = [
            one.propose(jax.random.key(5), of, seen) for one, of in (mine, theirs)
        ]
        modes = agent.propose_mode(state, seen), other.propose_mode(its, seen)
        for ours, same_as in (proposals, modes):
            np.testing.assert_allclose(ours, same_as, rtol=1e-5)
        assert same(state, its)
        mine = agent, learned(agent, state, 3)
        theirs = other, learned(other, its, 3)


# Conservatism


def test_a_conservative_critic_fears_what_it_has_not_seen():
    """Safe actions at -0.5 only, a policy that acts everywhere."""
    risk = violation_probability(RiskConfig(hidden=(16,)))
    recovery = recovery_policy(1, risk.estimate, (8,))
    params = (
        risk.init(jax.random.key(0), INPUTS),
        recovery.init(jax.random.key(1), INPUTS),
    )
    batch, found = rows(np.full(32, -0.5), np.zeros(32), np.zeros(32)), {}
    for alpha in (0.0, 0.5):
        agent = AGENTS["conservative"](
            TASK,
            risk,
            recovery,
            settings("conservative", RecoveryConfig(lr=1e-2), conservatism=alpha),
        )
        state = jax.jit(agent.init)(jax.random.key(2), *params, THRESHOLD)
        critic = agent.safety(learned(agent, state, 300, batch))[0]
        asked = jnp.array([[-0.5], [0.8]])
        found[alpha] = risk.estimate(critic, jnp.zeros((2, 1)), asked)
    (_, plain), (seen, unseen) = found[0.0], found[0.5]
    assert unseen > plain + 0.1
    assert unseen > seen + 0.1


# Settings


def test_lambda_is_recovery_rl_s_where_it_has_one():
    def weight(domain, method):
        mine = resolve.resolve(domain, "published", "quick", method=method)
        assert mine.constraint.kind == method.removesuffix("_mesa")
        return mine.constraint.weight

    for name, one, two in (
        ("lagrangian", 5000, 1000),
        ("sqrl_mesa", 5000, 1000),
        ("reward_penalty", 1000, 3000),
        ("rcpo", 1000, 5000),
    ):
        assert weight("navigation1", name) == one
        assert weight("navigation2", name) == two
        assert weight("cartpole_length", name) == 50
    plain = resolve.resolve("navigation1", "published", "quick", method="mesa")
    assert plain.constraint.kind == "recovery_rl"


@pytest.mark.parametrize("name", CONSTRAINED)
def test_algorithm_and_transfer_are_told_apart(name):
    """One program, and the critic is that of the row after which it is called."""
    assert begins_as(name) == "recovery_rl"
    for other in ("multi_task", "mesa"):
        row = METHODS[f"{name}_{other}"]
        assert begins_as(f"{name}_{other}") == other
        assert program_of(f"{name}_{other}") == name
        assert (row.prior, row.adaptation) == METHODS[other][:2]


def test_online_targets_of_the_composite_policy_need_a_recovery_policy():
    settings = resolve.resolve("navigation1", "flip", "quick")
    asked = {"constraint": {"kind": "rcpo"}, "recovery": {"target_policy": "composite"}}
    with pytest.raises(SettingError, match="recovery_target_policy"):
        configuration.override(settings, asked)
