"""METHODS: the comparison table, one row a method and one field a phase."""

from typing import NamedTuple


class Method(NamedTuple):
    """Describes a row of the comparison table: one field a phase."""

    prior: str  # a registered meta-learner, or "scratch"
    adaptation: str  # section of the settings that says how it adapts
    constrained: bool  # False: the risk threshold is never reached
    readapts: bool = False  # adapts anew online, on its most recent transitions
    told: bool = False  # its encoding is the body's true parameters
    variant: str = ""  # settings of its own (`presets.VARIANTS`), so another program


METHODS = {
    "unconstrained": Method("scratch", "finetune_scratch", constrained=False),
    "recovery_rl": Method("scratch", "finetune_scratch", constrained=True),
    "multi_task": Method("pooled", "finetune", constrained=True),
    "multi_task_few": Method("pooled", "finetune_few", constrained=True),
    "mesa": Method("maml", "inner_loop", constrained=True),
    "mesa_readapting": Method("maml", "inner_loop", constrained=True, readapts=True),
    # they read the adaptation set before any gradient step
    "context": Method(
        "maml", "inner_loop", constrained=True, readapts=True, variant="context"
    ),
    "mesa_context": Method(
        "maml", "inner_loop", constrained=True, readapts=True, variant="mesa_context"
    ),
    # references: a body's parameters by least squares, and as they are
    "system_id": Method("maml", "inner_loop", constrained=True, variant="system_id"),
    "oracle": Method(
        "maml", "inner_loop", constrained=True, told=True, variant="system_id"
    ),
    # as the released code has them, and that with one difference switched to ours
    "recovery_rl_published": Method(
        "scratch", "finetune_scratch", constrained=True, variant="recovery_rl_published"
    ),
    "multi_task_published": Method(
        "pooled", "finetune", constrained=True, variant="multi_task_published"
    ),
    "mesa_published_rate": Method(
        "maml", "inner_loop", constrained=True, variant="mesa_published_rate"
    ),
    **{
        name: Method("maml", "finetune", constrained=True, variant=name)
        for name in (
            "mesa_published",
            "mesa_published_inputs",
            "mesa_published_target",
            "mesa_published_outer",
            "mesa_published_network",
            "mesa_published_recovery",
            "mesa_published_body",
        )
    },
}


COMPARED = ("unconstrained", "recovery_rl", "multi_task", "mesa")  # unless asked
