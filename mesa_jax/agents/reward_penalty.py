"""Reward penalty (RP): SAC that loses reward with each violation."""

import jax
import jax.numpy as jnp

from mesa_jax import equations
from mesa_jax.agents.constraint import ConstraintConfig, unfiltered
from mesa_jax.agents.recovery import RecoveryConfig, recovery_rl
from mesa_jax.agents.sac import SAC
from mesa_jax.types import Agent, Policy, RiskMeasure


def reward_penalty(
    sac: SAC,
    risk: RiskMeasure,
    recovery: Policy,
    config: RecoveryConfig,
    constraint: ConstraintConfig,
) -> Agent:
    """Makes RP, as Recovery RL compares with it: SAC on r - lambda c.

    c is the violation of the state reached; lambda stays what it is. Risk critic and
    recovery policy learn beside it and nothing asks them; nor is there a threshold.

    Args:
      sac: the task policy.
      risk: a measure that is learned beside it.
      recovery: a policy that is learned beside it.
      config: rates of the safety half.
      constraint: lambda.
    """
    agent = recovery_rl(sac, risk, recovery, config)
    penalised = jax.vmap(equations.penalised_reward, (0, None, 0))

    def update(key, state, task_batch, safety_batch, learn_task, learn_risk):
        weight = jnp.asarray(constraint.weight, jnp.float32)
        reward = penalised(task_batch.reward, weight, task_batch.cost)
        priced = task_batch._replace(reward=reward)
        return agent.update(key, state, priced, safety_batch, learn_task, learn_risk)

    return unfiltered(agent._replace(update=update))
