"""Resolves names and what was asked for into a configuration."""

import pathlib
from typing import Any

from mesa_jax.configuration import (
    SECTIONS,
    Configuration,
    bodies_key,
    flag_of,
    known,
    override,
    to_json,
)
from mesa_jax.domains import DOMAINS, fault_notation
from mesa_jax.methods import METHODS
from mesa_jax.settings import SettingError
from mesa_jax.study import files, switches
from mesa_jax.study.presets import (
    BODIES_SETTINGS,
    DOMAIN_SETTINGS,
    DOMAIN_VARIANTS,
    PRESET_CHOICES,
    PRESET_DOMAIN_SETTINGS,
    PRESETS,
    VARIANTS,
    Layer,
)

CHOSEN = pathlib.Path(__file__).parent / "chosen.json"  # by `experiments.tune`


def chosen(domain: str, tasks: str) -> dict[str, dict[str, Any]]:
    """What was chosen on held-out training bodies, by section; {} where nothing was.

    What was chosen for a variant is under its name, by section in turn.
    """
    stored = files.read_json(CHOSEN) if CHOSEN.exists() else {}
    return stored.get(bodies_key(domain, tasks), {})


def known_methods(names: list[str]) -> tuple[str, ...]:
    """Checked, without repetitions, in the order of the comparison table."""
    if not names:
        raise SettingError("methods", "", "a list of " + ", ".join(METHODS))
    for name in names:
        known("methods", name, METHODS)
    return tuple(name for name in METHODS if name in names)


def preset_settings(domain: str, tasks: str, preset: str) -> Configuration:
    """The settings of a preset for a domain; names are checked."""
    known("domain", domain, DOMAINS)
    known("tasks", tasks, DOMAINS[domain].task_distributions)
    known("preset", preset, PRESETS)
    names = {"domain": domain, "tasks": tasks, "preset": preset}
    settings = Configuration(**names, switches=switches.recorded())
    layers = (
        PRESETS[preset],
        DOMAIN_SETTINGS[domain],
        BODIES_SETTINGS.get((domain, tasks), {}),
        PRESET_DOMAIN_SETTINGS.get((preset, domain), {}),
        {k: v for k, v in chosen(domain, tasks).items() if k not in VARIANTS},
        PRESET_CHOICES.get(preset, {}),
    )
    return override(settings, _joined(*layers))


def _joined(*layers: Layer) -> Layer:
    """One layer; of a field that several have, the last one's value."""
    joined: Layer = {}
    for layer in layers:
        for section, fields in layer.items():
            joined[section] = joined.get(section, {}) | fields
    return joined


def of_method(settings: Configuration, method: str) -> Configuration:
    """The settings that a method runs under: its variant's where it has one.

    A variant's value gives way to one that differs from the preset's: it was asked for.
    It takes as many bodies an outer step as there are, where it would take more.
    """
    name = METHODS[method].variant
    own = (
        VARIANTS.get(name, {}),
        DOMAIN_VARIANTS.get((settings.domain, name), {}),
        chosen(settings.domain, settings.tasks).get(name, {}),
    )
    preset = preset_settings(settings.domain, settings.tasks, settings.preset)

    def untouched(section, name):
        ours, theirs = (getattr(getattr(s, section), name) for s in (settings, preset))
        return ours == theirs

    values = {
        section: {name: x for name, x in fields.items() if untouched(section, name)}
        for section, fields in _joined(*own).items()
    }
    if "num_tasks" in values.get("maml", {}):
        together = min(values["maml"]["num_tasks"], settings.data.train_bodies)
        values["maml"]["num_tasks"] = together
    return override(settings, values) if values else settings


def require_heard(asked: Layer, settings: Configuration, method: str) -> None:
    """Checks that a method runs under what was asked for, by section and field.

    What differs from the preset takes the place of a variant's value; what does not
    can not be told from what nobody asked for.

    Raises:
      SettingError: naming the first that the method's variant has otherwise.
    """
    mine = of_method(settings, method)
    for section, fields in asked.items():
        for name in fields:
            ours, own = (getattr(getattr(s, section), name) for s in (settings, mine))
            if ours != own:
                allowed = f"other than the preset's for {method}, which has {own!r}"
                raise SettingError(flag_of(section, name), ours, allowed)


def from_json(values: dict[str, Any]) -> Configuration:
    """The inverse of `to_json`.

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
    preset_settings(*(values[name] for name in ("domain", "tasks", "preset")))
    fault_notation.parse(values["fault"])
    settings = Configuration(
        **{k: section(k, v) if k in SECTIONS else v for k, v in values.items()}
    )
    return override(settings, {})  # settings that do not go together are refused
