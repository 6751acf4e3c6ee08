"""HDF5 files of one body in D4RL's and DSRL's layout (extra `hdf5`): h5py.

The columns are those of `study.columns`: observations, actions, rewards, costs,
terminals, timeouts and, where they are there, next_observations.
"""

import pathlib
import zlib

import numpy as np

from mesa_jax.bridges import needed
from mesa_jax.study import columns, files, imports
from mesa_jax.study.columns import Columns, Cost
from mesa_jax.study.files import DamagedFileError
from mesa_jax.study.imports import Imported
from mesa_jax.types import Transition

EXTRA = "hdf5"
MOST = 1032  # bytes that one byte of a compressed file can stand for


def load(
    path: str | pathlib.Path,
    cost: Cost = None,
    action_range: tuple[float, float] | None = None,
) -> Imported:
    """Returns the transitions of a file.

    Args:
      cost, action_range: as in `study.imports.to_transitions`.

    Raises:
      DatasetError: naming the column that is no transition's.
      DamagedFileError, MissingExtraError: where the file can not be read.
    """
    return imports.to_transitions(str(path), read(path), cost, action_range)


def save(path: str | pathlib.Path, transitions: Transition) -> None:
    """Writes transitions [n, ...]; the file is either the old one or the new one."""
    h5py = needed("h5py", EXTRA)
    place = pathlib.Path(path)
    with files.replacing(place) as beside, h5py.File(beside, "w") as file:
        for name, values in columns.from_transitions(transitions).items():
            file.create_dataset(name, data=values)


def read(path: str | pathlib.Path) -> Columns:
    """Returns the columns of a file by their path in it, as "infos/cost"; no object.

    Of those that are not in the table, such as are as long as the observations.

    Raises:
      DamagedFileError: naming the file, if it is no whole HDF5 file.
      FileNotFoundError: if there is none.
      MissingExtraError: where h5py is not installed.
    """
    h5py, path = needed("h5py", EXTRA), pathlib.Path(path)
    found = {}

    def visit(name, entry):
        if isinstance(entry, h5py.Dataset) and entry.shape:
            found[name] = entry

    try:
        room = MOST * path.stat().st_size
        with h5py.File(path, "r") as file:
            file.visititems(visit)
            kept = _of_rows(found)
            for name, entry in kept.items():
                if entry.nbytes > room:
                    raise DamagedFileError(
                        f"{path}: {name} claims {entry.nbytes} bytes."
                    )
            return {name: np.asarray(entry) for name, entry in kept.items()}
    except FileNotFoundError:
        raise
    except (OSError, RuntimeError, ValueError, KeyError, zlib.error) as error:
        if isinstance(error, DamagedFileError):
            raise
        raise DamagedFileError(f"{path} is damaged: {error}.") from None


def _of_rows(found: dict) -> dict:
    """Returns the table's columns, and others as long as the observations."""
    known = {n for column in columns.COLUMNS for n in (column.name, *column.others)}
    seen = ("observations", *columns.TABLE["observations"].others)
    lengths = {found[name].shape[0] for name in seen if name in found}
    return {k: x for k, x in found.items() if k in known or x.shape[0] in lengths}
