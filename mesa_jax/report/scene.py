"""One picture of a body: a point in a plane, or rods above a floor or on a rail."""

from typing import NamedTuple

import numpy as np
from matplotlib import patheffects, ticker
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from mesa_jax.report.layout import HALO, STEPS
from mesa_jax.report.maps import GOAL, OBSTACLE, START
from mesa_jax.types import Plane, Shapes

TASK, RECOVERY, VIOLATION = "0.25", "#E69F00", "black"  # who acted; a cross
CROSS = {"marker": "x", "color": VIOLATION, "markersize": 8, "markeredgewidth": 2}
CROSS["linestyle"] = "none"
ROBOT = {"marker": "o", "color": TASK, "markersize": 7, "markeredgecolor": "black"}
ROBOT["linestyle"] = "none"
LEAN = np.array([0.55, 0.35])  # of depth on the page, to the right and up
NUMBERS, PITCH = 0.2, 0.5  # inches: height of the floor's numbers, and how far apart
SHORTEST = 0.015  # inches, of a rod
FAR = 0.5  # share of white in the farthest rod of a body with depth
PLANAR = 1e-3  # depth of a body that moves in a plane


class Film(NamedTuple):
    """Holds an episode of L steps and what is said of it.

    Its body is a point in a plane, or rods above a floor; with a `track`, rods on a
    rail along x that ends `track` from its middle on both sides.
    """

    title: str
    method: str
    notes: str
    seconds: float | None  # of a step; None: steps are not timed
    recovered: np.ndarray | None  # [L] bool: the recovery policy acted; None: not known
    violated: np.ndarray  # [L] bool, of the state reached
    plane: Plane | None = None
    points: np.ndarray | None = None  # [L + 1, 2] in the plane
    shapes: Shapes | None = None  # of each state: ends [L + 1, G, 2, 3], radii
    track: float | None = None

    @property
    def steps(self) -> int:
        """Returns the number of steps."""
        return len(self.violated)


def ratio(film: Film) -> float:
    """Returns the height of a picture over its width."""
    if film.plane:
        x0, x1, y0, y1 = _region(film)
        return float(np.clip((y1 - y0) / (x1 - x0), 0.2, 0.6))
    view = _view(film)
    return float(np.clip(0.6 * (view.high - view.low) / view.half, 0.3, 0.5))


def body(ax: Axes, film: Film, at: int) -> None:
    """Draws state `at`, in the colour of who acted on the step that led there."""
    acted = at > 0 and film.recovered is not None and film.recovered[at - 1]
    draw = _point if film.plane else _rods
    draw(ax, film, at, RECOVERY if acted else TASK)


def _region(film: Film) -> np.ndarray:
    """Returns x0, x1, y0, y1 of the plane's region, widened to hold the trail."""
    x0, x1, y0, y1 = film.plane.region
    (left, low), (right, high) = film.points.min(0) - 1, film.points.max(0) + 1
    return np.array([min(x0, left), max(x1, right), min(y0, low), max(y1, high)])


def _point(ax: Axes, film: Film, at: int, colour: str) -> None:
    """Draws obstacles, start, goal, the way so far and by whom, and the robot."""
    for x0, x1, y0, y1 in film.plane.obstacles:
        ax.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, **OBSTACLE))
    ax.plot(*film.plane.start, **START)
    ax.plot(*film.plane.goal, **GOAL)
    legs = np.stack([film.points[:at], film.points[1 : at + 1]], axis=1)
    recovered = np.zeros(at, bool)
    if film.recovered is not None:
        recovered = film.recovered[:at]
    for mine, label, trail, width in (
        (~recovered, "task policy", TASK, 1.0),
        (recovered, "recovery policy", RECOVERY, 2.4),
    ):
        lines = LineCollection(legs[mine], colors=trail, linewidths=width, label=label)
        ax.add_collection(lines)
    ax.plot(*film.points[at], label="robot", **(ROBOT | {"color": colour}))
    violating = film.points[1 : at + 1][film.violated[:at]]
    ax.plot(*violating.T, label="violation", path_effects=HALO, zorder=4, **CROSS)
    x0, x1, y0, y1 = _region(film)
    ax.set(xlim=(x0, x1), ylim=(y0, y1))
    ax.tick_params(labelsize=7, length=2, pad=2)
    ax.yaxis.set_major_locator(ticker.MaxNLocator(3))


class _View(NamedTuple):
    """What every picture of a body must show, round its camera and in its units."""

    half: float  # of the width
    low: float
    high: float
    depth: float  # of the floor, to both sides


def _camera(film: Film, at: int | slice) -> np.ndarray:
    """Returns where the camera looks, [..., 3]: at the body, or the rail's middle."""
    middle = film.shapes.ends[at].mean((-3, -2)) * np.array([1.0, 1.0, 0.0])
    return middle * (film.track is None)


def _flat(points: np.ndarray) -> np.ndarray:
    """Returns points [..., 3] on the page: x, y, z to right and up [..., 2]."""
    return points[..., ::2] + points[..., 1:2] * LEAN


