"""RSPO, risk-sensitive policy optimization: LR whose lambda is annealed to 0."""

from typing import NamedTuple

import jax.numpy as jnp

from mesa_jax.agents.constraint import ConstraintConfig, Multiplier
from mesa_jax.agents.lagrangian import lagrangian
from mesa_jax.agents.recovery import RecoveryConfig
from mesa_jax.agents.sac import SAC
from mesa_jax.types import Agent, Array, Policy, RiskMeasure


class AnnealedState(NamedTuple):
    """Holds where lambda began, and how far the run is."""

    start: Array  # []
    share: Array  # [] in [0, 1]


def annealed(config: ConstraintConfig) -> Multiplier:
    """Makes lambda = 2 weight (1 - share of the run that is done).

    From twice LR's lambda linearly to 0, as Recovery RL has it.
    """

    def init(threshold):
        start = jnp.asarray(2.0 * config.weight, jnp.float32)
        start = jnp.where(jnp.isfinite(threshold), start, 0.0)
        return AnnealedState(start, jnp.zeros((), jnp.float32))

    def value(state):
        return state.start * (1.0 - state.share)

    def update(state, excess):
        del excess
        return state

    return Multiplier(init, value, update)


def rspo(
    sac: SAC,
    risk: RiskMeasure,
    recovery: Policy,
    config: RecoveryConfig,
    constraint: ConstraintConfig,
) -> Agent:
    """Makes RSPO, as Recovery RL compares with it.

    Args:
      sac: the task policy.
      risk: the measure that is constrained.
      recovery: a policy that is learned beside it.
      config: rates of the safety half.
      constraint: LR's lambda at the start.
    """
    multiplier = annealed(constraint)
    agent = lagrangian(sac, risk, recovery, config, constraint, multiplier)

    def progress(state, share):
        share = jnp.asarray(share, jnp.float32)
        return state._replace(multiplier=state.multiplier._replace(share=share))

    return agent._replace(progress=progress)
