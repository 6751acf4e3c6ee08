"""What the figures of a report share: page, letters, method styles, direct labels.

Direct labels instead of legends, one colour and line style a method (Okabe and Ito's
palette, told apart by every common colour vision), readable at a page's width.
"""

import contextlib
import io
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib import patheffects, ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mesa_jax.methods import METHODS

PAGE = 7.0  # inches
FONT = {
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.labelsize": 8.5,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "figure.dpi": 200,
}
KEPT_RC = ("animation.ffmpeg_path",)  # a tool's place, no look
STEPS = (1, 2, 5, 10)  # between ticks
LABEL_GAP = 10.5  # points between the baselines of two labels
HALO = (patheffects.withStroke(linewidth=2.5, foreground="white"),)
TICK_SIZE = 7  # points, of numbers where ticks may be close
LEFT, RIGHT = 0.085, 0.755  # of the page: where the panels begin and end
NOTE_LETTERS, NOTE_LINE = 104, 0.15  # of a line of notes, and its height in inches
STYLES = {name: (row.colour, row.dashes) for name, row in METHODS.items()}
OTHER_COLOURS = ("#56B4E9", "#000000", "#E69F00", "#882255")
OTHER_DASHES = ((0, (3, 1, 1, 1)), (0, (1, 2)), (0, (8, 2)))


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """Draws and saves as the reports look, whatever the user's matplotlibrc says."""
    kept = {name: matplotlib.rcParams[name] for name in KEPT_RC}
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(FONT | kept)
        yield


def png(figure: Figure) -> bytes:
    """Returns a figure as the content of a PNG file."""
    content = io.BytesIO()
    with drawing():
        figure.savefig(content, format="png")
    return content.getvalue()


class End(NamedTuple):
    """Holds a line's end in data coordinates, and what is said of it."""

    text: str
    colour: str
    x: float
    y: float


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> np.ndarray:
    """Returns positions nearest to `wanted`, in its order, at least `gap` apart.

    They lie in [low, high] where that has room for them, else they go on above it.
    """
    wanted = np.asarray(wanted, float)
    order = np.argsort(wanted, kind="stable")
    offsets = gap * np.arange(len(wanted))
    from scipy import optimize  # as in `statistics`

    levels = optimize.isotonic_regression(wanted[order] - offsets).x
    placed = np.empty_like(wanted)
    placed[order] = np.clip(levels, low, max(low, high - offsets[-1])) + offsets
    return placed


def styles(methods: Sequence[str]) -> dict[str, tuple]:
    """Returns colour and line style of each method; others than ours take turns."""
    others = [name for name in methods if name not in STYLES]
    looks = [(c, d) for d in OTHER_DASHES for c in OTHER_COLOURS]
    taken = {name: looks[i % len(looks)] for i, name in enumerate(others)}
    return {name: STYLES.get(name) or taken[name] for name in methods}


def words(figure: Figure, title: str, note: str) -> None:
    """Writes the title above and grey notes below the panels."""
    height = figure.get_figheight()
    figure.text(0.015, 1 - 0.1 / height, title, va="top", fontsize=10, weight="bold")
    figure.text(0.015, 0.08 / height, note, color="0.3")


def wrapped(note: str) -> str:
    """Wraps notes into lines of the page's width."""
    return textwrap.fill(note.strip(), NOTE_LETTERS)


def note_height(note: str) -> float:
    """Returns the inches of wrapped notes with the space around them."""
    return 0.2 + NOTE_LINE * (note.count("\n") + 1)


def right_of(labels: Iterable[str]) -> float:
    """Returns where panels end on the page so that labels beside them have room."""
    letters = max(map(len, labels), default=0)
    return 1 - (0.3 + 0.071 * letters) / PAGE


def log_range(values: Iterable[np.ndarray]) -> tuple[float, float]:
    """Returns limits of a logarithmic axis around the positive ones of the values."""
    values = np.concatenate([np.ravel(value) for value in values] or [[]])
    values = values[np.isfinite(values) & (values > 0)]
    if not len(values):
        return 0.1, 1.0
    low, high = values.min() / 1.3, values.max() * 1.3
    wider = max(1.0, np.sqrt(8 * low / high))  # some ticks at least
    return low / wider, high * wider


