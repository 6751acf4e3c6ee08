"""Quality of the risk measures of a workdir: intervals over bodies, ratios, tables.

A record (risk_quality.csv) is one method, meta-seed, test body, number of adaptation
transitions and of adaptation steps. Intervals are over bodies: a body's value is its
mean over meta-seeds, and bodies pair the methods.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mesa_jax.report.statistics import Interval, interval, ratio
from mesa_jax.report.tables import estimate as estimated
from mesa_jax.report.tables import markdown
from mesa_jax.study.records import METRICS, OWN, WITHOUT_ADAPTATION, Outside, Row

OURS = "mesa"  # whose error is compared with the others
FEW_STEPS = 5
COMPARISON = f"squared_error_of_{OURS}_relative_to"  # in risk_quality.json
HEADERS = {  # metric: heading and scale
    "squared_error": ("squared error", 1),
    "wrong_decisions": ("wrong decisions %", 100),
    "false_safe": ("false-safe %", 100),
    "false_alarm": ("false-alarm %", 100),
    "false_safe_matched": ("false-safe % at false-alarm 2 %", 100),
    "threshold_calibrated": ("calibrated threshold", 1),
    "false_safe_calibrated": ("false-safe % at it", 100),
    "false_alarm_calibrated": ("false-alarm % at it", 100),
    "calibration_error": ("calibration error", 1),
    "auroc": ("AUROC", 1),
    "recovery_risk": ("true risk of the recovery policy", 1),
}


class Cell(NamedTuple):
    """Names what is measured: a method adapted on some transitions by some steps."""

    method: str
    transitions: int
    steps: int


class Summary(NamedTuple):
    """Holds every metric by cell, and our error relative to others."""

    domain: str
    tasks: str
    bodies: int
    meta_seeds: list[int]
    noise_floor: float
    own_steps: dict[str, int]  # by method, the steps that it is used with
    cells: dict[Cell, dict[str, Interval]]  # by metric
    ratios: dict[str, dict[tuple[int, str], Interval]]  # by view; transitions, method
    risk_threshold: float = np.nan
    training_transitions: Mapping[str, int] = {}  # by method, drawn in training
    outside: Mapping[tuple[str, int], Outside] = {}  # by method and transitions

    def own(self, method: str, transitions: int) -> dict[str, Interval]:
        """Returns a method's metrics after its own number of steps."""
        return self.cells[Cell(method, transitions, self.own_steps[method])]


