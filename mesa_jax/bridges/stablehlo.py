"""Programs for cpu, cuda and tpu in one file each, by `jax.export`.

They hold StableHLO and need JAX, and nothing of this package:

    program = jax.export.deserialize(bytearray(path.read_bytes()))
    found = program.call(observation, proposed)

Batches and adaptation sets are of any size.
"""

from collections.abc import Callable

import jax
import jax.export
import jax.numpy as jnp
from jax.extend.core import InconclusiveDimensionOperation

from mesa_jax import dense
from mesa_jax.filter import SafetyFilter
from mesa_jax.types import Array, Transition

PLATFORMS = ("cpu", "cuda", "tpu")
NAME = "mesa_jax.Transition"  # under which files know it, with its fields in order
jax.export.register_namedtuple_serialization(Transition, serialized_name=NAME)


def decision(guard: SafetyFilter) -> bytes:
    """Exports `(observation [B, D], proposed [B, A]) -> filter.outcome` of one body."""
    sizes = sizes_of(dense.weights(guard))
    return _exported(decides(guard), *_batch(*sizes))


def decides(guard: SafetyFilter) -> Callable:
    """Makes `(observation [B, D], proposed [B, A]) -> filter.outcome` of a filter."""

    def decide(observation, proposed):
        action, info = guard.decide(observation, proposed)
        flags = {name: getattr(info, name) for name in ("recovered", "fell_back")}
        return {"action": action, "risk": info.risk} | flags

    return decide


def decision_by_weights(weights: dense.Weights) -> bytes:
    """Exports `(weights, observation [B, D], proposed [B, A]) -> filter.outcome`.

    Args:
      weights: of any body, of which only the shapes matter.
    """
    shapes = jax.eval_shape(lambda: weights)
    return _exported(dense.decide, shapes, *_batch(*sizes_of(weights)))


def adaptation(adapt: Callable, few: Transition) -> tuple[bytes, bool]:
    """Exports `(root [2] of uint32, transitions [n, ...]) -> what adapt returns`.

    Args:
      adapt: that function.
      few: [n, ...] transitions, of which the shapes matter.

    Returns:
      The program, and whether n may be any; where the method draws without
      replacement, it is that of `few`.
    """
    root = jax.ShapeDtypeStruct((2,), jnp.uint32)
    (any_count,) = jax.export.symbolic_shape("n")

    def like(count):
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((count, *x.shape[1:]), jnp.float32), few
        )

    try:
        return _exported(adapt, root, like(any_count)), True
    except InconclusiveDimensionOperation:
        return _exported(adapt, root, like(few.cost.shape[0])), False


def loaded(program: bytes) -> Callable:
    """Returns an exported program as a compiled function."""
    return jax.jit(jax.export.deserialize(bytearray(program)).call)


def sizes_of(weights: dense.Weights) -> tuple[int, int]:
    """Returns D and A, the sizes of an observation and of an action."""
    (inputs,), (seen,) = weights["critic_mean"].shape, weights["recovery_mean"].shape
    return seen, inputs - seen


def _batch(*sizes: int) -> list[Array]:
    (count,) = jax.export.symbolic_shape("b")
    return [jax.ShapeDtypeStruct((count, size), jnp.float32) for size in sizes]


def _exported(function: Callable, *arguments) -> bytes:
    program = jax.export.export(jax.jit(function), platforms=PLATFORMS)(*arguments)
    return bytes(program.serialize())
