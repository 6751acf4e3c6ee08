"""Settings: frozen dataclass fields that carry their meaning and their range.

A configuration stands beside the algorithm it configures; launches make one flag of
each field. Ranges are written as intervals, e.g. "(0, 1]".
"""

import dataclasses
import math
from typing import Any

import jax


class SettingError(ValueError):
    """A value out of its range; names the setting, the value and what is allowed."""

    def __init__(self, name: str, value: Any, allowed: str):
        super().__init__(f"{name} must be {allowed}, got {value!r}.")
        self.name, self.value, self.allowed = name, value, allowed


def setting(
    default: Any,
    meaning: str,
    interval: str = "",
    choices: tuple[str, ...] = (),
    flag: str = "",
) -> Any:
    """A dataclass field with a help text and a range (of each entry, for tuples).

    `flag` is what the launches call it, if not by section and field.
    """
    metadata = {"meaning": meaning, "interval": interval, "choices": choices}
    metadata["flag"] = flag
    return dataclasses.field(default=default, metadata=metadata)


def _inside(value: float, interval: str) -> bool:
    low, high = (float(end) for end in interval[1:-1].split(","))
    above = value >= low if interval[0] == "[" else value > low
    below = value <= high if interval[-1] == "]" else value < high
    return above and below and math.isfinite(value)


def validate(config: Any) -> None:
    """Checks each field against its range; call it from `__post_init__`.

    A traced number, a row of a sweep, was checked by whoever made the rows.

    Raises:
      SettingError: on the first value out of range.
    """
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, jax.core.Tracer):
            continue
        interval, choices = field.metadata["interval"], field.metadata["choices"]
        if choices and value not in choices:
            raise SettingError(field.name, value, "one of " + ", ".join(choices))
        entries = value if isinstance(value, tuple) else (value,)
        if isinstance(value, tuple) and not value:
            raise SettingError(field.name, value, "a list of at least one number")
        if interval and not all(_inside(entry, interval) for entry in entries):
            raise SettingError(field.name, value, f"in {interval}")
