"""Encodings of adaptation sets: a body in a few numbers, without a gradient step.

Ours, not the papers'. A set encoder (Zaheer et al., 2017, "Deep Sets") reads the
transitions in any order and number: a network over each, means of what it makes of
them, weighted by attention (as in the pooling of Lee et al., 2019, "Set Transformer",
with linear scores), and a layer over the means. Where a domain's bodies differ in known
parameters, the numbers can be these, identified from the transitions. What is
conditioned on the encoding knows the body.
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

HEADS = 8  # weightings of the transitions, each of its share of the features


class Encoder(NamedTuple):
    """Makes `size` numbers of an adaptation set."""

    init: Callable[[Key, Statistics], Params]
    encode: Callable[[Params, Statistics, Transition], Array]
    # params, statistics, rows [n, ...] -> [size]
    size: int


def set_encoder(hidden: tuple[int, ...], size: int) -> Encoder:
    """Encodes transitions (state, action, change of state, cost) into `size` numbers.

    Args:
      hidden: widths of the network over each transition; the last one is pooled, in
        `HEADS` equal parts.
      size: length of the encoding.
    """
    each, together = MLP(hidden[:-1], hidden[-1]), MLP((), size)
    scores = MLP((), HEADS)

    def init(key, statistics):
        each_key, together_key = jax.random.split(key)
        scores_key = jax.random.fold_in(key, 2)
        sizes = statistics.observation_mean.shape[-1], statistics.action_mean.shape[-1]
        inputs = jnp.zeros(2 * sizes[0] + sizes[1] + 1)
        return {
            "each": each.init(each_key, inputs),
            "scores": scores.init(scores_key, jnp.zeros(hidden[-1])),
            "together": together.init(together_key, jnp.zeros(hidden[-1])),
        }

    def encode(params, statistics, rows):
        inputs = jax.lax.stop_gradient(_inputs(statistics, rows))
        features = jax.nn.relu(each.apply(params["each"], inputs))
        weights = jax.nn.softmax(scores.apply(params["scores"], features), axis=0)
        parts = features.reshape(len(features), HEADS, -1)
        means = jnp.einsum("nh,nhf->hf", weights, parts)
        return together.apply(params["together"], means.ravel())

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
    """Network inputs [..., D] with the encoding [E] that `params` carry, if they do.

    They are inputs, encoding and the product of every two of them [..., D + E + D E],
    so that a first layer's weights on the inputs are affine in the encoding (Jayakumar
    et al., 2020, "Multiplicative Interactions and Where to Find Them", section 3). What
    a body does with an action is such a product: B a.
    """
    if "encoding" not in params:
        return inputs
    encoding = params["encoding"]
    wide = jnp.broadcast_to(encoding, (*inputs.shape[:-1], *encoding.shape))
    products = inputs[..., :, None] * wide[..., None, :]
    products = products.reshape(*inputs.shape[:-1], -1)
    return jnp.concatenate([inputs, wide, products], axis=-1)
