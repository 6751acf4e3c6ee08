"""Agents: the task policy, the recovery policy, and what keeps them safe, by name."""

from collections.abc import Callable

from mesa_jax.agents.carl import carl
from mesa_jax.agents.conservative import conservative
from mesa_jax.agents.constraint import ConstraintConfig
from mesa_jax.agents.lagrangian import lagrangian
from mesa_jax.agents.rcpo import rcpo
from mesa_jax.agents.recovery import RecoveryConfig, recovery_rl
from mesa_jax.agents.recovery_policy import recovery_policy
from mesa_jax.agents.reward_penalty import reward_penalty
from mesa_jax.agents.rspo import rspo
from mesa_jax.agents.sac import SACConfig, sac
from mesa_jax.agents.sqrl import sqrl


def _constrained(make: Callable) -> Callable:
    return lambda sac, risk, recovery, of: make(
        sac, risk, recovery, of.recovery, of.constraint
    )


# (sac, risk measure, recovery policy, Configuration) -> Agent
AGENTS: dict[str, Callable] = {
    "recovery_rl": lambda sac, risk, recovery, of: recovery_rl(
        sac, risk, recovery, of.recovery
    ),
    "lagrangian": _constrained(lagrangian),
    "sqrl": _constrained(sqrl),
    "rspo": _constrained(rspo),
    "reward_penalty": _constrained(reward_penalty),
    "rcpo": _constrained(rcpo),
    "conservative": _constrained(conservative),
    "carl": lambda sac, risk, recovery, of: carl(
        sac, risk, recovery, of.recovery, of.planner, of.risk.ensemble_size
    ),
}

__all__ = [
    "AGENTS",
    "ConstraintConfig",
    "RecoveryConfig",
    "SACConfig",
    "recovery_policy",
    "recovery_rl",
    "sac",
]
