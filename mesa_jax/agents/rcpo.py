"""RCPO, reward constrained policy optimization (Tessler et al., 2018)."""

import jax
import jax.numpy as jnp

from mesa_jax import equations
from mesa_jax.agents.constraint import (
    ConstraintConfig,
    begun,
    dual_ascent,
    moved,
    unfiltered,
)
from mesa_jax.agents.recovery import RecoveryConfig, recovery_rl
from mesa_jax.agents.sac import SAC
from mesa_jax.types import Agent, Policy, RiskMeasure


def rcpo(
    sac: SAC,
    risk: RiskMeasure,
    recovery: Policy,
    config: RecoveryConfig,
    constraint: ConstraintConfig,
) -> Agent:
    """Makes RCPO, as Recovery RL compares with it: SAC on r - lambda Q_risk(s, a).

    lambda ascends as LR's does, by the risk of the batch's own actions.

    Args:
      sac: the task policy.
      risk: the measure that is constrained.
      recovery: a policy that is learned beside it.
      config: rates of the safety half.
      constraint: lambda at the start, and its rate.
    """
    multiplier = dual_ascent(constraint)
    agent = recovery_rl(sac, risk, recovery, config)
    penalised = jax.vmap(equations.penalised_reward, (0, None, 0))

    def update(key, state, task_batch, safety_batch, learn_task, learn_risk):
        weight = multiplier.value(state.multiplier)
        risks = risk.estimate(state.risk, task_batch.observation, task_batch.action)
        reward = penalised(task_batch.reward, weight, risks)
        priced = task_batch._replace(reward=reward)
        new_state, metrics = agent.update(
            key, state, priced, safety_batch, learn_task, learn_risk
        )
        new_state, about = moved(
            multiplier, state, new_state, jnp.mean(risks), learn_task
        )
        return new_state, metrics | about

    return unfiltered(begun(agent._replace(update=update), multiplier))
