"""risk_quality.csv and .json: what the risk measures were worth, body by body.

A record is one method, meta-seed, test body, number of adaptation transitions and
number of adaptation steps. Intervals are over bodies: a body's value is its mean over
meta-seeds, and bodies pair the methods.
"""

import csv
import io
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from mesa_jax.report.statistics import CONFIDENCE, interval
from mesa_jax.report.tables import estimate as estimated
from mesa_jax.report.tables import markdown
from mesa_jax.study import documents, files
from mesa_jax.study.records import OWN, WITHOUT_ADAPTATION

LABELS = ("domain", "tasks", "method", "meta_seed", "seed", "rows", "steps")
METRICS = (
    *("squared_error", "auroc", "calibration_error", "wrong_decisions"),
    *("false_safe", "false_alarm", "false_safe_matched", "collapsed"),
    *("threshold_calibrated", "false_safe_calibrated", "false_alarm_calibrated"),
    "recovery_risk",
)
OURS = "mesa"  # whose error is compared with the others
FEW_STEPS = 5
COMPARISON = f"squared_error_of_{OURS}_relative_to"
RESAMPLES = 9999
AGAIN = "Evaluate its workdir again."

Record = dict[str, Any]
Estimate = dict[str, float]  # mean, low, high


def write(workdir: pathlib.Path, records: list[Record]) -> None:
    """Writes risk_quality.csv, one line a record."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [*LABELS, *METRICS], lineterminator="\n")
    writer.writeheader()
    for record in records:
        rounded = {k: round(float(record[k]), 6) for k in METRICS}
        writer.writerow({k: record[k] for k in LABELS} | rounded)
    files.write_atomically(workdir / "risk_quality.csv", text.getvalue())


def read(workdir: pathlib.Path) -> list[Record]:
    """The records of a workdir's risk_quality.csv.

    Raises:
      DamagedFileError: if there is none, or another file.
    """

    def take(line):
        return (
            line
            | {name: int(line[name]) for name in LABELS[3:]}
            | {name: float(line[name]) for name in METRICS}
        )

    path = workdir / "risk_quality.csv"
    if not path.exists():
        raise files.DamagedFileError(f"{path} is missing. {AGAIN}")
    records = documents.read_csv(path, (*LABELS, *METRICS), take, AGAIN)
    if not records:
        raise files.DamagedFileError(f"{path} has no record. {AGAIN}")
    return records


def read_summary(workdir: pathlib.Path) -> dict[str, Any]:
    """The summary of a workdir's risk_quality.json.

    Raises:
      DamagedFileError: if it is another file, or of another version.
    """

    def take(summary):
        """Touches whatever `experiments.tabulate` shows."""
        about = [summary["domain"], summary["tasks"]]
        if not all(isinstance(text, str) for text in about):
            raise TypeError(f"{about} are no names")
        steps = summary["own_steps"].values()
        for number in (summary["bodies"], *summary["meta_seeds"], *steps):
            documents.number(number)
        for by_rows in summary["methods"].values():
            for by_steps in by_rows.values():
                for cell in by_steps.values():
                    _require_estimates(cell[name] for name in METRICS)
        for name in views({}):
            for ratios in summary[COMPARISON][name].values():
                _require_estimates(ratios.values())
        summary["methods"][WITHOUT_ADAPTATION]["0"]["0"]
        return summary

    return documents.read_json(workdir / "risk_quality.json", take, AGAIN)


def _require_estimates(values: Iterable[Any]) -> None:
    """Raises unless each has a mean, low and high, numbers or null."""
    for value in values:
        for name in ("mean", "low", "high"):
            if value[name] is not None:
                documents.number(value[name])


def by_body(
    records: Sequence[Record],
    method: str,
    rows: int,
    steps: int,
    metric: str,
    meta_seeds: set[int] | None = None,
) -> dict[int, float]:
    """By test body, the mean of a metric over meta-seeds (NaN where it has none).

    Args:
      meta_seeds: those that count; None for all.
    """
    values: dict[int, list[float]] = {}
    for record in records:
        labels = record["method"], record["rows"], record["steps"]
        counts = meta_seeds is None or record["meta_seed"] in meta_seeds
        if labels == (method, rows, steps) and counts:
            values.setdefault(record["seed"], []).append(record[metric])
    return {seed: float(np.mean(v)) for seed, v in sorted(values.items())}


def estimate(values: dict[int, float]) -> Estimate:
    """Mean and 95 % bootstrap interval over bodies; bodies with NaN are left out.

    NaN where there is none.
    """
    bounds = interval(np.array(list(values.values()), float))
    return dict(zip(("mean", "low", "high"), bounds, strict=True))


def ratio(ours: dict[int, float], theirs: dict[int, float]) -> Estimate:
    """Mean of ours over mean of theirs, paired by body, with its 95 % interval.

    It has no interval (NaN) of one body, or where all resamples agree.
    """
    seeds = [seed for seed in ours if seed in theirs]
    a, b = (np.array([values[seed] for seed in seeds]) for values in (ours, theirs))
    if not seeds:
        return {"mean": np.nan, "low": np.nan, "high": np.nan}
    draws = np.random.default_rng(0).integers(0, len(seeds), (RESAMPLES, len(seeds)))
    tail = 50 * (1 - CONFIDENCE)
    ratios = a[draws].mean(1) / b[draws].mean(1)
    low, high = np.percentile(ratios, [tail, 100 - tail])
    if np.isclose(low, high, rtol=1e-9, atol=0.0):
        low = high = np.nan
    return {"mean": float(a.mean() / b.mean()), "low": float(low), "high": float(high)}


def views(own_steps: dict[str, int]) -> dict[str, dict[str, int]]:
    """What is compared: by name, the number of steps of each method."""
    return {
        f"after {FEW_STEPS} steps": dict.fromkeys(own_steps, FEW_STEPS),
        "at each method's own steps": own_steps,
    }


def summarize(
    records: list[Record],
    own_steps: dict[str, int],
    noise_floor: float,
    about: dict[str, Any],
) -> dict[str, Any]:
    """Every metric with its interval, by method, transitions and steps; comparisons.

    Args:
      own_steps: by method, the number of adaptation steps that it is used with.
    """
    methods: dict[str, dict] = {}
    for method, rows, steps in sorted({_cell(record) for record in records}):
        values = {
            metric: estimate(by_body(records, method, rows, steps, metric))
            for metric in METRICS
        }
        methods.setdefault(method, {}).setdefault(str(rows), {})[str(steps)] = values
    return about | {
        "bodies": len({record["seed"] for record in records}),
        "meta_seeds": sorted({record["meta_seed"] for record in records}),
        "noise_floor": noise_floor,
        "own_steps": own_steps,
        "methods": methods,
        COMPARISON: comparisons(records, own_steps),
    }


def comparisons(records: list[Record], own_steps: dict[str, int]) -> dict[str, dict]:
    """By view, number of transitions and method: mesa's squared error over its own.

    Paired by body, over the meta-seeds that both have.
    """
    seeds: dict[str, set[int]] = {name: set() for name in own_steps}
    for record in records:
        seeds.setdefault(record["method"], set()).add(record["meta_seed"])
    found: dict[str, dict] = {}
    for name, steps_of in views(own_steps).items():
        for rows in sorted({record["rows"] for record in records} - {0}):
            ratios = found.setdefault(name, {}).setdefault(str(rows), {})
            for method in [m for m in steps_of if m != OURS and OURS in steps_of]:
                common = seeds[OURS] & seeds[method]
                ours, theirs = (
                    by_body(records, one, rows, steps_of[one], "squared_error", common)
                    for one in (OURS, method)
                )
                if ours and theirs:
                    ratios[method] = ratio(ours, theirs)
    return found


def _cell(record: Record) -> tuple[str, int, int]:
    return record["method"], record["rows"], record["steps"]


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


def tables(summary: dict[str, Any], rows: int) -> str:
    """Two Markdown tables: after a few steps, and at each method's own number."""
    parts = []
    for name, steps_of in views(summary["own_steps"]).items():
        found = summary["methods"]
        lines = [["method", "steps", *(head for head, _ in HEADERS.values())]]
        lines[0].append(f"error of {OURS} / its error")
        for method, steps in {WITHOUT_ADAPTATION: 0, **steps_of}.items():
            count = 0 if method == WITHOUT_ADAPTATION else rows
            values = found.get(method, {}).get(str(count), {}).get(str(steps))
            if values is None:
                continue
            cells = [
                shown(values[metric], scale) for metric, (_, scale) in HEADERS.items()
            ]
            compared = summary[COMPARISON][name]
            against = compared[str(rows)].get(method)
            cells.append(shown(against, 1, 2) if against else "")
            lines.append([method, "own" if steps == OWN else str(steps), *cells])
        parts.append(f"{rows} transitions, {name}:\n{markdown(lines)}")
    return "\n\n".join(parts)


def shown(value: Estimate, scale: float, digits: int | None = None) -> str:
    """Mean, with its interval where it has one; "-" where there is no mean."""
    return estimated(value, scale, digits or (1 if scale == 100 else 4))
