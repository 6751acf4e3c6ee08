"""Settings: frozen dataclass fields that carry their meaning and their range.

A configuration stands beside the algorithm it configures; launches make one flag of
each field. Ranges are written as intervals, e.g. "(0, 1]". An integer's ends somewhere:
what it counts takes time and memory.
"""

import dataclasses
import difflib
import math
import operator
from typing import Any

import jax
import numpy as np

from mesa_jax.errors import UserError

Layer = dict[str, dict[str, Any]]  # values by section and field
MOST_ENTRIES = 64  # of a list


OTHER_WORDS = {  # two settings say one thing: who asks for one does not get the other
    ("risk", "discount"): ("risk", "horizon"),
    ("risk", "horizon"): ("risk", "discount"),
}


def joined(*layers: Layer) -> Layer:
    """Returns one layer; of a field that several have, the last one's value."""
    both: Layer = {}
    for layer in layers:
        for section, fields in layer.items():
            mine = both.setdefault(section, {})
            for name in fields:
                mine.pop(OTHER_WORDS.get((section, name), (None, None))[1], None)
            mine.update(fields)
    return both


class SettingError(UserError, ValueError):
    """Says that a value is out of its range, and what is allowed."""

    def __init__(self, name: str, value: Any, allowed: str):
        super().__init__(f"{name} must be {allowed}, got {_short(value)}.")
        self.name, self.value, self.allowed = name, value, allowed


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:100]}... ({len(text)} characters)"


def known(kind: str, name: str, names) -> str:
    """Returns `name` if it is one of `names`.

    Raises:
      SettingError: naming the known ones and the nearest.
    """
    names = list(names)
    if name not in names:
        near = difflib.get_close_matches(name, names, 1, 0.0)[0]
        raise SettingError(kind, name, f"one of {', '.join(names)} (nearest: {near})")
    return name


def setting(
    default: Any,
    meaning: str,
    interval: str = "",
    choices: tuple[str, ...] = (),
    flag: str = "",
) -> Any:
    """Makes a dataclass field with a help text and a range (of each entry, for tuples).

    `flag` is what the launches call it, if not by section and field.

    Raises:
      TypeError: if it counts something and its range has no end.
    """
    first = default[0] if isinstance(default, tuple) else default
    if isinstance(first, int) and not math.isfinite(_ends(interval)[1]):
        raise TypeError(f"the range {interval!r} of an integer needs an upper end")
    metadata = {"meaning": meaning, "interval": interval, "choices": choices}
    metadata["flag"] = flag
    return dataclasses.field(default=default, metadata=metadata)


def _ends(interval: str) -> tuple[float, float]:
    low, high = (float(end) for end in (interval[1:-1] or "-inf,inf").split(","))
    return low, high


def _inside(value: float, interval: str) -> bool:
    low, high = _ends(interval)
    above = value >= low if interval[0] == "[" else value > low
    below = value <= high if interval[-1] == "]" else value < high
    return above and below and math.isfinite(value)


def whole(text: str, high: int) -> int | None:
    """Returns the number that decimal digits spell, or None if it is none up to high.

    `str.isdigit` holds for "²", and `int` refuses thousands of digits.
    """
    digits = text.strip()
    if not (digits.isdecimal() and len(digits) <= len(str(high))):
        return None
    return value if (value := int(digits)) <= high else None


def validate(config: Any) -> None:
    """Checks each field's type and range; call it from `__post_init__`.

    A number of a float field becomes a float, and minus zero zero: what is equal is
    written alike. A traced number, a row of a sweep, was checked by whoever made the
    rows.

    Raises:
      SettingError: on the first value out of range.
    """
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, jax.core.Tracer):
            continue
        checked = _checked(field, value)
        if checked is not value:
            object.__setattr__(config, field.name, checked)


def _checked(field: dataclasses.Field, value: Any) -> Any:
    interval, choices = field.metadata["interval"], field.metadata["choices"]
    if choices:
        if not (isinstance(value, str) and value in choices):
            raise SettingError(field.name, value, "one of " + ", ".join(choices))
        return value
    if not isinstance(field.default, tuple):
        return _number(field.name, value, value, field.default, interval)
    if not isinstance(value, tuple) or not 1 <= len(value) <= MOST_ENTRIES:
        allowed = f"a list of 1 to {MOST_ENTRIES} numbers"
        raise SettingError(field.name, value, allowed)
    first = field.default[0]
    return tuple(_number(field.name, value, x, first, interval) for x in value)


def _number(name: str, given: Any, value: Any, default: Any, interval: str) -> Any:
    """`value`, one of what was `given`, as a number of the default's type."""
    kind = "an integer " if isinstance(default, int) else ""
    try:
        if isinstance(value, bool | str | bytes):
            raise TypeError
        number = operator.index(value) if kind else float(value) + 0.0
    except (TypeError, ValueError, OverflowError):
        allowed = f"{kind or 'a number '}in {interval}"
        raise SettingError(name, given, allowed) from None
    if interval and not _inside(number, interval):
        raise SettingError(name, given, f"in {interval}")
    # it is computed with as a float32, where 1e39 is infinite and 1e-50 is zero
    with np.errstate(over="ignore"):
        seen = number if kind else float(np.float32(number))
    if interval and not _inside(seen, interval):
        raise SettingError(name, given, f"in {interval} as a float32")
    return number
