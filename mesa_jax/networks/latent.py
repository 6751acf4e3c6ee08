"""Layers whose weights are made from a latent vector, as in MACAW and MESA's code.

Of such a layer the weights are W = F z + f, kernel and bias in one vector: z of L
numbers, the basis F of L numbers a weight. All three are learned. Published: L = 100
(paper.md 2.1, there "WLinear").

An inner step moves F by a product of two vectors, so no task needs a copy of its own:
after steps with gradients g_j in the weights,

    W_k = F z_k + f - sum_j (u_j . z_k + c_j) g_j,    u_j = alpha_F z_j,  c_j = alpha_f,
    z_{k+1} = z_k - alpha_z (F^T g_k - sum_j (g_j . g_k) u_j),

exactly what descent on the three tensors gives, and its outer gradient with it.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mesa_jax import equations
from mesa_jax.types import Array, Key, Params, WeightSpace


class Latent(NamedTuple):
    """What a layer's weights are made from; of an ensemble [K, ...]."""

    z: Array  # [K, L]
    basis: Array  # F, [K, I + 1, O, L] of I inputs and O outputs; the last row: bias
    offset: Array  # f, [K, I + 1, O]


def init(key: Key, network: Params, size: int) -> Params:
    """Latent layers of `size` numbers in the place of an ensemble's dense ones.

    z ~ N(0, 1 / O^2); F and f uniform in +-1 / sqrt(size), as published.

    Args:
      network: `{"params": {name: {"kernel": [K, I, O], "bias": [K, O]}}}`.
    """
    layers = network["params"]
    keys = jax.random.split(key, len(layers))
    made = zip(layers, keys, strict=True)
    return {"params": {name: _init(key, layers[name], size) for name, key in made}}


def _init(key: Key, layer: dict[str, Array], size: int) -> Latent:
    z_key, basis_key, offset_key = jax.random.split(key, 3)
    like, bound = _joined(layer), size**-0.5

    def uniform(key, *shape):
        return jax.random.uniform(key, shape, like.dtype, -bound, bound)

    z = jax.random.normal(z_key, (len(like), size), like.dtype) / like.shape[-1]
    return Latent(
        z, uniform(basis_key, *like.shape, size), uniform(offset_key, *like.shape)
    )


def generate(params: Params) -> Params:
    """Every latent layer as kernel and bias; what is none stays as it is."""

    def layer(value):
        if isinstance(value, Latent):
            return _split(_weights(value, value.z, ()))
        return value

    return _over_layers(layer, params)


class Move(NamedTuple):
    """An inner step of a latent layer, as what it did to F and f (times -1)."""

    gradient: Array  # g, [K, I + 1, O]
    basis: Array  # u: F loses g u^T, [K, L]
    offset: Array  # c: f loses c g, [K]


class Moved(NamedTuple):
    """A latent layer after inner steps, relative to the prior's."""

    z: Array  # [K, L]
    moves: tuple[Move, ...]


def _begin(prior):
    return Moved(prior.z, ()) if isinstance(prior, Latent) else prior


def _generated(prior, now):
    if isinstance(prior, Latent):
        return _split(_weights(prior, now.z, now.moves))
    return now


def _step(prior, now, rates, gradient):
    if not isinstance(prior, Latent):
        return equations.sgd(now, gradient, rates)
    g = _joined(gradient)
    pulled = jnp.einsum("kiol,kio->kl", prior.basis, g)
    for move in now.moves:
        pulled -= jnp.sum(move.gradient * g, (1, 2))[:, None] * move.basis
    ones = jnp.ones(len(g), g.dtype)
    move = Move(g, rates.basis * now.z, rates.offset * ones)
    return Moved(now.z - rates.z * pulled, (*now.moves, move))


def _follow(rate, prior, target, now):
    if not isinstance(prior, Latent):
        return equations.polyak(target, now, rate)
    if isinstance(rate, float) and rate == 0.0:
        return target  # stays the prior's, one for all tasks
    moves = ()
    for i, move in enumerate(now.moves):
        known = i < len(target.moves)
        old = target.moves[i] if known else jax.tree.map(jnp.zeros_like, move)
        basis, offset = equations.polyak(old[1:], move[1:], rate)
        moves += (Move(move.gradient, basis, offset),)
    return Moved(equations.polyak(target.z, now.z, rate), moves)


def _weights(prior: Latent, z: Array, moves: tuple[Move, ...]) -> Array:
    made = jnp.einsum("kiol,kl->kio", prior.basis, z) + prior.offset
    for move in moves:
        scale = jnp.sum(move.basis * z, -1) + move.offset
        made -= scale[:, None, None] * move.gradient
    return made


def _joined(layer: dict[str, Array]) -> Array:
    """Kernel [K, I, O] and bias [K, O] as one array [K, I + 1, O]."""
    return jnp.concatenate([layer["kernel"], layer["bias"][:, None]], axis=1)


def _split(made: Array) -> dict[str, Array]:
    return {"bias": made[:, -1], "kernel": made[:, :-1]}


def _over_layers(function: Callable, params: Params, *others: Any):
    """Maps over layers where they are latent, elsewhere over arrays."""
    return jax.tree.map(
        function, params, *others, is_leaf=lambda x: isinstance(x, Latent)
    )


LOW_RANK = WeightSpace(
    begin=lambda params: _over_layers(_begin, params),
    weights=lambda params, adapted: _over_layers(_generated, params, adapted),
    step=lambda *trees: _over_layers(_step, *trees),
    follow=lambda params, target, adapted, rate: _over_layers(
        functools.partial(_follow, rate), params, target, adapted
    ),
    grows=True,
)
