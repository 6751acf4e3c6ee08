"""Adaptation to test bodies, and the states that online runs start from."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from experiments.build import Build
from experiments.collect import adaptation_data
from experiments.meta_train import prior
from mesa_jax import pipeline, rollout
from mesa_jax.agents import METHODS
from mesa_jax.pipeline import Stage, stage_key
from mesa_jax.runtime import flags
from mesa_jax.runtime.batches import Batch
from mesa_jax.types import Array, Prior, Task, Transition


class TestBodies(NamedTuple):
    """The test bodies of some seeds and their adaptation sets."""

    seeds: tuple[int, ...]
    tasks: Task  # leaves [S, ...]
    rows: Transition  # [S, n, ...]

    def keys(self, stage: Stage) -> Array:
        return stage_keys(self.seeds, stage)


def stage_keys(seeds, stage: Stage) -> Array:
    """One key a seed, [S]."""
    return jax.vmap(lambda seed: stage_key(seed, stage))(jnp.asarray(seeds))


def test_bodies(launch: flags.Launch, seeds: tuple[int, ...]) -> TestBodies:
    """Loads (or collects) the test body of each seed."""
    sets = [adaptation_data(launch, seed) for seed in seeds]
    tasks, rows = ((s.tasks for s in sets), (s.rows for s in sets))
    join = lambda *x: jnp.concatenate(x)  # noqa: E731
    return TestBodies(seeds, jax.tree.map(join, *tasks), jax.tree.map(join, *rows))


def from_scratch(built: Build, bodies: TestBodies) -> Prior:
    """Fresh parameters a seed, [S, ...]; input statistics of its adaptation set."""

    def one(key, rows):
        inputs = pipeline.statistics(rows)
        return pipeline.init_params(key, built.risk, built.recovery, inputs)

    return Prior(jax.vmap(one)(bodies.keys(Stage.PRIOR_INIT), bodies.rows), ())


def adapt(launch: flags.Launch, built: Build, methods, bodies: TestBodies) -> dict:
    """Per method its (critic, recovery policy), [S, ...] over the test bodies.

    Methods that start alike and adapt alike share one result.
    """
    by_prior = {}
    for kind in dict.fromkeys(METHODS[method].prior for method in methods):
        if kind == "scratch":
            start, axes = from_scratch(built, bodies), (0, 0, 0)
        else:
            start, axes = prior(launch, kind), (0, None, 0)
        program = jax.jit(jax.vmap(built.adapt[kind], axes))
        by_prior[kind] = program(bodies.keys(Stage.ADAPT), start, bodies.rows)
        _require_finite(by_prior[kind], kind, bodies)
    return {method: by_prior[METHODS[method].prior] for method in methods}


def _require_finite(params: tuple, kind: str, bodies: TestBodies) -> None:
    def finite(one):
        return jnp.all(jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(one)]))

    for i, fine in enumerate(jax.vmap(finite)(params)):
        if not fine:
            seed = bodies.seeds[i]
            task = jax.tree.map(lambda x: x[i].tolist(), bodies.tasks)  # noqa: B023
            raise flags.NotFiniteError(
                f"adapt: what became of the {kind} prior on seed {seed} is not finite "
                f"(body {task}). Lower the learning rate in a new workdir."
            )


def initial_states(
    launch: flags.Launch, built: Build, batch: Batch, bodies: TestBodies, params: dict
) -> rollout.RunState:
    """States before the first step, [runs, ...]; `params` as `adapt` gives them."""
    settings = launch.settings

    def one(seed, params, threshold, task, rows):
        agent = built.agent.init(stage_key(seed, Stage.AGENT_INIT), *params, threshold)
        key = stage_key(seed, Stage.RUN_START)
        return rollout.init_run(key, built.domain, settings.online, task, agent, rows)

    def over_runs(tree):
        return jax.tree.map(lambda x: jnp.concatenate([x] * len(batch.methods)), tree)

    thresholds = [
        settings.recovery.risk_threshold if METHODS[method].constrained else jnp.inf
        for method, _ in batch.runs()
    ]
    return jax.jit(jax.vmap(one))(
        jnp.array([seed for _, seed in batch.runs()]),
        jax.tree.map(lambda *x: jnp.concatenate(x), *params.values()),
        jnp.array(thresholds),
        over_runs(bodies.tasks),
        over_runs(bodies.rows),
    )


def adapted_like(built: Build, methods, bodies: TestBodies) -> dict:
    """Shapes of `adapt`, without computing it: to restore what was saved."""
    params = jax.eval_shape(lambda: from_scratch(built, bodies).params)
    return dict.fromkeys(methods, params)


def states_like(launch, built: Build, batch: Batch, bodies: TestBodies):
    """Shapes of `initial_states`, without computing them."""
    params = adapted_like(built, batch.methods, bodies)
    return jax.eval_shape(
        lambda p: initial_states(launch, built, batch, bodies, p), params
    )
