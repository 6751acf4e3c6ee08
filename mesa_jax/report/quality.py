"""Figures of how right the risk measure is: errors, and use online by threshold."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mesa_jax.report import lines as drawn
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
from mesa_jax.report.lines import known, methods_of
from mesa_jax.report.statistics import Curve

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

Lines = Mapping[str, Curve]  # by method


class Row(NamedTuple):
    """Holds panels beside each other on one x axis."""

    heading: str
    xlabel: str
    scale: str
    panels: dict[str, dict[str, Curve]]


def errors(
    title: str,
    note: str,
    by_steps: Mapping[int, Lines],
    by_transitions: Mapping[str, Lines],
    floor: float,
    without_adaptation: float,
) -> Figure:
    """Draws squared error against adaptation steps, and against transitions.

    Args:
      by_steps: curves over adaptation steps of each method, by count of transitions.
      by_transitions: curves over counts of transitions of each method, by title.
      floor: noise floor of the simulated truth.
      without_adaptation: error of the best predictor without adaptation.
    """
    steps = {f"{count} transitions": known(mine) for count, mine in by_steps.items()}
    counts = {name: known(mine) for name, mine in by_transitions.items()}
    rows = [
        Row("By adaptation steps", "adaptation steps", "symlog", steps),
        Row("By size of the adaptation set", "transitions", "log", counts),
    ]
    rows = [row for row in rows if row.panels]
    panels = [lines for row in rows for lines in row.panels.values()]
    references = dict(zip(REFERENCES, (floor, without_adaptation), strict=True))
    references = {name: y for name, y in references.items() if np.isfinite(y)}
    values = [line[1:4] for lines in panels for line in lines.values()]
    limits = log_range([list(references.values()), *values])
    note = wrapped(f"{note} {_about(panels)}{_about_references(references, values)}")
    height = 0.35 + ERROR_ROW * len(rows) + note_height(note)
    methods = methods_of(panels)
    right = right_of([*methods, *references])
    with drawing():
        figure = Figure(figsize=(PAGE, height))
        words(figure, title, note)
        for i, row in enumerate(rows):
            axes = _beside(figure, row, (0.85 + ERROR_ROW * i) / height, right)
            log_axis(axes[0], *limits)
            axes[0].set_ylabel("squared error to the truth")
            _error_panels(axes, row, styles(methods), references)
    return figure


def online_thresholds(
    title: str, note: str, violations: Lines, successes: Lines
) -> Figure:
    """Draws violations and successes of online learning against the risk threshold."""
    panels = {
        "Violations (fewer is better)": known(violations),
        "Successes (more is better)": known(successes),
    }
    methods = methods_of(panels.values())
    note = wrapped(f"{note} {_about(panels.values())}")
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
            drawn.draw(ax, lines, styles(methods), marker="o")
            top = max([1.0, *(line.high.max() for line in lines.values())])
            ax.set_ylim(-0.03 * top, 1.05 * top)  # a line at zero stays visible
            label_ends(ax, drawn.ends(lines, styles(methods)))
            ax.tick_params(labelbottom=i + 1 == len(panels))
        ax.set_xlabel("risk threshold")
        figure.align_ylabels()
    return figure


def _beside(figure: Figure, row: Row, above: float, right: float) -> Sequence[Axes]:
    """Makes a row's panels below its heading, `above` of the page over them."""
    height, count = figure.get_figheight(), len(row.panels)
    figure.text(0.015, 1 - above + 0.26 / height, row.heading, weight="bold")
    place = {"left": WIDE_LEFT, "right": right, "top": 1 - above}
    place["bottom"] = 1 - above - ERROR_PANEL / height
    place["wspace"] = GAP * count / (right - WIDE_LEFT) / PAGE
    grid = figure.add_gridspec(1, count, **place)
    return grid.subplots(sharey=True, squeeze=False)[0]


def _error_panels(
    axes: Sequence[Axes], row: Row, style: drawn.Style, references: dict[str, float]
) -> None:
    """Draws panels on one scale; a method is named in the last panel that has it."""
    panels = list(row.panels.values())
    for i, (ax, lines) in enumerate(zip(axes, panels, strict=True)):
        ax.set_title(list(row.panels)[i])
        ax.set_xlabel(row.xlabel)
        ax.set_xscale(row.scale, **SCALES[row.scale])
        mark_values(ax, _xs(row.panels))
        for value in references.values():
            ax.axhline(value, color=GREY, linewidth=0.8, zorder=0)
        drawn.draw(ax, lines, style, marker="o")
        later = methods_of(panels[i + 1 :])
        ends = drawn.ends({n: x for n, x in lines.items() if n not in later}, style)
        if ax is not axes[-1]:
            label_inside(ax, ends)
        else:
            right = ax.get_xlim()[1]
            ends += [End(text, GREY, right, y) for text, y in references.items()]
            label_ends(ax, ends)


def _about(panels: Iterable[Lines]) -> str:
    """Says what lines and bands of known curves are."""
    found = [line for lines in panels for line in lines.values()]
    return LINES if any((line.low < line.high).any() for line in found) else ALONE


def _about_references(references: Mapping[str, float], values: list) -> str:
    """Says what the grey lines are, and where an error of zero is drawn."""
    grey = [f"{REFERENCES[name]} ({y:.2g})" for name, y in references.items()]
    zero = any((mean == 0).any() for mean, *_ in values)
    return (
        bool(grey) * f" Grey: {' and '.join(grey)}."
        + zero * " On the lower edge: zero."
    )


def _xs(panels: Mapping[str, Lines]) -> list[float]:
    return [x for lines in panels.values() for line in lines.values() for x in line.x]
