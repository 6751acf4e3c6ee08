"""Checks of compiled programs."""

from typing import Any

from tqdm import tqdm


def traces(function: Any) -> int:
    """Counts the forms of its arguments for which a jitted function was compiled."""
    return function._cache_size()


def require_one_trace(function: Any, name: str, before: int = 0) -> None:
    """Checks that a launch compiled a jitted function for one form of its arguments.

    Args:
      before: how many it was compiled for when the launch began.

    Raises:
      AssertionError: if a launch made it anew, which costs time and hides a change of
        shape or type.
    """
    count = traces(function) - before
    assert count <= 1, f"{name} was traced {count} times in one launch"


def say_compiling(bar: tqdm) -> None:
    """Shows that a program is compiled, until the bar's next words."""
    bar.set_postfix_str("compiling ...")
