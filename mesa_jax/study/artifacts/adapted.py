"""Adaptation to test bodies, and the states that online runs start from."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from mesa_jax import rollout
from mesa_jax.domains.fault_notation import parse
from mesa_jax.domains.faults import afflict
from mesa_jax.keys import Stage, stage_key
from mesa_jax.methods import METHODS, begins_as
from mesa_jax.prior import init_params, input_statistics
from mesa_jax.study.artifacts import distance
from mesa_jax.study.artifacts.data import Bodies
from mesa_jax.study.artifacts.priors import prior
from mesa_jax.study.batches import Batch
from mesa_jax.study.errors import NotFiniteError
from mesa_jax.study.study import Launch
from mesa_jax.system import Adapt, Build
from mesa_jax.types import Prior


def from_scratch(built: Build, bodies: Bodies, inputs: str = "standardized") -> Prior:
    """Fresh parameters a seed, [S, ...]; input statistics of its adaptation set."""
    encodes = built.risk.encode is not None

    def one(key, rows):
        found = input_statistics(rows, inputs, encodes)
        return init_params(key, built.risk, built.recovery, found)

    return Prior(jax.vmap(one)(bodies.keys(Stage.PRIOR_INIT), bodies.rows), ())


def start_of(
    launch: Launch, built: Build, method: str, bodies: Bodies
) -> tuple[Prior, int | None]:
    """What a method adapts from, and the axis of its bodies (None: one for all)."""
    kind = METHODS[method].prior
    if kind == "scratch":
        return from_scratch(built, bodies, launch.settings.risk.inputs), 0
    return prior(launch, kind), None


def adaptation_to(
    built: Build, method: str, sections: dict[str, Adapt]
) -> Callable[..., tuple]:
    """Makes `(key, prior, rows, task, steps) -> adapted params` of one body.

    Only a method that is told reads the task.

    Args:
      sections: `built.adapt`, or `built.adapt_critic` for the critic alone.
    """
    row = METHODS[method]

    def to_body(key, prior, rows, task, steps):
        params = sections[row.adaptation](key, prior, rows, steps)
        if not row.told:
            return params
        known = built.domain.parametrisation.of(task)
        return tuple(part | {"encoding": known} for part in params)

    return to_body


def adapt(launch: Launch, built: Build, methods, bodies: Bodies) -> dict:
    """Per method its (critic, recovery policy), [S, ...] over the test bodies.

    Methods that start alike and adapt alike share one result.
    """
    adapted = {}
    begins = {method: begins_as(method) for method in methods}
    for method, first in begins.items():
        if first not in adapted:
            start, axis = start_of(launch, built, method, bodies)
            to_body = adaptation_to(built, method, built.adapt)
            steps, distances = distance.own_steps(launch, method, bodies)
            each = isinstance(steps, np.ndarray)
            program = jax.jit(
                jax.vmap(to_body, (0, axis, 0, 0, 0 if each else None)),
                static_argnums=() if each else 4,
            )
            keys, tasks = bodies.keys(Stage.ADAPT), bodies.tasks
            adapted[first] = program(keys, start, bodies.rows, tasks, steps)
            _require_finite(adapted[first], METHODS[first].prior, bodies)
            if warning := distance.told(method, distances):
                print(warning)
    return {method: adapted[first] for method, first in begins.items()}


def _require_finite(params: tuple, kind: str, bodies: Bodies) -> None:
    def finite(one):
        return jnp.all(jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(one)]))

    for i, fine in enumerate(jax.vmap(finite)(params)):
        if not fine:
            seed = bodies.seeds[i]
            task = jax.tree.map(lambda x: x[i].tolist(), bodies.tasks)  # noqa: B023
            raise NotFiniteError(
                f"adapt: what became of the {kind} prior on seed {seed} is not finite "
                f"(body {task}). Lower the learning rate in a new workdir."
            )


def initial_states(
    launch: Launch,
    built: Build,
    batch: Batch,
    bodies: Bodies,
    params: dict,
    thresholds: dict[str, float],
) -> rollout.RunState:
    """States before the first step, [runs, ...]; `params` as `adapt` gives them.

    Args:
      thresholds: by method, in place of the settings' risk threshold.
    """
    settings, domain = launch.settings, built.online_domain
    faults = parse(settings.fault)

    def one(seed, params, threshold, readapts, task, rows):
        agent = built.agent.init(stage_key(seed, Stage.AGENT_INIT), *params, threshold)
        key = stage_key(seed, Stage.RUN_START)
        if faults:
            task = afflict(faults, stage_key(seed, Stage.FAULT), task)
        return rollout.init_run(
            key, domain, settings.online, task, agent, rows, readapts
        )

    runs = batch.runs()
    row = {seed: i for i, seed in enumerate(bodies.seeds)}
    at = jnp.array([row[run.seed] for run in runs])

    def over_runs(tree):
        return jax.tree.map(lambda x: x[at], tree)

    def threshold(run):
        if not METHODS[run.method].constrained:
            return jnp.inf
        if run.threshold is not None:
            return run.threshold
        return thresholds.get(run.method, settings.recovery.risk_threshold)

    each = jax.tree.map(lambda *x: jnp.stack(x), *(params[m] for m in batch.methods))
    method = jnp.array([batch.methods.index(run.method) for run in runs])
    return jax.jit(jax.vmap(one))(
        jnp.array([run.seed for run in runs]),
        jax.tree.map(lambda x: x[method, at], each),
        jnp.array([threshold(run) for run in runs]),
        jnp.array([METHODS[run.method].readapts for run in runs]),
        over_runs(bodies.tasks),
        over_runs(bodies.rows),
    )
