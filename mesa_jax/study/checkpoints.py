"""Checkpoints by orbax: one folder a step, named leaves, and a manifest of checksums.

A checkpoint counts once its manifest stands; the newest whole one is restored and the
last two are kept. Each says what made it, and is restored for nothing else.
"""

import json
import pathlib
import shutil
import warnings
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from mesa_jax import sharding
from mesa_jax.errors import UserError
from mesa_jax.study import files, together

KEPT = 2
MANIFEST, ABOUT, LEAVES = "manifest.json", "about.json", "leaves"
MEANING = 1  # raised where a stage computes something else though no setting says so
LARGE = 2**16  # bytes of a leaf whose empty rows are worth leaving out

MadeBy = Mapping[str, Any]  # flat: what its values depend on, by name


class CheckpointError(UserError, ValueError):
    """Says that a checkpoint does not fit the launch that wants it."""


class NoCheckpointError(CheckpointError):
    """Says that there is no undamaged checkpoint to go on from."""


def save(folder: pathlib.Path, step: int, tree: Any, made_by: MadeBy) -> None:
    """Writes every leaf of a tree under its path, e.g. `agent.sac.actor...`."""
    place = folder / str(step)
    _remove(place)
    folder.mkdir(parents=True, exist_ok=True)
    leaves = _named_leaves(sharding.read(tree))  # from however many devices
    filled = {name: _filled(leaf) for name, leaf in leaves.items()}
    if together.is_first():
        with _checkpointer() as checkpointer:
            checkpointer.save((place / LEAVES).absolute(), filled)
    else:  # orbax writes NumPy arrays in the first process alone
        files.write_arrays(place / f"{LEAVES}.npz", filled)
    shapes = {name: list(leaf.shape) for name, leaf in leaves.items()}
    files.write_json(place / ABOUT, {"made_by": _marked(made_by), "shapes": shapes})
    sums = {name: files.sha256(place / name) for name in _written(place)}
    files.write_json(place / MANIFEST, sums)
    _prune(folder, step)


def steps(folder: pathlib.Path) -> list[int]:
    """Lists the steps with a manifest, ascending."""
    return [n for n in _numbers(folder) if (folder / str(n) / MANIFEST).exists()]


def restore_latest(
    folder: pathlib.Path, like: Any, made_by: MadeBy
) -> tuple[int, Any] | None:
    """Restores the newest undamaged checkpoint as (step, tree like `like`), or None."""
    found = read_latest(folder, made_by)
    if found is None:
        return None
    step, leaves = found
    return step, _fit(folder / str(step), leaves, like)


def read_latest(
    folder: pathlib.Path, made_by: MadeBy
) -> tuple[int, dict[str, np.ndarray]] | None:
    """Reads the newest undamaged checkpoint as (step, leaves by name), or None."""
    step = _newest(folder)
    if step is None:
        return None
    _require_made_by(folder / str(step), made_by)
    return step, read(folder, step)


def require_made_by(folder: pathlib.Path, made_by: MadeBy) -> None:
    """Checks what made the newest undamaged checkpoint, if there is one.

    Raises:
      CheckpointError: if something else made it; names what differs.
    """
    step = _newest(folder)
    if step is not None:
        _require_made_by(folder / str(step), made_by)


def read(folder: pathlib.Path, step: int) -> dict[str, np.ndarray]:
    """Reads the leaves of a checkpoint by name."""
    place = folder / str(step)
    if (plain := place / f"{LEAVES}.npz").exists():
        with np.load(plain) as held:
            leaves = dict(held)
    else:
        with _checkpointer() as checkpointer, warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sharding info not provided")
            leaves = checkpointer.restore((place / LEAVES).absolute())
    shapes = files.read_json(place / ABOUT)["shapes"]
    return {name: _whole_leaf(leaf, shapes[name]) for name, leaf in leaves.items()}


