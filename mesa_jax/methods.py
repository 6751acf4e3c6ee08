"""METHODS: the comparison table. A row is whole: all that is known by its name.

How it is trained, how it adapts, what it runs under, what is tried of it, how it is
drawn. There is no second list by method name.
"""

import itertools
from types import MappingProxyType
from typing import NamedTuple

from mesa_jax import released
from mesa_jax.settings import Layer


class Method(NamedTuple):
    """Describes a row of the comparison table, whole."""

    prior: str  # a registered meta-learner, or "scratch"
    adaptation: str  # section of the configuration that says how it adapts
    colour: str
    dashes: str | tuple  # as matplotlib has them
    constrained: bool = True  # False: the risk threshold is never reached
    readapts: bool = False  # adapts anew online, on its most recent transitions
    told: bool = False  # its encoding is the body's true parameters
    settings: Layer = MappingProxyType(
        {}
    )  # what it needs otherwise than the presets have it
    grid: tuple[Layer, ...] = ()  # four settings that `tune` tries at each horizon
    grid_steps: tuple[int, ...] = ()  # its adaptation steps, read along the way


# What is tried

SGD, ADAM = (0.1, 0.3), (3e-4, 1e-3)  # rates
FEW_STEPS_RATES = (0.1, 0.3, 1.0, 3.0)
TRAINING_FIELDS = ("learner", "inner_steps", "anchor")
META_TRAINING = (
    *(("maml", 5, 1.0), ("maml", 5, 0.1), ("maml", 10, 1.0)),
    ("first_order", 5, 1.0),
)
OUTER_RATES = (1e-3, 2e-3)  # of what encodes


def _every(section: str, **values: tuple) -> tuple[Layer, ...]:
    """Returns every combination of some fields' values."""
    return tuple(
        {section: dict(zip(values, row, strict=True))}
        for row in itertools.product(*values.values())
    )


def _finetuning(section: str, optimizer: str, rates) -> tuple[Layer, ...]:
    return _every(section, optimizer=(optimizer,), lr=rates, target_rate=(1.0,))


# What a row needs

_ENCODED = {
    "steps": 8000,
    "num_tasks": 8,
    "support_size": 256,
    "support_least": 5,
    "gradient_clip": 0.1,
    "keep": "last",
}
_READING = {  # bodies are read anew while a run goes on
    "readapt_every": 10,
    "readapt_transitions": 20,
    "readapt_from": "prior",
}
CONTEXT: Layer = {
    "risk": {"conditioning": "encoded"},
    "maml": _ENCODED | {"inner_steps": 0, "anchor": 0.0},
    "inner_loop": {"steps": 0},
    "online": _READING,
}
MESA_CONTEXT: Layer = {
    "risk": {"conditioning": "encoded"},
    "maml": _ENCODED
    | {"inner_steps": 5, "anchor": 1.0, "inner_every": 4, "inner_clip": 1.0},
    "inner_loop": {"steps": 0, "steps_outside": 5},
    "online": _READING,
}
SYSTEM_ID: Layer = {
    "risk": {"conditioning": "identified"},
    "maml": _ENCODED | {"inner_steps": 0, "anchor": 0.0},
    "inner_loop": {"steps": 0},
}

_DOTTED, _SPARSE = (0, (1, 1.2)), (0, (1, 2))
_DASHED, _DASH_DOTTED = (0, (5, 1.5)), (0, (6, 1.5, 1, 1.5))


def _constrained(kind: str, colour: str, constrained: bool = True) -> Method:
    """Returns a row of another online agent, begun as `recovery_rl` is."""
    return Method(
        "scratch",
        "finetune_scratch",
        *(colour, _DASHED, constrained),
        settings={"constraint": {"kind": kind}},
    )


# another online agent each, `mesa_jax/agents/`
CONSTRAINED = {
    "lagrangian": _constrained("lagrangian", "#A6761D"),
    "sqrl": _constrained("sqrl", "#7570B3"),
    "rspo": _constrained("rspo", "#66A61E"),
    "rcpo": _constrained("rcpo", "#8C564B"),
    "conservative": _constrained("conservative", "#17BECF"),
}
PENALISED = {"reward_penalty": _constrained("reward_penalty", "#E7298A", False)}


CARL: Layer = {
    "risk": {"measure": "dynamics", "ensemble_size": 5},
    "pooled": {"keep": "last"},
    "finetune": {"optimizer": "adam", "lr": 1e-3, "target_rate": 1.0, "steps": 100},
    "recovery": {"risk_threshold": 0.5},
    "constraint": {"kind": "carl"},
    "online": {"start_steps": 0},  # a plan needs no task policy that has learned
}
PLANNING = {  # by a model; CARL-Reward looks at the worse half of a plan's particles
    "carl": Method("pooled", "finetune", "#A50026", _DASH_DOTTED, settings=CARL),
    "carl_reward": Method(
        *("pooled", "finetune", "#F46D43", _DASH_DOTTED, False),
        settings=CARL | {"planner": {"worst": 0.5}},
    ),
}


