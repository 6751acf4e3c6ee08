"""Figure of throughput: adaptations a second against tasks, a panel a program."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mesa_jax.report.layout import PAGE, drawing, note_height, words, wrapped

PANELS = {
    "published": ("Outer step, published critic:", "latent 3x100, 1 inner step"),
    "default": ("Outer step, default critic and", "policy: 2x64, 5 inner steps"),
    "context": ("Outer step, context:", "2x64, encoded, no inner step"),
    "mesa_context": ("Outer step, mesa_context:", "2x64, encoded, 5 inner steps"),
    "online": ("Online run-step of mesa:", "SAC, critic and policy 2x64"),
}
COLUMNS = 3
LINES = {  # colour and dashes
    "mesa_jax": ("#009E73", "-"),
    "PyTorch, one task after the other": ("#D55E00", (0, (1, 1.2))),
    "product": ("0.35", (0, (4, 2))),
}
PRODUCT = (
    " Product: the program's matrix products at the rate of one batched product of "
    "its own sizes, measured in the same rounds. That rate falls where the operands "
    "of all tasks no longer fit the cache, so that a program can pass it."
)
TICKS = 3  # at least, on a panel's y axis
SUBS = ((1,), (1, 3), (1, 2, 5), tuple(range(1, 10)))  # of a decade, sparse to dense


def throughput(machine: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draws one panel a kind of program, on logarithmic axes.

    Args:
      machine: "device", "threads" and version of "jax".
      rows: of `experiments.benchmark`: "case", "count", "per_second", and where they
        were measured "share_of_product" and "yardstick_milliseconds".
    """
    shown = [name for name in PANELS if any(row["case"] == name for row in rows)]
    product = any("share_of_product" in row for row in rows)
    about = f"{machine['device']}, {machine['threads']} threads, jax {machine['jax']}"
    note = wrapped(f"Device: {about}." + product * PRODUCT)
    title = "Throughput" + product * ", beside the rate of matrix products of its sizes"
    columns = min(len(shown), COLUMNS)
    low, lines = note_height(note) + 0.45, -(-len(shown) // columns)
    height = low + 0.3 + 2.55 * lines
    with drawing():
        figure = Figure(figsize=(PAGE, height))
        place = {"left": 0.085, "right": 0.985, "wspace": 0.42, "hspace": 0.6}
        place |= {"top": 1 - 0.95 / height, "bottom": low / height}
        axes = figure.subplots(lines, columns, squeeze=False, gridspec_kw=place).ravel()
        words(figure, title, note)
        for ax in axes[len(shown) :]:
            ax.set_axis_off()
        drawn: dict[str, Line2D] = {}
        for ax, name in zip(axes, shown, strict=False):
            drawn |= _panel(ax, name, [row for row in rows if row["case"] == name])
        named = {label: drawn[label] for label in LINES if label in drawn}
        figure.legend(
            named.values(),
            named,
            ncols=len(named),
            loc="upper left",
            bbox_to_anchor=(0.01, 1 - 0.24 / height),
            frameon=False,
        )
    return figure


def _panel(ax: Axes, name: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Line2D]:
    """Draws a panel; returns its lines by label."""
    found = {"mesa_jax": [(row["count"], row["per_second"]) for row in rows]}
    found["product"] = [
        (row["count"], row["per_second"] / row["share_of_product"])
        for row in rows
        if "share_of_product" in row
    ]
    found["PyTorch, one task after the other"] = [
        (row["count"], 1e3 * row["count"] / row["yardstick_milliseconds"])
        for row in rows
        if "yardstick_milliseconds" in row
    ]
    drawn = {}
    for label, points in found.items():
        if points:
            colour, dashes = LINES[label]
            look = {
                "color": colour,
                "linestyle": dashes,
                "marker": ".",
                "markersize": 4,
            }
            (drawn[label],) = ax.plot(*zip(*points, strict=True), **look)
    online, counts = name == "online", [row["count"] for row in rows]
    ax.set(xscale="log", yscale="log")
    ax.set_title("\n".join(PANELS[name]), fontsize=8)
    ax.set_xlabel("runs in one program" if online else "tasks an outer step")
    ax.set_ylabel(f"{'run-steps' if online else 'adaptations'} a second")
    ax.set_xticks(counts, [f"{n:,}" for n in counts])
    ax.margins(x=0.12)
    ax.xaxis.set_minor_locator(ticker.NullLocator())
    _rates(ax, [rate for points in found.values() for _, rate in points])
    return drawn


def _rates(ax: Axes, rates: Sequence[float]) -> None:
    """Makes a y axis with some round ticks, also where all rates are close."""
    low, high = min(rates) / 1.3, max(rates) * 1.3
    wider = max(1.0, np.sqrt(3.0 * low / high))
    low, high = low / wider, high * wider
    decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    for subs in SUBS:
        ticks = np.outer(decades, subs).ravel()
        ticks = ticks[(low <= ticks) & (ticks <= high)]
        if len(ticks) >= TICKS:
            break
    else:
        locator = ticker.MaxNLocator(2 * TICKS, steps=(1, 2, 2.5, 5, 10))
        ticks = locator.tick_values(low, high)
    ax.set_ylim(low, high)
    ax.yaxis.set_major_locator(ticker.FixedLocator(ticks))
    ax.yaxis.set_major_formatter(
        lambda value, _: f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"
    )
    ax.yaxis.set_minor_locator(ticker.NullLocator())
