"""Phase 2: how a prior becomes a body's own risk critic and recovery policy."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mesa_jax import novelty
from mesa_jax.configuration import Configuration
from mesa_jax.meta import FinetuneConfig, InnerLoopConfig, finetune
from mesa_jax.methods import Method
from mesa_jax.novelty import Novelty
from mesa_jax.simulation import Reading
from mesa_jax.system import System, draw, learners, support_of
from mesa_jax.types import Array, Part, Prior, Transition

Adapt = Callable  # (key, prior, support [n, ...], steps) -> adapted parameters
Adaptation = InnerLoopConfig | FinetuneConfig
FAR = 1.0  # distance beyond which a body lies outside the training bodies


def config_of(settings: Configuration, method: Method) -> Adaptation:
    """Returns the section of a configuration that says how a method adapts."""
    return getattr(settings, method.adaptation)


def steps(config: Adaptation, distance: Array | None = None) -> int | Array:
    """Returns how many steps a method adapts with: one number for all, or of each body.

    The rule is the same outside of compiled programs and in them.

    Args:
      distance: [...] from the training bodies (`novelty.distance`); None where
        nothing tells it.
    """
    outside = getattr(config, "steps_outside", 0)
    if distance is None or not outside:
        return config.steps
    return jnp.where(distance > FAR, outside, config.steps)


def asks_novelty(system: System, method: Method) -> bool:
    """Returns whether a method's steps depend on how far a body lies outside."""
    outside = getattr(config_of(system.configuration, method), "steps_outside", 0)
    return system.encode is not None and outside > 0


def from_scratch(system: System, keys: Array, transitions: Transition) -> Prior:
    """Returns fresh parameters, [S, ...].

    Args:
      keys: [S].
      transitions: [S, n, ...] of each body; their statistics standardise its inputs.
    """
    return Prior(jax.vmap(system.init)(keys, transitions), ())


def adaptation(settings: Configuration, parts: tuple[Part, ...], section: str) -> Adapt:
    """Makes `(key, prior, support [n, ...], steps) -> parameters` of one body.

    Args:
      parts: of the prior; the first alone adapts the critic alone.
      section: of the configuration, that says how.
    """
    config = getattr(settings, section)
    if isinstance(config, FinetuneConfig):
        return finetune(parts, config, draw(settings, config.replacement))
    learner, support = learners(settings, parts)["maml"], support_of(settings)

    def inner_loop(key, prior, transitions, steps):
        return learner.adapt(key, prior, support(key, transitions), steps)

    return inner_loop


def to_body(system: System, method: Method, critic_alone: bool = False) -> Callable:
    """Makes `(key, prior, transitions [n, ...], task, steps) -> adapted parameters`.

    They are (critic, recovery policy), or (critic,) where it adapts alone. Only a
    method that is told reads the task.
    """
    parts = system.parts[:1] if critic_alone else system.parts
    adapt = adaptation(system.configuration, parts, method.adaptation)

    def adapted(key, prior, transitions, task, steps):
        params = adapt(key, prior, transitions, steps)[: len(parts)]
        if not method.told:
            return params
        known = system.domain.parametrisation.of(task)
        return tuple(part | {"encoding": known} for part in params)

    return adapted


def adapts_anew(
    system: System, method: Method, training: Novelty | None = None
) -> Callable:
    """Makes `(key, prior, transitions [n, ...]) -> parameters`, as online runs readapt.

    Args:
      training: where the training bodies lie, if steps depend on it. The key is that of
        the adaptation, so that the encoding judged is the one used.
    """
    adapt = adaptation(system.configuration, system.parts, method.adaptation)
    config = config_of(system.configuration, method)

    def anew(key, prior, transitions):
        distance = None
        if training is not None:
            encoded = system.encode(key, prior.params[0], transitions)
            distance = novelty.distance(training, encoded)
        return adapt(key, prior, transitions, steps(config, distance))

    return anew


def reads(settings: Configuration, method: Method) -> bool:
    """Returns whether online runs of a method encode their latest transitions anew."""
    encodes = settings.risk.conditioning != "none"
    return method.readapts and encodes and settings.online.readapt_every > 0


def reading(
    settings: Configuration, adapt: Callable, transitions: Transition
) -> Reading:
    """Returns how a filter reads a body as its online run would.

    Args:
      adapt: (key, transitions [n, ...]) -> (critic, recovery policy).
      transitions: [N, ...] the body's adaptation set, which comes first.
    """
    online, held = settings.online, transitions.cost.shape[0]
    at = jnp.maximum(jnp.arange(held - online.readapt_transitions, held), 0)
    latest = jax.tree.map(lambda x: x[at], transitions)
    return Reading(adapt, online.readapt_every, latest)
