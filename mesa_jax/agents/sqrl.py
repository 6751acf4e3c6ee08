"""SQRL (Srinivasan et al., 2020, arXiv 2010.14603): LR that rejects risky samples."""

import jax
import jax.numpy as jnp

from mesa_jax.agents.constraint import ConstraintConfig
from mesa_jax.agents.lagrangian import lagrangian
from mesa_jax.agents.recovery import RecoveryConfig
from mesa_jax.agents.sac import SAC
from mesa_jax.types import Agent, Array, Policy, RiskMeasure


def first_within(risks: Array, threshold: Array) -> Array:
    """Returns the place of the first risk within a threshold, else of the least, [...].

    Of samples of a policy, in their order, the first one within is a sample of the
    policy restricted to such actions.

    Args:
      risks: [N, ...]
      threshold: []
    """
    within = risks <= threshold
    first, least = jnp.argmax(within, axis=0), jnp.argmin(risks, axis=0)
    return jnp.where(jnp.any(within, axis=0), first, least)


def rejecting(agent: Agent, sac: SAC, risk: RiskMeasure, samples: int) -> Agent:
    """Returns the agent, proposing an action within the threshold if it samples one.

    Without noise it proposes the mode, where that is within, else one of samples whose
    noise is always the same.

    Args:
      agent: whose state holds `sac`, `risk` and `risk_threshold`.
      sac: the task policy.
      risk: the measure that the actions are judged by.
      samples: actions that are drawn.
    """

    def drawn(key, state, observation):
        seen = jnp.broadcast_to(observation, (samples, *observation.shape))
        return sac.sample(key, state.sac, seen)

    def chosen(state, observation, actions):
        seen = jnp.broadcast_to(observation, (len(actions), *observation.shape))
        risks = risk.estimate(state.risk, seen, actions)
        at = first_within(risks, state.risk_threshold)
        return jnp.take_along_axis(actions, at[None, ..., None], axis=0)[0]

    def propose(key, state, observation):
        return chosen(state, observation, drawn(key, state, observation))

    def propose_mode(state, observation):
        mode = sac.mode(state.sac, observation)
        same = drawn(jax.random.key(0), state, observation)
        return chosen(state, observation, jnp.concatenate([mode[None], same]))

    return agent._replace(propose=propose, propose_mode=propose_mode)


def sqrl(
    sac: SAC,
    risk: RiskMeasure,
    recovery: Policy,
    config: RecoveryConfig,
    constraint: ConstraintConfig,
) -> Agent:
    """Makes SQRL, as Recovery RL compares with it: LR, and its actions chosen.

    Of 100 samples of the policy one with Q_risk(s, a) <= epsilon_risk is executed, of
    them the first (`first_within`; Recovery RL's code draws among them once more by
    their density, which counts it twice); where there is none, that of least risk.

    Args:
      sac: the task policy.
      risk: the measure that is constrained.
      recovery: a policy that is learned beside it.
      config: rates of the safety half.
      constraint: LR's, and the number of samples.
    """
    agent = lagrangian(sac, risk, recovery, config, constraint)
    return rejecting(agent, sac, risk, constraint.samples)
