"""Interquartile means and improvements, held to SciPy and to rliable's numbers."""

import numpy as np
import pytest
from scipy import stats

from mesa_jax.report import tables
from mesa_jax.report.measures import per_run
from mesa_jax.report.statistics import improvement, interquartile_mean
from mesa_jax.report.summary import OnlineRuns, summarize
from mesa_jax.run_state import EpisodeRecord
from mesa_jax.study import records

# [meta-seeds, bodies], as rliable has runs and tasks
OURS = np.array([[3, 0, 7, 12, 0, 1], [5, 0, 2, 40, 1, 1], [4, 0, 9, 8, 0, 3]], float)
THEIRS = np.array(
    [[4, 0, 6, 15, 2, 0], [9, 0, 2, 33, 0, 5], [1, 0, 8, 21, 3, 1]], float
)
# rliable 1.2.0: metrics.aggregate_iqm, metrics.probability_of_improvement
RLIABLE = {"ours": 2.7, "theirs": 3.2, "ours above theirs": 0.4537037037037037}


def by_body(values):
    return {body: list(mine) for body, mine in enumerate(values.T)}


def test_both_are_what_rliable_gives():
    assert interquartile_mean(by_body(OURS)).mean == pytest.approx(RLIABLE["ours"])
    assert interquartile_mean(by_body(THEIRS)).mean == pytest.approx(RLIABLE["theirs"])
    found = improvement(by_body(OURS), by_body(THEIRS)).mean
    assert found == pytest.approx(RLIABLE["ours above theirs"])


def test_rliable_gives_so():
    metrics = pytest.importorskip("rliable.metrics")
    assert metrics.aggregate_iqm(OURS) == pytest.approx(RLIABLE["ours"])
    assert metrics.aggregate_iqm(THEIRS) == pytest.approx(RLIABLE["theirs"])
    found = metrics.probability_of_improvement(OURS, THEIRS)
    assert found == pytest.approx(RLIABLE["ours above theirs"])


@pytest.mark.parametrize("bodies", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_an_interquartile_mean_leaves_out_a_quarter_at_either_end(bodies, seeds):
    values = np.random.default_rng(bodies).standard_cauchy((seeds, bodies))
    found = interquartile_mean(by_body(values))
    assert found.mean == pytest.approx(stats.trim_mean(values, 0.25, axis=None))
    assert np.isnan(found.low) == (bodies == 1)
    if bodies > 1:
        assert found.low <= found.mean <= found.high


def test_one_extreme_run_does_not_move_it():
    calm, wild = OURS.copy(), OURS.copy()
    wild[1, 3] = 1e6
    ours, theirs = (interquartile_mean(by_body(x)) for x in (calm, wild))
    assert ours.mean == theirs.mean


def test_runs_that_are_missing_are_left_out():
    ragged = {0: [1.0, 2.0, 3.0], 1: [4.0], 2: [np.nan, 5.0], 3: [np.nan]}
    found = interquartile_mean(ragged)
    assert found.mean == pytest.approx(stats.trim_mean([1, 2, 3, 4, 5], 0.25))
    assert np.isnan(interquartile_mean({0: [np.nan]}).mean)
    assert np.isnan(interquartile_mean({}).mean)


def test_values_that_are_all_alike_have_no_interval():
    found = interquartile_mean({0: [0.0], 1: [0.0], 2: [0.0]})
    assert found.mean == 0.0 and np.isnan(found.low)


def test_an_improvement_is_paired_by_body_and_a_tie_counts_half():
    ours, theirs = {0: [1.0], 1: [2.0], 2: [9.0], 7: [0.0]}, {0: [1.0], 1: [3.0]}
    theirs |= {2: [4.0], 8: [0.0]}  # 7 and 8 have no partner
    assert improvement(ours, theirs).mean == pytest.approx((0.5 + 0.0 + 1.0) / 3)
    assert improvement(ours, theirs, less=True).mean == pytest.approx(0.5)
    both = improvement(ours, theirs).mean + improvement(theirs, ours).mean
    assert both == pytest.approx(1.0)
    assert np.isnan(improvement({0: [1.0]}, {1: [1.0]}).mean)


def test_an_improvement_is_the_share_of_pairs_of_runs():
    found = improvement(by_body(OURS), by_body(THEIRS)).mean
    of_bodies = [
        stats.mannwhitneyu(a, b).statistic / 9 if not np.array_equal(a, b) else 0.5
        for a, b in zip(OURS.T, THEIRS.T, strict=True)
    ]
    assert found == pytest.approx(np.mean(of_bodies))


def _rows(method, violations):
    rows = []
    for meta_seed, by_seed in enumerate(violations):
        for seed, count in enumerate(by_seed):
            run = {"domain": "navigation1", "tasks": "flip", "method": method}
            run |= {"meta_seed": meta_seed, "seed": seed}
            violated = np.arange(50) < count
            none = np.zeros(50, int)
            record = EpisodeRecord(
                env_steps=np.arange(1, 51) * 10,
                episode_return=none - 1.0,
                length=none + 10,
                violation=violated.astype(int),
                violation_while_recovering=none,
                success=none,
                recoveries=none,
            )
            rows += records.rows_of(run, record, 50, "train", 1)
    return rows


def test_the_summary_has_both_and_the_table_shows_who_is_safer():
    rows = _rows("mesa", OURS) + _rows("multi_task", THEIRS)
    found = [run["violations"] for run in per_run(rows, "mesa")[3]]
    assert found == [12, 40, 8]
    summary = summarize(OnlineRuns(rows))
    middle = summary["interquartile_mean"]["mesa"]["violations"]["mean"]
    assert middle == pytest.approx(RLIABLE["ours"])
    safer = summary["improvement"]["violations"]["mesa"]["multi_task"]["mean"]
    assert safer == pytest.approx(1 - RLIABLE["ours above theirs"])
    heading, _, *lines = tables.improvements(summary).splitlines()
    names = [cell.strip() for cell in heading.split("|")[2:-1]]
    assert names == ["multi_task", "mesa"]  # METHODS' order
    (mesa,) = [line for line in lines if line.startswith("| mesa ")]
    assert f"{safer:.2f} [" in mesa
    assert tables.improvements(summarize(OnlineRuns(_rows("mesa", OURS)))) == ""
