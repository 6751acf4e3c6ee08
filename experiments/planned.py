"""Says at a launch's begin what it makes, stage by stage, and what is there of it."""

from collections.abc import Callable

from mesa_jax.study import store
from mesa_jax.study.plan import Stage
from mesa_jax.study.study import Asked, Study


def only_planned(
    study: Study, asked: Asked, stages: Callable[[Study, Asked], list[Stage]]
) -> bool:
    """Prints the stages; returns whether that is all that was asked for (--plan).

    Raises:
      WorkdirError: if the workdir holds another configuration, or something else.
    """
    store.require_same(study.folder, study.configuration)
    for stage in stages(study, asked):
        print(f"[plan] {stage}")
    return asked.plan
