"""Paired differences, their exact test and its correction, by hand."""

import itertools

import numpy as np
import pytest

from mesa_jax.report import paired, statistics

SEEDS = [str(seed) for seed in range(8)]


def by_seed(*values) -> dict[str, float]:
    return dict(zip(SEEDS, values, strict=False))


def test_a_difference_is_theirs_less_ours_over_the_seeds_of_both():
    ours, theirs = by_seed(1.0, 2.0, 3.0), by_seed(4.0, 4.0)
    found = paired.paired(ours, theirs)
    assert (found.mean, found.seeds) == ((3 + 2) / 2, 2)
    np.testing.assert_allclose(found[:3], statistics.interval(np.array([3.0, 2.0])))


def test_what_is_no_number_is_left_out():
    found = paired.paired(by_seed(1.0, None, 3.0), by_seed(4.0, 4.0, np.nan))
    assert (found.mean, found.seeds) == (3.0, 1)
    nothing = paired.paired(by_seed(1.0), {"9": 2.0})
    assert nothing.seeds == 0 and np.isnan(nothing.p) and not nothing.resolved


@pytest.mark.parametrize(
    "differences", [(1, 2, 3), (5, 1, 2, -1, 4, 3), (-1, -2, 4, 4, 0, 1, 2, 3)]
)
def test_p_is_the_share_of_sign_patterns_with_as_large_a_mean(differences):
    values = np.array(differences, float)
    patterns = itertools.product((-1, 1), repeat=len(values))
    means = [abs(np.mean(values * signs)) for signs in patterns]
    share = np.mean(np.array(means) >= abs(values.mean()) - 1e-12)
    found = paired.paired(by_seed(*np.zeros(len(values))), by_seed(*values))
    assert found.p == pytest.approx(share)


@pytest.mark.parametrize("seeds", range(2, 9))
def test_seeds_that_agree_give_the_least_p(seeds):
    values = np.arange(1.0, seeds + 1)
    found = paired.paired(by_seed(*np.zeros(seeds)), by_seed(*values))
    assert found.p == pytest.approx(paired.least_p(seeds))
    assert found.resolved == (seeds >= 6)  # 2 / 2**6 is the first below .05


def test_seeds_that_are_all_alike_have_no_interval_and_may_be_resolved():
    found = paired.paired(by_seed(*np.zeros(8)), by_seed(*np.full(8, 5.0)))
    assert np.isnan(found.low) and found.resolved


def test_equal_runs_are_not_told_apart():
    found = paired.paired(by_seed(1.0, 2.0, 0.0), by_seed(1.0, 2.0, 0.0))
    assert (found.mean, found.p, found.resolved) == (0.0, 1.0, False)


def test_both_the_interval_and_the_test_must_exclude_zero():
    apart = paired.Difference(2.0, 1.0, 3.0, 0.01, 8)
    assert apart.resolved
    assert not apart._replace(low=-0.1).resolved
    assert not apart._replace(p=0.06).resolved


def test_holm_multiplies_by_what_is_left_and_keeps_the_order():
    found = paired.holm([0.04, 0.01, 0.03, 0.9])
    np.testing.assert_allclose(found, [0.09, 0.04, 0.09, 0.9])
    assert paired.holm([0.6, 0.7]) == [1.0, 1.0]
    one, nothing = paired.holm([0.04, float("nan")])
    assert one == 0.04 and np.isnan(nothing)


def test_more_methods_ask_for_more_seeds():
    def others(count):
        theirs = by_seed(*np.arange(1.0, 7.0))  # six seeds: p is 1 / 32
        return {f"m{i}": theirs for i in range(count)}

    ours = by_seed(*np.zeros(6))
    (one,) = paired.against(ours, others(1)).values()
    assert one.resolved and one.p == pytest.approx(1 / 32)
    for two in paired.against(ours, others(2)).values():
        assert not two.resolved and two.p == pytest.approx(2 / 32)
    assert paired.least_p(6, 2) == pytest.approx(2 / 32)
