"""Bodies with limbs: Brax's assets as systems, and one way to step every backend.

Half-cheetah and ant. Brax is imported only where a body is built or stepped.

What is changed of the assets. Half-cheetah: nothing; its gears too are kept (120, 90,
60, 120, 60, 30), which Brax's environment strengthens in front on `spring` and
`positional`. (Published, every rod meets the floor; here those whose ends cover the
others'.) Ant: torso and knees meet the floor, too; else the torso falls through it
after a flip, and knees dip 0.16 m below. Knees are balls, as feet are: mjx and MuJoCo
turn the friction of a steep rod differently. Gears are 150 everywhere (Brax: 200 on
`positional`). MuJoCo's solver takes at most 8 iterations of 8 steps, not 4 of 50: it
converges, and is 3 times as fast.
"""

import contextlib
import functools
import io
import warnings
from typing import Any, NamedTuple
from xml.etree import ElementTree

import jax
import jax.numpy as jnp
import numpy as np

from mesa_jax.types import Array, Shapes

BASIC_STEP = 0.01  # s, the published control step
BALL, ROD = 2, 3  # MuJoCo's geom types


class Limbs(NamedTuple):
    """Says where a body is and how it moves, for every backend; the torso is link 0."""

    q: Array  # [Q] joint positions
    qd: Array  # [V] joint velocities
    position: Array  # [L, 3] m, of links
    rotation: Array  # [L, 4] quaternions w, x, y, z
    velocity: Array  # [L, 3] m/s
    spin: Array  # [L, 3] rad/s
    warmstart: Array  # [V] acceleration that mjx's solver starts from; else unused


class Model(NamedTuple):
    """Says what is made of one of Brax's MJCF assets."""

    asset: str
    colliding: tuple[str, ...]  # geoms that meet the floor, beside the asset's
    knees: tuple[str, ...]  # rods that get a massless colliding ball at their joint
    fragile: str  # the geom whose contact with the floor is a violation
    total_mass: float | None  # kg; None: as the asset's densities make it
    substeps: dict[str, int]  # of a basic step, by backend


MODELS = {
    "halfcheetah_disabled": Model(
        asset="half_cheetah.xml",
        colliding=(),
        knees=(),
        fragile="head",
        total_mass=14.0,
        substeps={"spring": 3, "positional": 4, "mjx": 1, "generalized": 1},
    ),
    "ant_disabled": Model(
        asset="ant.xml",
        colliding=("torso_geom",),
        knees=tuple(
            f"{leg}_ankle_geom" for leg in ("left", "right", "third", "fourth")
        ),
        fragile="torso_geom",
        total_mass=None,
        substeps={"spring": 2, "positional": 2, "mjx": 1, "generalized": 1},
    ),
}


@contextlib.contextmanager
def quietly():
    """Ignores that Brax is not maintained, and reads fields deprecated since.

    Importing mjx prints that an engine which is not used here is missing.
    """
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.filterwarnings("ignore", "Brax System, piplines", UserWarning)
        warnings.filterwarnings("ignore", "Accessing `", DeprecationWarning)
        yield


@functools.cache
def system(name: str, backend: str) -> Any:
    """Makes a domain's brax.base.System, from Brax's asset edited as `MODELS` says."""
    import mujoco
    from etils import epath

    with quietly():
        from brax.io import mjcf
    model = MODELS[name]
    path = epath.resource_path("brax") / "envs" / "assets" / model.asset
    tree = ElementTree.fromstring(mjcf.fuse_bodies(path.read_text(encoding="utf-8")))
    tree.find("compiler").attrib.pop("settotalmass", None)  # set below
    timestep = str(BASIC_STEP / model.substeps[backend])
    tree.find("option").attrib.update(
        timestep=timestep, iterations="8", ls_iterations="8"
    )
    for body in list(tree.iter("body")):
        for geom in body.findall("geom"):
            if geom.get("name") in model.colliding:
                geom.set("contype", "1")
            if geom.get("name") in model.knees:
                ball = {"type": "sphere", "mass": "0", "contype": "1"}
                ElementTree.SubElement(body, "geom", ball, size=geom.get("size"))
    built = mujoco.MjModel.from_xml_string(ElementTree.tostring(tree, "unicode"))
    if model.total_mass is not None:
        mujoco.mj_setTotalmass(built, model.total_mass)
        mujoco.mj_setConst(built, mujoco.MjData(built))
    with quietly():
        return mjcf.load_model(built)


def center_of_mass(system: Any, limbs: Limbs) -> tuple[Array, Array]:
    """Returns position [3] in m and velocity [3] in m/s of the whole body."""
    from brax import math

    arms = jax.vmap(math.rotate)(system.link.inertia.transform.pos, limbs.rotation)
    share = system.link.inertia.mass / system.link.inertia.mass.sum()
    velocity = limbs.velocity + jnp.cross(limbs.spin, arms)
    return share @ (limbs.position + arms), share @ velocity


def shapes(system: Any, limbs: Limbs, name: str | None = None) -> Shapes:
    """Returns every rod and ball of a body in the world, or the one of a name."""
    from brax import math

    model = system.mj_model
    shown = np.flatnonzero(np.isin(model.geom_type, (BALL, ROD)))
    if name is not None:
        shown = np.array([model.geom(name).id])
    half = np.where(model.geom_type[shown] == ROD, model.geom_size[shown, 1], 0.0)
    axis = np.array([0.0, 0.0, 1.0])
    along = np.array([math.rotate_np(axis, turn) for turn in model.geom_quat[shown]])
    sides = np.stack([along, -along], axis=1) * half[:, None, None]
    local = jnp.asarray(model.geom_pos[shown, None] + sides, jnp.float32)
    link = model.geom_bodyid[shown] - 1

    def place(ends, position, rotation):
        return position + jax.vmap(math.rotate, (0, None))(ends, rotation)

    ends = jax.vmap(place)(local, limbs.position[link], limbs.rotation[link])
    return Shapes(ends, jnp.asarray(model.geom_size[shown, 0], jnp.float32))


def clearance(system: Any, limbs: Limbs, name: str | None = None) -> Array:
    """Returns the lowest point's height over the floor, [] in m.

    It is that of the whole body, or of the rod or ball of a name.
    """
    ends, radii = shapes(system, limbs, name)
    return jnp.min(ends[:, :, 2].min(1) - radii)
