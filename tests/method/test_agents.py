"""Agents: the comparison table, probes with known answers, and Recovery RL's switch."""

import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mesa_jax.agents import RecoveryConfig, SACConfig, recovery_policy, recovery_rl, sac
from mesa_jax.agents.sac import SAC
from mesa_jax.configuration import SECTIONS
from mesa_jax.meta import META_LEARNERS, InnerLoopConfig
from mesa_jax.methods import METHODS, begins_as
from mesa_jax.risk import RiskConfig, violation_probability
from mesa_jax.types import DomainSpec, Policy, RiskMeasure, Statistics, Transition

SPEC = DomainSpec("probe", observation_size=1, action_size=1, horizon=10)
INPUTS = Statistics(jnp.zeros(1), jnp.ones(1), jnp.zeros(1), jnp.ones(1))


def rows(observation, action, reward, discount, next_observation=None):
    """Transitions [B, ...] of one observation and one action number, no cost."""
    column = jnp.asarray(observation, jnp.float32)[:, None]
    reached = column if next_observation is None else next_observation[:, None]
    reward = jnp.asarray(reward, jnp.float32)
    return Transition(
        observation=column,
        action=jnp.asarray(action, jnp.float32)[:, None],
        reward=reward,
        cost=jnp.zeros_like(reward),
        discount=jnp.asarray(discount, jnp.float32),
        next_observation=reached,
    )


# METHODS


@pytest.mark.parametrize("name", METHODS)
def test_a_method_names_what_there_is(name):
    method = METHODS[name]
    assert method.prior in (*META_LEARNERS, "scratch")
    assert method.adaptation in SECTIONS
    assert isinstance(method.constrained, bool)


def test_only_a_prior_with_learned_rates_adapts_by_the_inner_loop():
    kinds = {(m.prior, SECTIONS[m.adaptation]) for m in METHODS.values()}
    assert {kind for kind in kinds if InnerLoopConfig in kind} == {
        ("maml", InnerLoopConfig)
    }


# SAC on probe problems


PROBE = sac(
    SPEC,
    SACConfig(hidden=(32,), lr=1e-2, discount=0.9, target_rate=0.05, temperature=1e-3),
)
ACTIONS = np.linspace(-1.0, 1.0, 32)
BATCH = rows(ACTIONS[::-1], ACTIONS, ACTIONS, np.zeros(32))
fresh = jax.jit(PROBE.init)


@jax.jit
def learned(batch):
    """A SAC after 600 updates on all rows of a batch."""

    def step(state, i):
        key = jax.random.fold_in(jax.random.key(1), i)
        return PROBE.update(key, state, batch)[0], None

    return jax.lax.scan(step, fresh(jax.random.key(0)), jnp.arange(600))[0]


@jax.jit
def q_mean(state, batch):
    """Mean of both critics on a batch: an update reports it of before its step."""
    return PROBE.update(jax.random.key(2), state, batch)[1]["sac/q_mean"]


def test_a_terminal_reward_is_its_value():
    batch = rows(np.zeros(32), ACTIONS, np.full(32, 1.5), np.zeros(32))
    np.testing.assert_allclose(q_mean(learned(batch), batch), 1.5, atol=0.03)


def test_a_reward_one_step_away_is_discounted():
    first = jnp.tile(jnp.array([0.0, 1.0]), 16)  # state 0 leads to 1, and that ends
    batch = rows(first, ACTIONS, first, 1.0 - first, jnp.ones(32))
    state = learned(batch)
    before, last = (
        jax.tree.map(lambda x, at=at: x[first == at], batch) for at in (0, 1)
    )
    np.testing.assert_allclose(q_mean(state, last), 1.0, atol=0.03)
    np.testing.assert_allclose(q_mean(state, before), 0.9, atol=0.03)


def test_an_endless_reward_sums_to_its_discounted_value():
    batch = rows(np.zeros(32), ACTIONS, np.full(32, 0.2), np.ones(32))
    value = 0.2 / (1.0 - 0.9)
    np.testing.assert_allclose(q_mean(learned(batch), batch), value, atol=0.1)


