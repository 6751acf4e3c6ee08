"""Figure of meta-training: what is watched, over its outer steps."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mesa_jax.report.layout import (
    LABEL_GAP,
    PAGE,
    STEPS,
    End,
    drawing,
    label_ends,
    log_axis,
    log_range,
    note_height,
    right_of,
    words,
    wrapped,
)
from mesa_jax.report.lines import known
from mesa_jax.report.statistics import Curve

LEFT = 0.115  # of the page
SMALLEST, GAP = 1.1, 0.42  # inches: height of a panel, and between two
COLOURS = ("#0072B2", "#009E73", "#D55E00", "#CC79A7", "#666666", "#000000")
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1.2)))


Line = tuple[np.ndarray, np.ndarray]  # steps [P], values [P]


class Panel(NamedTuple):
    """Holds lines over outer steps."""

    title: str
    ylabel: str
    log: bool
    lines: dict[str, Line]


def meta_training(title: str, note: str, panels: Sequence[Panel]) -> Figure:
    """Draws panels below each other on one axis of outer steps."""
    panels = [panel._replace(lines=_known(panel.lines)) for panel in panels]
    heights = [
        max(SMALLEST, LABEL_GAP / 72 * (len(panel.lines) + 0.5)) for panel in panels
    ]
    zero = any(
        panel.log and (values <= 0).any()
        for panel in panels
        for _, values in panel.lines.values()
    )
    note = wrapped(
        note + zero * " On the lower edge of a logarithmic axis: zero or less."
    )
    height = 0.25 + sum(heights) + GAP * len(panels) + 0.4 + note_height(note)
    last = [steps[-1] for panel in panels for steps, _ in panel.lines.values()]
    right = right_of(label for panel in panels for label in panel.lines)
    with drawing():
        figure = Figure(figsize=(PAGE, height))
        words(figure, title, note)
        bottom = height - 0.25
        for panel, inches in zip(panels, heights, strict=True):
            bottom -= GAP + inches
            ax = figure.add_axes(
                (LEFT, bottom / height, right - LEFT, inches / height),
                xlim=(0, max(last, default=1) or 1),
            )
            ax.xaxis.set_major_locator(ticker.MaxNLocator(6, steps=STEPS, integer=True))
            ax.tick_params(labelbottom=panel is panels[-1])
            _draw(ax, panel)
        ax.set_xlabel("outer step of meta-training")
        figure.align_ylabels()
    return figure


def _known(lines: Mapping[str, Line]) -> dict[str, Line]:
    """Returns the lines where they are finite."""
    found = known({name: Curve(x, *[y] * 3) for name, (x, y) in lines.items()})
    return {name: (line.x, line.mean) for name, line in found.items()}


def _draw(ax: Axes, panel: Panel) -> None:
    ax.set(title=panel.title, ylabel=panel.ylabel)
    values = np.concatenate([values for _, values in panel.lines.values()] or [[]])
    if panel.log:
        log_axis(ax, *log_range([values]))
    else:
        low, high = np.append(values, 0).min(), np.append(values, 0).max()
        margin = 0.04 * (high - low or 1.0)
        ax.set_ylim(low - margin, high + margin)
        ax.yaxis.set_major_locator(ticker.MaxNLocator(4, steps=STEPS))
    ends = []
    for i, (name, (steps, values)) in enumerate(panel.lines.items()):
        colour = COLOURS[i % len(COLOURS)]
        drawn = np.maximum(values, ax.get_ylim()[0])
        dashes = DASHES[i // len(COLOURS) % len(DASHES)]
        ax.plot(
            steps,
            drawn,
            color=colour,
            linestyle=dashes,
            linewidth=1.3,
            marker="o" if len(steps) == 1 else None,
            markersize=3,
            clip_on=False,
        )
        ends.append(End(name, colour, steps[-1], drawn[-1]))
    label_ends(ax, ends)


BEFORE_AND_AFTER = (  # adaptation: title, unit, name of the values
    ("Error of the critic to the simulator's risk", "squared error", "squared_error"),
    ("Calibration of the critic", "calibration error", "calibration_error"),
    (
        "Error of the critic to what followed",
        *("squared error", "outcome_squared_error"),
    ),
    (
        "Calibration of the critic to what followed",
        *("calibration error", "outcome_calibration_error"),
    ),
)
PANELS = (  # title, unit, logarithmic; label: value, or the start of values' names
    (
        "Bellman error of the critic, held-out training bodies",
        *("squared error", True),
        {
            "before adaptation": "heldout/bellman_error_before",
            "the one to keep by": "risk/heldout_bellman_error",
        },
    ),
    *(
        (
            f"{title}, held-out training bodies",
            *(unit, True),
            {f"{at} adaptation": f"heldout/{name}_{at}" for at in ("before", "after")},
        )
        for title, unit, name in BEFORE_AND_AFTER
    ),
    (
        "Saturation of the un-adapted critic, held-out training bodies",
        *("share of estimates", False),
        {
            "below 0.01": "heldout/estimates_below_0.01",
            "above 0.99": "heldout/estimates_above_0.99",
        },
    ),
    (
        "Norms of parameters and of outer gradients",
        *("global norm", True),
        {
            "critic": "norm/critic",
            "recovery policy": "norm/recovery",
            "critic's gradient": "meta/gradient_norm_0",
            "recovery's gradient": "meta/gradient_norm_1",
        },
    ),
)
RATES = "rate/critic/"


def prior_page(name: str, kind: str, series: Mapping[str, Line]) -> Figure | None:
    """Draws the training of a prior; None if nothing of it was recorded.

    Args:
      series: by name of a metric.
    """
    panels = [
        Panel(title, unit, log, {k: series[v] for k, v in mine.items() if v in series})
        for title, unit, log, mine in PANELS
    ]
    rates = {
        key.removeprefix(RATES).removeprefix("params/"): line
        for key, line in series.items()
        if key.startswith(RATES)
    }
    panels.append(Panel("Learned inner rates of the critic", "rate", True, rates))
    panels = [panel for panel in panels if panel.lines]
    if not panels:
        return None
    note = f"{name}; a value a checkpoint."
    return meta_training(f"Training of a prior: {kind}", note, panels)
