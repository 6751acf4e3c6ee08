"""One axis over all devices: `vmap`, and each device computes its share of the rows.

`jax.set_mesh(mesh)`, of a mesh with the axes `run` and `task`, says which devices there
are; without it there is one, and nothing here changes a program. Rows that do not
divide are padded with copies of the first ones, which are dropped again.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

AXES = ("run", "task")  # of the mesh; one axis of rows lies over both


def rows() -> PartitionSpec:
    """Returns how rows lie on the devices; an axis of one device is not named."""
    sizes = jax.sharding.get_abstract_mesh().shape
    return PartitionSpec(tuple(name for name in AXES if sizes.get(name, 1) > 1))


def devices() -> int:
    """Returns how many devices rows lie on."""
    sizes = jax.sharding.get_abstract_mesh().shape
    return math.prod(sizes.get(name, 1) for name in AXES)


def padded(tree: Any, count: int) -> Any:
    """Returns rows [M, ...], M the next multiple of the devices; the first are added.

    Args:
      tree: leaves [count, ...].
      count: of rows, at least 1.
    """
    missing = -count % devices()
    if not missing:
        return tree
    at = jnp.arange(count + missing) % count
    return jax.tree.map(lambda x: x[at], tree)


def first(tree: Any, count: int) -> Any:
    """Returns the first rows [count, ...] of what was `padded`."""
    if _rows(tree) == count:
        return tree
    return jax.tree.map(lambda x: x[:count], tree)


def everywhere(tree: Any) -> Any:
    """Returns a tree of which each device holds the whole."""
    if devices() == 1:
        return tree
    return jax.lax.with_sharding_constraint(tree, PartitionSpec())


def read(tree: Any) -> Any:
    """Returns NumPy arrays of what a program gave, also of rows that lie elsewhere.

    Where several processes compute together each of them asks, and has all rows.
    """

    def gathered(x):
        return x if _is_here(x) else np.asarray(everywhere(x))  # one after another

    return jax.device_get(jax.tree.map(gathered, tree))


def placed(tree: Any) -> Any:
    """Returns rows [M, ...] so that each device holds its share of every leaf.

    Args:
      tree: leaves [M, ...], M a multiple of the devices.
    """
    if devices() == 1:
        return tree
    return jax.lax.with_sharding_constraint(tree, rows())


def vmap(function: Callable, in_axes: tuple[int | None, ...] | int = 0) -> Callable:
    """Returns `jax.vmap(function, in_axes)` over rows that lie on all devices.

    Args:
      function: of one row.
      in_axes: 0 for an argument [N, ...], None for one that all rows share.
    """
    mapped = jax.vmap(function, in_axes)

    def over_rows(*arguments):
        if devices() == 1:
            return mapped(*arguments)
        axes = in_axes if isinstance(in_axes, tuple) else (in_axes,) * len(arguments)
        pairs = list(zip(arguments, axes, strict=True))
        count = next(_rows(x) for x, axis in pairs if axis == 0)
        given = [
            placed(padded(x, count)) if axis == 0 else x  # the others lie everywhere
            for x, axis in pairs
        ]
        found = placed(mapped(*given))
        return first(found, count)

    return over_rows


def _is_here(leaf: Any) -> bool:
    if not isinstance(leaf, jax.Array):
        return True
    return leaf.is_fully_addressable or leaf.is_fully_replicated


def _rows(tree: Any) -> int:
    return jax.tree.leaves(tree)[0].shape[0]