def _view(film: Film) -> _View:
    ends = film.shapes.ends - _camera(film, slice(None))[:, None, None]
    radii = film.shapes.radii[..., None]
    right, up = np.moveaxis(_flat(ends), -1, 0)
    depth = float(np.abs(ends[..., 1]).max())
    low = min((up - radii).min(), -depth * LEAN[1], 0.0)
    half = 1.3 * (np.abs(right) + radii).max()
    if film.track is not None:
        half = 1.15 * film.track
    return _View(float(half), float(low), float((up + radii).max()), depth)


def _rods(ax: Axes, film: Film, at: int, colour: str) -> None:
    """Draws the body from the side, what is far of it paler, on its ground."""
    view, camera = _view(film), _camera(film, at)
    box = ax.get_window_extent().transformed(ax.figure.dpi_scale_trans.inverted())
    tall = 1.1 * (view.high - view.low) / (box.height - NUMBERS)
    scale = max(2 * view.half / box.width, tall)  # units an inch
    left, bottom = camera[0] - box.width * scale / 2, view.low - NUMBERS * scale
    ax.set(
        xlim=(left, left + box.width * scale),
        ylim=(bottom, bottom + box.height * scale),
        yticks=[],
    )
    if film.track is None:
        _floor(ax, view.depth if view.depth > PLANAR else 0.0, camera[1])
    else:
        _rail(ax, film.track)
    ends = film.shapes.ends[at] - np.array([0.0, camera[1], 0.0])
    ends[:, 1, 0] += SHORTEST * scale  # a ball is a very short rod
    widths = 2 * film.shapes.radii[at] / scale * 72
    away = ends[..., 1].mean(-1)
    pale = FAR * (away - away.min()) / max(np.ptp(away), PLANAR)
    style = {"solid_capstyle": "round", "clip_on": True}
    if view.depth > PLANAR:
        for rod, width in zip(ends * [1.0, 1.0, 0.0], widths, strict=True):
            ax.plot(*_flat(rod).T, color="0.85", linewidth=width, **style)
    for i in np.argsort(-away, kind="stable"):
        outline = patheffects.Stroke(linewidth=widths[i] + 1.6, foreground="white")
        ax.plot(
            *_flat(ends[i]).T,
            color=tuple((1 - pale[i]) * np.array(to_rgb(colour)) + pale[i]),
            linewidth=widths[i],
            zorder=3,
            label="rod",
            path_effects=[outline, patheffects.Normal()],
            **style,
        )


def _floor(ax: Axes, depth: float, y: float) -> None:
    """Draws the ground `depth` to both sides of the camera, which stands at `y`.

    Lines at round values of x and y show motion.
    """
    bottom, (left, right) = ax.get_ylim()[0], ax.get_xlim()
    near, far = (_flat(np.array([0.0, d, 0.0])) for d in (-depth, depth))
    ax.axhspan(bottom, near[1], color="0.85", linewidth=0)
    ax.axhspan(near[1], far[1], color="0.94", linewidth=0)
    ax.axhline(far[1], color="0.5", linewidth=0.8)
    step = _round_step(ax)
    values = step * np.arange(left // step - 5, right // step + 6)
    tick = np.array([0.0, (bottom - near[1]) / 4])
    for x in values:
        across = np.array([near + tick, near, far]) + np.array([x, 0.0])
        ax.plot(*across.T, color="0.7", linewidth=0.8)
    for along in np.arange(np.ceil((y - depth) / step) * step, y + depth, step):
        ax.axhline((along - y) * LEAN[1], color="0.7", linewidth=0.8)
    room, at = 0.07 * (right - left), values + near[0]
    inside = (left + room < at) & (at < right - room)
    ax.set_xticks(at[inside], [f"{x:g} m" for x in values[inside]])
    ax.tick_params(axis="x", length=0, pad=-9, labelsize=6.5)


def _rail(ax: Axes, track: float) -> None:
    """Draws a rail along x to `track` on both sides, and what lies beyond its ends."""
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    ax.plot([-track, track], [0, 0], color="0.6", linewidth=2)
    for x in (left, track):
        ax.add_patch(Rectangle((x, low), right - track, high - low, **OBSTACLE))
    ax.axvline(0, color="0.6", linewidth=0.8, linestyle=(0, (4, 3)))
    step = _round_step(ax)
    most = int(track / step - 1)  # inside the rail's ends, with room to their names
    values = [-track, *(step * np.arange(-most, most + 1)), track]
    ax.set_xticks(values, [f"{x:g} m" for x in values])
    ax.tick_params(axis="x", length=2, pad=1, labelsize=6.5)


def _round_step(ax: Axes) -> float:
    """Returns a round distance along x with room for a number's name."""
    left, right = ax.get_xlim()
    least = PITCH * (right - left) * ax.figure.dpi / ax.get_window_extent().width
    unit = 10.0 ** np.floor(np.log10(least))
    return unit * next(number for number in STEPS if number * unit >= least)
