"""What a compiled program costs: operations, memory, time; and where programs are kept.

Operations are those of matrix products alone, two a multiply-and-add, counted in the
program as it was traced: elementwise work, sampling and physics are not in them.
"""

import contextlib
import math
import os
import pathlib
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.extend
from jax.experimental.compilation_cache.compilation_cache import reset_cache
from jax.extend.core import jaxprs_in_params

from mesa_jax.errors import UserError


class DeviceError(UserError, RuntimeError):
    """A device that was asked for and is not there."""


def keep_compiled() -> None:
    """Keeps compiled programs in the user's cache directory, unless told where.

    JAX_COMPILATION_CACHE_DIR says another place, XDG_CACHE_HOME another cache. Where
    there is no such directory and none can be made, they are not kept.
    """
    if jax.config.jax_compilation_cache_dir is not None:
        return
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: no home
        home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        place = pathlib.Path(home).expanduser() / "mesa_jax" / "jax"
        place.mkdir(parents=True, exist_ok=True)
        if os.access(place, os.W_OK):
            jax.config.update("jax_compilation_cache_dir", str(place))


def require_device() -> None:
    """Checks that JAX finds a device to compute on.

    Raises:
      DeviceError: if it does not, before anything is written.
    """
    try:
        jax.devices()
    except (AssertionError, RuntimeError) as error:
        asked = jax.config.jax_platforms or "automatic"
        reason = str(error) or "this jaxlib has no such backend, or no such device"
        raise DeviceError(
            f"JAX found no device (JAX_PLATFORMS is {asked}): {reason}. Unset "
            "JAX_PLATFORMS, or set it to cpu."
        ) from None


class Program(NamedTuple):
    """A compiled program and what it costs."""

    call: Callable
    compile_seconds: float  # tracing included
    memory_bytes: int  # arguments, results and what lies between, as compiled
    product_flops: int  # of matrix products, a call


def compiled(function: Callable, *arguments: Any, donate: tuple[int, ...] = ()):
    """Compiles a function for arguments like these; no kept program is used."""
    began = time.perf_counter()
    lowered = jax.jit(function, donate_argnums=donate).lower(*arguments)
    enabled = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    reset_cache()  # else what was decided at the first compilation stands
    try:
        program = lowered.compile()
    finally:
        jax.config.update("jax_enable_compilation_cache", enabled)
        reset_cache()
    seconds = time.perf_counter() - began
    memory = program.memory_analysis()
    total = memory.argument_size_in_bytes + memory.output_size_in_bytes
    total += memory.temp_size_in_bytes - memory.alias_size_in_bytes
    traced = jax.make_jaxpr(function)(*arguments)
    return Program(program, seconds, total, product_flops(traced.jaxpr))


def product_flops(jaxpr) -> int:
    """Floating-point operations of the matrix products in a program.

    Of a conditional the dearest branch counts.

    Raises:
      ValueError: if a loop with products in it has no fixed number of turns.
    """
    total = 0
    for equation in jaxpr.eqns:
        inside = [product_flops(sub) for sub in jaxprs_in_params(equation.params)]
        match equation.primitive.name:
            case "dot_general":
                (contracted, _), _ = equation.params["dimension_numbers"]
                shape = equation.invars[0].aval.shape
                length = math.prod(shape[axis] for axis in contracted)
                total += 2 * equation.outvars[0].aval.size * length
            case "scan":
                total += equation.params["length"] * sum(inside)
            case "cond":
                total += max(inside)
            case "while" if any(inside):
                raise ValueError("a loop without a fixed number of turns")
            case _:
                total += sum(inside)
    return total


def seconds_a_call(
    call: Callable[[Any], Any], start: Any, least_seconds: float
) -> tuple[float, Any]:
    """Median time of `state = call(state)`, and the last state.

    Calls once before, then at least three times and for as long as asked.
    """
    state = jax.block_until_ready(call(start))
    times: list[float] = []
    while len(times) < 3 or sum(times) < least_seconds:
        began = time.perf_counter()
        state = jax.block_until_ready(call(state))
        times.append(time.perf_counter() - began)
    return statistics.median(times), state
