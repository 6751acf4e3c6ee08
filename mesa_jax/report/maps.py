"""Figures of risk maps: strips of a plane below each other."""

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import lines, patches
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from mesa_jax.report.layout import PAGE, drawing
from mesa_jax.study.records import Path
from mesa_jax.types import Plane

STRIP, PITCH = 0.5, 0.83  # inches: height of a strip, and from one to the next
ABOVE, BELOW = 1.05, 1.52  # inches of headings, and of the key over one line of notes
TITLE, LINE = 0.14, 0.135  # inches: a title of its own line, and a line of notes
LETTERS, WIDE_LETTERS, ERROR = 115, 92, "  error 0.0001"  # that a page has room for
LEFT = 0.07  # of the width
COLOURS = "YlOrBr"
THRESHOLD = {"color": "black", "linewidth": 1.0}
OBSTACLE = {
    "facecolor": "0.87",
    "edgecolor": "0.4",
    "hatch": "//////",
    "linewidth": 0.5,
}
PATH = {"color": "#0072B2", "linewidth": 0.8}
VIOLATION = {"marker": "x", "color": "#0072B2", "markersize": 6, "linestyle": "none"}
START = {"marker": "o", "color": "black", "markersize": 4, "linestyle": "none"}
GOAL = {"marker": "*", "color": "black", "markersize": 7, "linestyle": "none"}


class RiskMap(NamedTuple):
    """Holds a row of strips, one a column."""

    title: str
    risks: np.ndarray  # [columns, Y, X] at the centres of the region's cells
    errors: np.ndarray | None = None  # [columns] squared error to the truth
    paths: Sequence[Sequence[Path]] = ()  # episodes by column


class Words(NamedTuple):
    """Holds what the figure says around its strips."""

    title: str
    subtitle: str
    headings: Sequence[str]  # one a column
    paths: str  # what the episodes drawn are, if any
    notes: str


def figure(
    words: Words, maps: Sequence[RiskMap], plane: Plane, threshold: float
) -> Figure:
    """Draws rows of strips of the plane on one colour scale.

    Args:
      threshold: risk threshold, drawn as a contour.
    """
    count, notes = len(words.headings), textwrap.fill(words.notes, LETTERS)
    letters = WIDE_LETTERS // count  # of a strip's two titles
    apart = any(
        row.errors is not None and len(row.title) + len(ERROR) > letters for row in maps
    )
    pitch = PITCH + apart * TITLE
    below = BELOW + LINE * notes.count("\n")
    height = ABOVE + apart * TITLE + pitch * (len(maps) - 1) + STRIP + below
    with drawing():
        figure = Figure(figsize=(PAGE, height))
        axes = figure.subplots(
            len(maps),
            count,
            sharex=True,
            sharey=True,
            squeeze=False,
            gridspec_kw={
                "left": LEFT,
                "right": 0.985,
                "top": 1 - (ABOVE + apart * TITLE) / height,
                "bottom": below / height,
                "hspace": pitch / STRIP - 1,
                "wspace": 0.05,
            },
        )
        for row, strip in zip(axes, maps, strict=True):
            for i, ax in enumerate(row):
                image = _strip(ax, strip, i, plane, threshold)
            lift = 3 + 72 * TITLE * (apart and strip.errors is not None)
            at = ((0, 1), (0, lift), "axes fraction", "offset points")
            row[0].annotate(strip.title, *at, size=8.5)
            row[0].set_ylabel("y")
        for ax in axes[-1]:
            ax.set_xlabel("x (units of length)")
        figure.text(0.015, 0.08 / height, notes, color="0.3", size=8)
        _head(figure, axes[0], words, height, apart)
        _key(figure, image, words.paths, threshold, below, height)
    return figure


def _head(
    figure: Figure, top: Sequence[Axes], words: Words, height: float, apart: bool
) -> None:
    """Writes the title, and the headings of the columns."""
    figure.text(0.015, 1 - 0.1 / height, words.title, va="top", size=10, weight="bold")
    figure.text(0.015, 1 - 0.33 / height, words.subtitle, va="top", size=9)
    lift = 19 + 72 * TITLE * apart
    for ax, heading in zip(top, words.headings, strict=True):
        ax.annotate(
            heading, (0, 1), (0, lift), "axes fraction", "offset points", weight="bold"
        )


def _strip(
    ax: Axes, strip: RiskMap, i: int, plane: Plane, threshold: float
) -> AxesImage:
    """Draws one column's map with obstacles, start, goal and episodes."""
    values, (x0, x1, y0, y1) = strip.risks[i], plane.region
    image = ax.imshow(
        values,
        cmap=COLOURS,
        vmin=0,
        vmax=1,
        origin="lower",
        extent=plane.region,
        aspect="auto",
    )
    rows, columns = values.shape
    x = x0 + (x1 - x0) * (np.arange(columns) + 0.5) / columns
    y = y0 + (y1 - y0) * (np.arange(rows) + 0.5) / rows
    if values.min() < threshold < values.max():
        ax.contour(
            x,
            y,
            values,
            [threshold],
            colors=THRESHOLD["color"],
            linewidths=THRESHOLD["linewidth"],
        )
    for left, right, low, high in plane.obstacles:
        box = patches.Rectangle((left, low), right - left, high - low, **OBSTACLE)
        ax.add_patch(box)
    for path in strip.paths[i] if strip.paths else ():
        ax.plot(*path.points.T, **PATH)
        if path.violation:
            ax.plot(*path.points[-1], **VIOLATION)
    ax.plot(*plane.start, **START)
    ax.plot(*plane.goal, **GOAL)
    ax.set(xlim=(x0, x1), ylim=(y0, y1))
    if strip.errors is not None:
        ax.set_title(f"error {strip.errors[i]:.2g}", pad=3, size=8.5, loc="right")
    return image


def _key(
    figure: Figure,
    image: AxesImage,
    paths: str,
    threshold: float,
    below: float,
    height: float,
) -> None:
    """Draws the colour bar, and what the marks mean."""
    bar = figure.add_axes((LEFT, (below - 0.9) / height, 0.37, 0.1 / height))
    figure.colorbar(image, cax=bar, orientation="horizontal")
    bar.set_title("Q_risk: discounted probability of a violation", size=8.5)
    marks = [
        lines.Line2D([], [], **THRESHOLD, label=f"risk threshold {threshold:g}"),
        patches.Patch(**OBSTACLE, label="obstacle"),
        lines.Line2D([], [], **VIOLATION, label="violation"),
        lines.Line2D([], [], **START, label="start"),
        lines.Line2D([], [], **GOAL, label="goal"),
    ]
    episodes = [lines.Line2D([], [], **PATH, label=paths)]
    if not paths:
        del marks[2], episodes[0]
    for handles, y, columns in ((marks, 0.94, 3), (episodes, 1.12, 1)):
        figure.legend(
            handles=handles,
            loc="lower left",
            bbox_to_anchor=(0.49, (below - y) / height),
            ncols=columns,
            frameon=False,
            fontsize=8.5,
            borderpad=0,
            borderaxespad=0,
            columnspacing=1.2,
            handlelength=1.6,
        )
