"""Whole numbers of flags: 10000, 10_000 or 1e4; and lists of seeds."""

import decimal

from absl import flags

from mesa_jax.keys import SEED_LIMIT
from mesa_jax.settings import SettingError

flags.disclaim_key_flags()  # they belong to the experiment that asks for them
DIGITS = 20  # of the longest number that is read
MOST_SEEDS = 100_000  # in one launch


def integer(text: str) -> int | None:
    """Returns the whole number that a text spells exactly, or None: 1e4, not 1.5."""
    try:
        number = decimal.Decimal(text.strip())
    except decimal.InvalidOperation:
        return None
    if not number.is_finite() or number.adjusted() >= DIGITS:
        return None
    return int(number) if number == number.to_integral_value() else None


class Whole(flags.IntegerParser):
    """absl's integers, also as 1e4."""

    def convert(self, argument):
        """Returns the number.

        Raises:
          ValueError: if it is none, which absl shows with the flag's name.
        """
        number = argument if isinstance(argument, int) else integer(str(argument))
        if number is None:
            raise ValueError(
                f"{str(argument)[:100]!r} is no whole number (10000, 10_000 and 1e4 "
                "are)"
            )
        return number


def define_integer(
    name: str,
    default: int | None,
    text: str,
    lower_bound: int | None = None,
    upper_bound: int | None = None,
) -> None:
    """Defines a flag of a whole number, as `absl.flags.DEFINE_integer` does."""
    flags.DEFINE(
        Whole(lower_bound, upper_bound),
        name,
        default,
        text,
        serializer=flags.ArgumentSerializer(),
    )


def parse_seeds(text: str) -> tuple[int, ...]:
    """ "10" is 0 to 9, "3:8" is 3 to 7, "1,3,5" are these, "0:3,7" is 0, 1, 2 and 7.

    Returns them ascending, each once.

    Raises:
      SettingError: if it is none of these, negative, empty or very long.
    """
    parts = text.split(",")
    if len(parts) == 1 and ":" not in text:
        parts = [f"0:{text}"]
    found: set[int] = set()
    for part in parts:
        first, colon, end = part.partition(":")
        low = integer(first)
        high = integer(end) if colon else None if low is None else low + 1
        fits = low is not None and high is not None and 0 <= low < high <= SEED_LIMIT
        if not fits or high - low + len(found) > MOST_SEEDS:
            raise SettingError(
                "seeds",
                text,
                "a count of at least 1, or a range first:end with 0 <= first < end, or "
                f"seeds and ranges joined by commas (0:3,7), of seeds below "
                f"{SEED_LIMIT}, at most {MOST_SEEDS:,} of them",
            )
        found.update(range(low, high))
    return tuple(sorted(found))
