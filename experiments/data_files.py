"""Files of recorded transitions: a name tells the form, and what reads it.

FILE.hdf5 or .h5, FILE.npz, minari:NAME, or the folder of a dataset.
"""

import importlib
import pathlib
import sys
from typing import NamedTuple

import numpy as np
from absl import flags as absl_flags

from mesa_jax.bridges import hdf5, minari
from mesa_jax.settings import SettingError
from mesa_jax.study import columns, imports
from mesa_jax.study.artifacts import recorded
from mesa_jax.types import Transition

from . import flags

absl_flags.disclaim_key_flags()  # they belong to the launch that asks for them
FLAGS = absl_flags.FLAGS
HDF5, NPZ, MINARI = (".hdf5", ".h5"), ".npz", "minari:"
FORMS = "FILE.hdf5, FILE.h5, FILE.npz, minari:NAME, or the folder of a dataset"


class Source(NamedTuple):
    """One body's columns, and what messages call them."""

    name: str
    columns: columns.Columns


def define() -> None:
    """Defines the flags that say how files are read."""
    absl_flags.DEFINE_string(
        "cost",
        None,
        "which column is the cost, as infos/cost, or MODULE:FUNCTION of all columns "
        "(default costs)",
    )
    absl_flags.DEFINE_list(
        "action_range", None, "LOW,HIGH of the files' actions, which become -1,1"
    )


def read(name: str) -> list[Source]:
    """Reads the bodies of a file or folder.

    Raises:
      SettingError: if nothing tells its form.
      DatasetError, DamagedFileError, MissingExtraError: if it can not be read.
    """
    if name.startswith(MINARI):
        return [Source(name, minari.read(name.removeprefix(MINARI)))]
    path = pathlib.PurePath(name)
    place = flags.place_of("data", name)
    if path.suffix in HDF5:
        return [Source(name, hdf5.read(place))]
    if path.suffix == NPZ:
        return [Source(name, recorded.read_npz(place))]
    if not place.is_dir():
        raise SettingError("data", name, f"{FORMS} that is there")
    rows = recorded.read_folder(place).rows
    count = len(rows.cost)
    return [
        Source(
            f"{name}, body {i}" if count > 1 else name,
            columns.from_transitions(Transition(*(np.asarray(x[i]) for x in rows))),
        )
        for i in range(count)
    ]


def transitions(source: Source) -> Transition:
    """Returns a body's transitions, by the flags; says what is noteworthy."""
    name, found = source
    imported = imports.to_transitions(name, found, *asked())
    for note in imported.notes:
        print(f"[data] {name}: {note}")
    return imported.transitions


def save(name: str, bodies: list[Transition], sources: list[str]) -> None:
    """Writes bodies in the form that a name tells.

    Raises:
      SettingError: if a file is to hold several, or is there already.
      DatasetError: if a dataset is there already, or the bodies' sizes differ.
    """
    files = name.startswith(MINARI) or pathlib.PurePath(name).suffix in (*HDF5, NPZ)
    if not files:
        about = {"sources": sources}
        card = recorded.save_bodies(flags.place_of("to", name), bodies, about).card
        if any(card["left_out_per_body"]):
            count, left = card["transitions_per_body"], card["left_out_per_body"]
            print(f"[data] the first {count} of each body are kept, left out: {left}")
        return
    if len(bodies) > 1 and "{}" not in name:
        allowed = f"a folder, or have {{}} in its name: {len(bodies)} bodies are files"
        raise SettingError("to", name, allowed)
    for i, body in enumerate(bodies):
        _save_one(name.replace("{}", str(i)), body)


def _save_one(name: str, body: Transition) -> None:
    if name.startswith(MINARI):
        minari.save(name.removeprefix(MINARI), body)
        return
    place = flags.place_of("to", name)
    if place.exists():
        raise SettingError("to", name, "a new file")
    write = recorded.save_npz if place.suffix == NPZ else hdf5.save
    write(place, body)


def asked() -> tuple[columns.Cost, tuple[float, float] | None]:
    """Returns --cost and --action_range.

    Raises:
      SettingError: if a function is not there, or the range is none.
    """
    limits = FLAGS.action_range
    if limits is not None:
        try:
            low, high = map(float, limits)
        except ValueError:
            low = high = 0.0
        if not low < high:
            raise SettingError("action_range", ",".join(limits), "LOW,HIGH")
        limits = low, high
    cost = FLAGS.cost
    return (_function(cost) if cost and ":" in cost else cost), limits


def _function(text: str):
    """Imports MODULE:FUNCTION, from here too."""
    module, _, name = text.partition(":")
    sys.path.insert(0, "")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingError("cost", text, f"MODULE:FUNCTION ({error})") from None
    finally:
        sys.path.remove("")


def read_all(names: list[str]) -> list[Source]:
    """Reads the bodies of several files or folders."""
    return [source for name in names for source in read(name)]
