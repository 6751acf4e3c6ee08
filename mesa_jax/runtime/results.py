"""results.csv: one row an online episode, and the summary table made from it."""

import csv
import io
import pathlib
from typing import Any

import numpy as np
from scipy import stats

from mesa_jax.agents import METHODS
from mesa_jax.rollout import EpisodeRecord
from mesa_jax.runtime import files

COLUMNS = [
    *("domain", "tasks", "method", "meta_seed", "seed", "stage", "episode"),
    *("env_steps", "return", "length", "violation", "violation_while_recovering"),
    *("success", "recoveries"),
]
TEXT = ("domain", "tasks", "method", "stage")
CONFIDENCE = 0.95

Row = dict[str, Any]


class ResultsError(ValueError):
    """A results.csv that can not be read; names the file and the line."""


def read(workdir: pathlib.Path) -> list[Row]:
    """All rows of a workdir; none where there is no file yet."""
    path = workdir / "results.csv"
    if not path.exists():
        return []
    reader = csv.DictReader(io.StringIO(path.read_text()))
    if reader.fieldnames != COLUMNS:
        raise ResultsError(
            f"{path}: its columns are {reader.fieldnames}, not {COLUMNS}."
        )
    return [_typed(path, line, row) for line, row in enumerate(reader, 2)]


def replace_runs(workdir: pathlib.Path, rows: list[Row]) -> None:
    """Writes the rows of some runs in place of what results.csv had of them."""

    def run(row):
        return row["method"], row["meta_seed"], row["seed"]

    theirs = {run(row) for row in rows}
    merged = [row for row in read(workdir) if run(row) not in theirs] + rows
    order = list(METHODS)
    merged.sort(key=lambda r: (order.index(r["method"]), r["meta_seed"], r["seed"]))
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(merged)
    files.write_atomically(workdir / "results.csv", text.getvalue())


def rows_of(
    run: Row, records: EpisodeRecord, episodes: int, stage: str, every: int
) -> list[Row]:
    """Rows of one run's first `episodes` records; `every` episodes lie between two."""
    rows = []
    for i in range(episodes):
        record = EpisodeRecord(*(value[i] for value in records))
        values = {name: int(value) for name, value in record._asdict().items()}
        values["return"] = round(float(record.episode_return), 4)
        del values["episode_return"]
        rows.append(run | {"stage": stage, "episode": (i + 1) * every} | values)
    return [{name: row[name] for name in COLUMNS} for row in rows]


def runs(rows: list[Row], method: str, column: str) -> dict[int, np.ndarray]:
    """By seed, [meta-seeds, episodes] of a column over a method's training episodes.

    Runs are cut to the shortest, so that an unfinished workdir can be looked at.
    """
    by_run: dict[tuple[int, int], list[tuple[int, float]]] = {}
    for row in rows:
        if row["method"] == method and row["stage"] == "train":
            run = by_run.setdefault((row["seed"], row["meta_seed"]), [])
            run.append((row["episode"], float(row[column])))
    shortest = min(map(len, by_run.values()), default=0)
    by_seed: dict[int, list[list[float]]] = {}
    for (seed, _), run in sorted(by_run.items()):
        values = [value for _, value in sorted(run)[:shortest]]
        by_seed.setdefault(seed, []).append(values)
    return {seed: np.array(values) for seed, values in by_seed.items()}


def curves(rows: list[Row], method: str, column: str) -> np.ndarray:
    """[seeds, episodes] of a column, the mean over a seed's meta-seeds."""
    means = [values.mean(0) for values in runs(rows, method, column).values()]
    return np.array(means).reshape(len(means), -1 if means else 0)


def ratios(rows: list[Row], method: str) -> np.ndarray:
    """(successes + 1) / (violations + 1) so far, of each run, then its mean by seed.

    [seeds, episodes + 1], from before the first episode on.
    """
    successes, violations = (
        runs(rows, method, column) for column in ("success", "violation")
    )
    return np.array(
        [
            ((so_far(successes[seed]) + 1) / (so_far(violations[seed]) + 1)).mean(0)
            for seed in successes
        ]
    )


