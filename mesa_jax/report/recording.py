"""Figure of recorded transitions: what was seen and done, and how episodes ended."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mesa_jax.report.layout import PAGE, drawing, note_height, words, wrapped

MOST = 8  # bodies on a page
ROW, PANEL, HEAD = 2.05, 1.25, 0.72  # inches
GREY, RED = "0.6", "#D55E00"
COLOURS = (RED, "#009E73", GREY)  # of how episodes end
BINS = 20
NOTE = (
    "Observations: 5 to 95 % of each entry, standardised by all transitions; red: mean "
    "of those that violate. Actions: share of each entry's values. Episodes: lengths, "
    "by what ends them."
)


class Body(NamedTuple):
    """Holds a body's n transitions in E episodes, as they are drawn."""

    name: str
    observation: np.ndarray  # [n, D]
    action: np.ndarray  # [n, A]
    violating: np.ndarray  # [n] bool
    lengths: np.ndarray  # [E]
    ends: np.ndarray  # [E] places among the names of ends


def page(bodies: Sequence[Body], ends: Sequence[str]) -> Figure:
    """Draws a row of panels for each body, for the first few of many.

    Args:
      bodies: at least one.
      ends: names of what ends an episode.
    """
    shown = bodies[:MOST]
    left_out = len(bodies) - len(shown)
    note = wrapped(NOTE + f" {left_out} more bodies are not drawn." * (left_out > 0))
    height = HEAD + ROW * len(shown) + note_height(note) - 0.15
    with drawing():
        figure = Figure(figsize=(PAGE, height))
        words(figure, "Recorded transitions", note)
        for i, body in enumerate(shown):
            top = 1 - (HEAD + ROW * i) / height
            figure.text(0.015, top + 0.14 / height, _name(body), weight="bold")
            axes = [
                figure.add_axes((x, top - PANEL / height, width, PANEL / height))
                for x, width in ((0.075, 0.37), (0.525, 0.17), (0.775, 0.2))
            ]
            _observations(axes[0], body)
            _actions(axes[1], body)
            _episodes(axes[2], body, ends)
    return figure


def _name(body: Body) -> str:
    short = body.name if len(body.name) <= 60 else "..." + body.name[-57:]
    share = 100 * body.violating.mean()
    return f"{short}: {len(body.violating)} transitions, {share:.3g} % violating"


def _observations(ax: Axes, body: Body) -> None:
    spread = np.maximum(body.observation.std(0), 1e-9)
    scaled = (body.observation - body.observation.mean(0)) / spread
    low, high = np.percentile(scaled, (5, 95), axis=0)
    at = np.arange(scaled.shape[1])
    ax.vlines(at, low, high, color=GREY, linewidth=3)
    if body.violating.any():
        ax.plot(at, scaled[body.violating].mean(0), "o", color=RED, markersize=3)
    ax.axhline(0, color=GREY, linewidth=0.5)
    ax.set(xlabel="observation entry", xlim=(-0.7, len(at) - 0.3))
    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))


def _actions(ax: Axes, body: Body) -> None:
    edges = np.linspace(-1.0, 1.0, BINS + 1)
    for entry in body.action.T:
        count, _ = np.histogram(entry, edges)
        ax.stairs(100 * count / len(entry), edges, color="#0072B2", alpha=0.6)
    ax.set(xlabel="action", ylabel="%", xlim=(-1.05, 1.05), ylim=(0, None))


def _episodes(ax: Axes, body: Body, ends: Sequence[str]) -> None:
    longest = body.lengths.max()
    edges = np.linspace(0.5, longest + 0.5, min(BINS, longest) + 1)
    kinds = [body.lengths[body.ends == i] for i in range(len(ends))]
    ax.hist(kinds, edges, stacked=True, color=COLOURS[: len(ends)], label=ends)
    ax.set(xlabel="length", ylabel="episodes", ylim=(0, 1.8 * ax.get_ylim()[1]))
    for i, (name, kind) in enumerate(zip(ends, kinds, strict=True)):
        given = {"color": COLOURS[i], "ha": "right", "va": "top", "fontsize": 7}
        place = 0.98, 0.97 - 0.13 * i
        ax.text(*place, f"{name} {len(kind)}", transform=ax.transAxes, **given)
    ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(3, integer=True))
