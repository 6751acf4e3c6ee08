"""EFFECTS: what each kind of fault makes of a signal."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mesa_jax.domains.fault_notation import MAX_DELAY
from mesa_jax.types import Array, Key

Memory = Any  # of a fault, from step to step of an episode


class Held(NamedTuple):
    """Holds the last healthy value of a signal, else the episode's first."""

    value: Array  # [N]
    full: Array  # [] bool: there was one


class Effect(NamedTuple):
    """Bundles what a kind of fault makes of a signal, an action or an observation."""

    alter: Callable[[Key, Memory, Array, Array, Array], tuple[Memory, Array]]
    # key, memory, value [N], severity [], active [] -> memory, value [N] if active
    start: Callable[[int], Memory] = lambda size: ()


def _memoryless(alter: Callable[[Key, Array, Array], Array]) -> Effect:
    """An effect from key, value, severity -> value."""

    def with_memory(key, memory, value, severity, active):
        del active
        return memory, alter(key, value, severity)

    return Effect(with_memory)


def _drop(key, value, severity):
    return jnp.where(jax.random.bernoulli(key, severity, value.shape), 0.0, value)


def _hold(key, memory, value, severity, active):
    del key, severity
    value = jnp.where(active & memory.full, memory.value, value)
    return Held(value.astype(memory.value.dtype), jnp.ones((), bool)), value


def _delay(key, memory, value, severity, active):
    """Nothing is commanded before an episode: its first actions are 0."""
    del key, active
    recent = jnp.concatenate([value[None].astype(memory.dtype), memory])
    return recent[:-1], recent[severity.astype(jnp.int32)]


def _nothing_held(size):
    return Held(jnp.zeros(size, jnp.float32), jnp.zeros((), bool))


EFFECTS = {
    "dead": _memoryless(lambda key, value, severity: jnp.zeros_like(value)),
    "weak": _memoryless(lambda key, value, severity: value * (1.0 - severity)),
    "stuck": Effect(_hold, _nothing_held),
    "reversed": _memoryless(lambda key, value, severity: -value),
    "delay": Effect(_delay, lambda size: jnp.zeros((MAX_DELAY, size), jnp.float32)),
    "bias": _memoryless(lambda key, value, severity: value + severity),
    "freeze": Effect(_hold, _nothing_held),
    "dropout": _memoryless(_drop),
}
