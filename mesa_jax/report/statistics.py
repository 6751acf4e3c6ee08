"""What is measured of online runs: curves, measures by seed, and the summary."""

import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from mesa_jax.methods import METHODS
from mesa_jax.study import files, records
from mesa_jax.study.records import ResultsError, Row

CONFIDENCE = 0.95
COLUMNS = ("episode", "env_steps", "return", "length", "violation", "success")
COLUMNS += ("violation_while_recovering", "recoveries")

AFTER_FAULT = ("violations_after_fault", "violating_after_fault")
EVENTS = ("violations", "violating_share", "violations_while_recovering")
EVENTS += ("successes", "violating_before_fault", *AFTER_FAULT)  # once an episode

Run = dict[str, np.ndarray]  # a run's training episodes, [E] by column


def ended(rows: list[Row], unfinished: Iterable[Mapping[str, Any]]) -> list[Row]:
    """The rows of runs that are at their end.

    Args:
      unfinished: the other runs' method, meta_seed and seed.
    """
    theirs = {records.run_of(run) for run in unfinished}
    return [row for row in rows if records.run_of(row) not in theirs]


def runs(rows: list[Row], method: str) -> dict[int, list[Run]]:
    """A method's runs by seed, one a meta-seed, each whole."""
    by_run: dict[tuple[int, int], list[Row]] = {}
    for row in rows:
        if row["method"] == method and row["stage"] == "train":
            by_run.setdefault((row["seed"], row["meta_seed"]), []).append(row)
    by_seed: dict[int, list[Run]] = {}
    for (seed, _), mine in sorted(by_run.items()):
        mine = sorted(mine, key=lambda row: row["episode"])
        run = {name: np.array([row[name] for row in mine]) for name in COLUMNS}
        by_seed.setdefault(seed, []).append(run)
    return by_seed


def so_far(values: np.ndarray) -> np.ndarray:
    """[E] an episode -> [E + 1] cumulative, from before the first episode on."""
    return np.pad(values.cumsum(), (1, 0))


def running_mean(values: np.ndarray, window: int = 10) -> np.ndarray:
    """[E] an episode -> [E + 1] mean of the last `window`, the first twice."""
    total = so_far(values)
    ends = np.arange(1, len(total))
    starts = np.maximum(ends - window, 0)
    means = (total[ends] - total[starts]) / (ends - starts)
    return np.concatenate([means[:1], means])


def _ratio(run: Run) -> np.ndarray:
    """(successes + 1) / (violations + 1) so far."""
    return (so_far(run["success"]) + 1) / (so_far(run["violation"]) + 1)


LINES: dict[str, Callable[[Run], np.ndarray]] = {  # a run -> [E + 1]
    "violations": lambda run: so_far(run["violation"]),
    "successes": lambda run: so_far(run["success"]),
    "returns": lambda run: running_mean(run["return"]),
    "ratio": _ratio,
}


def curves(
    rows: list[Row], method: str, line: str, grid: np.ndarray | None = None
) -> np.ndarray:
    """One of `LINES`, its mean over a seed's meta-seeds.

    [seeds, episodes + 1], or with a grid [G] of environment steps [seeds, G]: what
    the episodes that had ended by then tell.
    """

    def values(run):
        found = LINES[line](run)
        if grid is None:
            return found
        return found[np.searchsorted(run["env_steps"], grid, side="right")]

    by_seed = runs(rows, method)
    return np.array(
        [np.mean([values(run) for run in mine], axis=0) for mine in by_seed.values()]
    )


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean of [S] over seeds and its 95 % bootstrap interval, NaN where there is none.

    A seed without a value (NaN) is left out. One seed, or seeds that are all alike,
    have a mean and no interval.
    """
    values = values[np.isfinite(values)]
    mean = float(np.mean(values)) if len(values) else float("nan")
    if len(values) < 2 or np.ptp(values) == 0:
        return mean, float("nan"), float("nan")
    found = stats.bootstrap(
        (values,),
        np.mean,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return mean, float(found.low), float(found.high)


def at_most(trials: int) -> float:
    """Bounds an unseen event's share: the exact (Clopper-Pearson) 95 % interval's end.

    Args:
      trials: how often it might have been seen.
    """
    return float(stats.binomtest(0, trials).proportion_ci(CONFIDENCE, "exact").high)


def per_seed(
    rows: list[Row], method: str, struck: dict[int, int] | None = None
) -> dict[str, np.ndarray]:
    """The summary's measures of a method, each [S] over seeds.

    Args:
      struck: by seed, the environment step of a run at which its fault struck.
    """
    by_seed = {
        seed: [_measures(run, (struck or {}).get(seed)) for run in mine]
        for seed, mine in runs(rows, method).items()
    }
    names = next(iter(by_seed.values()))[0]
    return {
        name: np.array([_mean([m[name] for m in mine]) for mine in by_seed.values()])
        for name in names
    }


def trials(
    rows: list[Row], method: str, struck: dict[int, int] | None = None
) -> dict[str, int]:
    """Episodes of all runs in which a measure's event might have been seen."""
    every = before = 0
    for seed, mine in runs(rows, method).items():
        for run in mine:
            every += len(run["episode"])
            before += int((run["env_steps"] <= (struck or {}).get(seed, 0)).sum())
    found = dict.fromkeys(EVENTS, every)
    found["violating_before_fault"] = before
    found |= dict.fromkeys(AFTER_FAULT, every - before)
    return found


