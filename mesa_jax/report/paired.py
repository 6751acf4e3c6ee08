"""Differences between methods, paired by seed: interval, exact test, and both together.

A difference is called resolved where its 95 % bootstrap interval leaves out zero and
an exact sign-flip test, corrected for how many methods are compared (Holm), agrees.
The interval alone is too narrow where there are few seeds.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mesa_jax.report.statistics import CONFIDENCE, interval

FLIPS = 2**12  # sign patterns; all of them up to 12 seeds, else as many drawn


class Difference(NamedTuple):
    """Holds theirs less ours, a mean over the seeds that both have."""

    mean: float
    low: float  # of the 95 % interval; NaN where there is none
    high: float
    p: float  # of the sign-flip test; NaN where there is no seed
    seeds: int

    @property
    def resolved(self) -> bool:
        """Tells whether interval and test both tell it from zero."""
        excludes = not self.low <= 0.0 <= self.high  # True where there is no interval
        return self.p <= 1 - CONFIDENCE and excludes


def paired(ours: Mapping[str, float], theirs: Mapping[str, float]) -> Difference:
    """Returns theirs less ours over their common seeds.

    Args:
      ours, theirs: a value by seed; those that are no number are left out.
    """
    both = [seed for seed in ours if seed in theirs]
    values = np.array([_number(theirs[s]) - _number(ours[s]) for s in both])
    values = values[np.isfinite(values)]
    return Difference(*interval(values), _sign_flips(values), len(values))


def against(
    ours: Mapping[str, float], others: Mapping[str, Mapping[str, float]]
) -> dict[str, Difference]:
    """Returns each other method's `paired` difference, its p corrected by Holm's rule.

    Args:
      ours: a value by seed.
      others: by method.
    """
    found = {method: paired(ours, theirs) for method, theirs in others.items()}
    adjusted = holm([one.p for one in found.values()])
    return {
        method: one._replace(p=p)
        for (method, one), p in zip(found.items(), adjusted, strict=True)
    }


def holm(values: Sequence[float]) -> list[float]:
    """Returns p values after Holm's correction; NaN stays and is not counted."""
    known = [i for i, p in enumerate(values) if np.isfinite(p)]
    adjusted, highest = list(values), 0.0
    for rank, i in enumerate(sorted(known, key=lambda i: values[i])):
        highest = max(highest, min(1.0, (len(known) - rank) * values[i]))
        adjusted[i] = highest
    return adjusted


def least_p(seeds: int, comparisons: int = 1) -> float:
    """Returns the smallest p that so many seeds can give, corrected, were all alike."""
    return min(1.0, comparisons * 2.0 ** (1 - seeds))


def _sign_flips(values: np.ndarray) -> float:
    """The two-sided p of the mean, were each difference as likely of the other sign."""
    if len(values) < 2 or not values.any():
        return 1.0 if len(values) else float("nan")
    from scipy import stats  # as in `statistics`

    found = stats.permutation_test(
        (values,),
        np.mean,
        permutation_type="samples",
        n_resamples=FLIPS,
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)


def _number(value: float | None) -> float:
    """A value as it is read from JSON, which has no NaN."""
    return float("nan") if value is None else float(value)
