"""Numbers and bodies in words, for titles and notes."""

import json
from collections.abc import Sequence

import numpy as np

from mesa_jax.types import Task


def rounded(value, digits: int = 1) -> str:
    """Writes numbers rounded, without "-0.0"."""
    return json.dumps((np.asarray(value, float).round(digits) + 0.0).tolist())


def span(counts: Sequence[int]) -> str:
    """Writes "3", or "3 to 5"."""
    few, most = min(counts), max(counts)
    return f"{few}" if few == most else f"{few} to {most}"


def described(task: Task) -> str:
    """Describes a body by its parameters."""
    return ", ".join(f"{name} {rounded(x, 2)}" for name, x in task._asdict().items())
