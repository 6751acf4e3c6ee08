"""Domains from outside the package, by name: "module:maker".

Its full name is "module:maker@source", with a hash of the module's source, so that what
was made of a domain is not mixed with what is made of it once it has changed.
"""

import hashlib
import importlib
import inspect
import itertools
import re
from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple

from mesa_jax.domains.base import PhysicsConfig
from mesa_jax.settings import SettingError

FORM = "module:maker"
_WORD = r"[^\W\d]\w*"
_NAME = re.compile(rf"({_WORD}(?:\.{_WORD})*):({_WORD})(?:@([0-9a-f]{{8}}))?")


class Outside(NamedTuple):
    """Holds a maker that was found by its name."""

    name: str  # full: "module:maker@source"
    make: Callable  # (tasks, physics) -> Domain
    tasks: str  # where nobody asks
    physics: PhysicsConfig  # where nobody asks


def is_outside(name: str) -> bool:
    """Returns whether a name is none of the package's, but one of a module."""
    return ":" in name


def find(name: str) -> Outside:
    """Returns the maker of a name, its module imported.

    The defaults of the maker's arguments, if it has any, are the domain's own.

    Args:
      name: "module:maker", or a full name. "__main__:maker" is of the script or the
        notebook that runs.

    Raises:
      SettingError: where there is no such module or maker, or its source is not what
        the name says.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise SettingError("domain", name, f"{FORM}, as my_domain:maker")
    path, called, written = found.groups()
    module = _imported(name, path)
    make = getattr(module, called, None)
    if not callable(make):
        there = [key for key in _made_there(module) if not key.startswith("_")]
        allowed = f"a function of module {path} (it has {', '.join(there) or 'none'})"
        raise SettingError("domain", name, allowed)
    source = _source(name, module, make)
    if written not in (None, source):
        allowed = f"{path}:{called}@{source}, as the module's source is now"
        raise SettingError("domain", name, allowed)
    return Outside(f"{path}:{called}@{source}", make, *_defaults(name, make))


def _imported(name: str, path: str) -> ModuleType:
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        allowed = (
            f"{FORM} of a module that can be imported ({error}: run from the folder "
            "that holds it, or install it)"
        )
        raise SettingError("domain", name, allowed) from error


def _made_there(module: ModuleType) -> list[str]:
    """Lists the functions that a module defines."""
    return [
        key
        for key, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__
    ]


def _source(name: str, module: ModuleType, make: Callable) -> str:
    """Returns a hash of a module's source; of the maker's own in a notebook."""
    for one in (module, make):
        try:
            text = inspect.getsource(one)
        except (OSError, TypeError):
            continue
        return hashlib.sha256(text.encode()).hexdigest()[:8]
    raise SettingError("domain", name, "of a module with a source file, or a notebook")


def _defaults(name: str, make: Callable) -> tuple[str, PhysicsConfig]:
    """Returns the defaults of a maker's two arguments, or the package's."""
    signature, usual = inspect.signature(make), ("published", PhysicsConfig())
    try:
        signature.bind(*usual)
    except TypeError as error:
        allowed = f"a maker that takes (tasks, physics) ({error})"
        raise SettingError("domain", name, allowed) from None
    its_own = [one.default for one in signature.parameters.values()][:2]
    tasks, physics = (
        mine if isinstance(mine, type(ours)) else ours
        for mine, ours in itertools.zip_longest(its_own, usual)
    )
    return tasks, physics