def _measures(run: Run, onset: int | None) -> dict[str, float]:
    """Of one run; NaN where it has no episode to tell."""
    violations, returns = run["violation"].sum(), run["return"]
    tenth = max(1, len(returns) // 10)
    measures = {
        "episodes": len(returns),
        "violations": violations,
        "violating_share": _mean(run["violation"]),
        "successes": run["success"].sum(),
        "success_share": _mean(run["success"]),
        "ratio": _ratio(run)[-1],
        "return_per_violation": returns.sum() / (violations + 1),
        "return_last_tenth": _mean(returns[-tenth:]),
        "recovered_share": run["recoveries"].sum() / max(1, run["length"].sum()),
        "violations_while_recovering": run["violation_while_recovering"].sum(),
    }
    if onset is not None:
        after = run["env_steps"] > onset
        measures |= {
            "violations_after_fault": run["violation"][after].sum(),
            "violating_before_fault": _mean(run["violation"][~after]),
            "violating_after_fault": _mean(run["violation"][after]),
            "return_after_fault": _mean(returns[after]),
        }
    return measures


def _mean(values) -> float:
    """Of the finite ones; NaN where there is none."""
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    return float(values.mean()) if values.size else np.nan


def spread(values: np.ndarray, episodes: int = 0) -> dict[str, float | None]:
    """Mean and interval of [S]; where nothing was seen, at most which share might be.

    Args:
      episodes: in which what is counted might have been seen; 0: nothing is counted.
    """
    found = dict(zip(("mean", "low", "high"), interval(values), strict=True))
    if episodes and found["mean"] == 0.0:
        found["at_most"] = at_most(episodes)
    return {name: x if np.isfinite(x) else None for name, x in found.items()}


def summarize(
    workdir: pathlib.Path,
    solvable: dict[int, bool] | None = None,
    has_success: bool = True,
    struck: dict[int, int] | None = None,
    random: dict[int, dict[str, float]] | None = None,
    steps: int = 0,
    unfinished: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Per method the mean and 95 % interval of each measure; also written as JSON.

    Args:
      solvable: by seed, whether its body can reach success within the horizon at all
        (None: all can); `success_share` is the share of those bodies' episodes that do.
      has_success: whether the domain says what success is.
      struck: by seed, the environment step at which its run's fault struck.
      random: by seed, "return" and "violations" of a mean episode of random actions,
        and how many "episodes" there were.
      steps: the environment steps after which each run ends; 0: it ends by episodes.
      unfinished: the runs that are not at their end, with their "episodes" so far.
        They are left out and named.

    Raises:
      ResultsError: if there is no finished run.
    """
    rows = ended(records.read(workdir), unfinished)
    ran = records.seeds(rows)
    solvable = solvable or dict.fromkeys(ran, True)
    trained = {row["method"] for row in rows if row["stage"] == "train"}
    methods = {}
    for method in [name for name in METHODS if name in trained]:
        of_seed = per_seed(rows, method, struck)
        episodes = of_seed.pop("episodes")
        able = [solvable[seed] for seed in runs(rows, method)]
        share = _mean(of_seed.pop("success_share")[able])
        seen_in = trials(rows, method, struck)
        methods[method] = {
            "seeds": len(episodes),
            "episodes": round(episodes.mean()),
            **{k: spread(values, seen_in.get(k, 0)) for k, values in of_seed.items()},
            "success_share": None if np.isnan(share) else share,
        }
    if not methods:
        raise ResultsError(
            f"{workdir} has no finished run yet; run an online launch to its end."
            + f" {named(unfinished)}" * bool(unfinished)
        )
    summary = {name: rows[0][name] for name in ("domain", "tasks")}
    summary |= {"methods": methods, "has_success": has_success, "steps": steps}
    summary["solvable_seeds"] = [seed for seed in ran if solvable[seed]]
    summary["unfinished"] = [dict(run) for run in unfinished]
    if random:
        mine = [random[seed] for seed in ran]
        returned, violated = (
            np.array([one[name] for one in mine]) for name in ("return", "violations")
        )
        tried = sum(one.get("episodes", 0) for one in mine)
        summary["random_policy"] = {
            "return": spread(returned),
            "violations": spread(violated, tried),
        }
    files.write_derived(workdir / "summary.json", summary)
    return summary


def named(unfinished: Sequence[Mapping[str, Any]], most: int = 12) -> str:
    """Says which runs are left out, and how far they are; '' for none."""
    if not unfinished:
        return ""
    told = [
        f"{run['method']}, seed {run['seed']}"
        + f", meta-seed {run['meta_seed']}" * bool(run["meta_seed"])
        + f" ({run['episodes']} episodes so far)"
        for run in unfinished
    ]
    more = f"; and {len(told) - most} more" * (len(told) > most)
    return f"Not at their end and left out: {'; '.join(told[:most])}{more}."
