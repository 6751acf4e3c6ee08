"""Summary of a workdir's online runs: each method's measures with their intervals."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mesa_jax.methods import METHODS
from mesa_jax.report.measures import finite_mean, per_run, per_seed, trials
from mesa_jax.report.statistics import (
    at_most,
    improvement,
    interquartile_mean,
    interval,
)
from mesa_jax.study import records
from mesa_jax.study.records import ResultsError, Row

BY_SEED = ("violations", "violations_before_fault", "violations_after_fault")
BY_SEED += ("successes", "return_last_tenth")  # what is compared by seed
MORE_IS_BETTER = ("successes", "return_last_tenth")


class OnlineRuns(NamedTuple):
    """Holds the online runs of a workdir, and what they are compared with."""

    rows: list[Row]  # of the runs that are at their end
    unfinished: Sequence[Mapping[str, Any]] = ()  # method, meta_seed, seed, "episodes"
    solvable: Mapping[int, bool] | None = None  # by seed; None: every body is
    has_success: bool = True  # whether the domain says what success is
    struck: Mapping[int, int] | None = None  # by seed, the step at which a fault struck
    random: Mapping[int, Mapping[str, float]] | None = None  # by seed, of an episode
    steps: int = 0  # environment steps of a run; 0: it ends by episodes


def spread(values: np.ndarray, episodes: int = 0) -> dict[str, float | None]:
    """Returns mean and interval of [S]; of what was never seen, its largest share.

    Args:
      episodes: in which what is counted might have been seen; 0: nothing is counted.
    """
    found = interval(values)._asdict()
    if episodes and found["mean"] == 0.0:
        found["at_most"] = at_most(episodes)
    return _finite(found)


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    """Returns numbers as JSON has them: None for no number."""
    return {name: x if np.isfinite(x) else None for name, x in values.items()}


def summarize(online: OnlineRuns) -> dict[str, Any]:
    """Returns by method the mean and 95 % interval of each measure, as JSON has them.

    `success_share` is the share of episodes that succeed on bodies that can at all;
    runs that are not at their end are named.

    Raises:
      ResultsError: if there is no finished run.
    """
    rows, ran = online.rows, records.seeds(online.rows)
    solvable = online.solvable or dict.fromkeys(ran, True)
    trained = {row["method"] for row in rows if row["stage"] == "train"}
    methods, by_seed, each = {}, {}, {}
    for method in [name for name in METHODS if name in trained]:
        of_runs = per_run(rows, method, online.struck)
        of_seed = per_seed(of_runs)
        episodes = of_seed.pop("episodes")
        able = [solvable[seed] for seed in of_runs]
        share = finite_mean(of_seed.pop("success_share")[able])
        seen_in = trials(rows, method, online.struck)
        methods[method] = {
            "seeds": len(episodes),
            "episodes": round(episodes.mean()),
            **{k: spread(values, seen_in.get(k, 0)) for k, values in of_seed.items()},
            "success_share": None if np.isnan(share) else share,
        }
        by_seed[method] = _by_seed([str(seed) for seed in of_runs], of_seed)
        each[method] = _each(of_runs)
    if not methods:
        raise ResultsError(
            "there is no finished run yet; run an online launch to its end."
            + f" {unfinished_runs(online.unfinished)}" * bool(online.unfinished)
        )
    summary = {name: rows[0][name] for name in ("domain", "tasks")}
    summary |= {"methods": methods, "has_success": online.has_success}
    summary |= {"steps": online.steps, "by_seed": by_seed}
    summary["interquartile_mean"] = {
        method: {
            name: _finite(interquartile_mean(of_runs)._asdict())
            for name, of_runs in mine.items()
        }
        for method, mine in each.items()
    }
    summary["improvement"] = _improvements(each)
    summary["meta_seeds"] = len({row["meta_seed"] for row in rows})
    summary["solvable_seeds"] = [seed for seed in ran if solvable[seed]]
    summary["unfinished"] = [dict(run) for run in online.unfinished]
    if online.random:
        mine = [online.random[seed] for seed in ran]
        returned, violated = (
            np.array([one[name] for one in mine]) for name in ("return", "violations")
        )
        tried = sum(one.get("episodes", 0) for one in mine)
        summary["random_policy"] = {
            "return": spread(returned),
            "violations": spread(violated, tried),
        }
    return summary


def _each(
    of_runs: Mapping[int, list[dict[str, float]]],
) -> dict[str, dict[int, list[float]]]:
    """Returns what is compared, by measure and seed a value a meta-seed."""
    names = [name for name in BY_SEED if name in next(iter(of_runs.values()))[0]]
    return {
        name: {seed: [run[name] for run in mine] for seed, mine in of_runs.items()}
        for name in names
    }


def _improvements(each: Mapping[str, Mapping[str, dict]]) -> dict[str, dict]:
    """Returns by measure and method how probably it is better than each other one."""
    names = next(iter(each.values()))
    return {
        name: {
            ours: {
                theirs: _finite(
                    improvement(
                        mine[name], other[name], name not in MORE_IS_BETTER
                    )._asdict()
                )
                for theirs, other in each.items()
                if theirs != ours
            }
            for ours, mine in each.items()
        }
        for name in names
    }


def _by_seed(seeds: Sequence[str], of_seed: Mapping[str, np.ndarray]) -> dict:
    """Returns measures by name and seed, as JSON has them: None for no number."""
    return {
        name: {
            seed: float(x) if np.isfinite(x) else None
            for seed, x in zip(seeds, values, strict=True)
        }
        for name, values in of_seed.items()
        if name in BY_SEED
    }


def unfinished_runs(unfinished: Sequence[Mapping[str, Any]], most: int = 12) -> str:
    """Says which runs are left out, and how far they are; '' for none."""
    if not unfinished:
        return ""
    found = [
        f"{run['method']}, seed {run['seed']}"
        + f", meta-seed {run['meta_seed']}" * bool(run["meta_seed"])
        + f" ({run['episodes']} episodes so far)"
        for run in unfinished
    ]
    more = f"; and {len(found) - most} more" * (len(found) > most)
    return f"Not at their end and left out: {'; '.join(found[:most])}{more}."
