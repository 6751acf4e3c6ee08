"""Unsafe policies that propose in the filter test: SAC without safety, in each body."""

import jax
from tqdm import tqdm

from mesa_jax import sharding
from mesa_jax.collector import by_learner, collect_steps, init_collect
from mesa_jax.keys import Stage
from mesa_jax.study import checkpoints
from mesa_jax.study.artifacts import naming
from mesa_jax.study.artifacts.data import Bodies
from mesa_jax.study.study import Study
from mesa_jax.study.traces import say_compiling
from mesa_jax.types import State

CHUNK = 50  # steps a dispatch


def unsafe_policies(study: Study, bodies: Bodies) -> State:
    """Restores (or trains) states of `system.task_policy`, [S, ...], one a body.

    Each has learned its task from `quality.proposal_transitions` of its own. They judge
    filters; no method learns from them.
    """
    settings, system = study.configuration, study.system
    name = naming.proposals_name(settings, bodies.roots)
    folder, made_by = study.folder / "checkpoints" / name, {"proposals": name}
    count, total = len(bodies.seeds), settings.quality.proposal_transitions
    parts = system.domain, system.task_policy, settings.collect
    init = sharding.vmap(lambda key, task: init_collect(key, *parts, task, total))
    keys = bodies.keys(Stage.PROPOSALS)
    like = jax.eval_shape(init, keys, bodies.tasks).learner
    if found := checkpoints.restore_latest(folder, like, made_by):
        return found[1]
    chunk = jax.jit(sharding.vmap(collect_steps(*parts, CHUNK)), donate_argnums=1)
    with tqdm(total=total * count, desc="[filter_test] unsafe policies") as bar:
        learned = by_learner(jax.jit(init), chunk, keys[0], bodies.tasks, total)
        say_compiling(bar)
        for states in learned:
            bar.set_postfix_str("", refresh=False)
            bar.update(int(states.replay.added.sum()) - bar.n)
    checkpoints.save(folder, 0, states.learner, made_by)
    return states.learner