def so_far(values: np.ndarray) -> np.ndarray:
    """[S, E] an episode -> [S, E + 1] cumulative from episode 0 on."""
    return np.pad(values.cumsum(1), ((0, 0), (1, 0)))


def running_mean(values: np.ndarray, window: int = 10) -> np.ndarray:
    """[S, E] an episode -> [S, E + 1] mean of the last `window`, the first twice."""
    total = so_far(values)
    ends = np.arange(1, total.shape[1])
    starts = np.maximum(ends - window, 0)
    means = (total[:, ends] - total[:, starts]) / (ends - starts)
    return np.concatenate([means[:, :1], means], axis=1)


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean and its 95 % bootstrap interval over seeds [S]; no interval for one seed.

    A seed without a value (NaN) is left out; NaN where none has one.
    """
    values = values[np.isfinite(values)]
    mean = float(np.mean(values)) if len(values) else float("nan")
    if len(values) < 2 or np.ptp(values) == 0:
        return mean, mean, mean
    found = stats.bootstrap(
        (values,),
        np.mean,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return mean, float(found.low), float(found.high)


def per_seed(
    rows: list[Row], method: str, struck: dict[int, int] | None = None
) -> dict[str, np.ndarray]:
    """The summary's measures of a method, each [S] over seeds.

    Args:
      struck: by seed, the environment step of a run at which its fault struck.
    """

    def get(column):
        return curves(rows, method, column)

    violations, successes = get("violation").sum(1), get("success").sum(1)
    returns, recoveries = get("return"), get("recoveries").sum(1)
    tenth = max(1, returns.shape[1] // 10)
    measures = {
        "violations": violations,
        "successes": successes,
        "ratio": ratios(rows, method)[:, -1],
        "return_per_violation": returns.sum(1) / (violations + 1),
        "return_last_tenth": returns[:, -tenth:].mean(1),
        "recovered_share": recoveries / get("length").sum(1),
        "violations_while_recovering": get("violation_while_recovering").sum(1),
    }
    if struck:
        measures |= _after(rows, method, struck)
    return measures


def _after(
    rows: list[Row], method: str, struck: dict[int, int]
) -> dict[str, np.ndarray]:
    """What happened in the episodes that ended after the fault's onset, [S]."""
    steps, violation, returns = (
        runs(rows, method, column) for column in ("env_steps", "violation", "return")
    )
    found: dict[str, list[float]] = {
        "violations_after_fault": [],
        "violating_before_fault": [],
        "violating_after_fault": [],
        "return_after_fault": [],
    }
    for seed, ends in steps.items():
        after = ends > struck[seed]  # [meta-seeds, episodes]
        found["violations_after_fault"].append((violation[seed] * after).sum(1).mean())
        found["violating_before_fault"].append(_mean(violation[seed][~after]))
        found["violating_after_fault"].append(_mean(violation[seed][after]))
        found["return_after_fault"].append(_mean(returns[seed][after]))
    return {name: np.array(values) for name, values in found.items()}


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else np.nan


def seeds(rows: list[Row]) -> list[int]:
    """Every seed that has an episode, ascending."""
    return sorted({row["seed"] for row in rows})


def summarize(
    workdir: pathlib.Path,
    solvable: dict[int, bool] | None = None,
    has_success: bool = True,
    struck: dict[int, int] | None = None,
    random: dict[int, dict[str, float]] | None = None,
) -> dict[str, Any]:
    """Per method the mean and 95 % interval of each measure; also written as JSON.

    Args:
      solvable: by seed, whether its body can reach success within the horizon at all
        (None: all can); `success_share` is the share of those bodies' episodes that do.
      has_success: whether the domain says what success is.
      struck: by seed, the environment step at which its run's fault struck.
      random: by seed, "return" and "violations" of a mean episode of random actions.

    Raises:
      ResultsError: if there is no finished episode.
    """
    rows = read(workdir)
    solvable = solvable or dict.fromkeys(seeds(rows), True)
    present = {row["method"] for row in rows}
    methods = {}
    for method in [name for name in METHODS if name in present]:
        episodes = curves(rows, method, "violation").shape
        if episodes[1] == 0:
            continue
        measures = {
            name: dict(zip(("mean", "low", "high"), interval(values), strict=True))
            for name, values in per_seed(rows, method, struck).items()
        }
        able = [solvable[seed] for seed in runs(rows, method, "success")]
        share = curves(rows, method, "success")[able]
        measures["success_share"] = float(share.mean()) if share.size else None
        methods[method] = {"seeds": episodes[0], "episodes": episodes[1]} | measures
    if not methods:
        raise ResultsError(
            f"{workdir} has no finished episode yet; run an online launch."
        )
    first = rows[0]
    summary = {"domain": first["domain"], "tasks": first["tasks"], "methods": methods}
    summary["solvable_seeds"] = [seed for seed in seeds(rows) if solvable[seed]]
    summary["has_success"] = has_success
    if random:
        summary["random_policy"] = _random(rows, random)
    files.write_json(workdir / "summary.json", summary)
    return summary


