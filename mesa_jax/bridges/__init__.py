"""Bridges to outside libraries: one file each, an optional extra each.

Nothing else of the package imports them, and importing `mesa_jax` loads none.
"""

import importlib
from types import ModuleType

from mesa_jax.errors import UserError


class MissingExtraError(UserError, ImportError):
    """Says which extra brings a library that is not installed."""


def needed(library: str, extra: str) -> ModuleType:
    """Returns an outside library, imported.

    Raises:
      MissingExtraError: if it is not installed; the message has the command that helps.
    """
    try:
        return importlib.import_module(library)
    except ModuleNotFoundError as error:
        if error.name != library.split(".")[0]:
            raise
        command = f'pip install "mesa_jax[{extra}]"'
        raise MissingExtraError(f"{library} is not installed: {command}") from error
