"""Figures of calibration, and of the decisions that a risk threshold makes."""

from typing import NamedTuple

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mesa_jax.report.layout import (
    LEFT,
    PAGE,
    End,
    drawing,
    label_ends,
    note_height,
    right_of,
    styles,
    words,
    wrapped,
)

RATES = (0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 1)  # ticks
HEADINGS, PANEL_LEFT, GAP, ROW_GAP = 0.8, 0.7, 0.2, 0.36  # inches
ABOVE = 0.85  # inches, of the rates
OVER = "at the mark: rate of\nfalse-safe, false-alarm"  # the labels of curves
HALVES = (0, 0.5, 1)
LARGEST = 1.9  # inches of a diagram's side


class Reliability(NamedTuple):
    """Holds means in bins of equal mass, each [bins], and the calibration error."""

    prediction: np.ndarray
    truth: np.ndarray
    error: float


def reliability(
    title: str, note: str, curves: dict[str, dict[str, Reliability]]
) -> Figure:
    """Draws mean truth against mean prediction: a column a method, a row a stage.

    Args:
      curves: by method, then by stage; a method may lack one.
    """
    fullest = sorted(curves.values(), key=len, reverse=True)
    stages = list(dict.fromkeys(stage for found in fullest for stage in found))
    columns, rows, style = len(curves), len(stages), styles(list(curves))
    note = wrapped(
        f"{note} Mark: means of one of the bins, which hold equally many estimates."
        " Diagonal: perfect calibration; above it risk is underestimated, below it"
        " overestimated."
    )
    side = min(LARGEST, (PAGE - PANEL_LEFT - 0.1) / columns - GAP)
    height = HEADINGS + rows * (side + ROW_GAP) + 0.1 + note_height(note)
    with drawing():
        figure = Figure(figsize=(PAGE, height))
        axes = figure.subplots(
            rows,
            columns,
            sharex=True,
            sharey=True,
            squeeze=False,
            gridspec_kw={
                "left": PANEL_LEFT / PAGE,
                "right": (PANEL_LEFT + columns * (side + GAP) - GAP) / PAGE,
                "top": 1 - HEADINGS / height,
                "bottom": 1 - (HEADINGS + rows * (side + ROW_GAP) - ROW_GAP) / height,
                "wspace": GAP / side,
                "hspace": ROW_GAP / side,
            },
        )
        words(figure, title, note)
        axes[0, 0].set(xlim=(0, 1), ylim=(0, 1), xticks=HALVES, yticks=HALVES)
        axes[0, 0].xaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        axes[0, 0].yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        for row, stage in zip(axes, stages, strict=True):
            row[0].set_ylabel(f"{stage}\ntruth")
            for ax, (method, found) in zip(row, curves.items(), strict=True):
                _diagram(ax, found.get(stage), style[method][0])
        for ax, method in zip(axes[0], curves, strict=True):
            size = min(8.5, 105 * (side + GAP) / len(method))
            _head(ax, method, style[method][0], size)
        for ax in axes[-1]:
            ax.set_xlabel("prediction")
    return figure


def safety_tradeoff(
    title: str,
    note: str,
    curves: dict[str, tuple[np.ndarray, np.ndarray]],
    at_threshold: dict[str, tuple[float, float]],
) -> Figure:
    """Draws false-safe against false-alarm rates as the threshold moves.

    Args:
      curves: false-alarm and false-safe rates of each method, each [K].
      at_threshold: the same two rates of each method at the risk threshold in use.
    """
    note = wrapped(
        f"{note} Lower left is better. Line: all risk thresholds; mark: the one in use."
        " Both axes are stretched towards 0."
    )
    style = styles(list(curves))
    labels, ends = {}, []
    for method, rates in curves.items():
        alarm, safe = point = at_threshold.get(method, (np.nan, np.nan))
        known = np.isfinite(point).all()
        labels[method] = f"{method}  {safe:.3f}, {alarm:.3f}" if known else method
        x, y = point if known else _middle(*rates)
        ends.append(End(labels[method], style[method][0], x, y))
    right = right_of([*labels.values(), *OVER.splitlines()])
    side = (right - LEFT) * PAGE
    height = ABOVE + side + 0.5 + note_height(note)
    with drawing():
        figure = Figure(figsize=(PAGE, height))
        words(figure, title, note)
        bottom = 1 - (ABOVE + side) / height
        ax = figure.add_axes((LEFT, bottom, right - LEFT, side / height))
        _rate_axes(ax)
        for method, (alarm, safe) in reversed(curves.items()):
            colour, dashes = style[method]
            look = {"color": colour, "clip_on": False}
            ax.plot(alarm, safe, linestyle=dashes, linewidth=1.6, **look)
            point = at_threshold.get(method, (np.nan, np.nan))
            ax.plot(*point, "o", markersize=6, markeredgecolor="white", **look)
        figure.text(right + 0.2 / PAGE, 1 - (ABOVE - 0.2) / height, OVER, color="0.4")
        label_ends(ax, [end for end in ends if np.isfinite(end.x)])
    return figure


def _head(ax: Axes, method: str, colour: str, size: float) -> None:
    """Writes the column's method above its title."""
    ax.annotate(
        method,
        (0, 1),
        (0, 17),
        "axes fraction",
        "offset points",
        weight="bold",
        size=size,
        color=colour,
    )


def _diagram(ax: Axes, bins: Reliability | None, colour: str) -> None:
    """Draws a method's bins at a stage, or nothing where it has no such stage."""
    points = np.full((2, 0), np.nan) if bins is None else np.stack(bins[:2])
    points = points[:, np.isfinite(points).all(0)]
    if not points.size:
        ax.set_title("no estimate", color="0.5", size=8.5, pad=4)
        ax.set_facecolor("0.95")
        return
    ax.set_title(f"error {bins.error:.3f}", size=8.5, pad=4)
    ax.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, zorder=0)
    ax.plot(
        *points,
        color=colour,
        linewidth=1,
        marker="o",
        markersize=4,
        markeredgecolor="white",
        markeredgewidth=0.4,
        clip_on=False,
    )


def _rate_axes(ax: Axes) -> None:
    """Makes square-root scales: rates of good methods are small, and may be zero."""
    roots = {"functions": (lambda x: np.sqrt(np.maximum(x, 0)), np.square)}
    ax.set_xscale("function", **roots)
    ax.set_yscale("function", **roots)
    ax.set(xlim=(0, 1), ylim=(0, 1), xticks=RATES, yticks=RATES)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    ax.set_xlabel("false-alarm rate: held dangerous though safe")
    ax.set_ylabel("false-safe rate: held safe though dangerous")
    ax.grid(color="0.92", linewidth=0.6)
    ax.set_axisbelow(True)


def _middle(alarm: np.ndarray, safe: np.ndarray) -> tuple[float, float]:
    """Returns a point of the curve where the others are apart."""
    points = np.stack([alarm, safe])
    points = points[:, np.isfinite(points).all(0)]
    return tuple(points[:, points.shape[1] // 2]) if points.size else (np.nan, np.nan)
