"""METHODS: the comparison table, one row a method and one field a phase."""

from mesa_jax.agents.recovery import RecoveryConfig, recovery_policy, recovery_rl
from mesa_jax.agents.sac import SACConfig, sac
from mesa_jax.types import Method

METHODS = {
    "unconstrained": Method("scratch", "recovery_rl", constrained=False),
    "recovery_rl": Method("scratch", "recovery_rl", constrained=True),
    "multi_task": Method("pooled", "multi_task", constrained=True),
    "multi_task_few": Method("pooled", "multi_task_few", constrained=True),
    "mesa": Method("maml", "mesa", constrained=True),
    "mesa_readapting": Method("maml", "mesa", constrained=True, readapts=True),
}
COMPARED = ("unconstrained", "recovery_rl", "multi_task", "mesa")  # unless asked

__all__ = [
    "COMPARED",
    "METHODS",
    "RecoveryConfig",
    "SACConfig",
    "recovery_policy",
    "recovery_rl",
    "sac",
]
