"""Conservative safety critic (Bharadhwaj et al., 2021, arXiv 2010.14497)."""

import jax.numpy as jnp

from mesa_jax.agents.constraint import ConstraintConfig
from mesa_jax.agents.lagrangian import lagrangian
from mesa_jax.agents.recovery import RecoveryConfig
from mesa_jax.agents.sac import SAC
from mesa_jax.agents.sqrl import rejecting
from mesa_jax.types import Agent, Array, Policy, RiskMeasure


def pessimistic(risk: RiskMeasure, action: Array, alpha: float | Array) -> RiskMeasure:
    """Returns the measure whose loss raises estimates at a policy's actions.

        loss - alpha (mean Q_risk(s, a') - mean Q_risk(s, a)),  a' ~ pi(s)

    over a batch with actions a (Bharadhwaj et al., equation 2; there the squared error
    has a factor of a half, here none). Where both are the same actions the term is 0.

    Args:
      risk: the measure.
      action: [B, A] a', at the batch's observations.
      alpha: [] at least 0; 0 is the measure's own loss.
    """

    def loss(params, target_params, batch, next_action):
        error, metrics = risk.loss(params, target_params, batch, next_action)
        asked = risk.estimate(params, batch.observation, action)
        seen = risk.estimate(params, batch.observation, batch.action)
        gap = jnp.mean(asked) - jnp.mean(seen)
        return error - alpha * gap, metrics | {"risk/gap": gap}

    return risk._replace(loss=loss)


def conservative(
    sac: SAC,
    risk: RiskMeasure,
    recovery: Policy,
    config: RecoveryConfig,
    constraint: ConstraintConfig,
) -> Agent:
    """Makes the agent of a conservative safety critic, on SAC.

    The critic's online loss is `pessimistic`; actions are drawn until one is within the
    risk threshold, of the last resort that of least risk (`rejecting`); actor and
    lambda are LR's. In the paper the policy is a natural gradient's and the threshold
    shrinks with the discount; both are here what every other method has. What the
    critic begins with is the adaptation's own, without the term.

    Args:
      sac: the task policy.
      risk: the measure that is constrained.
      recovery: a policy that is learned beside it.
      config: rates of the safety half.
      constraint: LR's, the number of samples, and alpha.
    """

    def learned_risk(key, state, batch):
        action = sac.sample(key, state.sac, batch.observation)
        return pessimistic(risk, action, constraint.conservatism)

    agent = lagrangian(
        sac, risk, recovery, config, constraint, learned_risk=learned_risk
    )
    return rejecting(agent, sac, risk, constraint.samples)
