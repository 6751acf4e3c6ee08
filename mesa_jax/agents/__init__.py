"""METHODS: the comparison table, one row a method and one field a phase."""

from mesa_jax.agents.recovery import RecoveryConfig, recovery_policy, recovery_rl
from mesa_jax.agents.sac import SACConfig, sac
from mesa_jax.types import Method


def _published(variant: str, prior: str = "maml", adaptation: str = "") -> Method:
    section = adaptation or {"scratch": "recovery_rl"}.get(prior, "multi_task")
    return Method(prior, section, constrained=True, variant=variant)


METHODS = {
    "unconstrained": Method("scratch", "recovery_rl", constrained=False),
    "recovery_rl": Method("scratch", "recovery_rl", constrained=True),
    "multi_task": Method("pooled", "multi_task", constrained=True),
    "multi_task_few": Method("pooled", "multi_task_few", constrained=True),
    "mesa": Method("maml", "mesa", constrained=True),
    "mesa_readapting": Method("maml", "mesa", constrained=True, readapts=True),
    # as the released code has them, and that with one difference switched to ours
    "recovery_rl_published": _published("recovery_rl_published", "scratch"),
    "multi_task_published": _published("multi_task_published", "pooled", "multi_task"),
    "mesa_published": _published("mesa_published"),
    "mesa_published_rate": _published("mesa_published_rate", adaptation="mesa"),
    **{
        f"mesa_published_{difference}": _published(f"mesa_published_{difference}")
        for difference in ("inputs", "target", "outer", "network", "recovery", "body")
    },
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
