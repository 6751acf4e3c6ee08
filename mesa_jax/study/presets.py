"""Presets: what a configuration has otherwise than the settings' defaults.

One ordered list of rules; a later one is over the earlier ones, and what was asked for
is over all of them (`resolve`). Rules of a method come last.
"""

from mesa_jax.methods import CONSTRAINED, METHODS, PENALISED, PLANNING, program_of
from mesa_jax.settings import Layer
from mesa_jax.study.rules import Rule, chosen_rules

PRESETS = ("quick", "paper", "published_risk")


def _risk(threshold: float, **look: float) -> Layer:
    """Returns a risk threshold, and the discount or the horizon that it goes with."""
    return {"risk": look, "recovery": {"risk_threshold": threshold}}


_LOCOMOTION: Layer = {
    "physics": {"backend": "spring", "frame_skip": 5, "horizon": 200},
    "data": {
        "transitions": 20_000,
        "heldout_bodies": 1,
        "test_transitions": 5_000,
    },
    "collect": {"collector": "sac", "updates": 16},
    "sac": {"temperature": 0.05},
    "risk": {"violation_fraction": 0.3},
    "quality": {
        "decision_states": 100,
        "rollouts": 24,
        "precision": 0.05,
        "filter_episodes": 8,
    },
    "online": {
        "episodes": 3000,  # more than the steps allow
        "steps": 30_000,
        "start_steps": 500,
        "evaluate_every": 50,  # an unsafe run's episodes are a dozen steps long
        "chunk_steps": 2000,
    },
}
_LIMBS = ("halfcheetah_disabled", "ant_disabled")
_FINE: Layer = {  # the released code's control steps, without a frame skip
    "physics": {"frame_skip": 1, "horizon": 1000},
    "collect": {"start_steps": 10_000, "at_violation": "goes_on"},
    "sac": {"temperature": 0.2},
    "online": {"steps": 0, "start_steps": 10_000, "evaluate_every": 10},
}
_PARTIAL: Layer = {
    "data": {"train_bodies": 12, "heldout_bodies": 4, "transitions": 10_000},
    "maml": {"num_tasks": 5},
}
# Discount a step and threshold of the papers, and what keeps bodies that fall safe: a
# look of a second or more. What was chosen for the bodies is over both.
PUBLISHED_RISK = {
    "navigation1": _risk(0.3, discount=0.8),
    "navigation2": _risk(0.1, discount=0.65),
    "cartpole_length": _risk(0.1, discount=0.8),
    "halfcheetah_disabled": _risk(0.1, discount=0.8),
    "ant_disabled": _risk(0.3, discount=0.8),
}
HORIZONS = {  # seconds (steps in navigation) that `tune` tries
    "navigation1": (2.5, 5.0, 10.0, 20.0),
    "navigation2": (2.5, 5.0, 10.0, 20.0),
    "cartpole_length": (0.2, 0.8, 2.0, 4.0),
    "halfcheetah_disabled": (0.25, 1.0, 2.5, 5.0),
    "ant_disabled": (0.25, 1.0, 2.5, 5.0),
}
OUR_RISK = {"halfcheetah_disabled": _risk(0.3, horizon=2.5)}
_IMPAIRED: Layer = {
    "data": {"train_bodies": 32, "heldout_bodies": 8, "transitions": 6_000},
    "collect": {"collector": "mixed"},
    "maml": {"num_tasks": 8},
    "pooled": {"num_tasks": 8},
}
_ALL_IMPAIRED = tuple(
    (domain, tasks)
    for domain in _LIMBS
    for tasks in ("impaired", "impaired_outside", "impaired_intact")
)
_GENERAL = (
    Rule({"online": {"episodes": 40}}, preset="quick"),
    Rule(
        {
            "data": {"transitions": 30_000},
            "risk": {"hidden": (256, 256)},
            "recovery": {"hidden": (256, 256)},
            "sac": {"hidden": (256, 256)},
            "online": {"episodes": 300},
        },
        preset="paper",
    ),
    *(Rule(layer, domain=domain) for domain, layer in PUBLISHED_RISK.items()),
    *(Rule(layer, domain=domain) for domain, layer in OUR_RISK.items()),
    Rule({"data": {"train_bodies": 25}}, domain="navigation2"),
    Rule(
        {
            "physics": {"frame_skip": 2, "horizon": 200},
            "data": {"train_bodies": 20, "transitions": 10_000},
            "collect": {"collector": "sac"},
            "online": {"episodes": 200, "chunk_steps": 1000},
        },
        domain="cartpole_length",
    ),
    Rule({"data": {"train_bodies": 64}}, domain="cartpole_length", tasks="actuator"),
    *(Rule(_LOCOMOTION, domain=domain) for domain in _LIMBS),
    Rule(
        {"data": {"train_bodies": 4}, "maml": {"num_tasks": 4}},
        domain="halfcheetah_disabled",
    ),
    Rule(
        {
            "physics": {"backend": "mjx"},
            "data": {"train_bodies": 3},
            "maml": {"num_tasks": 3},
        },
        domain="ant_disabled",
    ),
    *(Rule(_PARTIAL, domain=domain, tasks="partial") for domain in _LIMBS),
    *(Rule(_IMPAIRED, domain=domain, tasks=tasks) for domain, tasks in _ALL_IMPAIRED),
    Rule(
        {
            "data": {"transitions": 20_000, "adaptation": 400},
            "collect": {"updates": 16, "start_steps": 100},
            "online": {"episodes": 400},
        },
        preset="paper",
        domain="cartpole_length",
    ),
    Rule(
        {
            "data": {"train_bodies": 64, "heldout_bodies": 8, "transitions": 1000},
            "collect": {"collector": "random"},
            "risk": {"horizon": 4.0, "ensemble_size": 2, "error": "entropy"},
            "recovery": {"objective": "logit", "risk_threshold": 0.1, "lr": 0.0},
            "rounds": {"count": 4},
            "quality": {"decision_states": 200, "rollouts": 48, "precision": 1e-2},
        },
        domain="cartpole_length",
        tasks="actuator",
        risk="avoid",
    ),
    *(Rule(_FINE, preset="paper", domain=domain) for domain in _LIMBS),
    Rule(
        {
            "data": {
                "transitions": 400_000,
                "adaptation": 10_000,
                "test_transitions": 400_000,
            },
            "online": {"episodes": 500},
        },
        preset="paper",
        domain="halfcheetah_disabled",
    ),
    Rule(
        {
            "data": {
                "transitions": 800_000,
                "adaptation": 20_000,
                "test_transitions": 800_000,
            },
            "online": {"episodes": 1000},
        },
        preset="paper",
        domain="ant_disabled",
    ),
    *(
        Rule(
            {"data": {"transitions": 50_000}},
            preset="paper",
            domain=domain,
            tasks=tasks,
        )
        for domain, tasks in _ALL_IMPAIRED
    ),
)
# Over what was chosen for the bodies, with the networks of `quick`: MAML without an
# anchor, often the best there, saturates within 500 outer steps at 2 x 256.
_OVER_CHOICES = (Rule({"maml": {"anchor": 1.0}}, preset="paper"),)
# A dead limb hardly changes the risk, so what a run has learned online is worth more
# than the prior's networks.
_GOING_ON: Layer = {
    "online": {
        "readapt_every": 100,
        "readapt_transitions": 100,
        "readapt_from": "current",
    }
}
_STILL: Layer = {
    "maml": {"support_windows": 0.5},
    "online": {"readapt_transitions": 50},
}
# CARL's own networks and planner (its released code), where it has the body
_CARL = {"candidates": 500, "elites": 50, "iterations": 5, "particles": 20}
CARL_SIZES = {
    "cartpole_length": (
        (500, 500, 500),
        _CARL | {"candidates": 400, "elites": 40, "horizon": 25},
    ),
    "halfcheetah_disabled": ((200, 200, 200, 200), _CARL),
}
_OF_METHODS = (
    *(
        Rule(
            {"risk": {"hidden": hidden}, "planner": planner},
            *("paper", domain, None, name),
        )
        for domain, (hidden, planner) in CARL_SIZES.items()
        for name in PLANNING
    ),
    *(
        Rule(row.settings, method=name)
        for name, row in METHODS.items()
        if row.settings and program_of(name) == name
    ),
    *(
        Rule(_GOING_ON, domain=domain, method=name)
        for domain in _LIMBS
        for name in ("context", "mesa_context")
    ),
    *(  # by the filter test (`phases.training.filter_error`)
        Rule({"maml": {"keep": "best"}}, method=name, risk="avoid")
        for name in ("context", "mesa_context", "system_id")
    ),
    *(  # a body that is held still tells little of itself
        Rule(_STILL, method=name, risk="avoid") for name in ("context", "mesa_context")
    ),
)


