"""Lagrangian relaxation (LR): SAC whose actor pays for the risk of its actions."""

from collections.abc import Callable

import jax.numpy as jnp

from mesa_jax.agents.constraint import (
    ConstraintConfig,
    Multiplier,
    begun,
    dual_ascent,
    moved,
    unfiltered,
)
from mesa_jax.agents.recovery import RecoveryConfig, recovery_rl
from mesa_jax.agents.sac import SAC
from mesa_jax.types import Agent, Policy, RiskMeasure


def lagrangian(
    sac: SAC,
    risk: RiskMeasure,
    recovery: Policy,
    config: RecoveryConfig,
    constraint: ConstraintConfig,
    multiplier: Multiplier | None = None,
    learned_risk: Callable | None = None,
) -> Agent:
    """Makes LR, as Recovery RL compares with it (appendix, and its released code).

    The actor descends, a ~ pi(s),

        mean of alpha log pi(a|s) - min over i of Q_i(s, a)
                + lambda (Q_risk(s, a) - epsilon_risk),

    and lambda ascends its own term (`dual_ascent`), by the risk of the same actions. It
    executes what it proposes; the recovery policy learns and never acts. A threshold
    above 1, which no risk exceeds, counts as 1.

    Args:
      sac: the task policy.
      risk: the measure that is constrained.
      recovery: a policy that is learned beside it.
      config: rates of the safety half.
      constraint: lambda at the start, and its rate.
      multiplier: how lambda moves; None: by dual ascent.
      learned_risk: as `recovery_rl` takes it.
    """
    multiplier = multiplier or dual_ascent(constraint)

    def actor_cost(state):
        weight = multiplier.value(state.multiplier)
        threshold = jnp.minimum(state.risk_threshold, 1.0)

        def cost(observation, action):
            risks = risk.estimate(state.risk, observation, action)
            return weight * (risks - threshold), {"constraint/risk": jnp.mean(risks)}

        return cost

    agent = recovery_rl(sac, risk, recovery, config, actor_cost, learned_risk)

    def update(key, state, task_batch, safety_batch, learn_task, learn_risk):
        new_state, metrics = agent.update(
            key, state, task_batch, safety_batch, learn_task, learn_risk
        )
        new_state, about = moved(
            multiplier, state, new_state, metrics["constraint/risk"], learn_task
        )
        return new_state, metrics | about

    return unfiltered(begun(agent._replace(update=update), multiplier))
