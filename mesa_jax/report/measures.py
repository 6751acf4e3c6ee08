"""Measures of online runs: of each run, by seed, and along it."""

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter

import numpy as np

from mesa_jax.study.records import Row, grouped

COLUMNS = ("episode", "env_steps", "return", "length", "violation", "success")
COLUMNS += ("violation_while_recovering", "recoveries")

AFTER_FAULT = ("violations_after_fault", "violating_after_fault")
EVENTS = ("violations", "violating_share", "violations_while_recovering")
BEFORE_FAULT = ("violations_before_fault", "violating_before_fault")
LISTED = ("episodes", "violations", "violations_before_fault", "violations_after_fault")
LISTED += ("successes", "return_last_tenth", "recovered_share")
EVENTS += ("successes", *BEFORE_FAULT, *AFTER_FAULT)  # once an episode

Run = dict[str, np.ndarray]  # a run's training episodes, [E] by column


def by_run(rows: Sequence[Row], method: str) -> dict[tuple[int, int], Run]:
    """Returns a method's runs by (seed, meta-seed), ascending, each whole."""
    trained = (r for r in rows if r["method"] == method and r["stage"] == "train")
    found = grouped(trained, itemgetter("seed", "meta_seed"))
    whole: dict[tuple[int, int], Run] = {}
    for run, mine in sorted(found.items()):
        mine = sorted(mine, key=lambda row: row["episode"])
        whole[run] = {name: np.array([row[name] for row in mine]) for name in COLUMNS}
    return whole


def runs(rows: Sequence[Row], method: str) -> dict[int, list[Run]]:
    """Returns a method's runs by seed, one a meta-seed, each whole."""
    by_seed: dict[int, list[Run]] = {}
    for (seed, _), run in by_run(rows, method).items():
        by_seed.setdefault(seed, []).append(run)
    return by_seed


def so_far(values: np.ndarray) -> np.ndarray:
    """Returns cumulative sums [E + 1] of [E], from before the first episode on."""
    return np.pad(values.cumsum(), (1, 0))


def running_mean(values: np.ndarray, window: int = 10) -> np.ndarray:
    """Returns means [E + 1] of the last `window` of [E]; the first stands twice."""
    total = so_far(values)
    ends = np.arange(1, len(total))
    starts = np.maximum(ends - window, 0)
    means = (total[ends] - total[starts]) / (ends - starts)
    return np.concatenate([means[:1], means])


def _success_ratio(run: Run) -> np.ndarray:
    """Returns (successes + 1) / (violations + 1) so far."""
    return (so_far(run["success"]) + 1) / (so_far(run["violation"]) + 1)


LINES: dict[str, Callable[[Run], np.ndarray]] = {  # a run -> [E + 1]
    "violations": lambda run: so_far(run["violation"]),
    "successes": lambda run: so_far(run["success"]),
    "returns": lambda run: running_mean(run["return"]),
    "ratio": _success_ratio,
}


def curves(
    rows: Sequence[Row], method: str, line: str, grid: np.ndarray | None = None
) -> np.ndarray:
    """Returns one of `LINES`, its mean over a seed's meta-seeds.

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


def per_run(
    rows: Sequence[Row], method: str, struck: Mapping[int, int] | None = None
) -> dict[int, list[dict[str, float]]]:
    """Returns the summary's measures of a method's runs, by seed, one a meta-seed.

    Args:
      struck: by seed, the environment step of a run at which its fault struck.
    """
    return {
        seed: [_measures(run, (struck or {}).get(seed)) for run in mine]
        for seed, mine in runs(rows, method).items()
    }


def listed(
    rows: Sequence[Row], methods: Sequence[str], struck: Mapping[int, int] | None = None
) -> list[dict[str, str | float]]:
    """Returns a line a run of some methods: whose it is, and `LISTED` of its measures.

    Args:
      struck: as for `per_run`.
    """
    lines = []
    for method in methods:
        for (seed, meta_seed), run in by_run(rows, method).items():
            found = _measures(run, (struck or {}).get(seed))
            line = {"method": method, "meta_seed": meta_seed, "seed": seed}
            lines.append(
                line | {k: round(v, 4) for k, v in found.items() if k in LISTED}
            )
    return sorted(lines, key=lambda x: (methods.index(x["method"]), x["meta_seed"]))


def per_seed(by_seed: Mapping[int, list[dict[str, float]]]) -> dict[str, np.ndarray]:
    """Returns the measures of `per_run`, means over meta-seeds, each [S] over seeds."""
    names = next(iter(by_seed.values()))[0]
    return {
        name: np.array(
            [finite_mean([m[name] for m in mine]) for mine in by_seed.values()]
        )
        for name in names
    }


def trials(
    rows: Sequence[Row], method: str, struck: Mapping[int, int] | None = None
) -> dict[str, int]:
    """Counts the episodes of all runs in which a measure's event might be seen."""
    every = before = 0
    for seed, mine in runs(rows, method).items():
        for run in mine:
            every += len(run["episode"])
            before += int((run["env_steps"] <= (struck or {}).get(seed, 0)).sum())
    found = dict.fromkeys(EVENTS, every)
    found |= dict.fromkeys(BEFORE_FAULT, before)
    found |= dict.fromkeys(AFTER_FAULT, every - before)
    return found


def _measures(run: Run, onset: int | None) -> dict[str, float]:
    """Measures one run; NaN where no episode defines a measure."""
    violations, returns = run["violation"].sum(), run["return"]
    tenth = max(1, len(returns) // 10)
    measures = {
        "episodes": len(returns),
        "violations": violations,
        "violating_share": finite_mean(run["violation"]),
        "successes": run["success"].sum(),
        "success_share": finite_mean(run["success"]),
        "ratio": _success_ratio(run)[-1],
        "return_per_violation": returns.sum() / (violations + 1),
        "return_last_tenth": finite_mean(returns[-tenth:]),
        "recovered_share": run["recoveries"].sum() / max(1, run["length"].sum()),
        "violations_while_recovering": run["violation_while_recovering"].sum(),
    }
    if onset is not None:
        after = run["env_steps"] > onset
        measures |= {
            "violations_before_fault": run["violation"][~after].sum(),
            "violations_after_fault": run["violation"][after].sum(),
            "violating_before_fault": finite_mean(run["violation"][~after]),
            "violating_after_fault": finite_mean(run["violation"][after]),
            "return_after_fault": finite_mean(returns[after]),
        }
    return measures


def finite_mean(values) -> float:
    """Returns the mean of the finite ones; NaN where there is none."""
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    return float(values.mean()) if values.size else np.nan