@pytest.mark.parametrize("best", [-0.5, 0.5])
def test_the_actor_moves_to_the_better_action(best):
    batch = rows(np.zeros(32), ACTIONS, -((ACTIONS - best) ** 2), np.zeros(32))
    state = learned(batch)
    np.testing.assert_allclose(PROBE.mode(state, jnp.zeros(1)), [best], atol=0.1)


def test_samples_and_modes_are_actions():
    state = fresh(jax.random.key(0))
    observation = 1e3 * jax.random.normal(jax.random.key(1), (100, 1))
    for actions in (
        PROBE.sample(jax.random.key(2), state, observation),
        PROBE.mode(state, observation),
    ):
        assert actions.shape == (100, 1)
        assert (abs(actions) <= 1.0).all()


def with_log_std(state, log_std):
    """The actor with a standard deviation of its own choice everywhere."""
    last = state.actor["params"]["Dense_1"]
    head = {
        "kernel": jnp.zeros_like(last["kernel"]),
        "bias": jnp.array([0.0, log_std]),
    }
    actor = {"params": state.actor["params"] | {"Dense_1": head}}
    return state._replace(actor=actor)


MOVING = sac(
    SPEC, SACConfig(hidden=(8,), lr=0.1, target_rate=0.25, temperature_lr=0.01)
)
moved = jax.jit(MOVING.update)


@pytest.mark.parametrize(("log_std", "rises"), [(-5.0, True), (0.0, False)])
def test_the_temperature_moves_towards_the_target_entropy(log_std, rises):
    # tanh of N(0, e^-5) has entropy -5 + 1.42 < -1; of N(0, 1) about 0.5 > -1
    state = with_log_std(jax.jit(MOVING.init)(jax.random.key(0)), log_std)
    new, metrics = moved(jax.random.key(1), state, BATCH)
    assert (metrics["sac/entropy"] < -1.0) == rises
    change = new.log_temperature - state.log_temperature
    expected = 0.01 if rises else -0.01  # Adam's first step
    np.testing.assert_allclose(change, expected, rtol=1e-3)


def test_a_temperature_that_is_not_learned_stays():
    state = fresh(jax.random.key(0))
    np.testing.assert_allclose(np.exp(state.log_temperature), 1e-3, rtol=1e-5)
    after = learned(BATCH)
    np.testing.assert_array_equal(after.log_temperature, state.log_temperature)


def test_target_critics_follow_at_their_rate():
    state = jax.jit(MOVING.init)(jax.random.key(0))
    new, _ = moved(jax.random.key(1), state, BATCH)
    expected = jax.tree.map(
        lambda old, new: 0.75 * old + 0.25 * new, state.critic, new.critic
    )
    chex.assert_trees_all_close(new.target_critic, expected, rtol=1e-5, atol=1e-7)


def test_the_twin_critics_differ():
    critic = fresh(jax.random.key(0)).critic
    kernels = critic["params"]["Dense_0"]["kernel"]
    assert not np.allclose(kernels[0], kernels[1])


# Recovery RL


RESCUE = -0.75


def known_risk(estimate) -> RiskMeasure:
    """A risk measure that is a given function, and reports what its target asks of."""

    def loss(params, target_params, batch, next_action):
        del target_params, batch
        return 0.5 * params**2, {"risk/next_action": jnp.mean(next_action)}

    return RiskMeasure(
        init=lambda key, inputs: jnp.ones(()),
        estimate=estimate,
        target=lambda params, batch, next_action: batch.cost,
        loss=loss,
    )


def proposal_risk(params, observation, action):
    del params, observation
    return action[..., 0]


RESCUER = Policy(
    init=lambda key, inputs: jnp.zeros(()),
    act=lambda params, observation: jnp.full_like(observation, RESCUE),
    loss=lambda params, risk_params, observation: (
        params**2,
        {"recovery/critic": risk_params},
    ),
)


PROPOSAL = 0.5
PROPOSER = SAC(  # a task policy that learns nothing
    init=lambda key: jnp.zeros(()),
    sample=lambda key, state, observation: jnp.full_like(observation, PROPOSAL),
    mode=lambda state, observation: jnp.full_like(observation, PROPOSAL),
    update=lambda key, state, batch: (state, {}),
)