def log_axis(ax: Axes, low: float, high: float) -> None:
    """Makes the y axis logarithmic, with as many ticks as it has room for."""
    ax.set(yscale="log", ylim=(low, high))
    inches = ax.get_window_extent().height / ax.figure.dpi
    subs = (1, 2, 5) if inches / np.log10(high / low) > 0.6 else (1,)
    ax.yaxis.set_major_locator(ticker.LogLocator(subs=subs, numticks=20))
    ax.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    ax.yaxis.set_minor_locator(ticker.NullLocator())


def mark_values(ax: Axes, values: Iterable[float]) -> None:
    """Makes an x axis from the first to the last value, with a tick at each of them.

    The last is numbered, and from the first on those that leave the others room.
    """
    values = np.unique(np.asarray(list(values), float))
    if not len(values):
        ax.set_xticks([])
        return
    alone = len(values) == 1
    ax.set_xlim(values[0] / (1 + alone), values[-1] * (1 + alone) or 1.0)
    places = ax.transData.transform([(value, 1.0) for value in values])[:, 0]
    places *= 72 / ax.figure.dpi
    texts = [f"{value:g}" for value in values]
    halves = [0.32 * TICK_SIZE * len(text) + 0.2 for text in texts]
    taken, last = -np.inf, places[-1] - halves[-1]
    for i, (place, half) in enumerate(zip(places, halves, strict=True)):
        fits = place - half >= taken and (place + half <= last or i + 1 == len(texts))
        texts[i] = texts[i] if fits else ""
        taken = place + half if fits else taken
    ax.xaxis.set_major_locator(ticker.FixedLocator(values))
    ax.xaxis.set_major_formatter(ticker.FixedFormatter(texts))
    ax.tick_params(axis="x", labelsize=TICK_SIZE)
    ax.xaxis.set_minor_locator(ticker.NullLocator())


def label_ends(ax: Axes, ends: Sequence[End]) -> None:
    """Writes what is said of each line at the right, joined to its end."""
    if not ends:
        return
    places = ax.transData.transform([(end.x, end.y) for end in ends])
    places = ax.transAxes.inverted().transform(places)
    places[:, 1] = places[:, 1].clip(0, 1)  # zero of a logarithmic axis
    window, inch = ax.get_window_extent(), ax.figure.dpi
    points = window.height * 72 / inch
    heights = (
        spread(places[:, 1] * points, LABEL_GAP, 2.0, points + LABEL_GAP / 2) / points
    )
    full = (RIGHT - LEFT) * PAGE * inch / window.width  # a full panel has leads of 1
    for end, (x, y), height in zip(ends, places, heights, strict=True):
        ax.plot(
            [x, 1.0, 1 + 0.025 * full, 1 + 0.035 * full],
            [y, y, height, height],
            transform=ax.transAxes,
            color=end.colour,
            linewidth=0.7,
            linestyle=":" if x < 0.999 else "-",
            clip_on=False,
        )
        ax.text(
            1 + 0.042 * full,
            height,
            end.text,
            transform=ax.transAxes,
            color=end.colour,
            va="center",
        )


def label_inside(ax: Axes, ends: Sequence[End]) -> None:
    """Writes names above the ends of lines that the panels at the right lack."""
    if not ends:
        return
    places = ax.transData.transform([(end.x, end.y) for end in ends])
    places = ax.transAxes.inverted().transform(places)[:, 1].clip(0, 1)
    points = ax.get_window_extent().height * 72 / ax.figure.dpi
    heights = spread(places * points + 3, LABEL_GAP, 2.0, points - LABEL_GAP) / points
    for end, height in zip(ends, heights, strict=True):
        ax.text(
            0.98,
            height,
            end.text,
            transform=ax.transAxes,
            color=end.colour,
            ha="right",
            path_effects=HALO,
        )
