"""Means, interquartile means, improvements and curves, with bootstrap intervals.

Intervals resample bodies: they are a sample of those that a robot may have.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 9999
CUT = 0.25  # share of the runs that an interquartile mean leaves out at either end

Runs = Mapping[int, Sequence[float]]  # by body, a value a meta-seed


class Interval(NamedTuple):
    """Holds a mean and its 95 % bootstrap interval; NaN where there is none."""

    mean: float
    low: float
    high: float


class Curve(NamedTuple):
    """Holds a mean along x and its 95 % bootstrap interval, each [N]; NaN: unknown."""

    x: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    runs: np.ndarray | None = None  # [S, N], of each seed

    @property
    def seeds(self) -> int:
        """Returns the number of runs."""
        return 0 if self.runs is None else len(self.runs)


def bootstrap(
    count: int, statistic: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ends of a 95 % percentile-bootstrap interval.

    Args:
      count: how many values are resampled.
      statistic: (indices [R, count] of R resamples) -> [R, ...].
    """
    draws = np.random.default_rng(0).integers(0, count, (RESAMPLES, count))
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(statistic(draws), [tail, 100 - tail], axis=0)
    return low, high


def interval(values: np.ndarray) -> Interval:
    """Returns the mean of [S] with its interval.

    A value that is NaN is left out. One value, or values that are all alike, have a
    mean and no interval.
    """
    values = values[np.isfinite(values)]
    mean = float(np.mean(values)) if len(values) else float("nan")
    if len(values) < 2 or np.ptp(values) == 0:
        return Interval(mean, float("nan"), float("nan"))
    low, high = bootstrap(len(values), lambda draws: values[draws].mean(1))
    return Interval(mean, float(low), float(high))


def ratio(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Interval:
    """Returns the mean of ours over the mean of theirs, paired by body.

    It has no interval (NaN) of one body, or where all resamples agree.
    """
    bodies = [body for body in ours if body in theirs]
    a, b = (np.array([values[body] for body in bodies]) for values in (ours, theirs))
    if not bodies:
        return Interval(*[float("nan")] * 3)
    low, high = bootstrap(
        len(bodies), lambda draws: a[draws].mean(1) / b[draws].mean(1)
    )
    if np.isclose(low, high, rtol=1e-9, atol=0.0):
        low = high = np.nan
    return Interval(float(a.mean() / b.mean()), float(low), float(high))


def interquartile_mean(runs: Runs) -> Interval:
    """Returns the mean of the middle half of all runs (Agarwal et al., 2021).

    Runs whose value is NaN are left out. There is no interval (NaN) of one body, or
    where all resamples agree.
    """
    longest = max((len(one) for one in runs.values()), default=0)
    padded = [[*one, *[np.nan] * (longest - len(one))] for one in runs.values()]
    values = np.array(padded, float).reshape(len(runs), longest)
    values = values[np.isfinite(values).any(1)]
    if not len(values):
        return Interval(*[float("nan")] * 3)
    low, high = bootstrap(len(values), lambda draws: _trimmed_mean(values[draws]))
    if low == high:
        low = high = np.nan
    return Interval(float(_trimmed_mean(values[None])[0]), float(low), float(high))


def _trimmed_mean(values: np.ndarray) -> np.ndarray:
    """Returns means [R] of the middle half of the finite among [R, S, M]."""
    values = np.sort(values.reshape(len(values), -1))  # NaN last
    count = np.isfinite(values).sum(1)
    cut = (CUT * count).astype(int)
    total = np.nan_to_num(values).cumsum(1)
    total = np.pad(total, ((0, 0), (1, 0)))
    row = np.arange(len(values))
    return (total[row, count - cut] - total[row, cut]) / (count - 2 * cut)


def improvement(ours: Runs, theirs: Runs, less: bool = False) -> Interval:
    """Returns how probably a run of ours is better than theirs (Agarwal et al., 2021).

    Both are of the same body; a tie counts half. It is the mean over the bodies that
    both have; the interval is over them.

    Args:
      ours, theirs: the values of each body's runs.
      less: whether the smaller value is the better one.
    """
    sign = -1.0 if less else 1.0
    shares = []
    for body in [body for body in ours if body in theirs]:
        gap = sign * np.subtract.outer(np.array(ours[body]), np.array(theirs[body]))
        gap = gap[np.isfinite(gap)]
        if gap.size:
            shares.append(np.mean((gap > 0) + 0.5 * (gap == 0)))
    return interval(np.array(shares))


def curve(values: np.ndarray, x: np.ndarray | None = None) -> Curve:
    """Returns the mean of [S, N] over seeds with its interval.

    Args:
      x: environment steps [N]; without them the values are of episodes 0, 1, ...
    """
    x = np.arange(values.shape[1]) if x is None else x

    def means(draws):
        counts = [(draws == i).mean(1) for i in range(len(values))]
        return np.stack(counts, axis=1) @ values

    return Curve(x, values.mean(0), *bootstrap(len(values), means), values)


def at_most(trials: int) -> float:
    """Limits an unseen event's share: the exact (Clopper-Pearson) 95 % interval's end.

    Args:
      trials: how often it might have been seen.
    """
    from scipy import stats  # a third of a launch's start, and not for flags

    return float(stats.binomtest(0, trials).proportion_ci(CONFIDENCE, "exact").high)
