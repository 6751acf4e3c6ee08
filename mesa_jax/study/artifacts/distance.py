"""How far test bodies lie outside what a prior that encodes was trained on."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from mesa_jax.keys import Stage, stage_key
from mesa_jax.methods import METHODS
from mesa_jax.novelty import Novelty, distance, fit
from mesa_jax.study.artifacts.data import Bodies, training_data
from mesa_jax.study.artifacts.priors import prior, training_rows
from mesa_jax.study.study import Launch
from mesa_jax.system import build
from mesa_jax.types import Transition

SETS = 8  # adaptation sets of a training body


def sets_of(key, rows: Transition, count: int) -> Transition:
    """Disjoint random sets [sets, count, ...] of one body's rows [N, ...]."""
    total = len(rows.cost)
    sets = max(1, min(SETS, total // count))
    order = jax.random.permutation(key, total)[: sets * count]
    return jax.tree.map(lambda x: x[order].reshape(sets, -1, *x.shape[1:]), rows)


def training_encodings(launch: Launch, method: str, count: int) -> jax.Array:
    """Encodings [B, K, E]: K adaptation sets of `count` rows of each training body."""
    built = build(launch.settings)
    critic = prior(launch, METHODS[method].prior).params[0]
    trained, _ = training_rows(training_data(launch), launch.settings)
    keys = jax.random.split(
        stage_key(launch.meta_seed, Stage.SUPPORT), len(trained.cost)
    )

    @jax.jit
    @jax.vmap
    def of_body(key, rows):
        sets_key, read_key = jax.random.split(key)
        sets = sets_of(sets_key, rows, count)
        keys = jax.random.split(read_key, len(sets.cost))
        return jax.vmap(built.encode, (0, None, 0))(keys, critic, sets)

    return of_body(keys, trained)


def _reach(launch: Launch, method: str, count: int) -> Novelty:
    return fit(training_encodings(launch, method, count))


def distances(launch: Launch, method: str, bodies: Bodies) -> np.ndarray | None:
    """Each body's distance [S] from the training bodies; beyond 1 it lies outside.

    Their adaptation sets are as large as its own. None where the method reads no set.
    """
    encode = build(launch.settings).encode
    if encode is None:
        return None
    critic = prior(launch, METHODS[method].prior).params[0]
    reach = _reach(launch, method, bodies.rows.cost.shape[1])
    encoded = jax.jit(jax.vmap(encode, (0, None, 0)))
    return np.asarray(
        distance(reach, encoded(bodies.keys(Stage.ADAPT), critic, bodies.rows))
    )


def _steps_of(launch: Launch, method: str) -> tuple[int, int]:
    """Steps that a method adapts with inside the support and outside (0: as inside)."""
    section = getattr(launch.settings, METHODS[method].adaptation)
    reads = launch.settings.risk.conditioning != "none"
    return section.steps, reads * getattr(section, "steps_outside", 0)


def own_steps(
    launch: Launch, method: str, bodies: Bodies
) -> tuple[int | np.ndarray, np.ndarray | None]:
    """Steps that a method adapts to each body with, [S] or one for all; `distances`."""
    inside, outside = _steps_of(launch, method)
    found = distances(launch, method, bodies)
    return (np.where(found > 1.0, outside, inside) if outside else inside), found


def steps_rule(launch: Launch, method: str, count: int) -> Callable:
    """Makes `(key, critic, rows [count, ...]) -> steps`: `own_steps` in a program.

    The key is that of the adaptation, so that the encoding judged is the one used.
    """
    inside, outside = _steps_of(launch, method)
    if not outside:
        return lambda key, critic, rows: inside
    encode, reach = build(launch.settings).encode, _reach(launch, method, count)

    def steps(key, critic, rows):
        found = distance(reach, encode(key, critic, rows))
        return jnp.where(found > 1.0, outside, inside)

    return steps


def told(method: str, found: np.ndarray | None) -> str:
    """What to say of bodies that lie outside; empty where none does."""
    outside = [] if found is None else np.flatnonzero(found > 1.0)
    if not len(outside):
        return ""
    return (
        f"Warning: {method}: {len(outside)} of {len(found)} adaptation sets lie "
        f"outside what its prior was trained on (at distances up to {found.max():.1f}; "
        "inside is at most 1); its risk may be wrong there."
    )