def switch(threshold=0.3, **settings):
    agent = recovery_rl(
        PROPOSER, known_risk(proposal_risk), RESCUER, RecoveryConfig(**settings)
    )
    return agent, agent.init(jax.random.key(0), jnp.ones(()), jnp.zeros(()), threshold)


RISKS = np.array([0.1, 0.3, 0.3001, 0.9, -1.0], np.float32)


@pytest.mark.parametrize(
    ("threshold", "recovers"),
    [
        (np.float32(0.3), [False, False, True, True, False]),
        (0.0, [True, True, True, True, False]),
        (np.inf, [False] * 5),
    ],
)
def test_recovery_acts_exactly_where_the_risk_exceeds_the_threshold(
    threshold, recovers
):
    agent, state = switch(threshold=threshold)
    proposed = jnp.array(RISKS)[:, None]
    decision = agent.decide(state, jnp.zeros((5, 1)), proposed)
    np.testing.assert_array_equal(decision.recovered, recovers)
    np.testing.assert_array_equal(decision.proposed, proposed)
    executed = np.where(recovers, np.float32(RESCUE), RISKS)
    np.testing.assert_array_equal(decision.action[:, 0], executed)


@pytest.mark.parametrize("axes", [(), (6,), (2, 3)])
def test_a_decision_keeps_leading_axes(axes):
    agent, state = switch()
    proposed = jnp.resize(jnp.array(RISKS), (*axes, 1))
    decision = agent.decide(state, jnp.zeros((*axes, 1)), proposed)
    assert decision.recovered.shape == axes
    assert decision.action.shape == (*axes, 1)
    flat = agent.decide(state, jnp.zeros((proposed.size, 1)), proposed.reshape(-1, 1))
    np.testing.assert_array_equal(decision.action.ravel(), flat.action.ravel())


def test_the_threshold_is_data():
    agent, _ = switch()

    @jax.jit
    @jax.vmap
    def recovered(threshold):
        state = agent.init(jax.random.key(0), jnp.ones(()), jnp.zeros(()), threshold)
        return agent.decide(state, jnp.zeros(1), jnp.full(1, 0.5)).recovered

    thresholds = jnp.array([0.4, 0.6, jnp.inf])
    np.testing.assert_array_equal(recovered(thresholds), [True, False, False])


YES, NO = jnp.array(True), jnp.array(False)


@pytest.mark.parametrize(
    ("target_policy", "threshold", "asked"),
    [
        ("task", 0.3, PROPOSAL),
        ("composite", 0.3, RESCUE),
        ("composite", 0.6, PROPOSAL),  # below the threshold the proposal runs
    ],
)
def test_the_online_target_asks_the_policy_it_is_set_to(
    target_policy, threshold, asked
):
    agent, state = switch(threshold, target_policy=target_policy)
    _, metrics = agent.update(jax.random.key(1), state, BATCH, BATCH, YES, YES)
    np.testing.assert_allclose(metrics["risk/next_action"], asked, rtol=1e-6)


def test_the_online_risk_target_follows_at_its_rate():
    agent, state = switch(lr=0.1, target_rate=0.25)
    new, _ = agent.update(jax.random.key(1), state, BATCH, BATCH, NO, YES)
    np.testing.assert_allclose(new.risk, 1.0 - 0.1, rtol=1e-5)  # Adam's first step
    np.testing.assert_allclose(new.risk_target, 1.0 - 0.25 * 0.1, rtol=1e-5)


def test_the_recovery_policy_learns_from_the_critic_as_just_updated():
    agent, state = switch(lr=0.1)
    new, metrics = agent.update(jax.random.key(1), state, BATCH, BATCH, NO, YES)
    assert metrics["recovery/critic"] == new.risk != state.risk


