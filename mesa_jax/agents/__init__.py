"""Agents: the task policy, the recovery policy, and what keeps them safe, by name."""

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

# (sac, risk measure, recovery policy, RecoveryConfig, ConstraintConfig) -> Agent
AGENTS = {
    "recovery_rl": lambda *parts: recovery_rl(*parts[:-1]),  # nothing is constrained
    "lagrangian": lagrangian,
    "sqrl": sqrl,
    "rspo": rspo,
    "reward_penalty": reward_penalty,
    "rcpo": rcpo,
    "conservative": conservative,
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
