"""Figures of online runs: curves over training episodes or environment steps."""

from collections.abc import Sequence

from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mesa_jax.report import lines as drawn
from mesa_jax.report.layout import (
    LEFT,
    PAGE,
    RIGHT,
    STEPS,
    drawing,
    label_ends,
    right_of,
    styles,
    words,
)
from mesa_jax.report.lines import BAND_SEEDS
from mesa_jax.report.statistics import CONFIDENCE, Curve
from mesa_jax.report.words import span

EPISODES, STEPS_TAKEN = "training episode", "environment step"
SUCCESSES = ("Cumulative successes (more is better)", "episodes")
RETURNS = ("Return of an episode, mean of the last ten (more is better)", "return")


def counts(
    title: str,
    violations: dict[str, Curve],
    outcome: dict[str, Curve],
    constrained: Sequence[str],
    outcome_words: tuple[str, str] = SUCCESSES,
    struck: float | None = None,
    axis: str = EPISODES,
) -> Figure:
    """Draws cumulative violations, also of constrained methods alone, and an outcome.

    Args:
      outcome: what the last panel shows, `outcome_words` its title and unit.
      constrained: the methods of the panel that zooms in, drawn where the others'
        violations would flatten theirs.
      struck: where a fault struck, marked; None for none.
      axis: what the curves' `x` is.
    """
    ours = {name: violations[name] for name in constrained if name in violations}
    highest = max(line.mean[-1] for line in violations.values())
    flattened = ours and 2 * max(line.mean[-1] for line in ours.values()) < highest
    panels = [("Cumulative violations (fewer is better)", "episodes", violations)]
    if flattened:
        alone = "The same, constrained methods only (own scale)"
        panels.append((alone, "episodes", ours))
    panels.append((*outcome_words, outcome))
    style = styles(list(violations))
    with drawing():
        figure, axes = _stack(title, len(panels), violations, axis)
        for ax, (name, unit, lines) in zip(axes, panels, strict=True):
            ax.set_title(name)
            ax.set_ylabel(unit)
            ax.yaxis.set_major_locator(ticker.MaxNLocator(5, steps=STEPS, integer=True))
            drawn.draw(ax, lines, style)
            edges = [edge for line in lines.values() for edge in drawn.edges(line)]
            top = max(1.0, *(edge.max() for edge in edges))
            bottom = min(0.0, *(edge.min() for edge in edges))
            span = top - bottom
            ax.set_ylim(bottom - 0.03 * span, top + 0.05 * span)  # zero stays visible
            if struck is not None:
                _mark_fault(ax, struck, top + 0.03 * span)
            label_ends(ax, drawn.ends(lines, style, "{:.1f}"))
    return figure


def ratio(title: str, ratios: dict[str, Curve], axis: str = EPISODES) -> Figure:
    """Draws (successes + 1) / (violations + 1), on a logarithmic axis."""
    style = styles(list(ratios))
    with drawing():
        figure, (ax,) = _stack(title, 1, ratios, axis, panel_height=2.6)
        ax.set_title("Successes per violation so far (more is better)")
        ax.set_ylabel("(successes + 1) / (violations + 1)")
        ax.set_yscale("log")
        drawn.draw(ax, ratios, style)
        low, high = ax.get_ylim()
        ax.set_ylim(min(low, 0.5), max(high, 2.0))
        ax.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        ax.yaxis.set_minor_locator(ticker.NullLocator())
        ax.axhline(1, color="0.75", linewidth=0.8, zorder=0)
        label_ends(ax, drawn.ends(ratios, style, "{:.3g}"))
    return figure


def _mark_fault(ax: Axes, struck: float, height: float) -> None:
    ax.axvline(struck, color="0.4", linewidth=0.8, linestyle=":")
    note = {"rotation": 90, "ha": "right", "va": "top", "fontsize": 7}
    ax.annotate("fault", (struck, height), color="0.4", **note)


def _stack(
    title: str,
    panels: int,
    lines: dict[str, Curve],
    axis: str,
    panel_height: float = 1.35,
) -> tuple[Figure, list[Axes]]:
    """Makes panels above each other on one axis, with room for labels."""
    panel_height = max(panel_height, 0.15 * len(lines))  # so that their labels fit
    right = min(RIGHT, right_of(f"{name}  999.9" for name in lines))
    height = 0.4 + panels * (panel_height + 0.35) + 0.5
    figure = Figure(figsize=(PAGE, height))
    place = {"left": LEFT, "right": right, "hspace": 0.35 / panel_height}
    place |= {"top": 1 - 0.6 / height, "bottom": 0.6 / height}
    axes = figure.subplots(panels, 1, sharex=True, squeeze=False, gridspec_kw=place)[
        :, 0
    ]
    words(figure, title, _note(lines))
    axes[-1].set_xlabel(axis)
    axes[-1].xaxis.set_major_locator(ticker.MaxNLocator(8, steps=STEPS, integer=True))
    figure.align_ylabels(axes)
    axes[-1].set_xlim(0, max(line.x[-1] for line in lines.values()))
    return figure, list(axes)


def _note(lines: dict[str, Curve]) -> str:
    """Says what lines, bands and dotted ends are."""
    seeds = sorted({line.seeds for line in lines.values()})
    few = [count for count in seeds if count < BAND_SEEDS]
    many = [count for count in seeds if count >= BAND_SEEDS]
    note = "Line: the only seed." if seeds == [1] else "Line: mean;"
    if few and seeds != [1]:
        note += f" faint lines: the runs of {span(few)} seeds."
    if many:
        interval = f"{100 * CONFIDENCE:g} % bootstrap interval"
        note += f" band: {interval} over {span(many)} seeds."
    unequal = len({len(line.mean) for line in lines.values()}) > 1
    return note + unequal * " Thin dotted end: fewer episodes so far."