def _checkpointer():
    """Makes orbax's, which waits for no other process.

    It is imported where it is used: wrong flags are told half a second sooner.
    """
    import orbax.checkpoint as ocp

    if not together.several():
        return ocp.StandardCheckpointer()
    me = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=str(me)
    )
    return ocp.StandardCheckpointer(multiprocessing_options=alone)


def _newest(folder: pathlib.Path) -> int | None:
    for step in reversed(steps(folder)):
        if _whole(folder / str(step)):
            return step
        warnings.warn(
            f"{folder / str(step)} is damaged; trying the one before.", stacklevel=3
        )
    return None


def _named_leaves(tree: Any) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf
        for path, leaf in leaves
    }


def _filled(leaf: Any) -> Any:
    """Without the rows at the end of axis 1 that hold zero bytes only.

    A replay's rows lie there, one axis of runs before them, and the last are empty.
    """
    if leaf.ndim < 2 or leaf.nbytes < LARGE:
        return leaf
    values = np.ascontiguousarray(leaf)
    runs = values.view(np.uint8).reshape(len(values), -1)
    used = np.flatnonzero(np.bitwise_or.reduce(runs, axis=0))
    last = used[-1] // (runs.shape[1] // values.shape[1]) if len(used) else 0
    return values[:, : last + 1]


def _whole_leaf(leaf: Any, shape: list[int]) -> np.ndarray:
    """The inverse of `_filled`."""
    leaf = np.asarray(leaf)
    if list(leaf.shape) == shape:
        return leaf
    whole = np.zeros(shape, leaf.dtype)
    whole[:, : leaf.shape[1]] = leaf
    return whole


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


def _marked(made_by: MadeBy) -> dict[str, Any]:
    """As it comes back from JSON, with the version of what the values mean."""
    return json.loads(json.dumps({"meaning": MEANING, **made_by}))


def _require_made_by(place: pathlib.Path, made_by: MadeBy) -> None:
    there, asked = files.read_json(place / ABOUT)["made_by"], _marked(made_by)
    rows = [
        f"  {name}: {there.get(name)!r} there, {asked.get(name)!r} asked"
        for name in {**there, **asked}
        if there.get(name) != asked.get(name)
    ]
    if rows:
        raise CheckpointError(
            f"{place} was made with other settings than this launch's, and is left as "
            "it is. Use a new --workdir; or the same values, after deleting a "
            "config.json that says otherwise:\n" + "\n".join(rows)
        )


def _whole(place: pathlib.Path) -> bool:
    """Whether the files are those of the manifest, each with its checksum."""
    try:
        manifest = files.read_json(place / MANIFEST)
    except ValueError:
        return False
    if not isinstance(manifest, dict) or ABOUT not in manifest:
        return False
    return manifest.keys() == set(_written(place)) and all(
        files.sha256(place / name) == checksum for name, checksum in manifest.items()
    )


def _written(place: pathlib.Path) -> list[str]:
    """The files of a checkpoint; not its manifest, nor a file manager's hidden one."""
    found = (path.relative_to(place) for path in place.rglob("*") if path.is_file())
    return sorted(
        path.as_posix()
        for path in found
        if path.name != ".DS_Store" and path.as_posix() != MANIFEST
    )


def _numbers(folder: pathlib.Path) -> list[int]:
    """Steps that have a folder, ascending."""
    if not folder.exists():
        return []
    return sorted(int(one.name) for one in folder.iterdir() if one.name.isdecimal())


def _prune(folder: pathlib.Path, step: int) -> None:
    """Removes all but the last checkpoints up to `step`, and what a kill left."""
    whole = steps(folder)
    old = [other for other in whole if other < step][: 1 - KEPT]
    for other in set(_numbers(folder)) - (set(whole) - set(old)):
        _remove(folder / str(other))


def _remove(place: pathlib.Path) -> None:
    """Removes a checkpoint; its manifest first, so that half of one never counts."""
    (place / MANIFEST).unlink(missing_ok=True)
    if place.exists():
        shutil.rmtree(place)
