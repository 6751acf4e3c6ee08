"""Checkpoints by orbax: one folder a step, named leaves, and a manifest of checksums.

A checkpoint counts once its manifest stands; the newest whole one is restored and the
last two are kept.
"""

import pathlib
import shutil
import warnings
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from mesa_jax.runtime import files

KEPT = 2
MANIFEST = "manifest.json"


class CheckpointError(ValueError):
    """A checkpoint that does not fit the launch that wants it."""


def save(folder: pathlib.Path, step: int, tree: Any) -> None:
    """Writes every leaf of a tree under its path, e.g. `agent.sac.actor...`."""
    place = folder / str(step)
    if place.exists():
        shutil.rmtree(place)
    folder.mkdir(parents=True, exist_ok=True)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save((place / "leaves").absolute(), _named_leaves(tree))
    written = sorted(path for path in (place / "leaves").rglob("*") if path.is_file())
    sums = {str(path.relative_to(place)): files.sha256(path) for path in written}
    files.write_json(place / MANIFEST, sums)
    for old in [other for other in steps(folder) if other < step][: 1 - KEPT]:
        shutil.rmtree(folder / str(old))


def steps(folder: pathlib.Path) -> list[int]:
    """Steps with a manifest, ascending."""
    if not folder.exists():
        return []
    named = (place for place in folder.iterdir() if place.name.isdigit())
    return sorted(int(place.name) for place in named if (place / MANIFEST).exists())


def restore_latest(folder: pathlib.Path, like: Any) -> tuple[int, Any] | None:
    """The newest undamaged checkpoint as (step, tree like `like`), or None.

    Raises:
      CheckpointError: if its leaves are not those of `like`.
    """
    for step in reversed(steps(folder)):
        place = folder / str(step)
        if not _whole(place):
            warnings.warn(f"{place} is damaged; trying the one before.", stacklevel=2)
            continue
        return step, _fit(place, read(folder, step), like)
    return None


def read(folder: pathlib.Path, step: int) -> dict[str, np.ndarray]:
    """The leaves of a checkpoint by name."""
    place = (folder / str(step) / "leaves").absolute()
    with ocp.StandardCheckpointer() as checkpointer, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sharding info not provided")
        return jax.tree.map(np.asarray, checkpointer.restore(place))


def _named_leaves(tree: Any) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf
        for path, leaf in leaves
    }


def _fit(place: pathlib.Path, leaves: dict[str, np.ndarray], like: Any) -> Any:
    wanted = _named_leaves(like)
    for name, leaf in wanted.items():
        found = leaves.get(name)
        if found is None or found.shape != leaf.shape or found.dtype != leaf.dtype:
            found = found if found is None else (found.shape, found.dtype)
            asked = (leaf.shape, leaf.dtype)
            raise CheckpointError(f"{place}: {name} is {found}, expected {asked}.")
    values = [jax.numpy.asarray(leaves[name]) for name in wanted]
    return jax.tree.unflatten(jax.tree.structure(like), values)


def _whole(place: pathlib.Path) -> bool:
    try:
        manifest = files.read_json(place / MANIFEST)
    except ValueError:
        return False
    return all(
        (place / name).is_file() and files.sha256(place / name) == checksum
        for name, checksum in manifest.items()
    )
