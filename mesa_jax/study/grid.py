"""What `tune` tries: sixteen settings a method (protocol: matched)."""

import itertools

from mesa_jax.study.sweep import Row

TARGETS = (0.0, 1.0)  # bootstrap target: the frozen prior, the adapting critic
TARGET_RATES = (0.0, 0.005, 0.05, 1.0)  # from scratch the frozen one is random
SGD_RATES = (0.1, 0.3, 1.0, 3.0)
FEW_STEPS_RATES = (0.01, 0.03, 0.1, 0.3, 0.6, 1.0, 2.0, 3.0)
ADAM_RATES = (1e-4, 3e-4, 1e-3, 3e-3)
META_TRAINING = (  # learner, inner steps, anchor, bootstrap target
    *(("maml", 5, 1.0, 1.0), ("maml", 5, 0.1, 1.0), ("maml", 5, 0.0, 1.0)),
    *(("maml", 5, 1.0, 0.0), ("maml", 10, 1.0, 1.0), ("maml", 1, 1.0, 1.0)),
    *(("first_order", 5, 1.0, 1.0), ("first_order", 5, 0.1, 1.0)),
)


OUTER_RATES = (3e-4, 1e-3, 2e-3, 4e-3)  # of what encodes
OUTER_CLIPS = (0.03, 0.1, 1.0, 40.0)  # global norm of its outer gradients


def _finetuning(section: str, optimizer: str, rates, targets) -> list[Row]:
    return [
        {section: {"optimizer": optimizer, "lr": lr, "target_rate": target}}
        for lr, target in itertools.product(rates, targets)
    ]


def _meta_training(learner, inner_steps, anchor, target_rate) -> dict:
    return {
        "learner": learner,
        "inner_steps": inner_steps,
        "anchor": anchor,
        "target_rate": target_rate,
    }


TRIED: dict[str, list[Row]] = {
    "recovery_rl": _finetuning("finetune_scratch", "adam", ADAM_RATES, TARGET_RATES),
    "multi_task": [
        *_finetuning("finetune", "sgd", SGD_RATES, TARGETS),
        *_finetuning("finetune", "adam", ADAM_RATES, TARGETS),
    ],
    "multi_task_few": [
        *_finetuning("finetune_few", "sgd", FEW_STEPS_RATES, TARGETS),
    ],
    "mesa": [
        {"maml": _meta_training(*training), "inner_loop": {"target_rate": target}}
        for training, target in itertools.product(META_TRAINING, TARGETS)
    ],
    "context": [
        {"maml": {"outer_lr": lr, "gradient_clip": clip}}
        for lr, clip in itertools.product(OUTER_RATES, OUTER_CLIPS)
    ],
    "mesa_context": [
        {
            "maml": {
                "outer_lr": lr,
                "gradient_clip": clip,
                "anchor": anchor,
                "inner_every": every,
            }
        }
        for lr, clip, anchor, every in itertools.product(
            OUTER_RATES[1:3], OUTER_CLIPS[1:3], (0.1, 1.0), (2, 4)
        )
    ],
}
STEPS = {  # numbers of adaptation steps, read along the way of each setting
    "recovery_rl": (2000,),  # protocol
    "multi_task": (5, 10, 30, 100, 500),
    "multi_task_few": (5,),  # the best fixed-rate SGD for few steps
    "mesa": (1, 5, 10, 30, 100),
    "context": (0,),
    "mesa_context": (0, 1, 5),
}
