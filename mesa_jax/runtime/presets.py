"""Presets: what differs from the settings' defaults, in layers.

By preset, then by domain, by domain and bodies, and by preset and domain; what was
chosen for the bodies (`chosen.json`) comes last.
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
