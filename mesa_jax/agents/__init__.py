"""Agents: the task policy, the recovery policy, and Recovery RL that joins them."""

from mesa_jax.agents.recovery import RecoveryConfig, recovery_policy, recovery_rl
from mesa_jax.agents.sac import SACConfig, sac

__all__ = [
    "RecoveryConfig",
    "SACConfig",
    "recovery_policy",
    "recovery_rl",
    "sac",
]
