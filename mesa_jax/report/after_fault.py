"""A strip of runs beside each other after a fault: drawing only.

A row is a method's run of the same body, a column a moment after the fault. Below the
pictures lies the run itself, with each violation and each step that was recovered.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from mesa_jax.report import scene
from mesa_jax.report.layout import PAGE, STYLES, drawing
from mesa_jax.report.maps import GOAL, START
from mesa_jax.report.scene import CROSS, RECOVERY, TASK, VIOLATION, Film

PICTURES = 4  # of a run
LEFT, BETWEEN, RIGHT = 0.12, 0.12, 0.15  # inches beside pictures
HEADING, NAME, LINE, BELOW = 0.45, 0.36, 0.16, 0.14  # inches: heights
FOOT = 0.42  # inches: the last time line's numbers
MARK = {**CROSS, "markersize": 4.5, "markeredgewidth": 1.1}  # on a time line


class Struck(NamedTuple):
    """Holds a run of T steps that a fault struck, and its body after it."""

    method: str
    onset: int  # the run's step from which the fault lasts
    violated: np.ndarray  # [T] bool, of the state reached
    recovered: np.ndarray | None  # [T] bool; None: not known
    pictures: tuple[tuple[Film, int], ...]  # an episode, and which state of it

    @property
    def after(self) -> int:
        """Counts violations after the fault."""
        return int(self.violated[self.onset :].sum())


def moments(last: int) -> list[int]:
    """Returns steps after a fault, ever farther apart, up to the last one."""
    first = min(10, last)
    return sorted({round(x) for x in np.geomspace(first, last, PICTURES)})


def strip(
    title: str, notes: str, runs: Sequence[Struck], steps: Sequence[int]
) -> Figure:
    """Returns the figure of runs after a fault.

    Args:
      runs: in the order of the rows, of one body, each with a picture a moment.
      steps: the moments, after the fault.
    """
    runs = [run._replace(pictures=_cropped(run, runs)) for run in runs]
    some = runs[0].pictures[0][0]
    columns = len(steps)
    across = (PAGE - LEFT - RIGHT - (columns - 1) * BETWEEN) / columns
    tall = across * scene.ratio(some)
    pitch = NAME + tall + 0.05 + LINE + BELOW
    heading = HEADING + 0.145 * notes.count("\n")  # one line of notes is in it
    height = heading + len(runs) * pitch + FOOT - BELOW
    with drawing():
        figure = Figure(figsize=(PAGE, height))

        def axes(left: float, top: float, width: float, high: float) -> Axes:
            place = (left, height - top - high, width, high)
            scale = (PAGE, height, PAGE, height)
            return figure.add_axes(tuple(np.divide(place, scale)))

        for row, run in enumerate(runs):
            top = heading + row * pitch
            _name(figure, run, 1 - (top + 0.12) / height)
            for column, (shown, at) in enumerate(run.pictures):
                left = LEFT + column * (across + BETWEEN)
                ax = axes(left, top + NAME, across, tall)
                _picture(ax, shown, at, steps[column], run)
            line = axes(LEFT, top + NAME + tall + 0.05, PAGE - LEFT - RIGHT, LINE)
            longest = max(len(other.violated) for other in runs)
            _time_line(line, run, steps, longest, last=row == len(runs) - 1)
        _say(figure, title, notes, some, heading)
    return figure


def _cropped(run: Struck, runs: Sequence[Struck]) -> tuple[tuple[Film, int], ...]:
    """A run's pictures, with a plane's region as wide as all the trails."""
    films = [shown for other in runs for shown, _ in other.pictures]
    if films[0].plane is None:
        return run.pictures
    plane = films[0].plane
    points = np.vstack([*(shown.points for shown in films), plane.start, plane.goal])
    (left, low), (right, high) = points.min(0) - 2.0, points.max(0) + 2.0
    x0, x1, y0, y1 = plane.region
    region = (max(x0, left), min(x1, right), min(y0, low), max(y1, high))
    plane = plane._replace(region=region)
    return tuple((shown._replace(plane=plane), at) for shown, at in run.pictures)


def _picture(ax: Axes, shown: Film, at: int, step: int, run: Struck) -> None:
    """A state, how long after the fault, and how often the run had violated by then."""
    scene.body(ax, shown, at)
    ax.tick_params(left=False, bottom=False, labelleft=False, labelbottom=False)
    count = int(run.violated[run.onset : run.onset + step].sum())
    says = {"xycoords": "axes fraction", "textcoords": "offset points"}
    says |= {"fontsize": 7, "annotation_clip": False}
    ax.annotate(f"+{step:,} steps", (0, 1), (0, 3), color="0.3", **says)
    heavy = {"weight": "bold" if count else "normal"}
    ink = VIOLATION if count else "0.3"
    ax.annotate(_counted(count), (1, 1), (0, 3), color=ink, ha="right", **heavy, **says)
    now = at > 0 and shown.violated[at - 1]
    for spine in ax.spines.values():
        spine.set(visible=True, color=VIOLATION if now else "0.8")
        spine.set_linewidth(1.8 if now else 0.8)


def _name(figure: Figure, run: Struck, y: float) -> None:
    colour = STYLES.get(run.method, ("black",))[0]
    figure.text(LEFT / PAGE, y, run.method, color=colour, weight="bold", va="center")
    after = run.recovered[run.onset :] if run.recovered is not None else None
    said = f"{_counted(run.after)} after the fault"
    if after is not None and len(after):
        said += f"; recovery policy on {100 * after.mean():.0f} % of the steps"
    figure.text(1.35 / PAGE, y, said, color="0.3", va="center", fontsize=7)


def _counted(violations: int) -> str:
    return f"{violations} violation{'s' * (violations != 1)}"


def _time_line(
    ax: Axes, run: Struck, steps: Sequence[int], longest: int, last: bool
) -> None:
    """The run's violations and recovered steps; the moments pictured and the fault."""
    total = len(run.violated)
    ax.plot([0, total], [0, 0], color=TASK, linewidth=0.8)
    found = [] if run.recovered is None else np.flatnonzero(run.recovered)
    ax.broken_barh([(i, 1) for i in found], (-0.5, 1.0), color=RECOVERY, linewidth=0)
    at = np.flatnonzero(run.violated) + 1
    ax.plot(at, 0 * at, clip_on=False, zorder=3, label="violation", **MARK)
    ax.axvline(run.onset, color="#D00000", linewidth=1.4, zorder=2)
    shown = {"marker": "^", "color": "black", "markersize": 3, "linestyle": "none"}
    ax.plot(run.onset + np.array(steps), [-1.0] * len(steps), clip_on=False, **shown)
    ax.set(ylim=(-1.0, 0.8), yticks=[], xlim=(0, longest))
    ax.tick_params(labelsize=7, length=2, pad=2, labelbottom=last)
    for side in ("left", "bottom"):
        ax.spines[side].set_visible(last and side == "bottom")
    if not last:
        ax.set_xticks([])
    else:
        ax.set_xlabel("environment step of the run", labelpad=1, fontsize=7)


def _say(figure: Figure, title: str, notes: str, some: Film, heading: float) -> None:
    """Title, notes, and what colours and marks mean."""
    height = figure.get_figheight()
    left = LEFT / PAGE
    figure.text(left, 1 - 0.08 / height, title, va="top", weight="bold", fontsize=9.5)
    figure.text(left, 1 - 0.27 / height, notes, va="top", color="0.3", fontsize=7.5)
    handles = [
        Line2D([], [], color=TASK, linewidth=2, label="task policy"),
        Patch(color=RECOVERY, label="recovery policy"),
        Line2D([], [], label="violation", **CROSS),
        Line2D([], [], color="#D00000", linewidth=1.4, label="fault"),
    ]
    if some.plane:
        handles += [Line2D([], [], label="start", **START)]
        handles += [Line2D([], [], label="goal", **GOAL)]
    figure.legend(
        handles=handles,
        loc="upper right",
        bbox_to_anchor=(1 - RIGHT / PAGE, 1 - 0.06 / height),
        ncols=len(handles),
        frameon=False,
        borderpad=0,
        borderaxespad=0,
        handlelength=1.2,
        columnspacing=1.0,
        fontsize=7,
    )
