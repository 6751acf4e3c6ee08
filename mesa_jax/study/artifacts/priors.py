"""Priors of a study: restores them, or meta-trains what is missing."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from mesa_jax import sharding
from mesa_jax.keys import Stage, stage_key
from mesa_jax.methods import Method
from mesa_jax.novelty import Novelty
from mesa_jax.phases.offline import training_novelty
from mesa_jax.phases.training import outer_steps, start, training_transitions
from mesa_jax.study import checkpoints, metrics_log
from mesa_jax.study.artifacts import monitor, naming
from mesa_jax.study.artifacts.data import trained_and_heldout, training_data
from mesa_jax.study.artifacts.kept import Kept
from mesa_jax.study.artifacts.rounds import joined_data
from mesa_jax.study.artifacts.truth import heldout_bodies, watched
from mesa_jax.study.errors import NotFiniteError
from mesa_jax.study.study import Study
from mesa_jax.study.traces import require_one_trace, say_compiling, traces
from mesa_jax.system import System, compiled_once
from mesa_jax.training import MetaTrainingState
from mesa_jax.types import Prior, Transition

CHUNK = 250  # outer steps a dispatch, a checkpoint and a held-out error
PRIORS = Kept(most=8)


class Source(NamedTuple):
    """Holds what a method adapts from."""

    prior: Prior | None  # None: fresh parameters for each body
    transitions: Transition | None  # [B, N, ...] of training bodies; None: none reads
    meta_seed: int  # of the adaptation sets that are drawn from them

    def novelty(self, system: System, count: int) -> Novelty | None:
        """Returns where training bodies lie, by sets of `count`; None: none reads."""
        if self.transitions is None:
            return None
        key = stage_key(self.meta_seed, Stage.SUPPORT)
        return training_novelty(key, system, self.prior, self.transitions, count)


def trained_source(study: Study, method: Method) -> Source:
    """Reads (or makes) what a method adapts from."""
    if method.prior == "scratch":
        return Source(None, None, study.meta_seed)
    prior, transitions = trained_prior(study, method.prior), None
    if study.system.encode is not None:
        transitions, _ = trained_and_heldout(training_data(study), study.configuration)
    return Source(prior, transitions, study.meta_seed)


def finished_prior(study: Study, kind: str) -> Prior | None:
    """Restores the prior of a kind, or returns None where its training is not done."""
    if kind == "scratch":
        return None
    system, settings = study.system, study.configuration
    name = naming.prior_name(settings, kind, study.meta_seed)
    folder = study.folder / "checkpoints" / name

    def restore():
        like = {"best": state_like(system, kind).best}
        found = checkpoints.restore_latest(folder, like, {"prior": name})
        done = found is not None and found[0] == getattr(settings, kind).steps
        return found[1]["best"] if done else None

    return PRIORS.read(folder, restore)


def state_like(system: System, kind: str) -> MetaTrainingState:
    """Returns the shapes of a prior's training."""
    spec, lead = system.domain.spec, (1, 2)
    seen, numbers = jnp.zeros((*lead, spec.observation_size)), jnp.zeros(lead)
    actions = jnp.zeros((*lead, spec.action_size))
    some = Transition(seen, actions, numbers, numbers, numbers, seen)
    return jax.eval_shape(lambda: start(system, kind, jax.random.key(0), some)[0])


def trained_prior(study: Study, kind: str, chunk_steps: int = CHUNK) -> Prior:
    """Restores the prior of a kind ("maml", "pooled"); trains what is missing.

    Args:
      chunk_steps: outer steps a dispatch, a checkpoint and a held-out error.

    Raises:
      NotFiniteError: naming the outer step and the body.
    """
    found = finished_prior(study, kind)
    return _trained(study, kind, chunk_steps) if found is None else found


def trained_on(study: Study) -> tuple[Transition, Any]:
    """Returns what priors train on [T, N, ...], and what `outer_steps` select them by.

    That is transitions [H, N, ...] of held-out bodies; where they are simulated, sets
    that are made as a test body's, and the bodies.
    """
    settings, data = study.configuration, joined_data(study)
    transitions, heldout = trained_and_heldout(data, settings)
    if not _simulates(study.system):
        return transitions, heldout
    offline = jax.tree.map(lambda x: x[:, : settings.data.transitions], heldout)
    bodies = lambda x: jax.device_put(x[settings.data.train_bodies :])  # noqa: E731
    return transitions, (offline, jax.tree.map(bodies, data.tasks))


def _simulates(system: System) -> bool:
    """Returns whether held-out bodies are simulated to select a prior."""
    return system.risk.of_recovery and system.domain.spec.simulated


