"""Layers whose weights are made from a latent vector, as in MACAW and MESA's code.

Of such a layer the weights are W = F z + f, kernel and bias in one vector: z of L
numbers, the basis F of L numbers a weight. All three are learned. Published: L = 100
(in MESA's code the layers are called "WLinear").

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
    """Holds what a layer's weights are made from; of an ensemble [K, ...]."""

    z: Array  # [K, L]
    basis: Array  # F, [K, I + 1, O, L] of I inputs and O outputs; the last row: bias
    offset: Array  # f, [K, I + 1, O]


def init(key: Key, network: Params, size: int) -> Params:
    """Makes latent layers of `size` numbers in the place of an ensemble's dense ones.

    z ~ N(0, 1 / O^2); F and f uniform in +-1 / sqrt(size), as published.

    Args:
      key: consumed.
      network: `{"params": {name: {"kernel": [K, I, O], "bias": [K, O]}}}`.
      size: L.
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
    """Makes kernel and bias of every latent layer; what is none stays as it is."""

    def layer(value):
        if isinstance(value, Latent):
            return _split(_weights(value, value.z, ()))
        return value

    return _over_layers(layer, params)


class Move(NamedTuple):
    """Holds an inner step of a latent layer: F loses g u^T, f loses c g."""

    gradient: Array  # g, [K, I + 1, O]
    basis: Array  # u: F loses g u^T, [K, L]
    offset: Array  # c: f loses c g, [K]


class Moved(NamedTuple):
    """Holds a latent layer after inner steps, relative to the prior's."""

    z: Array  # [K, L]
    moves: tuple[Move, ...]


def _begin(prior):
    """Returns a task's layer before any inner step; a dense one is itself."""
    return Moved(prior.z, ()) if isinstance(prior, Latent) else prior


def _generated(prior, now):
    """Returns kernel [K, I, O] and bias [K, O] of a task's layer as adapted."""
    if isinstance(prior, Latent):
        return _split(_weights(prior, now.z, now.moves))
    return now


def _step(prior, now, rates, gradient):
    """Takes an inner step of one layer.

    z loses alpha_z (F^T g - sum_j (g_j . g) u_j), F and f lose what the new move says:
    u = alpha_F z and c = alpha_f, at the z before the step.

    Args:
      prior: the layer of the prior.
      now: the task's, so far.
      rates: like `prior`, one positive scalar a tensor.
      gradient: g in the weights, kernel [K, I, O] and bias [K, O].
    """
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
    """Moves a bootstrap target a share `rate` of the way to the task's layer.

    Both have lost multiples of the same gradients g_j, so that the mean of two layers
    is the mean of their z and of every u_j and c_j; a move that the target has not made
    yet counts as zero.
    """
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
    """Returns [K, I + 1, O] at z [K, L]: F z + f - sum_j (u_j . z + c_j) g_j."""
    made = jnp.einsum("kiol,kl->kio", prior.basis, z) + prior.offset
    for move in moves:
        scale = jnp.sum(move.basis * z, -1) + move.offset
        made -= scale[:, None, None] * move.gradient
    return made


def _joined(layer: dict[str, Array]) -> Array:
    """Kernel [K, I, O] and bias [K, O] as one array [K, I + 1, O]."""
    return jnp.concatenate([layer["kernel"], layer["bias"][:, None]], axis=1)


def _split(made: Array) -> dict[str, Array]:
    """Splits weights [K, I + 1, O] into kernel [K, I, O] and bias [K, O]."""
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
