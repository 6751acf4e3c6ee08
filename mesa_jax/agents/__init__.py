"""METHODS: the comparison table, one row a method and one field a phase."""

from mesa_jax.agents.recovery import RecoveryConfig, recovery_policy, recovery_rl
from mesa_jax.agents.sac import SACConfig, sac
from mesa_jax.types import Method

METHODS = {
    "unconstrained": Method("scratch", "finetune", constrained=False),
    "recovery_rl": Method("scratch", "finetune", constrained=True),
    "multi_task": Method("pooled", "finetune", constrained=True),
    "mesa": Method("maml", "inner_loop", constrained=True),
}

__all__ = [
    "METHODS",
    "RecoveryConfig",
    "SACConfig",
    "recovery_policy",
    "recovery_rl",
    "sac",
]