def test_the_recovery_policy_descends_the_risk():
    def risk_of(params, observation, action):  # least at 0.3 in every state
        del params, observation
        return (action[..., 0] - 0.3) ** 2

    recovery = recovery_policy(1, risk_of, (16,))
    agent = recovery_rl(
        PROPOSER,
        known_risk(risk_of),
        recovery,
        RecoveryConfig(lr=1e-2),
    )
    start = agent.init(
        jax.random.key(0), jnp.ones(()), recovery.init(jax.random.key(1), INPUTS), 0.3
    )
    states = np.linspace(-2.0, 2.0, 32)
    batch = rows(states, ACTIONS, ACTIONS, np.zeros(32))

    @jax.jit
    def learn(state):
        def step(state, i):
            key = jax.random.fold_in(jax.random.key(2), i)
            return agent.update(key, state, batch, batch, NO, YES)[0], None

        return jax.lax.scan(step, state, jnp.arange(300))[0]

    actions = recovery.act(learn(start).recovery, batch.observation)
    np.testing.assert_allclose(actions, 0.3, atol=0.05)


def test_the_recovery_policys_loss_is_the_mean_of_what_it_descends():
    def logit(params, observation, action):
        return params * action[..., 0] - observation[..., 0]

    recovery = recovery_policy(1, logit, (16,))
    params = recovery.init(jax.random.key(1), INPUTS)
    observation = jnp.linspace(-2.0, 2.0, 5)[:, None]
    actions = recovery.act(params, observation)  # its outputs are within +-2
    loss, _ = recovery.loss(params, 3.0, observation)
    np.testing.assert_allclose(loss, np.mean(3.0 * actions - observation), rtol=1e-5)
    slope = jax.grad(lambda p: recovery.loss(p, 3.0, observation)[0])(params)
    own = jax.grad(lambda p: jnp.mean(3.0 * recovery.act(p, observation)))(params)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7), slope, own
    )


def flat_risk(params, observation, action):
    """A risk of 0.25 that no action changes."""
    del params
    return 0.25 + 0.0 * (observation + action)[..., 0]


def constant_policy(output, penalty):
    """A recovery policy of one output before tanh, and its parameters."""
    policy = recovery_policy(1, flat_risk, (4,), saturation_penalty=penalty)
    params = policy.init(jax.random.key(0), INPUTS)
    network = jax.tree.map(jnp.zeros_like, params["network"])
    network["params"]["Dense_1"]["bias"] = jnp.full((1,), output)
    return policy, params | {"network": network}


@pytest.mark.parametrize(("output", "beyond"), [(1.9, 0), (-2, 0), (5, 3), (-5, 3)])
def test_recovery_pays_for_outputs_in_the_flat_part_of_tanh(output, beyond):
    policy, params = constant_policy(float(output), penalty=0.1)
    observation = jnp.linspace(-1.0, 1.0, 7)[:, None]
    np.testing.assert_allclose(policy.act(params, observation), np.tanh(output))
    (loss, metrics), gradient = jax.value_and_grad(policy.loss, has_aux=True)(
        params, None, observation
    )
    np.testing.assert_allclose(loss, 0.25 + 0.1 * beyond**2, rtol=1e-6)
    assert metrics["recovery/risk"] == 0.25
    pull = gradient["network"]["params"]["Dense_1"]["bias"]
    np.testing.assert_allclose(pull, [0.1 * 2 * beyond * np.sign(output)], rtol=1e-6)


# The whole agent


@functools.cache
def whole():
    """A small agent of real parts, its first state and its one compiled update."""
    risk = violation_probability(RiskConfig(hidden=(8,)))
    recovery = recovery_policy(1, risk.estimate, (8,))
    agent = recovery_rl(MOVING, risk, recovery, RecoveryConfig(lr=0.01))

    def start(key):
        agent_key, risk_key, recovery_key = jax.random.split(key, 3)
        params = risk.init(risk_key, INPUTS), recovery.init(recovery_key, INPUTS)
        return agent.init(agent_key, *params, 0.3)

    chex.clear_trace_counter()
    update = jax.jit(chex.assert_max_traces(agent.update, n=1))
    return agent, jax.jit(start)(jax.random.key(0)), update


def form_of(tree):
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(x.shape, x.dtype, x.weak_type) for x in leaves]


