"""Quality of the risk measure: drawing only, of what the caller computed.

Lines are drawn here, squares (calibration, decisions) in `report_decisions`.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mesa_jax.report.decisions import Reliability, reliability, safety_tradeoff
from mesa_jax.report.layout import (
    LEFT,
    PAGE,
    End,
    drawing,
    label_ends,
    label_inside,
    log_axis,
    log_range,
    mark_values,
    note_height,
    right_of,
    styles,
    words,
    wrapped,
)

__all__ = [
    "Line",
    "Reliability",
    "errors",
    "online_thresholds",
    "reliability",
    "safety_tradeoff",
]

GREY = "0.4"
LINES = "Line: mean; band or bar: its 95 % bootstrap interval."
ALONE = "Line: mean, without an interval."
REFERENCES = {
    "noise floor": "the noise of the simulated truth, left out",
    "no adaptation": "the best predictor without adaptation",
}
ERROR_ROW, ERROR_PANEL = 3.1, 2.2  # inches: from a row to the next, its panels
THRESHOLD_ROW, THRESHOLD_PANEL = 2.1, 1.7
SCALES = {"log": {}, "symlog": {"linthresh": 1, "linscale": 0.4}}  # of x
WIDE_LEFT, GAP = 0.105, 0.32  # of the page; inches between panels beside each other


class Line(NamedTuple):
    """A method's mean and its 95 % bootstrap interval; each [P]."""

    x: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Row(NamedTuple):
    """Panels beside each other on one x axis."""

    heading: str
    xlabel: str
    scale: str
    panels: dict[str, dict[str, Line]]


def errors(
    title: str,
    note: str,
    by_steps: dict[int, dict[str, Line]],
    by_rows: dict[str, dict[str, Line]],
    floor: float,
    without_adaptation: float,
) -> Figure:
    """Squared error against adaptation steps, and against transitions.

    Args:
      by_steps: lines over adaptation steps of each method, by count of transitions.
      by_rows: lines over counts of transitions of each method, by panel title.
      floor: noise floor of the simulated truth.
      without_adaptation: error of the best predictor without adaptation.
    """
    steps = {f"{count} transitions": lines for count, lines in by_steps.items()}
    rows = [
        Row("By adaptation steps", "adaptation steps", "symlog", _known(steps)),
        Row("By size of the adaptation set", "transitions", "log", _known(by_rows)),
    ]
    rows = [row for row in rows if row.panels]
    found = [lines for row in rows for lines in row.panels.values()]
    references = dict(zip(REFERENCES, (floor, without_adaptation), strict=True))
    references = {name: y for name, y in references.items() if np.isfinite(y)}
    grey = [f"{REFERENCES[name]} ({y:.2g})" for name, y in references.items()]
    values = [line[1:] for lines in found for line in lines.values()]
    limits = log_range([list(references.values()), *values])
    zero = any((mean == 0).any() for mean, *_ in values)
    note = wrapped(
        f"{note} {_about_lines(found)}"
        + bool(grey) * f" Grey: {' and '.join(grey)}."
        + zero * " On the lower edge: zero."
    )
    height = 0.35 + ERROR_ROW * len(rows) + note_height(note)
    methods = _methods(found)
    right = right_of([*methods, *references])
    with drawing():
        figure = Figure(figsize=(PAGE, height))
        words(figure, title, note)
        for i, row in enumerate(rows):
            top = 1 - (0.85 + ERROR_ROW * i) / height
            axes = figure.add_gridspec(
                1,
                len(row.panels),
                left=WIDE_LEFT,
                right=right,
                top=top,
                bottom=top - ERROR_PANEL / height,
                wspace=GAP * len(row.panels) / (right - WIDE_LEFT) / PAGE,
            ).subplots(sharey=True, squeeze=False)[0]
            figure.text(0.015, top + 0.26 / height, row.heading, weight="bold")
            log_axis(axes[0], *limits)
            axes[0].set_ylabel("squared error to the truth")
            _error_panels(axes, row, styles(methods), references)
    return figure


