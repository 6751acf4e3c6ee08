"""Figure of throughput: adaptations a second against tasks, and a rate beside them."""

from typing import Any

from matplotlib import ticker
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


def throughput(machine: dict[str, Any], rows: list[dict[str, Any]]) -> Figure:
    """One panel a kind of program, on logarithmic axes."""
    shown = [name for name in PANELS if any(row["case"] == name for row in rows)]
    with drawing():
        note = wrapped(
            f"Device: {machine['device']}, {machine['threads']} threads, jax "
            f"{machine['jax']}. Product: the program's matrix products at the rate of "
            "one batched product of its own sizes, measured in the same rounds. That "
            "rate falls where the operands of all tasks no longer fit the cache, so "
            "that a program can pass it."
        )
        low, lines = note_height(note) + 0.45, -(-len(shown) // COLUMNS)
        figure = Figure(figsize=(PAGE, low + 0.3 + 2.55 * lines))
        height = figure.get_figheight()
        axes = figure.subplots(
            lines,
            min(len(shown), COLUMNS),
            squeeze=False,
            gridspec_kw={
                "left": 0.08,
                "right": 0.985,
                "top": 1 - 0.95 / height,
                "bottom": low / height,
                "wspace": 0.42,
                "hspace": 0.6,
            },
        ).ravel()
        words(
            figure, "Throughput, beside the rate of matrix products of its sizes", note
        )
        for ax in axes[len(shown) :]:
            ax.set_axis_off()
        drawn = {}
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


def _panel(ax, name: str, rows: list[dict[str, Any]]) -> dict[str, Line2D]:
    """Draws a panel; returns its lines by label."""
    x = [row["count"] for row in rows]
    lines = {"mesa_jax": (x, [row["per_second"] for row in rows])}
    product = [row["per_second"] / row["share_of_product"] for row in rows]
    lines["product"] = (x, product)
    theirs = [row for row in rows if "yardstick_milliseconds" in row]
    if theirs:
        rate = [1e3 * row["count"] / row["yardstick_milliseconds"] for row in theirs]
        counts = [row["count"] for row in theirs]
        lines["PyTorch, one task after the other"] = (counts, rate)
    drawn = {}
    for label, (counts, values) in lines.items():
        colour, dashes = LINES[label]
        (drawn[label],) = ax.plot(
            counts, values, color=colour, linestyle=dashes, marker=".", markersize=4
        )
    ax.set(xscale="log", yscale="log")
    ax.set_title("\n".join(PANELS[name]), fontsize=8)
    online = name == "online"
    ax.set_xlabel("runs in one program" if online else "tasks an outer step")
    ax.set_ylabel(f"{'run-steps' if online else 'adaptations'} a second")
    ax.set_xticks(x, [str(n) for n in x])
    ax.margins(x=0.12)
    ax.xaxis.set_minor_locator(ticker.NullLocator())
    low, high = ax.get_ylim()
    ax.set_ylim(low / 1.3, 1.2 * high)
    subs = (1, 2, 5) if high < 300 * low else (1,)
    ax.yaxis.set_major_locator(ticker.LogLocator(subs=subs))
    ax.yaxis.set_major_formatter(ticker.FuncFormatter(_thousands))
    ax.yaxis.set_minor_locator(ticker.NullLocator())
    return drawn


def _thousands(value: float, position: int) -> str:
    del position
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"
