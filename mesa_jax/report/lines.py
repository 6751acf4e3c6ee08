"""Curves in a panel: where they are known, how they are drawn, and their names."""

from collections.abc import Iterable, Mapping

import numpy as np
from matplotlib.axes import Axes

from mesa_jax.report.layout import End
from mesa_jax.report.statistics import Curve

BAND_SEEDS = 10  # a band of fewer says little and hides much: their runs are drawn
Style = Mapping[str, tuple]  # by method, colour and dashes


def known(lines: Mapping[str, Curve]) -> dict[str, Curve]:
    """Returns curves where they are finite, without those that are nowhere.

    An unknown end of an interval becomes the mean.
    """

    def finite(line: Curve) -> Curve:
        x, mean, *ends = (np.asarray(values, float) for values in line[:4])
        low, high = (np.where(np.isfinite(end), end, mean) for end in ends)
        return Curve(*np.stack([x, mean, low, high])[:, np.isfinite(x + mean)])

    found = {name: finite(line) for name, line in lines.items()}
    return {name: line for name, line in found.items() if len(line.x)}


def methods_of(panels: Iterable[Mapping[str, Curve]]) -> list[str]:
    """Returns every method of some panels, in the order in which they appear."""
    return list(dict.fromkeys(method for lines in panels for method in lines))


def edges(line: Curve) -> tuple[np.ndarray, ...]:
    """Returns what is drawn beside a mean, each [N]: few runs, or the band's ends."""
    return tuple(line.runs) if draws_runs(line) else (line.low, line.high)


def draws_runs(line: Curve) -> bool:
    """Tells whether a curve's runs are drawn, and not their band."""
    return 0 < line.seeds < BAND_SEEDS


def ends(lines: Mapping[str, Curve], style: Style, number: str = "") -> list[End]:
    """Returns each curve's end, named; with its last value as `number` formats it."""
    return [
        End(
            f"{name}  {number.format(line.mean[-1])}" if number else name,
            style[name][0],
            line.x[-1],
            line.mean[-1],
        )
        for name, line in lines.items()
    ]


def draw(
    ax: Axes, lines: Mapping[str, Curve], style: Style, marker: str | None = None
) -> None:
    """Draws means over their bands, or over their runs where these are few.

    Args:
      marker: of each value; a lone one then has a bar, and marks may leave the panel.
    """
    log = ax.get_yscale() == "log" and not ax.get_autoscaley_on()
    least = ax.get_ylim()[0] if log else -np.inf  # zero is drawn on the lower edge
    for name, line in reversed(lines.items()):  # dashes over solid: both show
        colour, dashes = style[name]
        x, few = line.x, draws_runs(line)
        mean, low, high = (np.maximum(values, least) for values in line[1:4])
        if not few:
            ax.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        for edge in edges(line):
            look = {"linestyle": "-" if few else dashes, "linewidth": 0.5}
            ax.plot(x, np.maximum(edge, least), color=colour, alpha=0.6, **look)
        if marker and len(x) == 1:
            ax.vlines(x, low, high, color=colour, linewidth=0.8, clip_on=False)
        ax.plot(
            x,
            mean,
            color=colour,
            linestyle=dashes,
            linewidth=1.6,
            marker=marker,
            markersize=3,
            clip_on=not marker,
        )
