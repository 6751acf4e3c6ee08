"""One flag a setting, made from the fields of the configuration's sections."""

import dataclasses
from typing import Any

from absl import flags

from mesa_jax.configuration import SECTIONS, Configuration, flag_of
from mesa_jax.methods import METHODS
from mesa_jax.settings import Layer, SettingError
from mesa_jax.study import resolve

from .whole import define_integer, integer

flags.disclaim_key_flags()  # they belong to the experiment that asks for them
MAKERS = {
    int: define_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
    tuple: flags.DEFINE_list,
}


def define() -> None:
    """Defines the flag of every setting."""
    for section, kind in SECTIONS.items():
        for field in dataclasses.fields(kind):
            name = flag_of(section, field.name)
            MAKERS[type(field.default)](name, None, _meaning(field))


def asked(given: dict[str, Any]) -> Layer:
    """Returns what flags ask for, by section and field.

    Args:
      given: every flag's value, None where it was not given.

    Raises:
      SettingError: on a list of other things than integers.
    """
    values: Layer = {}
    for section, kind in SECTIONS.items():
        for field in dataclasses.fields(kind):
            value = given[flag_of(section, field.name)]
            if value is not None:
                typed = _typed(section, field, value)
                values.setdefault(section, {})[field.name] = typed
    return values


def _typed(section: str, field: dataclasses.Field, value: Any) -> Any:
    if not isinstance(field.default, tuple):
        return value
    numbers = tuple(integer(entry) for entry in value)
    if None in numbers:
        allowed = "integers, as 64,64"
        raise SettingError(flag_of(section, field.name), ",".join(value), allowed)
    return numbers


def _meaning(field: dataclasses.Field, default: str = "") -> str:
    about = field.metadata
    allowed = ", ".join(about["choices"]) or about["interval"]
    return f"{about['meaning']} ({allowed}{default})"


def explained(settings: Configuration) -> dict[str, dict[str, str]]:
    """Returns each flag's meaning, range and default, by section and flag.

    Args:
      settings: whose values are the defaults. Where methods have others, these follow.
    """
    own = {name: resolve.of_method(settings, name) for name in METHODS}
    found: dict[str, dict[str, str]] = {}
    for section, kind in SECTIONS.items():
        mine = found.setdefault(section, {})
        for field in dataclasses.fields(kind):
            default = _written(settings, section, field.name)
            others: dict[str, list[str]] = {}
            for method, theirs in own.items():
                value = _written(theirs, section, field.name)
                if value != default:
                    others.setdefault(value, []).append(method)
            words = [f"{value} for {', '.join(ms)}" for value, ms in others.items()]
            text = "; ".join([f"; default {default}", *words])
            mine[flag_of(section, field.name)] = _meaning(field, text)
    return found


def _written(settings: Configuration, section: str, name: str) -> str:
    value = getattr(getattr(settings, section), name)
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
