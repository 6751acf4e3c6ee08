"""Folders of exported filters: each is whole."""

import os
import pathlib
import secrets
import shutil
from collections.abc import Mapping

from mesa_jax.study import files
from mesa_jax.study.study import Study

PLACE = "export"  # in a workdir


def folder(study: Study, method: str, body: int) -> pathlib.Path:
    """Returns where the filter of a method and of a test body's seed lies."""
    meta = f"-meta{study.meta_seed}" if study.meta_seed else ""
    return study.folder / PLACE / f"{method}-body{body}{meta}"


def write(place: pathlib.Path, contents: Mapping[str, bytes]) -> None:
    """Writes files into a new folder, which then takes the place of `place`.

    What stops the writing leaves `place` as it was. A kill can leave a folder of the
    ending `.partial` beside it, which the next call removes, or, in the instant between
    two renames, nothing under its name.

    Args:
      contents: by the files' names.
    """
    for old in place.parent.glob(f"{place.name}.*{files.PARTIAL}"):
        shutil.rmtree(old, ignore_errors=True)
    beside = place.with_name(f"{place.name}.{secrets.token_hex(4)}{files.PARTIAL}")
    try:
        for name, content in contents.items():
            files.write_atomically(beside / name, content)
        if place.exists():
            os.replace(place, place.with_name(f"{beside.name}.old{files.PARTIAL}"))
        os.replace(beside, place)
    finally:
        for left in place.parent.glob(f"{place.name}.*{files.PARTIAL}"):
            shutil.rmtree(left, ignore_errors=True)
