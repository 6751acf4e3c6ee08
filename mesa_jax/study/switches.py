"""What changes numbers and is no flag: JAX's switches, and variables that XLA reads.

`FIXED` ones have one value in every launch,
the tested one, whatever the environment asks for. `RECORDED` ones are the user's to
set, and part of a workdir's configuration and of the names of its datasets and priors:
a workdir that was made with another value is refused. All others
change no number of ours: what is checked, logged, cached, or where it runs (provenance
has the devices); a test names each, so that a new one of JAX is decided, too.
"""

import enum
import os
import re
import shlex
import sys
from typing import Any

import jax

FIXED = {
    # which random numbers
    "jax_default_prng_impl": "threefry2x32",
    "jax_threefry_partitionable": True,
    "jax_random_seed_offset": 0,
    "jax_high_dynamic_range_gumbel": False,
    "jax_enable_custom_prng": False,
    "jax_legacy_prng_key": "allow",
    # which types and shapes
    "jax_enable_x64": False,
    "jax_explicit_x64_dtypes": "warn",
    "jax_numpy_dtype_promotion": "standard",
    "jax_numpy_rank_promotion": "allow",
    # which derivatives and loops
    "jax_softmax_custom_jvp": False,
    "jax_use_direct_linearize": True,
    "jax_use_simplified_jaxpr_constants": False,
    "jax_custom_vjp3": False,
    "jax_remat3": False,
    "jax_scan3": False,
    "eager_constant_folding": False,
    # what ends a launch: values that are not finite are ours to look at
    "jax_debug_nans": False,
    "jax_debug_infs": False,
    "jax_no_tracing": False,
    "jax_no_execution": False,
    "jax_transfer_guard": None,
    "jax_transfer_guard_host_to_device": None,
    "jax_transfer_guard_device_to_device": None,
    "jax_transfer_guard_device_to_host": None,
}
RECORDED = {  # how programs round; with the value that is not worth a word
    "jax_default_matmul_precision": "highest",
    "jax_disable_jit": False,
    "jax_disable_most_optimizations": False,
    "jax_optimization_level": "UNKNOWN",
    "jax_exec_time_optimization_effort": 0.0,
    "jax_memory_fitting_effort": 0.0,
    "jax_memory_fitting_level": "O2",
    "jax_compiler_enable_remat_pass": True,
}
VARIABLES = ("LIBTPU_INIT_ARGS", "NVIDIA_TF32_OVERRIDE", "XLA_FLAGS")  # recorded too
HOST_DEVICES = "--xla_force_host_platform_device_count"
PATIENCE = "--xla_cpu_collective_call_terminate_timeout_seconds"
THREADS = "PJRT_NPROC"  # of XLA's pool on the CPU
HARMLESS = ("--xla_dump", HOST_DEVICES, PATIENCE)  # of XLA_FLAGS


def fix() -> None:
    """Gives the fixed switches their values, and says which stood otherwise.

    Products of float32 matrices are multiplied in float32, unless told otherwise: JAX's
    own default keeps 10 bits of a factor on GPUs (TF32) and 7 on TPUs (bfloat16).
    """
    now = _values()
    for name, value in FIXED.items():
        found = now[name]
        if found == value:
            continue
        jax.config.update(name, value)
        print(
            f"Note: {name.upper()}={found} is not followed, since it changes results: "
            f"launches compute with {value}.",
            file=sys.stderr,
        )
    if jax.config.jax_default_matmul_precision is None:
        jax.config.update("jax_default_matmul_precision", "float32")


def host_devices() -> int:
    """Returns how many devices one CPU is asked to play; 1 where nobody asks."""
    asked = re.findall(rf"{HOST_DEVICES}=(\d+)", os.environ.get("XLA_FLAGS", ""))
    return max(int((asked or [1])[-1]), int(os.environ.get("JAX_NUM_CPU_DEVICES", 1)))


def make_room() -> None:
    """Gives devices that one CPU plays threads and time; no device may exist yet.

    XLA runs a program on every device, and what it dispatches next, on one pool with a
    thread a device. Where the next program holds one, the devices of the first wait for
    each other for ever. They also take turns on few cores, and XLA ends the process
    where one is late by 40 seconds. What the user sets is left as it is.
    """
    if (devices := host_devices()) == 1:
        return
    if THREADS not in os.environ:
        os.environ[THREADS] = str(4 * devices)
    flags = os.environ.get("XLA_FLAGS", "")
    if PATIENCE not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {PATIENCE}=600".strip()


def recorded() -> str:
    """Returns what is set of the recorded switches, as "NAME=value NAME=value"."""
    now = _values()
    found = {
        name.upper(): str(now[name])
        for name, usual in RECORDED.items()
        if now[name] != usual
    }
    found |= {name: text for name in VARIABLES if (text := _variable(name))}
    return " ".join(f"{name}={shlex.quote(found[name])}" for name in sorted(found))


def difference(made: str) -> str:
    """Returns a line for each recorded switch that is not as it was ("" is usual)."""
    there, here = _by_name(made), _by_name(recorded())
    usual = {name.upper(): str(value) for name, value in RECORDED.items()}
    lines = [
        f"  {name}: {there.get(name, usual.get(name, ''))!r} there, "
        f"{here.get(name, usual.get(name, ''))!r} here"
        for name in sorted(there | here)
        if there.get(name) != here.get(name)
    ]
    return "\n".join(lines)


def _by_name(text: str) -> dict[str, str]:
    pairs = (word.partition("=") for word in shlex.split(text))
    return {name: value for name, _, value in pairs}


def in_force() -> dict[str, Any]:
    """Returns every switch and variable that changes numbers, with its value now."""
    values = {name.upper(): value for name, value in _values().items()}
    return values | {name: os.environ.get(name) for name in VARIABLES}


def _values() -> dict[str, Any]:
    """The fixed and recorded switches as they are; one that JAX lacks is usual."""
    now = FIXED | RECORDED
    now |= {name: x for name, x in jax.config.values.items() if name in now}
    name = "jax_default_matmul_precision"
    now[name] = _precision(now[name])
    return {
        name: value.name.lower() if isinstance(value, enum.Enum) else value
        for name, value in now.items()
    }


def _precision(value: str | None) -> str:
    """One name for a precision that has several: "float32" is "highest".

    Code that sets none and is no launch has JAX's default, which is this on CPUs.
    """
    try:
        return jax.lax.Precision(value or "float32").name.lower()
    except ValueError:  # the name of a dot algorithm
        return str(value)


def _variable(name: str) -> str:
    """An environment variable's words in alphabetical order, without harmless ones."""
    words = os.environ.get(name, "").split()
    return " ".join(sorted(word for word in words if not word.startswith(HARMLESS)))
