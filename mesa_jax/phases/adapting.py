"""Phase 2 of a system: a prior becomes the safety filter of a body, or of several."""

import warnings
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from mesa_jax import adaptation, novelty, sharding
from mesa_jax.checked import checked_transitions
from mesa_jax.filter import METHOD, SafetyFilter
from mesa_jax.methods import METHODS
from mesa_jax.novelty import Novelty
from mesa_jax.settings import SettingError, known
from mesa_jax.system import System, compiled_once
from mesa_jax.types import Array, Key, Prior, Task, Transition


class OutsideTrainingWarning(UserWarning):
    """Says that a body lies outside what a prior was trained on."""


def adapt(
    key: Key,
    system: System,
    prior: Prior | None,
    transitions: Transition,
    method: str = METHOD,
    training: Novelty | None = None,
    bodies: Task | None = None,
) -> SafetyFilter:
    """Adapts a prior to bodies (phase 2).

    Args:
      key: consumed.
      system: of the method's configuration.
      prior: of the method; None where it starts from scratch.
      transitions: [n, ...] the adaptation set of one body, or [S, n, ...] of S; or
        episodes of one body (`checked.from_episodes`).
      method: a row of METHODS.
      training: where the training bodies lie (`phases.offline.training_novelty`);
        None: unknown, and each body is taken for one like them.
      bodies: [...] or [S, ...]; only a method that is told its body (`oracle`) takes
        them.

    Returns:
      A filter of one body, without axes, or of S bodies.

    Warns:
      OutsideTrainingWarning: naming how many bodies lie outside the training bodies.

    Raises:
      SettingError: naming the argument that the method lacks, or the field of
        `transitions` that is wrong.
    """
    row = METHODS[known("method", method, METHODS)]
    transitions = checked_transitions(system.domain.spec, transitions)
    if prior is None and row.prior != "scratch":
        raise SettingError("prior", None, f"what meta-training gives {method}")
    if row.told and bodies is None:
        raise SettingError("bodies", None, f"given: {method} is told its body")
    alone = transitions.cost.ndim == 1
    if alone:
        transitions, bodies = jax.tree.map(lambda x: x[None], (transitions, bodies))
    found = _adapted(key, system, prior, transitions, method, training, bodies)
    _warn(method, found.novelty)
    return jax.tree.map(lambda x: x[0], found) if alone else found


def _adapted(
    key, system: System, prior, transitions, method: str, training, bodies
) -> SafetyFilter:
    """Adapts a prior to S bodies; arguments as in `adapt`, [S, ...]."""
    row, count = METHODS[method], len(transitions.cost)
    init_key, adapt_key = jax.random.split(key)
    keys = jax.random.split(adapt_key, count)
    if row.prior == "scratch":
        init_keys = jax.random.split(init_key, count)
        start, axis = adaptation.from_scratch(system, init_keys, transitions), 0
    else:
        start, axis = prior, None
    steps, distance = _steps(keys, system, row, start, transitions, training)
    each = jnp.ndim(steps) > 0
    critic, recovery = adapting(system, method, axis, each)(
        keys, start, transitions, bodies, steps
    )
    epsilon = system.configuration.recovery.risk_threshold
    threshold = jnp.full_like(distance, epsilon if row.constrained else jnp.inf)
    return SafetyFilter(
        critic, recovery, threshold, distance, system.risk, system.recovery, method
    )


@compiled_once
def adapting(
    system: System, method: str, axis: int | None, each: bool
) -> Callable[..., tuple]:
    """Compiles `adaptation.to_body` over bodies, [S, ...].

    Args:
      system: of the method's configuration.
      method: a row of METHODS.
      axis: of the bodies in what they begin from; None: they share one.
      each: whether each body takes a number of steps of its own.
    """
    to_body = adaptation.to_body(system, METHODS[method])
    over = sharding.vmap(to_body, (0, axis, 0, 0, 0 if each else None))
    return jax.jit(over, static_argnums=() if each else 4)


@compiled_once
def encoding(system: System) -> Callable[..., Array]:
    """Compiles the encodings [S, E] of adaptation sets [S, n, ...]."""
    return jax.jit(jax.vmap(system.encode, (0, None, 0)))


def _warn(method: str, distance: Array) -> None:
    """Warns of bodies that lie outside; not where it is compiled."""
    if isinstance(distance, jax.core.Tracer):
        return
    if said := novelty.warning(method, np.asarray(distance)):
        said = said.removeprefix("Warning: ")
        warnings.warn(said, OutsideTrainingWarning, stacklevel=3)


def _steps(keys, system, row, prior, transitions, training):
    """Steps to each body, [S] or one number, and the bodies' distances [S]."""
    config = adaptation.config_of(system.configuration, row)
    if training is None or system.encode is None:
        return config.steps, jnp.full(len(transitions.cost), jnp.nan)
    keys = jax.random.clone(keys)  # the encoding judged is the one adapted from
    encoded = encoding(system)(keys, prior.params[0], transitions)
    distance = novelty.distance(training, encoded)
    return adaptation.steps(config, distance), distance
