"""RSPO, risk-sensitive policy optimization: LR whose lambda is annealed to 0."""

from typing import NamedTuple

import jax.numpy as jnp

from mesa_jax.agents.constraint import ConstraintConfig, Multiplier
from mesa_jax.agents.lagrangian import lagrangian
from mesa_jax.agents.recovery import RecoveryConfig
from mesa_jax.agents.sac import SAC
from mesa_jax.types import Agent, Array, Policy, RiskMeasure


class AnnealedState(NamedTuple):
    """Holds where lambda began, and the updates since."""

    start: Array  # []
    updates: Array  # [] int32


def annealed(config: ConstraintConfig) -> Multiplier:
    """Makes lambda = 2 weight max(0, 1 - updates / anneal_steps).

    From twice LR's lambda linearly to 0, as Recovery RL has it; there an episode is the
    unit, here an update, of which an agent knows.
    """

    def init(threshold):
        start = jnp.asarray(2.0 * config.weight, jnp.float32)
        start = jnp.where(jnp.isfinite(threshold), start, 0.0)
        return AnnealedState(start, jnp.zeros((), jnp.int32))

    def value(state):
        rest = 1.0 - state.updates / config.anneal_steps
        return state.start * jnp.maximum(rest, 0.0)

    def update(state, excess):
        del excess
        return state._replace(updates=state.updates + 1)

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
      constraint: LR's lambda at the start, and the updates, above 0, until it is 0.
    """
    return lagrangian(sac, risk, recovery, config, constraint, annealed(constraint))