def changed(new, old):
    """Whether any leaf of a tree changed in any bit."""
    same = jax.tree.map(np.array_equal, new, old)
    return not all(jax.tree.leaves(same))


def test_update_compiles_once_keeps_its_state_and_learns_only_what_it_may():
    _, state, update = whole()
    flags = itertools.product((YES, NO), repeat=2)
    for i, (learn_task, learn_risk) in enumerate(flags):
        new, metrics = update(
            jax.random.key(i), state, BATCH, BATCH, learn_task, learn_risk
        )
        assert form_of(new) == form_of(state)
        assert all(np.isfinite(x).all() for x in jax.tree.leaves((new, metrics)))
        for name in ("sac", "risk", "risk_target", "recovery", "optimizers"):
            may = learn_task if name == "sac" else learn_risk
            assert changed(getattr(new, name), getattr(state, name)) == may, name
        assert not changed(new.risk_threshold, state.risk_threshold)
        state = new


def test_learning_leaves_input_statistics_alone():
    _, state, update = whole()
    new, _ = update(jax.random.key(1), state, BATCH, BATCH, YES, YES)
    for half in ("risk", "risk_target", "recovery"):
        statistics = [getattr(s, half)["statistics"] for s in (new, state)]
        assert not changed(*statistics), half


def test_proposals_are_actions_and_the_mode_is_without_chance():
    agent, state, _ = whole()
    observation = 10.0 * jax.random.normal(jax.random.key(1), (50, 1))
    first = agent.propose(jax.random.key(2), state, observation)
    second = agent.propose(jax.random.key(3), state, observation)
    mode = agent.propose_mode(state, observation)
    for proposed in (first, second, mode):
        assert (abs(proposed) <= 1.0).all()
        assert (abs(agent.decide(state, observation, proposed).action) <= 1.0).all()
    assert changed(first, second)
    assert not changed(mode, agent.propose_mode(state, observation))


def test_another_safety_half_takes_its_place_as_if_it_had_never_learned():
    agent, state, update = whole()
    for i in range(2):
        state, _ = update(jax.random.key(i), state, BATCH, BATCH, YES, YES)
    critic, policy = jax.tree.map(lambda x: x + 0.125, agent.safety(state))
    renewed = agent.with_safety(state, critic, policy)
    assert form_of(renewed) == form_of(state)
    assert not changed(agent.safety(renewed), (critic, policy))
    fresh = agent.init(jax.random.key(3), critic, policy, 0.3)
    for name in ("risk", "risk_target", "recovery", "optimizers", "risk_threshold"):
        assert not changed(getattr(renewed, name), getattr(fresh, name)), name
    assert changed(state.optimizers, fresh.optimizers)
    assert not changed(renewed.sac, state.sac)  # the task policy goes on


def test_what_adapts_anew_online_is_otherwise_like_another_method():
    assert begins_as("mesa_readapting") == "mesa"
    assert begins_as("recovery_rl") == "recovery_rl"  # looks as far as it itself does
    renewing = {name for name, row in METHODS.items() if row.readapts}
    assert renewing == {"mesa_readapting", "context", "mesa_context"}


# One update of SAC, written out


def dense(layers, inputs):
    """Two layers with ReLU between them; of an ensemble's parameters, member by member.

    The layers' names and order are flax's.
    """
    first, second = layers["params"]["Dense_0"], layers["params"]["Dense_1"]
    hidden = jnp.maximum(inputs @ first["kernel"] + first["bias"], 0.0)
    return hidden @ second["kernel"] + second["bias"]


def twins(critics, observation, action):
    """[2, B]."""
    inputs = jnp.concatenate([observation, action], axis=1)
    members = [jax.tree.map(lambda x: x[k], critics) for k in (0, 1)]  # noqa: B023
    return jnp.stack([dense(member, inputs)[:, 0] for member in members])


