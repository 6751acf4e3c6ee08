"""Timelines of runs as SVG: where the recovery policy acted, and each violation.

A drawing has no text of its own: it is stretched to the width that a page has.
"""

import html
import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from mesa_jax.report.scene import RECOVERY, VIOLATION
from mesa_jax.study.records import Timeline

COLUMNS = 800  # that a drawing tells apart
LANE, BASE = 7, 20  # heights: above it violations, from there to the base recoveries
FAULT = "#D00000"


class Line(NamedTuple):
    """Holds a run's drawing, and what it counts."""

    method: str
    seed: int
    meta_seed: int
    svg: str
    violations: int
    recovered: float | None  # share of the steps; None: not known
    struck: bool  # a fault is on it


def line_of(run: Timeline, longest: int) -> Line:
    """Returns a run's drawing on an axis of `longest` steps.

    Recoveries are bars, as high as the share of a column's steps that they are.
    """
    steps, longest = len(run.violated), max(longest, 1)
    columns = min(longest, COLUMNS)
    shares = np.zeros(columns) if run.recovered is None else _shares(run, longest)
    at = np.flatnonzero(run.violated) * columns // longest
    marks = "".join(f"M{x + 0.5:g} 0v{LANE}" for x in np.unique(at))
    share = (
        None if run.recovered is None else float(run.recovered.mean() if steps else 0)
    )
    violations = int(run.violated.sum())
    told = f"{run.method}, seed {run.seed}: {violations} violations in {steps} steps"
    if share is not None:
        told += f", recovery policy on {100 * share:.1f} % of them"
    drawn = [f'<path d="{"".join(_bars(shares))}" fill="{RECOVERY}"/>']
    struck = run.onset is not None and run.onset < longest
    if struck:
        x = run.onset * columns / longest
        drawn.append(_stroke(f"M{x:g} 0V{BASE}", FAULT, 2))
    drawn.append(_stroke(marks, VIOLATION, 1.5))
    width = columns * steps / longest
    drawn.insert(0, _stroke(f"M0 {BASE}H{width:g}", "#777", 1))
    svg = (
        f'<svg viewBox="0 0 {columns} {BASE}" preserveAspectRatio="none" role="img" '
        f'aria-label="{html.escape(told)}">{"".join(drawn)}</svg>'
    )
    return Line(run.method, run.seed, run.meta_seed, svg, violations, share, struck)


def _shares(run: Timeline, longest: int) -> np.ndarray:
    """Shares of recovered steps, a column each; 0 behind the run's last step."""
    columns = min(longest, COLUMNS)
    at = np.arange(len(run.recovered)) * columns // longest
    counts = np.bincount(at, minlength=columns)
    return np.bincount(at, run.recovered, columns) / np.maximum(counts, 1)


def _bars(shares: np.ndarray) -> Iterator[str]:
    """Yields a bar for each stretch of columns of one share."""
    edges = np.flatnonzero(np.diff(shares, prepend=np.nan, append=np.nan))
    for start, end in itertools.pairwise(edges):
        if shares[start] > 0:
            height = (BASE - LANE) * shares[start]
            yield f"M{start} {BASE}v-{height:.3g}h{end - start}V{BASE}z"


def _stroke(path: str, colour: str, width: float) -> str:
    return (
        f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width}" '
        'vector-effect="non-scaling-stroke"/>'
    )
