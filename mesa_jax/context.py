"""Encodings of adaptation sets: a body in a few numbers, without a gradient step.

Ours, not the papers'. A set encoder (Zaheer et al., 2017, "Deep Sets") reads the
transitions in any order and number: a network over each, their mean, and a layer over
the mean. Where a domain's bodies differ in known parameters, the numbers can be these,
identified from the transitions. What is conditioned on the encoding knows the body.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mesa_jax.networks import MLP, standardize
from mesa_jax.types import (
    Array,
    Key,
    Parametrisation,
    Params,
    Statistics,
    Transition,
)


class Encoder(NamedTuple):
    """Makes `size` numbers of an adaptation set."""

    init: Callable[[Key, Statistics], Params]
    encode: Callable[[Params, Statistics, Transition], Array]
    # params, statistics, rows [n, ...] -> [size]
    size: int


def set_encoder(hidden: tuple[int, ...], size: int) -> Encoder:
    """Encodes transitions (state, action, change of state, cost) into `size` numbers.

    Args:
      hidden: widths of the network over each transition; the last one is pooled.
      size: length of the encoding.
    """
    each, together = MLP(hidden[:-1], hidden[-1]), MLP((), size)

    def init(key, statistics):
        each_key, together_key = jax.random.split(key)
        sizes = statistics.observation_mean.shape[-1], statistics.action_mean.shape[-1]
        inputs = jnp.zeros(2 * sizes[0] + sizes[1] + 1)
        return {
            "each": each.init(each_key, inputs),
            "together": together.init(together_key, jnp.zeros(hidden[-1])),
        }

    def encode(params, statistics, rows):
        inputs = jax.lax.stop_gradient(_inputs(statistics, rows))
        features = jax.nn.relu(each.apply(params["each"], inputs))
        return together.apply(params["together"], jnp.mean(features, axis=0))

    return Encoder(init, encode, size)


def identifier(parametrisation: Parametrisation) -> Encoder:
    """Encodes transitions into the body's parameters that they tell; learns nothing."""

    def encode(params, statistics, rows):
        del params, statistics
        return parametrisation.identify(rows)

    return Encoder(lambda key, statistics: {}, encode, len(parametrisation.names))


def _inputs(statistics: Statistics, rows: Transition) -> Array:
    """Standardised transitions [n, 2 D + A + 1]."""
    change = rows.next_observation - rows.observation
    columns = (
        standardize(statistics, rows.observation, rows.action),
        change / statistics.change_std,
        rows.cost[..., None],
    )
    return jnp.concatenate(columns, axis=-1)


def with_encoding(inputs: Array, params: Params) -> Array:
    """Network inputs [..., D] with the encoding that `params` carry, if they do."""
    if "encoding" not in params:
        return inputs
    encoding = params["encoding"]
    wide = jnp.broadcast_to(encoding, (*inputs.shape[:-1], *encoding.shape))
    return jnp.concatenate([inputs, wide], axis=-1)
