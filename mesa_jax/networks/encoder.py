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

from mesa_jax.networks.mlp import MLP, standardize
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
    """Bundles what makes `size` numbers of an adaptation set."""

    init: Callable[[Key, Statistics], Params]
    encode: Callable[[Params, Statistics, Transition], Array]
    # params, statistics, rows [n, ...] -> [size]
    size: int


def set_encoder(hidden: tuple[int, ...], size: int) -> Encoder:
    """Makes an encoder of transitions (state, action, change of state, cost).

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
        parts = features.reshape(features.shape[0], HEADS, -1)
        means = jnp.einsum("nh,nhf->hf", weights, parts)
        return together.apply(params["together"], means.ravel())

    return Encoder(init, encode, size)


def identifier(parametrisation: Parametrisation) -> Encoder:
    """Makes an encoder that finds the body's parameters; it learns nothing."""

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


def conditioned_size(size: int, encoding_size: int) -> int:
    """Returns the number of a first layer's inputs, of which `size` are its own.

    The encoding of E numbers adds itself and its products with them.
    """
    return (1 + size) * (1 + encoding_size) - 1


def conditioned(network: Params, params: Params) -> Params:
    """Returns the network [D] -> [...] that an encoding makes of `network`.

    `network` takes inputs x, encoding e, and the product of every two of them [D + E +
    D E]. Its first layer is thus one of the inputs alone, with weights affine in the
    encoding (Jayakumar et al., 2020, "Multiplicative Interactions and Where to Find
    Them", section 3),

        (W + sum over j of e_j W_j) x + (b + V e),

    and these are made once for all inputs. What a body does with an action is such a
    product: B a.

    Args:
      network: of an `MLP`, alone or of an ensemble; as it is if `params` have no
        encoding.
      params: with an entry "encoding" [E], or without.
    """
    if "encoding" not in params:
        return network
    encoding, layers = params["encoding"], network["params"]
    kernel = layers["Dense_0"]["kernel"]  # [..., D + E + D E, H]
    size = (kernel.shape[-2] + 1) // (len(encoding) + 1) - 1
    own, shift, products = jnp.split(kernel, (size, size + len(encoding)), axis=-2)
    products = products.reshape(*kernel.shape[:-2], size, len(encoding), -1)
    first = {
        "kernel": own + jnp.einsum("...deh,e->...dh", products, encoding),
        "bias": layers["Dense_0"]["bias"]
        + jnp.einsum("...eh,e->...h", shift, encoding),
    }
    return {"params": layers | {"Dense_0": first}}