def online_thresholds(
    title: str, note: str, violations: dict[str, Line], successes: dict[str, Line]
) -> Figure:
    """Violations and successes of online learning against the risk threshold."""
    panels = {
        "Violations (fewer is better)": violations,
        "Successes (more is better)": successes,
    }
    panels = _known(panels)
    methods = _methods(panels.values())
    note = wrapped(f"{note} {_about_lines(panels.values())}")
    height = 0.65 + THRESHOLD_ROW * len(panels) + 0.1 + note_height(note)
    right = right_of(methods)
    with drawing():
        figure = Figure(figsize=(PAGE, height))
        words(figure, title, note)
        for i, (name, lines) in enumerate(panels.items()):
            bottom = 1 - (0.65 + THRESHOLD_ROW * i + THRESHOLD_PANEL) / height
            ax = figure.add_axes(
                (LEFT, bottom, right - LEFT, THRESHOLD_PANEL / height), xscale="log"
            )
            ax.set(title=name, ylabel="episodes")
            mark_values(ax, _xs(panels))
            _draw(ax, lines, styles(methods))
            top = max([1.0, *(line.high.max() for line in lines.values())])
            ax.set_ylim(-0.03 * top, 1.05 * top)  # a line at zero stays visible
            label_ends(ax, _ends(lines, styles(methods)))
            ax.tick_params(labelbottom=i + 1 == len(panels))
        ax.set_xlabel("risk threshold")
        figure.align_ylabels()
    return figure


def _error_panels(
    axes: Sequence[Axes], row: Row, style: dict[str, tuple], references: dict
) -> None:
    """Panels on one scale; a method is named in the last panel that has it."""
    panels = list(row.panels.values())
    for i, (ax, lines) in enumerate(zip(axes, panels, strict=True)):
        ax.set_title(list(row.panels)[i])
        ax.set_xlabel(row.xlabel)
        ax.set_xscale(row.scale, **SCALES[row.scale])
        mark_values(ax, _xs(row.panels))
        for value in references.values():
            ax.axhline(value, color=GREY, linewidth=0.8, zorder=0)
        _draw(ax, lines, style)
        later = panels[i + 1 :]
        last = {
            n: x for n, x in lines.items() if not any(n in panel for panel in later)
        }
        ends = _ends(last, style)
        if later:
            label_inside(ax, ends)
        else:
            right = ax.get_xlim()[1]
            ends += [End(text, GREY, right, y) for text, y in references.items()]
            label_ends(ax, ends)


def _known(panels: dict[str, dict[str, Line]]) -> dict[str, dict[str, Line]]:
    """The panels' lines where they are finite; an unknown interval is the mean."""

    def known(line: Line) -> Line:
        x, mean, *interval = np.asarray(line, float)
        low, high = (np.where(np.isfinite(end), end, mean) for end in interval)
        return Line(*np.stack([x, mean, low, high])[:, np.isfinite(x + mean)])

    found = {
        name: {method: known(line) for method, line in lines.items()}
        for name, lines in panels.items()
    }
    return {
        name: {method: line for method, line in lines.items() if len(line.x)}
        for name, lines in found.items()
    }


def _about_lines(panels: Iterable[dict[str, Line]]) -> str:
    """What lines and bands are, of panels as `_known` gives them."""
    found = [line for lines in panels for line in lines.values()]
    return LINES if any((line.low < line.high).any() for line in found) else ALONE


def _methods(panels: Iterable[dict[str, Line]]) -> list[str]:
    return list(dict.fromkeys(method for lines in panels for method in lines))


def _xs(panels: dict[str, dict[str, Line]]) -> list[float]:
    return [x for lines in panels.values() for line in lines.values() for x in line.x]


def _ends(lines: dict[str, Line], style: dict[str, tuple]) -> list[End]:
    return [
        End(name, style[name][0], line.x[-1], line.mean[-1])
        for name, line in lines.items()
    ]


def _draw(ax: Axes, lines: dict[str, Line], style: dict[str, tuple]) -> None:
    """Marks joined by lines over bands; a lone mark has a bar."""
    least = ax.get_ylim()[0] if ax.get_yscale() == "log" else -np.inf
    for name, line in reversed(lines.items()):  # dashes over solid: both show
        colour, dashes = style[name]
        mean, low, high = (np.maximum(values, least) for values in line[1:])
        ax.fill_between(line.x, low, high, color=colour, alpha=0.15, linewidth=0)
        for edge in (low, high):
            ax.plot(
                line.x, edge, color=colour, linestyle=dashes, linewidth=0.5, alpha=0.6
            )
        if len(line.x) == 1:
            ax.vlines(line.x, low, high, color=colour, linewidth=0.8, clip_on=False)
        ax.plot(
            line.x,
            mean,
            color=colour,
            linestyle=dashes,
            linewidth=1.6,
            marker="o",
            markersize=3,
            clip_on=False,
        )
