"""Filter test: episodes that violate against steps recovered, as curve and table."""

from collections.abc import Mapping, Sequence
from operator import itemgetter

import numpy as np
from matplotlib import ticker
from matplotlib.figure import Figure

from mesa_jax.methods import METHODS
from mesa_jax.report.layout import (
    LEFT,
    PAGE,
    RIGHT,
    End,
    drawing,
    label_ends,
    note_height,
    styles,
    words,
    wrapped,
)
from mesa_jax.report.statistics import interval
from mesa_jax.report.summary import spread
from mesa_jax.report.tables import estimate, markdown
from mesa_jax.study.records import Row, grouped

TITLES = {
    "held": "Proposed: random actions, each held",
    "learned": "Proposed: a policy that learned without safety",
}
PANEL, HEADS, GAP, FOOT = 2.5, 0.75, 0.75, 0.5  # inches
UNFILTERED = 1.0  # the threshold at which the recovery policy never acts


def shares(records: Sequence[Row]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the shares [S] of episodes that violate and of steps recovered, by body.

    Over a body's records, one a meta-seed.
    """

    def share(rows, part, whole):
        return sum(row[part] for row in rows) / sum(row[whole] for row in rows)

    each = _split(records, "body").values()
    violated = [share(rows, "violated", "episodes") for rows in each]
    recovered = [share(rows, "recovered", "steps") for rows in each]
    return np.array(violated), np.array(recovered)


def _split(records: Sequence[Row], name: str) -> dict:
    return grouped(records, itemgetter(name))


def table(records: Sequence[Row]) -> str:
    """Writes a line a method and kind of proposal, at the method's own threshold."""
    lines = [["method", "proposals", "horizon", "threshold", "episodes violating %"]]
    lines[0] += ["without filter %", "steps recovered %", "worst body %"]
    by_method = _split(records, "method")
    for method in [name for name in METHODS if name in by_method]:
        for proposals, rows in _split(by_method[method], "proposals").items():
            own = [row for row in rows if row["threshold"] == row["own_threshold"]]
            bare = [row for row in rows if row["threshold"] == UNFILTERED]
            violated, recovered = (100 * x for x in shares(own))
            episodes = sum(row["episodes"] for row in own)
            lines.append(
                [
                    method,
                    proposals,
                    f"{own[0]['horizon']:.3g}",
                    f"{own[0]['own_threshold']:g}",
                    _percent(violated / 100, episodes),
                    f"{100 * shares(bare)[0].mean():.0f}",
                    _percent(recovered / 100),
                    f"{violated.max():.0f}",
                ]
            )
    return markdown(lines)


def look_ahead_table(records: Sequence[Row]) -> str:
    """Writes what filters that simulate did: a line a method, steps, and proposals."""
    lines = [["method", "proposals", "steps ahead", "episodes violating %"]]
    lines[0] += ["steps recovered %", "worst body %"]
    for method, mine in _split(records, "method").items():
        for proposals, rows in _split(mine, "proposals").items():
            for steps, some in sorted(_split(rows, "look_ahead").items()):
                violated, recovered = shares(some)
                episodes = sum(row["episodes"] for row in some)
                lines.append([method, proposals, str(steps)])
                lines[-1] += [_percent(violated, episodes), _percent(recovered)]
                lines[-1] += [f"{100 * violated.max():.0f}"]
    return markdown(lines)


def _percent(values: np.ndarray, episodes: int = 0) -> str:
    return estimate(spread(values, episodes), 100, 1)


def figure(title: str, note: str, records: Sequence[Row]) -> Figure:
    """Draws episodes that violate against steps recovered, along the thresholds.

    A panel each kind of proposal; a mark is a threshold, the large one the method's
    own; whiskers are 95 % bootstrap intervals over bodies.
    """
    panels = _split(records, "proposals")
    names = [name for name in METHODS if any(r["method"] == name for r in records)]
    note = wrapped(note)
    height = HEADS + len(panels) * (PANEL + GAP) + FOOT + note_height(note) - GAP
    with drawing():
        page = Figure(figsize=(PAGE, height))
        axes = page.subplots(
            len(panels),
            1,
            squeeze=False,
            gridspec_kw={
                "left": LEFT,
                "right": RIGHT,
                "top": 1 - HEADS / height,
                "bottom": (FOOT + note_height(note)) / height,
                "hspace": GAP / PANEL,
            },
        )
        words(page, title, note)
        for ax, (proposals, rows) in zip(axes[:, 0], panels.items(), strict=True):
            ax.set_title(TITLES[proposals])
            _panel(ax, _split(rows, "method"), names)
    return page


def _panel(ax, by_method: Mapping[str, Sequence[Row]], names: Sequence[str]) -> None:
    style, ends = styles(list(names)), []
    for name in [n for n in names if n in by_method]:
        colour, dashes = style[name]
        x, y, own = [], [], None
        for threshold, rows in sorted(_split(by_method[name], "threshold").items()):
            violated, recovered = (100 * found for found in shares(rows))
            found = interval(violated)
            x.append(recovered.mean())
            y.append(found.mean)
            ax.vlines(x[-1], found.low, found.high, color=colour, linewidth=0.6)
            if threshold == rows[0]["own_threshold"]:
                own = len(x) - 1
        ax.plot(x, y, color=colour, linestyle=dashes, marker="o", markersize=2.5)
        if own is not None:
            ax.plot(x[own], y[own], "o", color=colour, markersize=7, clip_on=False)
        ends.append(End(name, colour, x[0], y[0]))
    ax.set(xlim=(0, 100), ylim=(0, None))
    ax.set_xlabel("steps on which the recovery policy acts, %")
    ax.set_ylabel("episodes violating, %")
    ax.yaxis.set_major_locator(ticker.MaxNLocator(5, integer=True))
    label_ends(ax, ends)
