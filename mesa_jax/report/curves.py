"""Curves of a workdir: drawing only; what is drawn is computed by the caller."""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mesa_jax.report.layout import (
    LEFT,
    PAGE,
    RIGHT,
    STEPS,
    End,
    drawing,
    label_ends,
    right_of,
    styles,
    words,
)
from mesa_jax.report.statistics import CONFIDENCE
from mesa_jax.study import files

RESAMPLES = 9999  # as the summary table's intervals


class Curve(NamedTuple):
    """A method's line and its band; each [N]."""

    x: np.ndarray  # episodes 0, 1, ..., or environment steps
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    seeds: int


def curve(values: np.ndarray, x: np.ndarray | None = None) -> Curve:
    """Mean of [S, N] over seeds with its 95 % percentile-bootstrap interval.

    `x` are the environment steps [N]; without them the values are of episodes 0, 1, ...
    """
    x = np.arange(values.shape[1]) if x is None else x
    seeds = len(values)
    draws = np.random.default_rng(0).integers(0, seeds, (RESAMPLES, seeds))
    weights = np.stack([(draws == i).mean(1) for i in range(seeds)])  # [S, resamples]
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(values.T @ weights, [tail, 100 - tail], axis=1)
    return Curve(x, values.mean(0), low, high, seeds)


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
    """Cumulative violations, and what was achieved; the constrained methods also alone.

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
    with drawing():
        figure, axes = _stack(title, len(panels), violations, axis)
        for ax, (name, unit, lines) in zip(axes, panels, strict=True):
            ax.set_title(name)
            ax.set_ylabel(unit)
            ax.yaxis.set_major_locator(ticker.MaxNLocator(5, steps=STEPS, integer=True))
            _lines(ax, lines, styles(list(violations)))
            top = max(1.0, *(line.high.max() for line in lines.values()))
            bottom = min(0.0, *(line.low.min() for line in lines.values()))
            span = top - bottom
            ax.set_ylim(bottom - 0.03 * span, top + 0.05 * span)  # zero stays visible
            if struck is not None:
                ax.axvline(struck, color="0.4", linewidth=0.8, linestyle=":")
                note = {"rotation": 90, "ha": "right", "va": "top", "fontsize": 6}
                at = (struck, top + 0.03 * span)
                ax.annotate("fault", at, color="0.4", **note)
            label_ends(ax, _ends(lines, styles(list(violations)), "{:.1f}"))
    return figure


def ratio(title: str, ratios: dict[str, Curve], axis: str = EPISODES) -> Figure:
    """(successes + 1) / (violations + 1), on a logarithmic axis."""
    with drawing():
        figure, (ax,) = _stack(title, 1, ratios, axis, panel_height=2.6)
        ax.set_title("Successes per violation so far (more is better)")
        ax.set_ylabel("(successes + 1) / (violations + 1)")
        ax.set_yscale("log")
        _lines(ax, ratios, styles(list(ratios)))
        low, high = ax.get_ylim()
        ax.set_ylim(min(low, 0.5), max(high, 2.0))
        ax.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        ax.yaxis.set_minor_locator(ticker.NullLocator())
        ax.axhline(1, color="0.75", linewidth=0.8, zorder=0)
        label_ends(ax, _ends(ratios, styles(list(ratios)), "{:.3g}"))
    return figure


def save(figure: Figure, path: pathlib.Path) -> pathlib.Path:
    """Writes a PNG by way of a file beside it, so that no half figure is left."""
    with drawing(), files.replacing(path) as beside:
        figure.savefig(beside, format="png")
    return path


def _stack(
    title: str,
    panels: int,
    lines: dict[str, Curve],
    axis: str,
    panel_height: float = 1.35,
) -> tuple[Figure, list[Axes]]:
    """Panels above each other on one axis, with room for labels."""
    panel_height = max(panel_height, 0.15 * len(lines))  # so that their labels fit
    right = min(RIGHT, right_of(f"{name}  999.9" for name in lines))
    pitch = panel_height + 0.35
    height = 0.4 + panels * pitch + 0.5
    figure = Figure(figsize=(PAGE, height))
    axes = figure.subplots(
        panels,
        1,
        sharex=True,
        squeeze=False,
        gridspec_kw={
            "left": LEFT,
            "right": right,
            "top": 1 - 0.6 / height,
            "bottom": 0.6 / height,
            "hspace": 0.35 / panel_height,
        },
    )[:, 0]
    words(figure, title, _note(lines))
    axes[-1].set_xlabel(axis)
    axes[-1].xaxis.set_major_locator(ticker.MaxNLocator(8, steps=STEPS, integer=True))
    figure.align_ylabels(axes)
    axes[-1].set_xlim(0, max(line.x[-1] for line in lines.values()))
    return figure, list(axes)


def _note(lines: dict[str, Curve]) -> str:
    """What lines, bands and dotted ends are."""
    seeds = sorted({line.seeds for line in lines.values()})
    over = " to ".join(str(count) for count in (seeds[0], seeds[-1])[: len(seeds)])
    interval = f"{100 * CONFIDENCE:g} % bootstrap interval over {over} seeds"
    note = "Line: the only seed." if seeds == [1] else f"Line: mean; band: {interval}."
    note += (1 in seeds[:-1]) * " Of one seed: no band."
    unequal = len({len(line.mean) for line in lines.values()}) > 1
    return note + unequal * " Thin dotted end: fewer episodes so far."


def _lines(ax: Axes, lines: dict[str, Curve], style: dict[str, tuple]) -> None:
    for name, line in reversed(lines.items()):  # dashes over solid: both show
        colour, dashes = style[name]
        x = line.x
        ax.fill_between(x, line.low, line.high, color=colour, alpha=0.15, linewidth=0)
        for edge in (line.low, line.high):
            ax.plot(x, edge, color=colour, linestyle=dashes, linewidth=0.5, alpha=0.6)
        ax.plot(x, line.mean, color=colour, linestyle=dashes, linewidth=1.6)


def _ends(lines: dict[str, Curve], style: dict[str, tuple], number: str) -> list[End]:
    """Name and last value of each line."""
    return [
        End(
            f"{name}  {number.format(line.mean[-1])}",
            style[name][0],
            line.x[-1],
            line.mean[-1],
        )
        for name, line in lines.items()
    ]
