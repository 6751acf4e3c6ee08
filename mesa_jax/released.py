"""What the released code has otherwise than we, as settings of rows of METHODS.

On the navigation domains, over whatever a launch has. `mesa_published` with one of its
differences switched to ours is that row and flags, one line a difference:

  inputs    --risk_inputs=standardized
  target    --risk_next_action=reference --maml_target_rate=1
            --maml_outer_target=adapted --finetune_target_rate=1
  outer     --maml_outer_lr=1e-3 --maml_outer_lr_end=0.01
  network   --risk_hidden=64,64 --risk_weights=plain
  recovery  --maml_recovery=meta
  body      --data_adaptation_body=same

(target: from the critic as it adapts, next actions of the reference policy.) The last,
our inner steps at test time in place of Adam, is another way to adapt and so another
row: `mesa_published_rate`.
"""

from mesa_jax.settings import Layer, joined

_RELEASED: Layer = {
    "data": {"transitions": 30_000, "adaptation_body": "another"},
    "risk": {"inputs": "raw", "next_action": "untrained"},
    "recovery": {"saturation_penalty": 0.0},
    "sac": {"hidden": (256, 256), "initializer": "xavier"},
    "online": {"violation_fraction": 0.0},
}
_BASELINE = joined(
    _RELEASED,
    {
        "risk": {"hidden": (256, 256), "ensemble_size": 2, "initializer": "xavier"},
        "recovery": {
            "hidden": (256, 256),
            "target_rate": 1.0,
            "initializer": "xavier",
        },
    },
)
_TUNING = {"optimizer": "adam", "batch_size": 256, "replacement": "without"}
RECOVERY_RL = joined(
    _BASELINE,
    {
        "data": {"adaptation": 10_000},
        "finetune_scratch": {
            "steps": 10_000,
            "optimizer": "adam",
            "batch_size": 256,
            "lr": 3e-4,
            "target_rate": 1.0,
        },
    },
)
MULTI_TASK = joined(
    _BASELINE,
    {
        "pooled": {
            "steps": 10_000,
            "bodies": "mixed",
            "query_size": 256,
            "lr": 3e-4,
            "lr_end": 1.0,
            "keep": "last",
        },
        "finetune": _TUNING | {"steps": 100, "lr": 3e-4, "target_rate": 1.0},
    },
)
MESA = joined(
    _RELEASED,
    {
        "risk": {"hidden": (100, 100, 100), "weights": "latent"},
        "recovery": {
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
    },
)
MESA_RATE = joined(MESA, {"inner_loop": {"steps": 10, "target_rate": 2e-4}})
