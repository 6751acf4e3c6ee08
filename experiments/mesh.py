"""--mesh: which devices a launch computes on."""

import math

import jax
import numpy as np
from absl import flags
from jax.sharding import AxisType, Mesh

from mesa_jax.settings import SettingError, whole
from mesa_jax.sharding import AXES
from mesa_jax.study import together

flags.disclaim_key_flags()  # they belong to the launch that asks for them
ALLOWED = "auto, or axes and their devices, as run:8 or run:4,task:2"


def define() -> None:
    flags.DEFINE_string(
        "mesh", "auto", f"the devices that share the work: {ALLOWED} (default auto)"
    )


def use() -> None:
    """Spreads rows over the devices of --mesh from here on, and says over which.

    Raises:
      SettingError: if it is no mesh, or asks for more devices than there are.
    """
    devices = jax.devices()
    sizes = parse(flags.FLAGS["mesh"].value, len(devices))
    used = math.prod(sizes)
    kind = devices[0].platform
    idle = len(devices) - used
    shape = ", ".join(f"{name}:{size}" for name, size in zip(AXES, sizes, strict=True))
    said = f"[mesh] {shape} ({used} {kind} device{'s' * (used > 1)}"
    said += f" of {jax.process_count()} processes)" if together.several() else ")"
    if idle:
        said += f"; {idle} more stay idle, since --mesh asks for {used}"
    print(said, flush=True)
    if idle and together.several():
        allowed = f"of all {len(devices)} devices where several processes compute"
        raise SettingError("mesh", flags.FLAGS["mesh"].value, allowed)
    if used > 1:
        mine = np.array(devices[:used]).reshape(sizes)
        jax.set_mesh(Mesh(mine, AXES, axis_types=(AxisType.Auto,) * len(AXES)))
    elif idle:
        jax.config.update("jax_default_device", devices[0])


def parse(text: str, there: int) -> tuple[int, int]:
    """Returns the devices along the axes `run` and `task`.

    Args:
      text: of --mesh.
      there: how many devices there are.

    Raises:
      SettingError: if it is no mesh, or asks for more.
    """
    if text == "auto":
        return there, 1
    sizes = dict.fromkeys(AXES, 1)
    for part in text.split(","):
        name, colon, number = part.partition(":")
        size = whole(number, 2**31)
        if name not in AXES or not colon or not size or sizes[name] != 1:
            raise SettingError("mesh", text, ALLOWED)
        sizes[name] = size
    used = math.prod(sizes.values())
    if used > there:
        allowed = f"of at most {there} devices: JAX finds no more"
        raise SettingError("mesh", text, allowed)
    return tuple(sizes.values())