def _begun_as(other: str, prior: str, adaptation: str, dashes) -> dict[str, Method]:
    """Returns rows of the constrained agents that begin with another row's critic."""
    return {
        f"{name}_{other}": row._replace(
            prior=prior, adaptation=adaptation, dashes=dashes
        )
        for name, row in CONSTRAINED.items()
    }


METHODS = {
    "unconstrained": Method(
        "scratch", "finetune_scratch", "#666666", _DOTTED, constrained=False
    ),
    "recovery_rl": Method(
        "scratch",
        "finetune_scratch",
        *("#D55E00", _DASHED),
        grid=_every(
            "finetune_scratch",
            optimizer=("adam",),
            lr=(1e-3, 3e-3),
            target_rate=(0.005, 1.0),  # the frozen one is random
        ),
        grid_steps=(2000,),  # protocol
    ),
    "multi_task": Method(
        "pooled",
        "finetune",
        *("#0072B2", _DASH_DOTTED),
        grid=(
            *_finetuning("finetune", "sgd", SGD),
            *_finetuning("finetune", "adam", ADAM),
        ),
        grid_steps=(5, 10, 30, 100, 500),
    ),
    "multi_task_few": Method(
        "pooled",
        "finetune_few",
        *("#1B2F73", (0, (1.5, 1.5))),
        grid=_finetuning("finetune_few", "sgd", FEW_STEPS_RATES),
        grid_steps=(5,),  # the best fixed-rate SGD for few steps
    ),
    "mesa": Method(
        "maml",
        "inner_loop",
        *("#009E73", "-"),
        grid=tuple(
            {"maml": dict(zip(TRAINING_FIELDS, row, strict=True))}
            for row in META_TRAINING
        ),
        grid_steps=(1, 5, 10, 30, 100),
    ),
    "mesa_readapting": Method(
        "maml", "inner_loop", "#CC79A7", (0, (3, 1)), readapts=True
    ),
    # they read the adaptation set before any gradient step
    "context": Method(
        "maml",
        "inner_loop",
        *("#56B4E9", "-"),
        readapts=True,
        settings=CONTEXT,
        grid=_every("maml", outer_lr=OUTER_RATES, gradient_clip=(0.1, 1.0)),
        grid_steps=(0,),
    ),
    "mesa_context": Method(
        "maml",
        "inner_loop",
        *("#882255", "-"),
        readapts=True,
        settings=MESA_CONTEXT,
        grid=_every("maml", outer_lr=OUTER_RATES, anchor=(0.1, 1.0)),
        grid_steps=(0, 1, 5),
    ),
    # references: a body's parameters by least squares, and as they are
    "system_id": Method(
        "maml",
        "inner_loop",
        *("#000000", _DOTTED),
        settings=SYSTEM_ID,
        grid=_every("maml", outer_lr=OUTER_RATES, gradient_clip=(0.1, 1.0)),
        grid_steps=(0,),
    ),
    "oracle": Method(
        "maml", "inner_loop", "#000000", _DASHED, told=True, settings=SYSTEM_ID
    ),
    # another agent online, with the critic of recovery_rl, multi_task or mesa
    **CONSTRAINED,
    **PENALISED,
    **PLANNING,
    **_begun_as("multi_task", "pooled", "finetune", _DASH_DOTTED),
    **_begun_as("mesa", "maml", "inner_loop", "-"),
    # as the released code has them
    "recovery_rl_published": Method(
        *("scratch", "finetune_scratch", "#D55E00", _SPARSE),
        settings=released.RECOVERY_RL,
    ),
    "multi_task_published": Method(
        "pooled", "finetune", "#0072B2", _SPARSE, settings=released.MULTI_TASK
    ),
    "mesa_published": Method(
        "maml", "finetune", "#009E73", _SPARSE, settings=released.MESA
    ),
    "mesa_published_rate": Method(
        "maml", "inner_loop", "#E69F00", _SPARSE, settings=released.MESA_RATE
    ),
}
COMPARED = ("unconstrained", "recovery_rl", "multi_task", "mesa")  # unless asked


def filters(name: str) -> bool:
    """Returns whether a method adapts a safety filter, which others may put to use.

    Not so where no threshold counts, or where a model is planned in.
    """
    return METHODS[name].constrained and name not in PLANNING


def program_of(name: str) -> str:
    """Returns the first method of the same settings: one program runs them all."""
    settings = METHODS[name].settings
    return next(other for other, row in METHODS.items() if row.settings == settings)


def begins_as(name: str) -> str:
    """Returns the first method that makes the same of a body before its run begins.

    The two may differ in what they do online.
    """

    def begin(row: Method) -> tuple:
        before = {k: v for k, v in row.settings.items() if k != "constraint"}
        return row.prior, row.adaptation, row.told, row.constrained, before

    mine = begin(METHODS[name])
    return next(other for other, row in METHODS.items() if begin(row) == mine)