def _random(rows: list[Row], random: dict[int, dict[str, float]]) -> dict[str, Any]:
    """Random actions on the bodies of the seeds that ran, mean and interval."""
    ran = seeds(rows)
    return {
        name: dict(
            zip(
                ("mean", "low", "high"),
                interval(np.array([random[seed][name] for seed in ran])),
                strict=True,
            )
        )
        for name in ("return", "violations")
    }


HEADERS = {
    "violations": "violations",
    "violations_after_fault": "violations after fault",
    "violating_before_fault": "episodes violating before it %",
    "violating_after_fault": "after it %",
    "successes": "successes",
    "ratio": "ratio",
    "return_per_violation": "return / (violations + 1)",
    "return_after_fault": "return after fault",
    "return_last_tenth": "return, last tenth",
    "recovered_share": "steps recovered %",
    "violations_while_recovering": "violations recovering",
}
SHARE = "success % where possible"
SHARES = ("recovered_share", "violating_before_fault", "violating_after_fault")
OF_SUCCESS, OF_RETURN = ("successes", "ratio"), ("return_per_violation",)


def table(summary: dict[str, Any]) -> str:
    """The summary as a Markdown table that also reads well on a terminal."""
    by_success = summary.get("has_success", True)
    left_out = OF_RETURN if by_success else OF_SUCCESS
    one = next(iter(summary["methods"].values()))
    names = [name for name in HEADERS if name in one and name not in left_out]
    share = [SHARE] if by_success else []
    lines = [["method", "seeds", "episodes", *(HEADERS[n] for n in names), *share]]
    for method, values in summary["methods"].items():
        cells = [method, str(values["seeds"]), str(values["episodes"])]
        for name in names:
            cells.append(cell(name, values[name]))
        if by_success:
            able = values["success_share"]
            cells.append("-" if able is None else f"{100 * able:.0f}")
        lines.append(cells)
    text = markdown(lines)
    if random := summary.get("random_policy"):
        text += (
            f"\n\nRandom actions: return {cell('return', random['return'])}, "
            f"violations an episode {cell('ratio', random['violations'])}."
        )
    return text


def cell(name: str, values: dict[str, float]) -> str:
    """Mean and 95 % interval of a measure; "-" where no seed has a value."""
    if values["mean"] is None or np.isnan(values["mean"]):  # None: read from JSON
        return "-"
    scale = 100 if name in SHARES else 1
    mean, low, high = (scale * values[k] for k in ("mean", "low", "high"))
    digits = 0 if abs(mean) >= 100 else 2 if name == "ratio" else 1
    return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def markdown(lines: list[list[str]]) -> str:
    """A table, its first line the heading, padded so that it also reads as text."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    lines = [lines[0], ["-" * width for width in widths], *lines[1:]]

    def show(cells):
        padded = [c.ljust(w) for c, w in zip(cells, widths, strict=True)]
        return "| " + " | ".join(padded) + " |"

    return "\n".join(map(show, lines))


def _typed(path: pathlib.Path, line: int, row: Row) -> Row:
    typed = dict(row)
    try:
        for name in COLUMNS:
            if name not in TEXT:
                typed[name] = float(row[name]) if name == "return" else int(row[name])
        if len(row) != len(COLUMNS) or row["method"] not in METHODS:
            raise ValueError
    except (TypeError, ValueError):
        bad = list(row.values())
        raise ResultsError(f"{path}, line {line} can not be read: {bad}.") from None
    return typed
