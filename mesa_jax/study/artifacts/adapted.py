"""Adapts priors to bodies, and makes the states that online runs start from."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from mesa_jax import adaptation, novelty, rollout, sharding
from mesa_jax.domains.fault_notation import parse
from mesa_jax.domains.faults import afflict
from mesa_jax.keys import Stage, stage_key
from mesa_jax.methods import METHODS, Method, begins_as
from mesa_jax.phases.adapting import adapting, encoding
from mesa_jax.study.artifacts.data import Bodies
from mesa_jax.study.artifacts.priors import Source, trained_source
from mesa_jax.study.batches import Batch
from mesa_jax.study.errors import NotFiniteError
from mesa_jax.study.study import Study
from mesa_jax.system import System, compiled_once
from mesa_jax.types import Array, Params, Prior


def start_of(
    system: System, source: Source, bodies: Bodies
) -> tuple[Prior, int | None]:
    """Returns a method's prior and its axis of bodies (None: one for all)."""
    if source.prior is not None:
        return source.prior, None
    keys = bodies.keys(Stage.PRIOR_INIT)
    return adaptation.from_scratch(system, keys, bodies.rows), 0


def distances(system: System, source: Source, bodies: Bodies) -> np.ndarray | None:
    """Returns each body's distance [S] from the training bodies; None: none reads.

    Their adaptation sets are as large as its own. Beyond 1 a body lies outside.
    """
    training = source.novelty(system, bodies.rows.cost.shape[1])
    if training is None:
        return None
    keys = bodies.keys(Stage.ADAPT)
    encoded = encoding(system)(keys, source.prior.params[0], bodies.rows)
    return sharding.read(novelty.distance(training, encoded))


def own_steps(system: System, method: Method, far: np.ndarray | None) -> int | Array:
    """Returns a method's steps to bodies at these distances, [S] or one for all."""
    return adaptation.steps(adaptation.config_of(system.configuration, method), far)


def adapt(
    system: System,
    method: str,
    source: Source,
    bodies: Bodies,
    steps: int | Array,
) -> tuple:
    """Returns (critic, recovery policy) of a method, [S, ...] over the bodies.

    Args:
      method: by its name.
      steps: one number for all bodies, or one for each, [S].

    Raises:
      NotFiniteError: naming the body.
    """
    start, axis = start_of(system, source, bodies)
    program = adapting(system, method, axis, jnp.ndim(steps) > 0)
    keys = bodies.keys(Stage.ADAPT)
    params = program(keys, start, bodies.rows, bodies.tasks, steps)
    _require_finite(params, METHODS[method].prior, bodies)
    return params


def adapted(study: Study, methods: tuple[str, ...], bodies: Bodies) -> dict:
    """Makes (critic, recovery policy) of methods, [S, ...] each, by their own settings.

    Methods that start alike and adapt alike share one result. Warns of bodies that lie
    outside the training bodies.
    """
    found = {}
    begins = {method: begins_as(method) for method in methods}
    for method, first in begins.items():
        if first not in found:
            row, mine = METHODS[first], study.of(first)
            source, system = trained_source(mine, row), mine.system
            far = distances(system, source, bodies)
            steps = own_steps(system, row, far)
            found[first] = adapt(system, first, source, bodies, steps)
            if warning := novelty.warning(method, far):
                print(warning)
    return {method: found[first] for method, first in begins.items()}


@jax.jit
@jax.vmap
def _finite(params: Params) -> Array:
    return jnp.all(jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(params)]))


def _require_finite(params: tuple, kind: str, bodies: Bodies) -> None:
    for i, fine in enumerate(_finite(params)):
        if not fine:
            seed = bodies.seeds[i]
            task = jax.tree.map(lambda x: x[i].tolist(), bodies.tasks)  # noqa: B023
            raise NotFiniteError(
                f"adapt: what became of the {kind} prior on seed {seed} is not finite "
                f"(body {task}). Lower the learning rate in a new workdir."
            )


def initial_states(
    system: System,
    batch: Batch,
    bodies: Bodies,
    params: dict,
    thresholds: dict[str, float],
) -> rollout.RunState:
    """Returns the states of a batch's runs before the first step, [runs, ...].

    Args:
      params: as `adapted` gives them.
      thresholds: of constrained methods, in place of the configuration's.
    """
    settings, runs = system.configuration, batch.runs()
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
    return _starting(system)(
        jnp.array([run.seed for run in runs]),
        jax.tree.map(lambda x: x[method, at], each),
        jnp.array([threshold(run) for run in runs]),
        jnp.array([METHODS[run.method].readapts for run in runs]),
        over_runs(bodies.tasks),
        over_runs(bodies.rows),
    )


@compiled_once
def _starting(system: System) -> Callable:
    """Compiles the states of runs before the first step, [runs, ...]."""
    settings = system.configuration
    faults = parse(settings.fault)

    def one(seed, params, threshold, readapts, task, rows):
        agent = system.agent.init(stage_key(seed, Stage.AGENT_INIT), *params, threshold)
        key = stage_key(seed, Stage.RUN_START)
        if faults:
            task = afflict(faults, stage_key(seed, Stage.FAULT), task)
        return rollout.init_run(
            key, system.online_domain, settings.online, task, agent, rows, readapts
        )

    return jax.jit(jax.vmap(one))