# lambda of Recovery RL, table II; elsewhere `ConstraintConfig` has that of its Object
# Extraction, the same for all. SQRL has LR's, RSPO begins at twice it; so may ours.
LAMBDAS = {
    "navigation1": {"lagrangian": 5000.0, "reward_penalty": 1000.0, "rcpo": 1000.0},
    "navigation2": {"lagrangian": 1000.0, "reward_penalty": 3000.0, "rcpo": 5000.0},
}
_OF_LAMBDA = tuple(
    Rule(
        {"constraint": {"weight": of.get(name, of["lagrangian"])}}, None, domain
    )._replace(method=name)
    for domain, of in LAMBDAS.items()
    for name in (*CONSTRAINED, *PENALISED)
)


# The released rows, and every row of a preset, have the papers' values.
_AS_PUBLISHED = tuple(
    Rule(layer, preset, domain, method=name)
    for domain, layer in PUBLISHED_RISK.items()
    for preset, names in (
        (None, [name for name in METHODS if "published" in name]),
        ("published_risk", [None, *(name for name in METHODS if name not in PLANNING)]),
    )
    for name in names
)


def rules() -> tuple[Rule, ...]:
    """Returns all rules in their order, those that were chosen among them."""
    of_bodies, of_methods = chosen_rules()
    chosen_by_name = (*_OF_METHODS, *_OF_LAMBDA, *of_methods)
    return (*_GENERAL, *of_bodies, *_OVER_CHOICES, *chosen_by_name, *_AS_PUBLISHED)
