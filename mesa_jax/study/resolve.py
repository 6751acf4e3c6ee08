"""Resolves names and what was asked for into a configuration."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from mesa_jax.configuration import (
    SECTIONS,
    Configuration,
    is_asked,
    override,
    to_json,
    with_values,
)
from mesa_jax.configuration import differences as _differences
from mesa_jax.domains import entry_of, fault_notation, full_name, require_tasks
from mesa_jax.methods import METHODS
from mesa_jax.settings import Layer, SettingError, joined, known
from mesa_jax.study import presets, switches
from mesa_jax.study.presets import PRESETS
from mesa_jax.study.rules import Rule, kin
from mesa_jax.types import Domain


def known_methods(names: list[str]) -> tuple[str, ...]:
    """Returns the names without repetitions, in the order of the comparison table.

    Raises:
      SettingError: if there are none, or one is unknown.
    """
    if not names:
        raise SettingError("methods", "", "a list of " + ", ".join(METHODS))
    for name in names:
        known("methods", name, METHODS)
    return tuple(name for name in METHODS if name in names)


def named(given: Mapping[str, Any], stored: Configuration | None) -> dict[str, str]:
    """Returns domain, tasks and preset: what was given, or the workdir's, or usual.

    Args:
      given: by name; None: it was not given.
      stored: the workdir's configuration, if there is one.
    """
    default = stored or Configuration()
    domain = full_name(given["domain"] or default.domain)
    usual = stored.tasks if stored else entry_of(domain).task_distributions[0]
    return {
        "domain": domain,
        "tasks": given["tasks"] or usual,
        "preset": given["preset"] or default.preset,
    }


def resolve(
    domain: str,
    tasks: str,
    preset: str,
    asked: Layer | None = None,
    method: str | None = None,
    rules: Sequence[Rule] | None = None,
) -> Configuration:
    """Returns the configuration of some names: rules, and over them what was asked for.

    Args:
      asked: values by section and field.
      method: whose own rules hold too; None: no method's.
      rules: a later one holds over an earlier one; None: those of the presets.

    Raises:
      SettingError: on an unknown name, a value out of its range, or values that do not
        go together.
    """
    domain = full_name(domain)
    require_tasks(domain, tasks)
    known("preset", preset, PRESETS)
    start = Configuration(
        domain,
        tasks,
        preset,
        switches=switches.recorded(),
        physics=entry_of(domain).physics,
    )
    rules = presets.rules() if rules is None else rules
    risk = (asked or {}).get("risk", {}).get("measure", start.risk.measure)
    names = preset, domain, tasks, (), risk
    general = [rule.values for rule in rules if rule.holds(*names)]
    common = override(with_values(start, joined(*general)), asked or {})
    return of_method(common, method, rules) if method else common


def of_method(
    configuration: Configuration, method: str, rules: Sequence[Rule] | None = None
) -> Configuration:
    """Returns what a method runs under: its own rules' values, where nobody asked."""
    names = configuration.preset, configuration.domain, configuration.tasks
    names = *names, kin(method), configuration.risk.measure
    own = joined(
        *(
            rule.values
            for rule in (presets.rules() if rules is None else rules)
            if rule.method and rule.holds(*names)
        )
    )
    unasked = {
        section: {
            name: value
            for name, value in fields.items()
            if not is_asked(configuration, section, name)
        }
        for section, fields in own.items()
    }
    return with_values(configuration, unasked)


def struck(configuration: Configuration, domain: Domain, fault: str) -> Configuration:
    """Returns the configuration with a fault of its domain, in its canonical words.

    Raises:
      SettingError: if it is no fault, or none that the domain has.
    """
    found = fault_notation.parse(fault, domain.changes)
    fault_notation.require_faults_of(domain, found)
    text = fault_notation.text_of(found) if found else ""
    return dataclasses.replace(configuration, fault=text)


def differences(
    ours: Configuration, theirs: Configuration
) -> list[tuple[str, Any, Any]]:
    """Returns (flag, ours, theirs) of every setting that differs, for any method.

    Where the common settings are the same, a flag that one method has otherwise is
    followed by its name: what was asked for keeps the method's own value out.
    """
    found = _differences(ours, theirs)
    if found or ours.asked == theirs.asked:
        return found
    return [
        (f"{flag} of {name}", a, b)
        for name in METHODS
        for flag, a, b in _differences(of_method(ours, name), of_method(theirs, name))
    ]


def from_json(values: dict[str, Any]) -> Configuration:
    """Returns the configuration that `to_json` wrote.

    Raises:
      ValueError: if fields are missing, unknown (another version wrote it), of another
        type or out of range.
    """

    def section(name, fields):
        lists = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
        return SECTIONS[name](**lists)

    expected = to_json(Configuration())
    if not isinstance(values, dict):
        raise ValueError("it is no configuration")
    for name in (*expected, *values):
        default, found = expected.get(name), values.get(name)
        same = type(found) is type(default) and name in expected
        if not same or (isinstance(found, dict) and found.keys() != default.keys()):
            raise ValueError(f"its section {name!r} was written by another version")
    resolve(*(values[name] for name in ("domain", "tasks", "preset")))
    fault_notation.parse(values["fault"])
    settings = Configuration(
        **{k: section(k, v) if k in SECTIONS else v for k, v in values.items()}
    )
    found = with_values(settings, {})  # settings that do not go together are refused
    if changed := _differences(found, settings):
        flag, allowed, value = changed[0]
        raise ValueError(f"{flag} is {value}, where its other values allow {allowed}")
    return found
