"""The text of --help: what a launch does, its flags, and the settings by section."""

import inspect
import pathlib
import sys
import textwrap
from collections.abc import Callable
from typing import Any

from absl import flags

from mesa_jax.configuration import SECTIONS, Configuration
from mesa_jax.domains import recorded
from mesa_jax.study import resolve, store

from . import setting_flags

WORDS = ("--help", "-help", "-h", "--helpshort")
WIDTH = 88


def asked() -> bool:
    """Returns whether the command line asks for help."""
    return any(word in WORDS for word in sys.argv[1:])


def text(path: Callable[[str], pathlib.Path]) -> str:
    """Returns the help of the launch that runs, with the defaults of what is named.

    Args:
      path: returns the path of a flag.

    Raises:
      absl.flags.Error, SettingError, WorkdirError: where the other flags are wrong.
    """
    values = flags.FLAGS
    values([word for word in sys.argv if word not in WORDS])
    given, launch = values.flag_values_dict(), sys.modules["__main__"].__doc__ or ""
    if "maml_steps" not in given:
        return "\n".join([launch.strip(), "", "flags", *_own([])])
    settings, of = _settings(given, path)
    sections = setting_flags.explained(settings)
    names = [name for mine in sections.values() for name in mine]
    lines = [launch.strip(), "", "flags", *_own(names), "", f"settings of {of}"]
    for section, mine in sections.items():
        lines += ["", f"{section}: {_title(SECTIONS[section])}"]
        for name, said in mine.items():
            lines += _wrapped(name, said)
    return "\n".join(lines)


def _settings(
    given: dict[str, Any], path: Callable[[str], pathlib.Path]
) -> tuple[Configuration, str]:
    """Returns whose values are the defaults, and what they are called."""
    stored = None
    if given["workdir"]:
        stored = store.stored_settings(path("workdir"))
    if given["domain"] == recorded.RECORDED:  # whatever sizes its files will have
        given = given | {"domain": recorded.name_of(1, 1)}
    names = resolve.named(given, stored)
    same = stored and all(getattr(stored, name) == names[name] for name in names)
    asked = setting_flags.asked(given)
    settings = stored if same and not asked else resolve.resolve(**names, asked=asked)
    return settings, ", ".join(names.values())


def _title(kind: type) -> str:
    """What a section configures: the first line of its docstring without the verb."""
    first = inspect.getdoc(kind).split("\n")[0].rstrip(".")
    return first.partition(" ")[2]


def _own(settings: list[str]) -> list[str]:
    """Lines of the flags that are no settings."""
    mine = flags.FLAGS.get_key_flags_for_module(sys.argv[0])
    lines = []
    for flag in sorted(mine, key=lambda flag: flag.name):
        if flag.name not in settings:
            name = f"[no]{flag.name}" if flag.boolean else flag.name
            default = "" if flag.default is None else f" (default {flag.default})"
            if isinstance(flag.default, list):
                default = f" (default {','.join(flag.default)})" if flag.default else ""
            lines += _wrapped(name, f"{flag.help}{default}")
    return lines


def _wrapped(name: str, said: str) -> list[str]:
    text = f"--{name}: {said}"
    return textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="      ")
