"""The safety filter of a study's method on one of its test bodies."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mesa_jax import adaptation
from mesa_jax.filter import SafetyFilter
from mesa_jax.keys import Stage
from mesa_jax.methods import METHODS
from mesa_jax.study.artifacts.adapted import adapted, distances
from mesa_jax.study.artifacts.data import load_test_bodies
from mesa_jax.study.artifacts.priors import trained_source
from mesa_jax.study.runs import risk_thresholds
from mesa_jax.study.study import Study
from mesa_jax.types import Array, Prior, Transition


class Fitted(NamedTuple):
    """Holds a filter of one body, and how it came to be."""

    guard: SafetyFilter
    transitions: Transition  # [n, ...] that it was adapted to
    root: Array  # [2] of uint32: the key that the keys of its stages are made from
    adapt: Callable | None  # (root, transitions [n, ...]) -> (critic, recovery policy)


def fitted(study: Study, method: str, body: int) -> Fitted:
    """Returns a method's filter of the test body of a seed; makes what is missing.

    Its threshold is that of online runs: the method's own, or calibrated.
    """
    mine, row = study.of(method), METHODS[method]
    system, source = mine.system, trained_source(mine, row)
    bodies = load_test_bodies(mine, (body,))
    params = jax.tree.map(lambda x: x[0], adapted(mine, (method,), bodies)[method])
    far = distances(system, source, bodies)
    guard = SafetyFilter(
        critic=params[0],
        recovery=params[1],
        threshold=jnp.float32(risk_thresholds(mine, (method,)).get(method, jnp.inf)),
        novelty=jnp.float32(jnp.nan if far is None else far[0]),
        measure=system.risk,
        policy=system.recovery,
        method=method,
    )
    transitions = jax.tree.map(lambda x: x[0], bodies.rows)
    root = jax.random.key_data(bodies.roots[0])
    adapt = None if row.told else _adapts(mine, source, len(transitions.cost))
    return Fitted(guard, transitions, root, adapt)


def _adapts(study: Study, source, count: int) -> Callable:
    """Makes `adapt` of a `Fitted`; `count` transitions tell how far a body lies out."""
    system, row, training = study.system, METHODS[study.method], None
    if adaptation.asks_novelty(system, row):
        training = source.novelty(system, count)
    anew = adaptation.adapts_anew(system, row, training)

    def adapt(root, transitions):
        key = jax.random.wrap_key_data(root)
        prior = source.prior
        if prior is None:
            fresh = jax.random.fold_in(key, int(Stage.PRIOR_INIT))
            prior = Prior(system.init(fresh, transitions), ())
        return anew(jax.random.fold_in(key, int(Stage.ADAPT)), prior, transitions)

    return adapt