def drawn(key, actor, observation):
    """An action of each observation and the logarithm of its density."""
    mean, log_std = dense(actor, observation).T
    noise = jax.random.normal(key, (len(mean), 1))[:, 0]
    raw = mean + jnp.exp(log_std) * noise
    density = -0.5 * noise**2 - log_std - 0.5 * jnp.log(2.0 * jnp.pi)
    return jnp.tanh(raw)[:, None], density - jnp.log(1.0 - jnp.tanh(raw) ** 2)


def adams_first_step(loss, params, lr=0.1):
    """A step of lr times the sign of the gradient, nearly; and the loss."""
    value, gradient = jax.value_and_grad(loss)(params)
    return value, jax.tree.map(
        lambda x, g: x - lr * g / (jnp.abs(g) + 1e-8), params, gradient
    )


def test_an_update_descends_the_published_losses_in_turn():
    """SAC, equations 5 to 9, with target critics that are not the critics."""
    draw = np.random.default_rng(0)
    numbers = draw.normal(size=(4, 6)).astype(np.float32)
    discount = np.array([1, 1, 0, 1, 0, 1], np.float32)
    batch = rows(numbers[0], np.tanh(numbers[1]), numbers[2], discount, numbers[3])
    state = MOVING.init(jax.random.key(3))
    others = MOVING.init(jax.random.key(4)).critic
    state = state._replace(target_critic=others)
    alpha, gamma = float(jnp.exp(state.log_temperature)), 0.99
    target_key, actor_key = jax.random.split(jax.random.key(5))
    reached, action = batch.next_observation, batch.action
    next_action, log_prob = drawn(target_key, state.actor, reached)
    next_value = twins(others, reached, next_action).min(0) - alpha * log_prob
    targets = batch.reward + gamma * discount * next_value

    def critic_loss(critics):
        errors = (twins(critics, batch.observation, action) - targets) ** 2
        return errors[0].mean() + errors[1].mean()

    loss_of_critics, critics = adams_first_step(critic_loss, state.critic)

    def actor_loss(actor):
        proposed, log_prob = drawn(actor_key, actor, batch.observation)
        values = twins(critics, batch.observation, proposed)
        return (alpha * log_prob - values.min(0)).mean()

    loss_of_actor, actor = adams_first_step(actor_loss, state.actor)
    new, metrics = moved(jax.random.key(5), state, batch)
    close = {"rtol": 1e-3, "atol": 1e-4}
    np.testing.assert_allclose(metrics["sac/critic_loss"], loss_of_critics, **close)
    np.testing.assert_allclose(metrics["sac/actor_loss"], loss_of_actor, **close)
    chex.assert_trees_all_close(new.critic, critics, **close)
    chex.assert_trees_all_close(new.actor, actor, **close)


def test_each_half_is_given_its_own_batch_its_target_and_the_next_state():
    """Every number that may be mixed up with another is another one."""

    def loss(params, target_params, batch, next_action):
        seen = params, target_params, jnp.mean(batch.reward), jnp.mean(next_action)
        names = ("params", "target", "reward", "next_action")
        values = {f"risk/{name}": x for name, x in zip(names, seen, strict=True)}
        return 0.5 * params**2, values

    asks = PROPOSER._replace(  # what it proposes is where it is
        sample=lambda key, state, observation: observation,
        update=lambda key, state, batch: (state, {"sac/reward": batch.reward.mean()}),
    )
    risk = known_risk(proposal_risk)._replace(loss=loss)
    agent = recovery_rl(asks, risk, RESCUER, RecoveryConfig())
    state = agent.init(jax.random.key(0), jnp.ones(()), jnp.zeros(()), 0.3)
    state = state._replace(risk=jnp.float32(2.0), risk_target=jnp.float32(5.0))
    ones = jnp.ones(4)
    task, safety = (
        rows(3 * ones, ones, reward * ones, ones, 7 * ones) for reward in (11, 13)
    )
    true = jnp.ones((), bool)
    _, metrics = agent.update(jax.random.key(1), state, task, safety, true, true)
    found = {name: float(metrics[name]) for name in metrics if "recovery" not in name}
    assert found == {
        "sac/reward": 11.0,
        "risk/reward": 13.0,
        "risk/params": 2.0,
        "risk/target": 5.0,
        "risk/next_action": 7.0,
    }
