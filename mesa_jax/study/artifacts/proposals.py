"""Unsafe policies that propose in the filter test: SAC without safety, in each body."""

import jax
from tqdm import tqdm

from mesa_jax.collector import by_learner
from mesa_jax.keys import Stage
from mesa_jax.phases.offline import learning
from mesa_jax.study import checkpoints
from mesa_jax.study.artifacts import naming
from mesa_jax.study.artifacts.data import Bodies
from mesa_jax.study.study import Study
from mesa_jax.study.traces import say_compiling
from mesa_jax.types import State


def unsafe_policies(study: Study, bodies: Bodies) -> State:
    """Restores (or trains) states of `system.task_policy`, [S, ...], one a body.

    Each has learned its task from `quality.proposal_transitions` of its own. They judge
    filters; no method learns from them.
    """
    settings, system = study.configuration, study.system
    name = naming.proposals_name(settings, bodies.roots)
    folder, made_by = study.folder / "checkpoints" / name, {"proposals": name}
    count, total = len(bodies.seeds), settings.quality.proposal_transitions
    init, chunk = learning(system, total)
    keys = bodies.keys(Stage.PROPOSALS)
    like = jax.eval_shape(init, keys, bodies.tasks).learner
    if found := checkpoints.restore_latest(folder, like, made_by):
        return found[1]
    with tqdm(total=total * count, desc="[filter_test] unsafe policies") as bar:
        learned = by_learner(init, chunk, keys[0], bodies.tasks, total)
        say_compiling(bar)
        for states in learned:
            bar.set_postfix_str("", refresh=False)
            bar.update(int(states.replay.added.sum()) - bar.n)
    checkpoints.save(folder, 0, states.learner, made_by)
    return states.learner