def views(own_steps: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Returns what is compared: by name, the number of steps of each method."""
    return {
        f"after {FEW_STEPS} steps": dict.fromkeys(own_steps, FEW_STEPS),
        "at each method's own steps": dict(own_steps),
    }


def by_body(
    records: Sequence[Row],
    cell: Cell,
    metric: str,
    meta_seeds: set[int] | None = None,
) -> dict[int, float]:
    """Returns by test body the mean of a metric over meta-seeds, NaN without one.

    Args:
      meta_seeds: those that count; None for all.
    """
    values: dict[int, list[float]] = {}
    for record in records:
        counts = meta_seeds is None or record["meta_seed"] in meta_seeds
        if _cell(record) == cell and counts:
            values.setdefault(record["seed"], []).append(record[metric])
    return {seed: float(np.mean(v)) for seed, v in sorted(values.items())}


def over_bodies(values: Mapping[int, float]) -> Interval:
    """Returns mean and interval over bodies; bodies with NaN are left out."""
    return interval(np.array(list(values.values()), float))


def summarize(
    records: Sequence[Row], own_steps: Mapping[str, int], noise_floor: float, **about
) -> Summary:
    """Returns every metric with its interval, and comparisons.

    Args:
      own_steps: by method, the number of adaptation steps that it is used with.
      about: further fields of the summary.
    """
    cells = {
        cell: {name: over_bodies(by_body(records, cell, name)) for name in METRICS}
        for cell in sorted({_cell(record) for record in records})
    }
    return Summary(
        records[0]["domain"],
        records[0]["tasks"],
        len({record["seed"] for record in records}),
        sorted({record["meta_seed"] for record in records}),
        noise_floor,
        dict(own_steps),
        cells,
        _ratios(records, own_steps),
        **about,
    )


def _ratios(
    records: Sequence[Row], own_steps: Mapping[str, int]
) -> dict[str, dict[tuple[int, str], Interval]]:
    """Returns our squared error over each other method's, paired by body."""
    counts = sorted({record["rows"] for record in records} - {0})
    found: dict[str, dict] = {}
    for view, steps_of in views(own_steps).items():
        found[view] = {}
        others = [m for m in steps_of if m != OURS and OURS in steps_of]
        for count, method in [(count, m) for count in counts for m in others]:
            cells = (Cell(m, count, steps_of[m]) for m in (OURS, method))
            ours, theirs = paired(records, *cells)
            if ours and theirs:
                found[view][count, method] = ratio(ours, theirs)
    return found


def paired(
    records: Sequence[Row], *cells: Cell, metric: str = "squared_error"
) -> list[dict[int, float]]:
    """Returns a metric by body of each cell, over the meta-seeds that all have."""
    seeds = [{r["meta_seed"] for r in records if _cell(r) == cell} for cell in cells]
    common = set.intersection(*seeds)
    return [by_body(records, cell, metric, common) for cell in cells]


def own_cell(records: Sequence[Row], method: str, transitions: int) -> Cell:
    """Returns a method's cell after its own steps: its recovery policy was judged."""
    mine = [r for r in records if (r["method"], r["rows"]) == (method, transitions)]
    own = {r["steps"] for r in mine if not np.isnan(r["recovery_risk"])}
    return Cell(method, transitions, min(own, default=OWN))


def _cell(record: Row) -> Cell:
    return Cell(record["method"], record["rows"], record["steps"])


def to_json(summary: Summary) -> dict[str, Any]:
    """Returns the summary as risk_quality.json has it, by nested names."""
    methods: dict[str, dict] = {}
    for (method, count, steps), values in summary.cells.items():
        by_steps = methods.setdefault(method, {}).setdefault(str(count), {})
        by_steps[str(steps)] = {name: x._asdict() for name, x in values.items()}
    counts = sorted({cell.transitions for cell in summary.cells} - {0})
    ratios = {
        view: {
            str(count): {m: x._asdict() for (n, m), x in mine.items() if n == count}
            for count in counts
        }
        for view, mine in summary.ratios.items()
    }
    support: dict[str, dict] = {}
    for (method, count), found in summary.outside.items():
        support.setdefault(method, {})[str(count)] = {
            "test_outside": found.test,
            "held_out_outside": found.held_out,
            "auroc": found.auroc,
        }
    plain = ("domain", "tasks", "risk_threshold", "training_transitions")
    plain += ("bodies", "meta_seeds", "noise_floor", "own_steps")
    found = {name: getattr(summary, name) for name in plain}
    return found | {"methods": methods, COMPARISON: ratios, "support": support}


def tables(summary: Summary, transitions: int) -> str:
    """Writes two tables: after a few steps, and at each method's own number."""
    parts = []
    for view, steps_of in views(summary.own_steps).items():
        lines = [["method", "steps", *(head for head, _ in HEADERS.values())]]
        lines[0].append(f"error of {OURS} / its error")
        without = Cell(WITHOUT_ADAPTATION, 0, 0)
        asked = [Cell(m, transitions, steps) for m, steps in steps_of.items()]
        for cell in [one for one in (without, *asked) if one in summary.cells]:
            values = summary.cells[cell]
            cells = [shown(values[name], scale) for name, (_, scale) in HEADERS.items()]
            against = summary.ratios[view].get((transitions, cell.method))
            cells.append(shown(against, 1, 2) if against else "")
            steps = "own" if cell.steps == OWN else str(cell.steps)
            lines.append([cell.method, steps, *cells])
        parts.append(f"{transitions} transitions, {view}:\n{markdown(lines)}")
    return "\n\n".join(parts)


def shown(value: Interval, scale: float, digits: int | None = None) -> str:
    """Writes a mean with the interval that it has; "-" where there is no mean."""
    return estimated(value._asdict(), scale, digits or (1 if scale == 100 else 4))
