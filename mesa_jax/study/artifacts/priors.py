"""Priors of a study: restores them, or meta-trains what is missing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from mesa_jax import configuration
from mesa_jax.keys import Stage, stage_key
from mesa_jax.prior import init_params, input_statistics
from mesa_jax.study import checkpoints, metrics_log
from mesa_jax.study.artifacts import monitor, naming
from mesa_jax.study.artifacts.data import training_data
from mesa_jax.study.artifacts.truth import held_out
from mesa_jax.study.datasets import Dataset
from mesa_jax.study.errors import NotFiniteError
from mesa_jax.study.study import Launch
from mesa_jax.study.traces import require_one_trace
from mesa_jax.system import (
    Build,
    build,
    choose_from,
    heldout_error,
    training_transitions,
)
from mesa_jax.training import init_meta_training, meta_training
from mesa_jax.types import Prior

CHUNK = 250  # outer steps a dispatch, a checkpoint and a held-out error


def training_rows(data: Dataset, settings: configuration.Configuration):
    """Rows [T, N, ...] of the training bodies, and of those held out of them."""
    rows, count = jax.tree.map(jnp.asarray, data.rows), settings.data.train_bodies
    return (
        jax.tree.map(lambda x: x[:count], rows),
        jax.tree.map(lambda x: x[count:], rows),
    )


def prior(launch: Launch, kind: str) -> Prior:
    """The prior of a kind ("maml", "pooled"), trained or gone on with if need be."""
    settings, built = launch.settings, build(launch.settings)
    name = naming.prior_name(settings, kind, launch.meta_seed)
    folder = launch.workdir / "checkpoints" / name
    total = getattr(settings, kind).steps
    train_rows, heldout = training_rows(training_data(launch), settings)
    learner, seed = built.learners[kind], launch.meta_seed
    params = init_params(
        stage_key(seed, Stage.PRIOR_INIT),
        built.risk,
        built.recovery,
        input_statistics(
            train_rows, settings.risk.inputs, built.risk.encode is not None
        ),
    )
    if kind == "pooled" and settings.pooled.bodies == "mixed":
        join = lambda x: x.reshape(1, -1, *x.shape[2:])  # noqa: E731
        train_rows = jax.tree.map(join, train_rows)
    state = init_meta_training(learner, params)
    made_by = {"prior": name}
    done, state = checkpoints.restore_latest(folder, state, made_by) or (0, state)
    if done == total:
        if not monitor.page_of(launch.workdir, name).exists():
            monitor.page(launch.workdir, name, kind)
        return state.best
    look = monitor.watch(settings, built, kind, held_out(launch))
    told = None
    chunk = functools.cache(lambda steps: _chunk(built, settings, kind, steps))
    with (
        metrics_log.MetricsWriter(launch.workdir, name, done) as writer,
        tqdm(
            total=total, initial=done, desc=f"[meta_train] {kind}", unit="step"
        ) as bar,
    ):
        while done < total:
            steps = min(CHUNK, total - done)
            program = chunk(steps)
            state, values = program(
                stage_key(seed, Stage.META_TRAIN),
                stage_key(seed, Stage.BELLMAN_ERROR),
                state,
                train_rows,
                heldout,
            )
            values = jax.tree.map(np.asarray, values)
            _require_finite(values, kind, done, seed)
            done += steps
            scalars = {k: v.mean() for k, v in values.items() if k != "meta/tasks"}
            seen = look(state.learner.prior)
            told = _tell(told, monitor.warning(kind, done, seen))
            # the checkpoint comes last: what it holds has been written
            writer.write(name, done, scalars | seen | _rates(state.learner.prior))
            checkpoints.save(folder, done, state, made_by)
            require_one_trace(program, "an outer step")
            bar.update(steps)
            bar.set_postfix_str(f"error {scalars['risk/heldout_bellman_error']:.4f}")
    print(
        f"[meta_train] {kind}: kept outer step {int(state.best_step)}, Bellman error "
        f"{float(state.best_error):.4f} on held-out training bodies; "
        f"{training_transitions(settings, kind) / 1e6:.1f} million transitions drawn"
    )
    _tell(None, monitor.warning(kind, int(state.best_step), look(state.best)))
    print(f"[meta_train] {monitor.page(launch.workdir, name, kind)}")
    return state.best


def _tell(before: str | None, warning: str | None) -> str | None:
    """Says a warning where there was none before."""
    if warning and not before:
        tqdm.write(warning)
    return warning


def _chunk(built: Build, settings: configuration.Configuration, kind: str, steps: int):
    """`steps` outer steps and a held-out Bellman error, compiled."""
    chunk = meta_training(
        built.learners[kind],
        heldout_error(settings, kind),
        built.sizes[kind],
        settings.risk.violation_fraction,
        steps,
        choose_from(settings, kind),
    )
    return jax.jit(chunk, donate_argnums=2)


def _rates(learned: Prior) -> dict[str, float]:
    """Learned inner rates by tensor."""
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
