"""Reads JSON files of a workdir: what is read has the form of what was written."""

import pathlib
from collections.abc import Callable
from typing import Any

from mesa_jax.study import files
from mesa_jax.study.files import DamagedFileError

UNLIKE = (AttributeError, LookupError, TypeError, ValueError, OverflowError)


def read_json(path: pathlib.Path, take: Callable[[Any], Any], advice: str) -> Any:
    """Returns what `take` makes of a JSON file's value.

    Args:
      take: raises one of `UNLIKE` for a value of another form.
      advice: what to do about such a file.

    Raises:
      DamagedFileError: naming the file, with the advice.
    """
    value = files.read_json(path)
    try:
        return take(value)
    except UNLIKE:
        raise DamagedFileError(
            f"{path} is JSON, and not what was written there. {advice}"
        ) from None
