"""Films and strips of an episode, drawn without a display.

Both are made of the same pictures: a body, and who acted on the steps since the
picture before. Recovered steps and violations are told in words, not by colour alone.
"""

import math
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import animation
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from PIL import Image, ImageSequence

from mesa_jax.report import scene
from mesa_jax.report.layout import PAGE, STYLES, drawing
from mesa_jax.report.maps import GOAL, START
from mesa_jax.report.scene import CROSS, RECOVERY, TASK, VIOLATION, Film

FILM_PICTURES, STRIP_PICTURES = 101, 8
FILM_SECONDS, HOLD = (4.0, 10.0), 1.5  # of a film, and how long it shows its end
WIDTH, DPI = 6.4, 100  # of a film, in inches; a strip has those of the report
HEADING, LINE = 0.62, 0.145  # inches above the pictures, and more for each note
FOOT = 0.7  # inches below them
COLOURS = 64  # of a GIF
NAMES = 0.2  # inches above a picture, for its time and who acted
BESIDE, BETWEEN = 0.3, 0.15  # inches left of pictures, and from one to the next
PICTURED = {"marker": "^", "color": "black", "markersize": 4, "linestyle": "none"}
WRITERS = {"gif": animation.PillowWriter, "mp4": animation.FFMpegWriter}


def moments(film: Film, count: int) -> list[int]:
    """Returns about `count` states, evenly apart: first, last, and the violating."""
    apart = math.ceil(film.steps / (count - 1))
    violating = np.flatnonzero(film.violated)[:1] + 1
    return sorted({*range(0, film.steps, apart), film.steps, *violating.tolist()})


def picture(ax: Axes, film: Film, before: int, at: int) -> None:
    """Draws state `at`, and says who acted on the steps since state `before`."""
    ax.clear()
    acted = film.recovered is not None and film.recovered[before:at].any()
    violated = film.violated[before:at].any()
    scene.body(ax, film, at)
    words = {"xycoords": "axes fraction", "textcoords": "offset points"}
    ax.annotate(moment(film, at), (0, 1), (0, 4.5), weight="bold", **words)
    box = {"pad": 1.5, "facecolor": RECOVERY if acted else "none", "edgecolor": "none"}
    ax.annotate(
        actor(film, before, at), (1, 1), (0, 4.5), ha="right", bbox=box, **words
    )
    if violated:
        words |= {"color": "white", "weight": "bold", "va": "top", "zorder": 5}
        box = {"pad": 1.5, "color": VIOLATION}
        ax.annotate("VIOLATION", (0, 1), (4, -4), bbox=box, **words)
    for spine in ax.spines.values():
        spine.set(visible=True, color=VIOLATION if violated else "0.8")
        spine.set_linewidth(2.0 if violated else 0.8)


def moment(film: Film, at: int) -> str:
    """Says when state `at` is."""
    return f"step {at}" if film.seconds is None else f"{at * film.seconds:.2f} s"


def actor(film: Film, before: int, at: int) -> str:
    """Says who acted on the steps from one picture to the next."""
    if at == before:
        return "start"
    if film.recovered is None:
        return "who acted: not recorded"
    count, steps = int(film.recovered[before:at].sum()), at - before
    if not count:
        return "task policy"
    return "RECOVERY" + (f" {count} of {steps} steps" if steps > 1 else " POLICY")


def time_line(ax: Axes, film: Film, marks: list[int], until: int = 0) -> None:
    """Draws the episode's recovered steps and violations; marks pictured states.

    Args:
      ax: cleared first.
      film: of the episode.
      marks: states.
      until: steps of the axis, where a longer episode shares it.
    """
    ax.clear()
    unit = film.seconds or 1.0
    ax.plot([0, film.steps * unit], [0, 0], color=TASK, linewidth=1.2)
    steps = [] if film.recovered is None else np.flatnonzero(film.recovered)
    bars = [(i * unit, unit) for i in steps]
    ax.broken_barh(bars, (-0.5, 1.0), color=RECOVERY, linewidth=0.5, label="recovered")
    at = (np.flatnonzero(film.violated) + 1) * unit
    ax.plot(at, 0 * at, label="violation", clip_on=False, zorder=3, **CROSS)
    at = np.array(marks) * unit
    ax.plot(at, 0 * at - 1, label="shown", clip_on=False, **PICTURED)
    ax.set(ylim=(-1.1, 0.7), yticks=[], xlim=(0, max(until, film.steps) * unit))
    ax.set_xlabel("step" if film.seconds is None else "seconds", labelpad=1)
    ax.tick_params(labelsize=7, length=2, pad=2)
    ax.spines["left"].set_visible(False)


class _Size(NamedTuple):
    """Holds inches of a page: its own, those of a picture, and above the first."""

    width: float
    height: float
    across: float
    tall: float
    heading: float


def _size(film: Film, width: float, rows: int, columns: int) -> _Size:
    across = (width - BESIDE - columns * BETWEEN) / columns
    tall = across * scene.ratio(film)
    heading = HEADING + LINE * len(film.notes.splitlines())
    height = heading + rows * (tall + _above(film)) + FOOT
    return _Size(width, height, across, tall, heading)


