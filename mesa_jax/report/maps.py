"""Risk maps of a body as strips below each other: drawing only."""

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
ABOVE, BELOW = 1.05, 1.8  # inches of headings and of the key
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
    """A row of strips, one a column."""

    title: str
    risks: np.ndarray  # [columns, Y, X] at the centres of the region's cells
    errors: np.ndarray | None = None  # [columns] squared error to the truth
    paths: Sequence[Sequence[Path]] = ()  # episodes by column


class Words(NamedTuple):
    """What the figure says around its strips."""

    title: str
    subtitle: str
    headings: Sequence[str]  # one a column
    paths: str  # what the episodes drawn are, if any
    notes: str


def risk_maps(
    words: Words, maps: Sequence[RiskMap], plane: Plane, threshold: float
) -> Figure:
    """Rows of strips of the plane on one colour scale."""
    height = ABOVE + PITCH * (len(maps) - 1) + STRIP + BELOW
    with drawing():
        figure = Figure(figsize=(PAGE, height))
        axes = figure.subplots(
            len(maps),
            len(words.headings),
            sharex=True,
            sharey=True,
            squeeze=False,
            gridspec_kw={
                "left": LEFT,
                "right": 0.985,
                "top": 1 - ABOVE / height,
                "bottom": BELOW / height,
                "hspace": PITCH / STRIP - 1,
                "wspace": 0.05,
            },
        )
        for row, strip in zip(axes, maps, strict=True):
            for i, ax in enumerate(row):
                image = _strip(ax, strip, i, plane, threshold)
            row[0].set_ylabel("y")
        for ax in axes[-1]:
            ax.set_xlabel("x (units of length)")
        _say(figure, axes[0], words, height)
        _key(figure, image, words.paths, threshold, height)
    return figure


def _say(figure: Figure, top: Sequence[Axes], words: Words, height: float) -> None:
    """Title, headings of the columns, and the notes at the bottom."""
    figure.text(0.015, 1 - 0.1 / height, words.title, va="top", size=10, weight="bold")
    figure.text(0.015, 1 - 0.33 / height, words.subtitle, va="top", size=9)
    figure.text(0.015, 0.08 / height, words.notes, color="0.3", size=8)
    for ax, heading in zip(top, words.headings, strict=True):
        ax.annotate(
            heading, (0, 1), (0, 19), "axes fraction", "offset points", weight="bold"
        )


def _strip(
    ax: Axes, strip: RiskMap, i: int, plane: Plane, threshold: float
) -> AxesImage:
    """One column's map with obstacles, start, goal and episodes."""
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
    ax.set_title("" if i else strip.title, pad=3, size=8.5)
    if strip.errors is not None:
        ax.set_title(f"error {strip.errors[i]:.2g}", pad=3, size=8.5, loc="right")
    return image


def _key(
    figure: Figure, image: AxesImage, paths: str, threshold: float, height: float
) -> None:
    """Colour bar, and what the marks mean."""
    bar = figure.add_axes((LEFT, 0.9 / height, 0.37, 0.1 / height))
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
    for handles, y, columns in ((marks, 0.86, 3), (episodes, 0.68, 1)):
        figure.legend(
            handles=handles,
            loc="lower left",
            bbox_to_anchor=(0.49, y / height),
            ncols=columns,
            frameon=False,
            fontsize=8.5,
            borderpad=0,
            borderaxespad=0,
            columnspacing=1.2,
            handlelength=1.6,
        )
