"""The compiled programs also lower for GPUs and TPUs, and never call the host."""

import functools
import re

import jax
import jax.export
import jax.numpy as jnp
import pytest

from mesa_jax import replay, rollout
from mesa_jax.agents import (
    RecoveryConfig,
    SACConfig,
    recovery_policy,
    recovery_rl,
    sac,
)
from mesa_jax.domains import DOMAINS
from mesa_jax.meta import (
    FinetuneConfig,
    MAMLConfig,
    PooledConfig,
    anil,
    first_order,
    maml,
    pooled,
    reptile,
)
from mesa_jax.online import online_program
from mesa_jax.prior import bellman_error, init_params, safety_parts, statistics
from mesa_jax.risk import RiskConfig, violation_probability
from mesa_jax.training import Sizes, init_meta_training, meta_training

PLATFORMS = ("cpu", "cuda", "tpu")
DOMAIN = DOMAINS["navigation1"].make("flip")
RISK = violation_probability(RiskConfig(hidden=(8, 8), ensemble_size=2))
RECOVERY = recovery_policy(2, RISK.estimate, (8,))
PARTS = safety_parts(RISK, RECOVERY, DOMAIN.reference_policy, 1.0)
DRAW = functools.partial(replay.sample_rows, violation_fraction=0.3)
LEARNERS = {
    "maml": maml(PARTS, MAMLConfig(inner_steps=3)),
    "first_order": first_order(PARTS, MAMLConfig(inner_steps=3)),
    "anil": anil(PARTS, MAMLConfig(inner_steps=3)),
    "reptile": reptile(PARTS, MAMLConfig(inner_steps=3)),
    "pooled": pooled(PARTS, PooledConfig(), FinetuneConfig(optimizer="adam"), DRAW),
}


def program_of(function, *arguments) -> str:
    """The StableHLO of a function of shapes, once it lowers for every platform."""
    exported = jax.export.export(jax.jit(function), platforms=PLATFORMS)(*arguments)
    assert exported.platforms == PLATFORMS
    return exported.mlir_module()


def calls_host(program: str) -> bool:
    targets = re.findall(r"custom_call @(\w+)|call_target_name = \"(\w+)\"", program)
    return any("callback" in name for pair in targets for name in pair)


def key():
    return jax.eval_shape(lambda: jax.random.key(0))


def keys(count):
    return jax.eval_shape(lambda: jax.random.split(jax.random.key(0), count))


def rows(*axes):
    """The shape of transitions with leading axes."""

    def some():
        task = jax.tree.map(lambda x: x[0], DOMAIN.train_tasks(jax.random.key(0), 1))
        row, _ = DOMAIN.episode(jax.random.key(1), task)
        return jax.tree.map(lambda x: jnp.zeros((*axes, *x.shape[1:])), row)

    return jax.eval_shape(some)


def fresh_params():
    inputs = statistics(jax.tree.map(lambda x: jnp.ones(x.shape), rows(5)))
    return init_params(jax.random.key(0), RISK, RECOVERY, inputs)


def held_out_error(key, prior, heldout):
    critic = prior.params[0]
    return bellman_error(key, RISK, DOMAIN.reference_policy, critic, heldout)


@pytest.mark.parametrize("name", LEARNERS)
def test_outer_steps_lower_for_every_platform(name):
    learner = LEARNERS[name]
    sizes = Sizes(num_tasks=2, support=4, query=4)
    chunk = meta_training(learner, held_out_error, sizes, 0.3, steps=2, choose_from=0)
    state = init_meta_training(learner, jax.jit(fresh_params)())
    program = program_of(chunk, key(), key(), state, rows(3, 6), rows(2, 6))
    assert not calls_host(program)


@pytest.mark.parametrize("name", LEARNERS)
def test_adaptation_lowers_for_every_platform(name):
    learner = LEARNERS[name]
    prior = learner.init(jax.jit(fresh_params)()).prior
    program = program_of(
        lambda key, prior, support: learner.adapt(key, prior, support, 3),
        key(),
        prior,
        rows(6),
    )
    assert not calls_host(program)


def test_an_online_chunk_lowers_for_every_platform_and_never_calls_the_host():
    agent = recovery_rl(
        sac(DOMAIN.spec, SACConfig(hidden=(8,), temperature_lr=1e-3)),
        RISK,
        RECOVERY,
        RecoveryConfig(target_policy="composite"),
    )
    config = rollout.OnlineConfig(episodes=2, evaluate_every=1, batch_size=4)

    def start(keys, adaptation):
        def one(key, task):
            agent_key, run_key = jax.random.split(key)
            learner = agent.init(agent_key, *fresh_params(), 0.3)
            return rollout.init_run(run_key, DOMAIN, config, task, learner, adaptation)

        return jax.vmap(one)(keys, DOMAIN.test_tasks(jax.random.key(0), 2))

    states = jax.eval_shape(start, keys(2), rows(5))
    chunk = online_program(DOMAIN, agent, config)
    assert not calls_host(program_of(chunk, keys(2), keys(2), states))


def test_a_call_of_the_host_would_be_seen():
    def talks(x):
        shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
        return jax.pure_callback(lambda x: x, shape, x)

    lowered = jax.jit(talks).lower(jnp.zeros(2))
    assert calls_host(lowered.as_text())