def _above(film: Film) -> float:
    """Returns inches from one row of pictures to the next."""
    return NAMES + (0.22 if film.plane or film.track else 0.1)


def _page(
    figure: FigureBase, size: _Size, film: Film, rows: int, columns: int
) -> tuple[list, Axes]:
    """Heads a page, and makes the axes of its pictures, and its time line's."""
    width, height = size.width, size.height
    axes = []
    for i in range(rows * columns):
        row, column = divmod(i, columns)
        left = BESIDE + column * (size.across + BETWEEN)
        top = height - size.heading - row * (size.tall + _above(film)) - NAMES
        place = (
            left / width,
            (top - size.tall) / height,
            size.across / width,
            size.tall / height,
        )
        axes.append(figure.add_axes(place))
    inside = (width - BESIDE - BETWEEN) / width
    line = figure.add_axes((BESIDE / width, 0.36 / height, inside, 0.26 / height))
    _head(figure, size, film)
    return axes, line


def _head(figure: FigureBase, size: _Size, film: Film) -> None:
    """Writes the title, the method, notes, and what colours and marks mean."""
    width, height = size.width, size.height
    left, right = BESIDE / width, 1 - BETWEEN / width
    bold = {"va": "top", "weight": "bold", "fontsize": 9.5}
    colour = STYLES.get(film.method, ("black",))[0]
    figure.text(left, 1 - 0.08 / height, film.title, **bold)
    figure.text(right, 1 - 0.08 / height, film.method, color=colour, ha="right", **bold)
    figure.text(left, 1 - 0.28 / height, film.notes, va="top", color="0.3")
    task = Line2D([], [], color=TASK, linewidth=2, label="task policy")
    recovery = Patch(color=RECOVERY, label="recovery policy")
    marks = {"violation": CROSS, "shown": PICTURED}
    if film.plane:
        marks |= {"start": START, "goal": GOAL}
    figure.legend(
        handles=[task, recovery] * (film.recovered is not None)
        + [Line2D([], [], label=name, **style) for name, style in marks.items()],
        loc="upper left",
        bbox_to_anchor=(left, 1 - (size.heading - 0.28) / height),
        ncols=6,
        frameon=False,
        borderpad=0,
        borderaxespad=0,
        handlelength=1.4,
        columnspacing=1.2,
    )


def strip(film: Film) -> Figure:
    """Draws some pictures of the episode, the violating one among them."""
    chosen = moments(film, STRIP_PICTURES)
    columns = 2 if scene.ratio(film) < 0.3 or len(chosen) < 3 else 3
    rows = math.ceil(len(chosen) / columns)
    with drawing():
        size = _size(film, PAGE, rows, columns)
        figure = Figure(figsize=(size.width, size.height))
        axes, line = _page(figure, size, film, rows, columns)
        for ax in axes[len(chosen) :]:
            ax.remove()
        for i, (before, at) in enumerate(zip([0, *chosen], chosen, strict=False)):
            picture(axes[i], film, before, at)
            axes[i].tick_params(labelleft=i % columns == 0)
        time_line(line, film, chosen)
    return figure


def write(films: Sequence[Film], path: pathlib.Path) -> None:
    """Writes films that play at once, one below the other, to a path.

    One that is over shows its end until the longest is.

    Args:
      films: at least one; of steps that last equally long.
      path: its ending says which of `WRITERS` makes it.
    """
    longest = max(films, key=lambda film: film.steps)
    ends = (film.steps for film in films)
    chosen = sorted({*moments(longest, FILM_PICTURES), *ends})
    lasts = np.clip(longest.steps * (longest.seconds or 0.1), *FILM_SECONDS)
    rate = len(chosen) / lasts
    sizes = [_size(film, WIDTH, 1, 1) for film in films]
    heights = [size.height for size in sizes]
    with drawing():
        writer = WRITERS[path.suffix[1:]](fps=rate)
        figure = Figure(figsize=(WIDTH, sum(heights)))
        parts = figure.subfigures(len(films), height_ratios=heights, squeeze=False)
        pages = [
            _page(part, size, film, 1, 1)
            for part, size, film in zip(parts.flat, sizes, films, strict=True)
        ]
        with writer.saving(figure, path, DPI):
            for before, at in zip([0, *chosen], chosen, strict=False):
                for film, ((ax,), line) in zip(films, pages, strict=True):
                    if at <= film.steps:
                        picture(ax, film, before, at)
                        time_line(line, film, [at], longest.steps)
                writer.grab_frame()
            for _ in range(round(HOLD * rate)):
                writer.grab_frame()
    if path.suffix == ".gif":
        _share_colours(path)


def _share_colours(path: pathlib.Path) -> None:
    """Writes a GIF anew with one palette, so that what stays still takes no room."""
    with Image.open(path) as gif:
        lasts = []
        frames = []
        for frame in ImageSequence.Iterator(gif):
            lasts.append(frame.info["duration"])
            frames.append(frame.convert("RGB"))
    some = np.concatenate([frames[i] for i in (0, len(frames) // 2, -1)])
    palette = Image.fromarray(some).quantize(COLOURS, dither=Image.Dither.NONE)
    first, *others = (
        frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames
    )
    first.save(path, save_all=True, append_images=others, duration=lasts, loop=0)
