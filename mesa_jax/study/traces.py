"""Checks of compiled programs."""

from typing import Any

from tqdm import tqdm


def require_one_trace(function: Any, name: str) -> None:
    """Checks that a jitted function was compiled for one form of its arguments.

    Raises:
      AssertionError: if a launch made it anew, which costs time and hides a change of
        shape or type.
    """
    count = function._cache_size()
    assert count <= 1, f"{name} was traced {count} times in one launch"


def say_compiling(bar: tqdm) -> None:
    """Shows that a program is compiled, until the bar's next words."""
    bar.set_postfix_str("compiling ...")
