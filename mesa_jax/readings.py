"""How a filter reads its body again while that moves, as online runs do."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from mesa_jax import adaptation, equations, novelty
from mesa_jax.filter import METHOD
from mesa_jax.keys import reading_key
from mesa_jax.methods import METHODS
from mesa_jax.novelty import Novelty
from mesa_jax.settings import known
from mesa_jax.system import System
from mesa_jax.types import Array, Key, Prior, Transition


class Rereading(NamedTuple):
    """Says how a filter adapts anew while its body moves, as in an online run."""

    adapt: Callable  # (key, filter, transitions [n, ...]) -> filter, of one body
    every: int  # steps
    latest: Transition  # [..., n, ...] before the first step; [...] as the filter
    keys: Array  # [...] of readings (`reading_key`)


def rereading(
    key: Key,
    system: System,
    prior: Prior,
    transitions: Transition,
    method: str = METHOD,
    training: Novelty | None = None,
) -> Rereading | None:
    """Makes what a method's online runs do every `online.readapt_every` steps.

    Args:
      key: consumed.
      system: of the method's configuration.
      prior: of the method.
      transitions: [n, ...] the adaptation set of one body, or [S, n, ...].
      method: a row of METHODS.
      training: where the training bodies lie, by sets of as many transitions as are
        read (`online.readapt_transitions`); None: not known.

    Returns:
      None, where the method's online runs do not adapt anew.
    """
    row, config = METHODS[known("method", method, METHODS)], system.configuration
    if not (row.readapts and config.online.readapt_every):
        return None
    anew = adaptation.adapts_anew(system, row, training)

    def adapt(key, filter, latest):
        own, start = (filter.critic, filter.recovery), prior
        if config.online.readapt_from == "current":
            start = prior._replace(params=own)
        distance = filter.novelty
        if training is not None and system.encode is not None:
            again = jax.random.clone(key)  # the encoding judged is the one used
            encoded = system.encode(again, start.params[0], latest)
            distance = novelty.distance(training, encoded)
        critic, recovery = anew(key, start, latest)
        return filter.replace(critic=critic, recovery=recovery, novelty=distance)

    def latest_of(one):
        return adaptation.reading(config, adapt, one).latest

    every, count = config.online.readapt_every, np.ndim(transitions.cost)
    if count == 1:
        return Rereading(adapt, every, latest_of(transitions), key)
    keys = jax.random.split(key, len(transitions.cost))
    return Rereading(adapt, every, jax.vmap(latest_of)(transitions), keys)


def reread(rereading: Rereading) -> Callable:
    """Makes `(filter, latest, turn, due) -> filter`, of one body or of several.

    Those that are not `due` stay as they are; reading `turn` is the body's own count.
    """

    def one(key, filter, latest, turn, due):
        renewed = rereading.adapt(reading_key(key, turn), filter, latest)
        return equations.select(due, renewed, filter)

    several = jax.vmap(one) if rereading.keys.ndim else one
    return functools.partial(several, rereading.keys)
