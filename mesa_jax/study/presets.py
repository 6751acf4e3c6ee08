"""Presets: what differs from the settings' defaults, in layers.

By preset, then by domain, by domain and bodies, and by preset and domain; then what was
chosen for the bodies (`chosen.json`), and what a preset does not take of that.
"""

from typing import Any

Layer = dict[str, dict[str, Any]]  # by section and field
PRESETS: dict[str, Layer] = {
    "quick": {"online": {"episodes": 40}},
    "paper": {
        "data": {"transitions": 30_000},
        "risk": {"hidden": (256, 256)},
        "recovery": {"hidden": (256, 256)},
        "sac": {"hidden": (256, 256)},
        "online": {"episodes": 300},
    },
}
# Over what was chosen for the bodies, with the networks of `quick`: MAML without an
# anchor, often the best there, saturates within 500 outer steps at 2 x 256.
PRESET_CHOICES: dict[str, Layer] = {"paper": {"maml": {"anchor": 1.0}}}
_LOCOMOTION: Layer = {
    "physics": {"backend": "spring", "frame_skip": 5, "horizon": 200},
    "data": {
        "transitions": 20_000,
        "heldout_bodies": 1,
        "test_transitions": 5_000,
    },
    "collect": {"collector": "sac", "updates": 16},
    "sac": {"temperature": 0.05},
    "risk": {"discount": 0.8, "violation_fraction": 0.3},
    "quality": {"decision_states": 200, "rollouts": 48, "precision": 1e-2},
    "online": {
        "episodes": 3000,  # more than the steps allow
        "steps": 30_000,
        "start_steps": 500,
        "evaluate_every": 50,  # an unsafe run's episodes are a dozen steps long
        "chunk_steps": 2000,
    },
}
DOMAIN_SETTINGS: dict[str, Layer] = {
    "navigation1": {"risk": {"discount": 0.8}, "recovery": {"risk_threshold": 0.3}},
    "navigation2": {
        "data": {"train_bodies": 25},
        "risk": {"discount": 0.65},
        "recovery": {"risk_threshold": 0.1},
    },
    "cartpole_length": {
        "physics": {"frame_skip": 2, "horizon": 200},
        "data": {"train_bodies": 20, "transitions": 10_000},
        "collect": {"collector": "sac"},
        "risk": {"discount": 0.8},
        "recovery": {"risk_threshold": 0.1},
        "online": {"episodes": 200, "chunk_steps": 1000},
    },
    "halfcheetah_disabled": _LOCOMOTION
    | {
        "data": _LOCOMOTION["data"] | {"train_bodies": 4},
        "maml": {"num_tasks": 4},
        "recovery": {"risk_threshold": 0.1},
    },
    "ant_disabled": _LOCOMOTION
    | {
        "physics": _LOCOMOTION["physics"] | {"backend": "mjx"},
        "quality": {"decision_states": 100, "rollouts": 32, "precision": 1e-2},
        "data": _LOCOMOTION["data"] | {"train_bodies": 3},
        "maml": {"num_tasks": 3},
        "recovery": {"risk_threshold": 0.3},
    },
}
_PARTIAL: Layer = {
    "data": {"train_bodies": 12, "heldout_bodies": 4, "transitions": 10_000},
    "maml": {"num_tasks": 5},
}
BODIES_SETTINGS: dict[tuple[str, str], Layer] = {
    ("halfcheetah_disabled", "partial"): _PARTIAL,
    ("ant_disabled", "partial"): _PARTIAL,
}
_FINE: Layer = {  # the released code's control steps, without a frame skip
    "physics": {"frame_skip": 1, "horizon": 1000},
    "collect": {"start_steps": 10_000},
    "sac": {"temperature": 0.2},
}
_PUBLISHED_RUNS = {"steps": 0, "start_steps": 10_000, "evaluate_every": 10}
PRESET_DOMAIN_SETTINGS: dict[tuple[str, str], Layer] = {
    ("paper", "cartpole_length"): {
        "data": {"transitions": 20_000, "adaptation": 400},
        "collect": {"updates": 16, "start_steps": 100},
        "online": {"episodes": 400},
    },
    ("paper", "halfcheetah_disabled"): _FINE
    | {
        "data": {
            "transitions": 400_000,
            "adaptation": 10_000,
            "test_transitions": 400_000,
        },
        "online": _PUBLISHED_RUNS | {"episodes": 500},
    },
    ("paper", "ant_disabled"): _FINE
    | {
        "data": {
            "transitions": 800_000,
            "adaptation": 20_000,
            "test_transitions": 800_000,
        },
        "online": _PUBLISHED_RUNS | {"episodes": 1000},
    },
}

