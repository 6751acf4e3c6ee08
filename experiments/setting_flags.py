"""One flag a setting, made from the fields of the configuration's sections."""

import dataclasses
import functools
from typing import Any

from absl import flags

from mesa_jax.configuration import SECTIONS, Configuration, flag_of
from mesa_jax.settings import Layer, SettingError
from mesa_jax.study import resolve
from mesa_jax.study.presets import Rule, rules

from .whole import define_integer, integer

flags.disclaim_key_flags()  # they belong to the experiment that asks for them
SECTION_DEFAULTS = Configuration()  # where no rule holds
MAKERS = {
    int: define_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
    tuple: flags.DEFINE_list,
}


def define() -> None:
    """Defines the flag of every setting; its help says range and defaults."""
    for section, kind in SECTIONS.items():
        for field in dataclasses.fields(kind):
            name, text = flag_of(section, field.name), _help(section, field)
            MAKERS[type(field.default)](name, None, text)


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


def _help(section: str, field: dataclasses.Field) -> str:
    about = field.metadata
    allowed = ", ".join(about["choices"]) or about["interval"]
    defaults = "; ".join(_defaults(section, field))
    return f"{about['meaning']} ({allowed}; default {defaults})"


@functools.cache
def _usual() -> Configuration:
    return resolve.resolve("navigation1", "published", "quick")


@functools.cache
def _rules() -> tuple[Rule, ...]:
    return rules()


def _defaults(section: str, field: dataclasses.Field) -> list[str]:
    """Returns the default of the usual bodies, then what each rule has instead."""
    usual = _written(getattr(getattr(_usual(), section), field.name))
    last = {  # the last of the same name holds
        rule.name: _written(rule.values[section][field.name])
        for rule in _rules()
        if field.name in rule.values.get(section, {})
    }
    by_value: dict[str, list[str]] = {}
    for name, value in last.items():
        by_value.setdefault(value, []).append(name)
    default = getattr(SECTION_DEFAULTS, section)
    elsewhere = _written(getattr(default, field.name))
    return [
        usual,
        *([f"elsewhere {elsewhere}"] if elsewhere != usual else []),
        *(f"{value} in {', '.join(names)}" for value, names in by_value.items()),
    ]


def _written(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
