"""Trials of `tune`: what each setting adapts from, and what its filter is worth."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from mesa_jax import adaptation, configuration, sharding
from mesa_jax.configuration import seconds_of
from mesa_jax.evaluation.filtering import THRESHOLDS
from mesa_jax.keys import Stage, stage_key
from mesa_jax.methods import METHODS
from mesa_jax.phases.training import outer_steps
from mesa_jax.simulation import Filtered
from mesa_jax.study import filtering, sweep
from mesa_jax.study.artifacts.data import Bodies
from mesa_jax.study.artifacts.priors import CHUNK, trained_on, trained_prior
from mesa_jax.study.study import Study
from mesa_jax.study.traces import say_compiling
from mesa_jax.system import assemble
from mesa_jax.training import init_meta_training
from mesa_jax.types import Prior, State

SETTINGS = 4  # of a method's own kind, at a horizon


def settings_of(
    method: str, horizons: tuple[float, ...], most: int = SETTINGS
) -> list[sweep.Row]:
    """Returns the settings of a method that are tried, each horizon with each.

    Args:
      most: of its own kind, at a horizon.
    """
    return [
        {"risk": {"horizon": horizon}} | layer
        for horizon in horizons
        for layer in METHODS[method].grid[:most]
    ]


def _swept(study: Study, rows: list[sweep.Row]) -> list[sweep.Row]:
    """Returns the rows with discounts in place of horizons: a sweep traces numbers."""
    step = seconds_of(study.configuration)

    def one(row):
        return row | {"risk": {"discount": 1.0 - step / row["risk"]["horizon"]}}

    return [one(row) for row in rows]


def meta_trained(study: Study, rows: list[sweep.Row]) -> Prior:
    """Meta-trains priors [rows, ...] side by side, of rows as a sweep takes them."""
    settings, seed = study.configuration, study.meta_seed
    transitions, heldout = trained_on(study)
    simulated = study.system.risk.of_recovery
    steps = math.gcd(CHUNK, settings.maml.steps)

    def start(settings, transitions):
        system, key = assemble(settings), stage_key(seed, Stage.PRIOR_INIT)
        params = system.init(key, transitions)
        return init_meta_training(system.learners["maml"], params)

    def chunk(settings, state, transitions, heldout):
        program = outer_steps(assemble(settings), "maml", steps, simulated)
        stages = (Stage.META_TRAIN, Stage.BELLMAN_ERROR)
        keys = (stage_key(seed, stage) for stage in stages)
        return program(*keys, state, transitions, heldout)[0]

    best: list[Prior] = [None] * len(rows)
    groups = sweep.grouped(rows)
    total = len(groups) * settings.maml.steps // steps
    with tqdm(total=total, desc="[tune] meta-training", unit="chunk") as bar:
        for group in groups:
            state = jax.jit(sweep.over(group, settings, start, (None,)))(transitions)
            state, axes = step_shared(state)
            over = sweep.over(group, settings, chunk, (axes, None, None), axes)
            program = jax.jit(over, donate_argnums=0)
            say_compiling(bar)
            for _ in range(settings.maml.steps // steps):
                state = program(state, transitions, heldout)
                jax.block_until_ready(state)  # the bar says what is done
                bar.set_postfix_str("", refresh=False)
                bar.update()
            for row, i in enumerate(group.at):
                best[i] = jax.tree.map(lambda x: x[row], state.best)  # noqa: B023
    return jax.tree.map(lambda *x: jnp.stack(x), *best)


def step_shared(state: State) -> tuple[State, State]:
    """Returns a state [rows, ...] with one outer step for all, and its axes.

    What is done every so many steps is then done then, and not in each row's every
    step: a condition that differs between rows is computed both ways.
    """

    def is_step(path):
        return getattr(path[-1], "name", None) == "step"

    shared = jax.tree_util.tree_map_with_path(
        lambda path, x: x[0] if is_step(path) else x, state
    )
    axes = jax.tree_util.tree_map_with_path(
        lambda path, _: None if is_step(path) else 0, state
    )
    return shared, axes


def trained_starts(
    study: Study, method: str, bodies: Bodies, rows: list[sweep.Row]
) -> Prior:
    """Makes what each setting of a method adapts from, [settings, bodies, ...]."""
    kind, count = METHODS[method].prior, len(bodies.seeds)
    if kind == "scratch":
        return _fresh(study, bodies, _swept(study, rows))
    if kind == "maml":
        parts = [{k: row[k] for k in ("risk", "maml") if k in row} for row in rows]
        different = [row for i, row in enumerate(parts) if row not in parts[:i]]
        trained = meta_trained(study, _swept(study, different))
        each = sweep.rows_of(trained, [different.index(row) for row in parts])
    else:
        horizons = [row["risk"]["horizon"] for row in rows]
        found = {h: _pooled(study, kind, h) for h in dict.fromkeys(horizons)}
        each = jax.tree.map(lambda *x: jnp.stack(x), *(found[h] for h in horizons))
    shape = len(rows), count
    return jax.tree.map(
        lambda x: jnp.broadcast_to(x[:, None], (*shape, *x.shape[1:])), each
    )


def _pooled(study: Study, kind: str, horizon: float) -> Prior:
    """Restores (or trains) the prior that looks so far ahead."""
    asked = configuration.override(study.common, {"risk": {"horizon": horizon}})
    return trained_prior(study._replace(common=asked), kind)


def _fresh(study: Study, bodies: Bodies, rows: list[sweep.Row]) -> Prior:
    """Makes fresh parameters of each setting and body, [settings, bodies, ...]."""
    keys = bodies.keys(Stage.PRIOR_INIT)

    def of_settings(settings):
        return adaptation.from_scratch(assemble(settings), keys, bodies.rows)

    found: list[Prior] = [None] * len(rows)
    for group in sweep.grouped(rows):
        made = jax.jit(sweep.over(group, study.configuration, of_settings, ()))()
        for row, i in enumerate(group.at):
            found[i] = jax.tree.map(lambda x: x[row], made)  # noqa: B023
    return jax.tree.map(lambda *x: jnp.stack(x), *found)


def worth(
    study: Study,
    method: str,
    rows: list[sweep.Row],
    starts: Prior,
    bodies: Bodies,
    unsafe: State,
) -> Filtered:
    """Tests the filter of each setting, [settings, steps, bodies, 2, K, episodes].

    Args:
      starts: what each setting adapts from, [settings, bodies, ...].
      unsafe: policies that propose, [bodies, ...].
    """
    settings, steps_tried = study.configuration, METHODS[method].grid_steps
    thresholds, episodes = jnp.array(THRESHOLDS), settings.quality.filter_episodes

    def score(settings, start, steps):
        mine = assemble(settings)
        section = METHODS[method].adaptation
        adapt = adaptation.adaptation(settings, mine.parts, section)
        test = filtering.of_body(mine, episodes)

        def body(prior, key, transitions, root, task, unsafe):
            params, reading = adapt(key, prior, transitions, steps), None
            if adaptation.reads(settings, METHODS[method]):
                anew = lambda key, seen: adapt(key, prior, seen, steps)  # noqa: E731
                reading = adaptation.reading(settings, anew, transitions)
            return test(root, task, params, unsafe, thresholds, reading)

        keys = bodies.keys(Stage.ADAPT)
        given = keys, bodies.rows, bodies.roots, bodies.tasks, unsafe
        return sharding.vmap(body)(start, *given)

    found: list = [None] * len(rows)
    for group in sweep.grouped(_swept(study, rows)):
        program = jax.jit(sweep.over(group, settings, score, (0, None)))
        mine = sweep.rows_of(starts, group.at)
        counts = [program(mine, jnp.int32(steps)) for steps in steps_tried]
        stacked = jax.tree.map(lambda *x: np.stack(x, axis=1), *counts)
        for row, i in enumerate(group.at):
            found[i] = jax.tree.map(lambda x: x[row], stacked)  # noqa: B023
    return jax.tree.map(lambda *x: np.stack(x), *found)