# The released code's rows on the navigation domains, over whatever a
# launch has. What is not as it has them: WORKSPACE.md, "The released code".
_RELEASED: Layer = {
    "data": {"transitions": 30_000, "adaptation_body": "another"},
    "risk": {"inputs": "raw", "next_action": "untrained"},
    "recovery": {"saturation_penalty": 0.0},
    "sac": {"hidden": (256, 256), "initializer": "xavier"},
    "online": {"violation_fraction": 0.0},
}
_BASELINE = _RELEASED | {
    "risk": _RELEASED["risk"]
    | {"hidden": (256, 256), "ensemble_size": 2, "initializer": "xavier"},
    "recovery": _RELEASED["recovery"]
    | {"hidden": (256, 256), "target_rate": 1.0, "initializer": "xavier"},
}
_TUNING = {"optimizer": "adam", "batch_size": 256, "replacement": "without"}
_MESA = _RELEASED | {
    "risk": _RELEASED["risk"] | {"hidden": (100, 100, 100), "weights": "latent"},
    "recovery": _RELEASED["recovery"]
    | {
        "hidden": (100, 100, 100),
        "initializer": "torch",
        "lr": 1e-3,
        "target_rate": 2e-4,
    },
    "maml": {
        "steps": 10_000,
        "num_tasks": 5,
        "support_size": 256,
        "query_size": 256,
        "inner_steps": 1,
        "inner_lr": 9.995e-4,  # softplus(log 0.001)
        "learner": "maml",
        "target_rate": 2e-4,
        "outer_target": "inner",
        "anchor": 0.0,
        "outer_lr": 1e-5,
        "outer_lr_end": 1.0,
        "recovery": "beside",
        "keep": "last",
    },
    "finetune": _TUNING | {"steps": 100, "lr": 1e-3, "target_rate": 2e-4},
    "inner_loop": {"settle_steps": 0},
}


def _with(layer: Layer, **changes: dict[str, Any]) -> Layer:
    return layer | {name: layer.get(name, {}) | to for name, to in changes.items()}


_ENCODED: Layer = {
    "risk": {"conditioning": "encoded"},
    "maml": {
        "steps": 8000,
        "num_tasks": 8,
        "support_size": 256,
        "support_least": 5,
        "gradient_clip": 0.1,
        "keep": "last",
    },
}
_GOING_ON = {
    "readapt_every": 100,
    "readapt_transitions": 100,
    "readapt_from": "current",
}
_READING: Layer = {  # bodies are read anew while a run goes on
    "online": {"readapt_every": 10, "readapt_transitions": 20, "readapt_from": "prior"},
}


VARIANTS: dict[str, Layer] = {
    "context": _with(
        _ENCODED,
        maml={"inner_steps": 0, "anchor": 0.0},
        inner_loop={"steps": 0},
        **_READING,
    ),
    "mesa_context": _with(
        _ENCODED,
        maml={
            "inner_steps": 5,
            "anchor": 1.0,
            "inner_every": 4,
            "inner_clip": 1.0,
        },
        inner_loop={"steps": 0, "steps_outside": 5},
        **_READING,
    ),
    "system_id": _with(
        _ENCODED,
        risk={"conditioning": "identified"},
        maml={"inner_steps": 0, "anchor": 0.0},
        inner_loop={"steps": 0},
    ),
    "recovery_rl_published": _with(
        _BASELINE,
        data={"adaptation": 10_000},
        finetune_scratch={
            "steps": 10_000,
            "optimizer": "adam",
            "batch_size": 256,
            "lr": 3e-4,
            "target_rate": 1.0,
        },
    ),
    "multi_task_published": _with(
        _BASELINE,
        pooled={
            "steps": 10_000,
            "bodies": "mixed",
            "query_size": 256,
            "lr": 3e-4,
            "lr_end": 1.0,
            "keep": "last",
        },
        finetune=_TUNING | {"steps": 100, "lr": 3e-4, "target_rate": 1.0},
    ),
    "mesa_published": _MESA,
    # the learned inner steps at test time too, in place of Adam
    "mesa_published_rate": _with(_MESA, inner_loop={"steps": 10, "target_rate": 2e-4}),
    "mesa_published_inputs": _with(_MESA, risk={"inputs": "standardized"}),
    # targets from the critic as it adapts, next actions of the reference policy
    "mesa_published_target": _with(
        _MESA,
        risk={"next_action": "reference"},
        maml={"target_rate": 1.0, "outer_target": "adapted"},
        finetune={"target_rate": 1.0},
    ),
    "mesa_published_outer": _with(_MESA, maml={"outer_lr": 1e-3, "outer_lr_end": 0.01}),
    "mesa_published_network": _with(
        _MESA, risk={"hidden": (64, 64), "weights": "plain"}
    ),
    "mesa_published_recovery": _with(_MESA, maml={"recovery": "meta"}),
    "mesa_published_body": _with(_MESA, data={"adaptation_body": "same"}),
}
# What differs of them by domain. A dead limb hardly changes the risk, so what a run has
# learned online is worth more than the prior's networks.
DOMAIN_VARIANTS: dict[tuple[str, str], Layer] = {
    (domain, name): {"online": _GOING_ON}
    for domain in ("halfcheetah_disabled", "ant_disabled")
    for name in ("context", "mesa_context")
}