def _trained(study: Study, kind: str, chunk_steps: int) -> Prior:
    """Trains a prior from its last checkpoint on."""
    settings, system, seed = study.configuration, study.system, study.meta_seed
    name = naming.prior_name(settings, kind, seed)
    folder, made_by = study.folder / "checkpoints" / name, {"prior": name}
    total = getattr(settings, kind).steps
    simulated = _simulates(system)
    transitions, heldout = trained_on(study)
    key = stage_key(seed, Stage.PRIOR_INIT)
    state, transitions = start(system, kind, key, transitions)
    done, state = checkpoints.restore_latest(folder, state, made_by) or (0, state)
    state = sharding.everywhere(state)
    look, told = monitor.watch(system, kind, heldout_bodies(watched(study))), None
    begun: dict[int, int] = {}  # traces of each program before this launch
    label, stages = f"[meta_train] {kind}", (Stage.META_TRAIN, Stage.BELLMAN_ERROR)
    with (
        metrics_log.MetricsWriter(study.folder, name, done) as writer,
        tqdm(total=total, initial=done, desc=label, unit="step") as bar,
    ):
        say_compiling(bar)
        while done < total:
            steps = min(chunk_steps, total - done)
            program = _program(system, kind, steps, simulated)
            before = begun.setdefault(steps, traces(program))
            keys = (stage_key(seed, stage) for stage in stages)
            state, values = program(*keys, state, transitions, heldout)
            values = sharding.read(values)
            _require_finite(values, kind, done, seed)
            done += steps
            scalars = {k: v.mean() for k, v in values.items() if k != "meta/tasks"}
            seen = look(state.learner.prior)
            told = _warn(told, monitor.warning(kind, done, seen))
            # the checkpoint comes last: what it holds has been written
            writer.write(name, done, scalars | seen | _rates(state.learner.prior))
            checkpoints.save(folder, done, state, made_by)
            require_one_trace(program, "an outer step", before)
            bar.update(steps)
            bar.set_postfix_str(f"error {scalars['risk/heldout_bellman_error']:.4f}")
    measured = "filter test" if simulated else "Bellman error"
    print(
        f"{label}: kept outer step {int(state.best_step)}, {measured} "
        f"{float(state.best_error):.4f} on held-out training bodies; "
        f"{training_transitions(settings, kind) / 1e6:.1f} million transitions drawn"
    )
    _warn(None, monitor.warning(kind, int(state.best_step), look(state.best)))
    return state.best


@compiled_once
def _program(system: System, kind: str, steps: int, simulated: bool):
    """Compiles a chunk of outer steps; its state is donated."""
    chunk = outer_steps(system, kind, steps, simulated)
    return jax.jit(chunk, donate_argnums=2)


def _warn(before: str | None, warning: str | None) -> str | None:
    """Writes a warning where there was none before; returns it."""
    if warning and not before:
        tqdm.write(warning)
    return warning


def _rates(learned: Prior) -> dict[str, float]:
    """Returns learned inner rates by tensor."""
    names = ("critic", "recovery")
    values = {}
    for name, rates in zip(names, learned.rates, strict=False):
        for path, rho in jax.tree_util.tree_leaves_with_path(rates["network"]):
            tensor = jax.tree_util.keystr(path, simple=True, separator="/")
            values[f"rate/{name}/{tensor}"] = float(jax.nn.softplus(rho))
    return values


def _require_finite(values: dict, kind: str, done: int, seed: int) -> None:
    """Raises NotFiniteError naming the outer step and the body."""
    advice = (
        "Checkpoints before it stand; lower --maml_outer_lr, --maml_inner_lr or "
        "--pooled_lr in a new workdir."
    )
    losses = values.get("meta/task_loss", values["risk/loss"][:, None])
    losses = losses + values["recovery/risk"][:, None]
    bad = np.argwhere(~np.isfinite(losses))
    if len(bad):
        step, at = bad[0]
        bodies = values["meta/tasks"][step].tolist()
        body = bodies[at] if losses.shape[1] == len(bodies) else f"one of {bodies}"
        raise NotFiniteError(
            f"meta_train {kind}: the loss of outer step {done + step} is not finite "
            f"(training body {body}, meta-seed {seed}). {advice}"
        )
    if not np.isfinite(values["risk/heldout_bellman_error"]):
        last = done + len(losses) - 1
        raise NotFiniteError(
            f"meta_train {kind}: the critic after outer step {last} is not finite on "
            f"the held-out training bodies (meta-seed {seed}). {advice}"
        )
