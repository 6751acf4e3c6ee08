"""results.csv and the summary: rows, damage, and every measure by hand."""

import json

import numpy as np
import pytest

from experiments.summary import save_summary
from mesa_jax.methods import METHODS
from mesa_jax.report import measures, statistics, tables
from mesa_jax.report.summary import OnlineRuns, spread, unfinished_runs
from mesa_jax.run_state import EpisodeRecord
from mesa_jax.study import records as results

PROTOCOL_COLUMNS = (
    "domain,tasks,method,meta_seed,seed,stage,episode,env_steps,return,length,"
    "violation,violation_while_recovering,success,recoveries"
)
STATIC = {"domain": "navigation1", "tasks": "flip"}


def _run(method="mesa", seed=0, meta_seed=0) -> dict:
    return STATIC | {"method": method, "meta_seed": meta_seed, "seed": seed}


def _records(violation, success=None, returns=None, recoveries=None, length=10):
    """Records of one run's episodes, each of the same length."""
    count = len(violation)
    recoveries = recoveries or [0] * count
    return EpisodeRecord(
        env_steps=np.arange(1, count + 1) * length,
        episode_return=np.asarray(returns or [-1.0] * count, np.float32),
        length=np.full(count, length),
        violation=np.asarray(violation),
        violation_while_recovering=np.asarray(violation) * (np.array(recoveries) > 0),
        success=np.asarray(success or [0] * count),
        recoveries=np.asarray(recoveries),
    )


def _rows(run, *columns, stage="train", every=1, **named) -> list[dict]:
    records = _records(*columns, **named)
    return results.rows_of(run, records, len(records.violation), stage, every)


def _summarize(place, solvable=None, has_success=True, struck=None, **more) -> dict:
    unfinished = more.pop("unfinished", ())
    rows = results.ended(results.RESULTS.read(place), unfinished)
    online = OnlineRuns(rows, unfinished, solvable, has_success, struck)
    return save_summary(place, online._replace(**more))


def _measure(place, method="mesa") -> dict:
    return _summarize(place)["methods"][method]


def test_the_columns_are_the_protocols():
    assert ",".join(results.RESULTS.columns) == PROTOCOL_COLUMNS


def test_a_row_holds_its_run_and_its_episodes_record():
    records = _records([0, 1, 1], [1, 0, 0], [-5.0, -7.123456, -9.0], [0, 4, 0])
    first, second = results.rows_of(_run(seed=6), records, 2, "train", 1)
    assert list(first) == list(results.RESULTS.columns)
    assert [first["episode"], second["episode"]] == [1, 2]  # counted from 1
    assert second == _run(seed=6) | {
        "stage": "train",
        "episode": 2,
        "env_steps": 20,
        "return": -7.1235,
        "length": 10,
        "violation": 1,
        "violation_while_recovering": 1,
        "success": 0,
        "recoveries": 4,
    }


def test_an_evaluation_row_names_the_training_episode_before_it():
    rows = _rows(_run(), [0, 1], stage="evaluate", every=10)
    assert [row["episode"] for row in rows] == [10, 20]


def test_rows_come_back_from_the_file_as_they_were_written(tmp_path):
    assert results.RESULTS.read(tmp_path) == []
    rows = _rows(_run(), [0, 1], [1, 0], [-1.5, -2.25])
    results.RESULTS.replace(tmp_path, rows)
    assert results.RESULTS.read(tmp_path) == rows
    assert (tmp_path / "results.csv").read_text().startswith(PROTOCOL_COLUMNS + "\n")


def test_a_run_is_replaced_and_the_others_are_kept(tmp_path):
    old = _rows(_run(seed=1), [1, 1, 1])
    others = [_run(seed=0), _run(seed=1, meta_seed=1), _run("recovery_rl", seed=1)]
    kept = [row for run in others for row in _rows(run, [0, 1])]
    results.RESULTS.replace(tmp_path, old + kept)
    new = _rows(_run(seed=1), [0])
    results.RESULTS.replace(tmp_path, new)
    found = results.RESULTS.read(tmp_path)
    assert [row for row in found if row not in kept] == new
    assert len(found) == len(kept) + len(new)


def test_rows_lie_in_one_order_however_they_came(tmp_path):
    runs = [_run(m, seed, meta) for m in METHODS for meta in (0, 1) for seed in (0, 9)]
    for place, order in ((tmp_path / "a", runs), (tmp_path / "b", runs[::-1])):
        for run in order:
            results.RESULTS.replace(place, _rows(run, [0, 1]))
    first, second = ((tmp_path / x / "results.csv").read_text() for x in "ab")
    assert first == second
    found = [
        (r["method"], r["meta_seed"], r["seed"])
        for r in results.RESULTS.read(tmp_path / "a")
    ]
    expected = [
        (r["method"], r["meta_seed"], r["seed"]) for r in runs for _ in range(2)
    ]
    assert found == expected


@pytest.mark.parametrize(
    "damaged",
    [
        "navigation1,flip,mesa,0,0,train,2,20,oops,10,1,0,0,0",
        "navigation1,flip,mesa,0,0,train,2,20,-1.0,10,1.5,0,0,0",
        "navigation1,flip,mesa,0,0,train,2",
        "navigation1,flip,mesa,0,0,train,2,20,-1.0,10,1,0,0,0,77",
        "navigation1,flip,nobody,0,0,train,2,20,-1.0,10,1,0,0,0",
        "navigation1,flip,mesa,0,0,traim,2,20,-1.0,10,1,0,0,0",
    ],
    ids=[
        *("a word", "half a count", "too short", "too long"),
        *("an unknown method", "an unknown stage"),
    ],
)
def test_a_damaged_line_is_named_with_its_file(tmp_path, damaged):
    results.RESULTS.replace(tmp_path, _rows(_run(), [0, 0, 0]))
    path = tmp_path / "results.csv"
    lines = path.read_text().splitlines()
    lines[2] = damaged
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(results.ResultsError) as refused:
        results.RESULTS.read(tmp_path)
    assert f"{path} can not be read in line 3: " in str(refused.value)


@pytest.mark.parametrize("damage", [b"\xff", b'"', b"\0", b"\n"], ids=repr)
@pytest.mark.parametrize("at", [3, 140, 220])
def test_a_damaged_byte_is_said_with_the_file_and_spoils_one_line(tmp_path, damage, at):
    rows = _rows(_run(), [0, 0, 0])
    results.RESULTS.replace(tmp_path, rows)
    path = tmp_path / "results.csv"
    content = bytearray(path.read_bytes())
    content[at : at + 1] = damage
    path.write_bytes(content)
    with pytest.raises(results.ResultsError, match=str(path)):
        results.RESULTS.read(tmp_path)
    there = results.RESULTS.readable(tmp_path)
    assert len(there) >= 2 and all(row in rows for row in there)


def test_added_rows_are_those_of_the_file(tmp_path):
    rows = _rows(_run(), [0, 1, 0], None, [1.5, 2.25, float("nan")])
    results.RESULTS.replace(tmp_path, rows[:1])
    results.RESULTS.append(tmp_path, rows[1:])
    found = (tmp_path / "results.csv").read_bytes()
    results.RESULTS.replace(tmp_path, rows)
    assert (tmp_path / "results.csv").read_bytes() == found


def test_the_rows_of_a_run_that_has_none_any_more_go(tmp_path):
    rows = [*_rows(_run(), [0, 1]), *_rows(_run(seed=1), [0])]
    results.RESULTS.replace(tmp_path, rows)
    results.RESULTS.replace(tmp_path, [], [("mesa", 0, 0)])
    assert results.RESULTS.read(tmp_path) == rows[2:]


def test_later_rows_are_those_of_all_rows():
    records = _records([0, 1, 0, 1])
    every = results.rows_of(_run(), records, 4, "train", 1)
    assert results.rows_of(_run(), records, 4, "train", 1, first=3) == every[3:]


@pytest.mark.parametrize("text", ["", "step,reward\n1,2\n"])
def test_a_file_with_other_columns_is_named(tmp_path, text):
    (tmp_path / "results.csv").write_text(text)
    with pytest.raises(results.ResultsError, match=r"results\.csv .*: its columns are"):
        results.RESULTS.read(tmp_path)


def test_violations_successes_and_recoveries_are_totals_a_run(tmp_path):
    rows = _rows(_run(seed=0), [1, 0, 1, 0], [0, 1, 0, 0], recoveries=[2, 0, 0, 3])
    rows += _rows(_run(seed=1), [0, 0, 1, 0], [1, 1, 0, 1], recoveries=[0, 0, 5, 0])
    results.RESULTS.replace(tmp_path, rows)
    found = _measure(tmp_path)
    assert (found["seeds"], found["episodes"]) == (2, 4)
    assert found["violations"]["mean"] == (2 + 1) / 2
    assert found["successes"]["mean"] == (1 + 3) / 2
    assert found["violations_while_recovering"]["mean"] == (1 + 1) / 2
    # 40 steps a run
    assert found["recovered_share"]["mean"] == pytest.approx((5 / 40 + 5 / 40) / 2)


def test_the_ratio_is_taken_per_run_and_then_averaged(tmp_path):
    rows = _rows(_run(seed=0), [0, 0, 0], [1, 1, 1])  # (3 + 1) / (0 + 1) = 4
    rows += _rows(_run(seed=1), [1, 1, 1], [0, 0, 0])  # (0 + 1) / (3 + 1) = 0.25
    results.RESULTS.replace(tmp_path, rows)
    assert _measure(tmp_path)["ratio"]["mean"] == pytest.approx((4 + 0.25) / 2)


def test_the_ratio_is_taken_per_run_under_several_meta_seeds_too(tmp_path):
    rows = _rows(_run(meta_seed=0), [0, 0, 0], [1, 1, 1])  # 4, as above
    rows += _rows(_run(meta_seed=1), [1, 1, 1], [0, 0, 0])  # 0.25
    results.RESULTS.replace(tmp_path, rows)
    assert _measure(tmp_path)["ratio"]["mean"] == pytest.approx((4 + 0.25) / 2)


@pytest.mark.parametrize(("episodes", "tenth"), [(5, 1), (20, 2), (39, 3)])
def test_the_last_return_is_over_the_last_tenth_of_the_episodes(
    tmp_path, episodes, tenth
):
    returns = [-(float(i) ** 2) for i in range(episodes)]
    results.RESULTS.replace(tmp_path, _rows(_run(), [0] * episodes, None, returns))
    expected = np.mean(returns[-tenth:])
    assert _measure(tmp_path)["return_last_tenth"]["mean"] == pytest.approx(expected)


def test_evaluation_episodes_enter_no_measure(tmp_path):
    rows = _rows(_run(), [0, 1], [1, 0], [-2.0, -4.0])
    results.RESULTS.replace(tmp_path, rows)
    without = _measure(tmp_path)
    evaluation = _rows(_run(), [1, 1], stage="evaluate", every=1, returns=[-99.0] * 2)
    results.RESULTS.replace(tmp_path, rows + evaluation)
    assert _measure(tmp_path) == without


def test_meta_seeds_are_averaged_per_seed(tmp_path):
    rows = _rows(_run(seed=0, meta_seed=0), [1, 1])
    rows += _rows(_run(seed=0, meta_seed=1), [0, 1])
    rows += _rows(_run(seed=1, meta_seed=0), [0, 0])
    results.RESULTS.replace(tmp_path, rows)
    curves = measures.curves(results.RESULTS.read(tmp_path), "mesa", "violations")
    np.testing.assert_array_equal(curves, [[0, 0.5, 1.5], [0, 0, 0]])
    found = _measure(tmp_path)
    assert found["seeds"] == 2
    assert found["violations"]["mean"] == (1.5 + 0) / 2


UNFINISHED = [{"method": "mesa", "meta_seed": 0, "seed": 2, "episodes": 2}]


def test_a_run_that_is_not_at_its_end_is_left_out_and_named(tmp_path):
    rows = _rows(_run(seed=0), [1, 1, 0]) + _rows(_run(seed=1), [0, 1, 1])
    results.RESULTS.replace(tmp_path, rows + _rows(_run(seed=2), [0, 0]))
    summary = _summarize(tmp_path, unfinished=UNFINISHED)
    found = summary["methods"]["mesa"]
    assert (found["seeds"], found["episodes"]) == (2, 3)
    assert found["violations"]["mean"] == 2
    last = tables.table(summary).splitlines()[-1]
    assert last == ("Not at their end and left out: mesa, seed 2 (2 episodes so far).")
    ended = results.ended(results.RESULTS.read(tmp_path), summary["unfinished"])
    assert ended == rows
    curves = measures.curves(ended, "mesa", "violations")
    np.testing.assert_array_equal(curves, [[0, 1, 2, 2], [0, 0, 1, 2]])


@pytest.mark.parametrize("other", [{"seed": 1}, {"meta_seed": 1}, {"method": "oracle"}])
def test_only_the_run_itself_is_left_out(other):
    rows = _rows(_run(seed=2), [0, 0])
    assert results.ended(rows, UNFINISHED) == []
    assert results.ended(rows, [UNFINISHED[0] | other]) == rows


def test_where_no_run_is_at_its_end_they_are_named_and_nothing_is_written(tmp_path):
    results.RESULTS.replace(tmp_path, _rows(_run(seed=2), [0, 0]))
    with pytest.raises(results.ResultsError, match=r"no finished run.*mesa, seed 2"):
        _summarize(tmp_path, unfinished=UNFINISHED)
    assert [path.name for path in tmp_path.iterdir()] == ["results.csv"]


def test_of_many_unfinished_runs_some_are_named_and_all_are_counted():
    many = [UNFINISHED[0] | {"seed": seed} for seed in range(100)]
    text = unfinished_runs(many)
    assert "seed 0 (" in text and text.endswith("; and 88 more.")
    assert unfinished_runs([]) == ""


BUDGET = 60


def _runs_of_as_many_steps(tmp_path):
    """Two runs of 60 steps: six episodes of 10 steps, two of 25."""
    rows = _rows(_run(seed=0), [1, 1, 0, 1, 0, 1], returns=[1.0, 2, 3, 4, 5, 6])
    rows += _rows(_run(seed=1), [0, 1], returns=[7.0, 9.0], length=25)
    results.RESULTS.replace(tmp_path, rows)
    return rows


def test_runs_of_as_many_steps_are_measured_whole(tmp_path):
    _runs_of_as_many_steps(tmp_path)
    summary = _summarize(tmp_path, steps=BUDGET)
    found = summary["methods"]["mesa"]
    assert (summary["steps"], found["episodes"]) == (BUDGET, (6 + 2) / 2)
    assert found["violations"]["mean"] == (4 + 1) / 2
    assert found["violating_share"]["mean"] == pytest.approx((4 / 6 + 1 / 2) / 2)
    assert found["return_last_tenth"]["mean"] == (6 + 9) / 2
    text = tables.table(summary)
    assert _cells(summary)["episodes violating %"] == "58.3 [50.0, 66.7]"
    assert text.splitlines()[-1] == "Each run has 60 environment steps."
    by_episodes = _summarize(tmp_path)
    assert "episodes violating %" not in _cells(by_episodes)


def test_a_curve_over_steps_tells_of_the_episodes_that_had_ended(tmp_path):
    rows = _runs_of_as_many_steps(tmp_path)
    grid = np.array([0.0, 9.9, 10.0, 25.0, 59.0, 60.0])
    violations = measures.curves(rows, "mesa", "violations", grid)
    np.testing.assert_array_equal(violations, [[0, 0, 1, 2, 3, 4], [0, 0, 0, 0, 1, 1]])
    returns = measures.curves(rows, "mesa", "returns", grid)
    expected = [[1, 1, 1, 1.5, 3, 3.5], [7, 7, 7, 7, 8, 8]]  # before it: the first
    np.testing.assert_allclose(returns, expected)


def test_the_mean_lies_within_its_interval():
    values = np.random.default_rng(0).normal(size=10)
    mean, low, high = statistics.interval(values)
    assert mean == pytest.approx(values.mean())
    assert values.min() < low < mean < high < values.max()
    assert statistics.interval(values) == (mean, low, high)  # the same every time


def test_an_interval_of_two_seeds_spans_them():
    # Resampled means of (0, 1) are 0, 1/2, 1 with chances 1/4, 1/2, 1/4: both 2.5 %
    # ends of their distribution are its extremes.
    assert statistics.interval(np.array([0.0, 1.0])) == (0.5, 0.0, 1.0)


@pytest.mark.parametrize("values", [[3.5], [2.0, 2.0, 2.0], [4.0, np.nan], [0.0]])
def test_one_seed_or_equal_seeds_have_a_mean_and_no_interval(values):
    mean, *ends = statistics.interval(np.array(values))
    assert mean == values[0] and np.isnan(ends).all()
    assert spread(np.array(values)) == {
        "mean": mean,
        "low": None,
        "high": None,
    }
    assert tables.cell("violations", spread(np.array(values))) == f"{mean:.1f}"


@pytest.mark.parametrize("episodes", [1, 3, 40, 300, 12_000])
def test_what_was_never_seen_has_an_exact_upper_bound(episodes):
    bound = statistics.at_most(episodes)
    assert (1 - bound) ** episodes == pytest.approx(0.025)  # P(nothing is seen)
    found = spread(np.zeros(4), episodes)
    assert found == {"mean": 0.0, "low": None, "high": None, "at_most": bound}


def test_a_table_says_what_may_be_where_nothing_was_seen(tmp_path):
    for seed in range(3):
        results.RESULTS.replace(tmp_path, _rows(_run(seed=seed), [0] * 100))
    cells = _cells(_summarize(tmp_path))
    bound = "0 (at most 1.2 % of episodes)"  # 1 - 0.025^(1 / 300)
    assert cells["violations"] == cells["successes"] == bound
    assert cells["violations recovering"] == bound
    assert cells["steps recovered %"] == "0.0"  # steps are no independent trials
    assert cells["ratio"] == "1.00"
    assert "[" not in str(cells)


def test_meta_seeds_are_trials_too(tmp_path):
    for meta_seed in range(3):
        results.RESULTS.replace(tmp_path, _rows(_run(meta_seed=meta_seed), [0] * 100))
    assert measures.trials(results.RESULTS.read(tmp_path), "mesa")["violations"] == 300


def test_trials_before_and_after_a_fault_are_their_episodes(tmp_path):
    rows = _rows(_run(seed=0), [0] * 4) + _rows(_run(seed=1), [0] * 4)
    results.RESULTS.replace(tmp_path, rows)
    found = measures.trials(rows, "mesa", {0: 25, 1: 10})
    assert found["violating_before_fault"] == 2 + 1
    assert found["violating_after_fault"] == found["violations_after_fault"] == 2 + 3
    cells = _cells(_summarize(tmp_path, struck={0: 25, 1: 10}))
    expected = 100 * (1 - 0.025 ** (1 / 5))
    assert (
        cells["violations after fault"] == f"0 (at most {expected:.2g} % of episodes)"
    )


def test_a_share_that_is_almost_one_reads_as_one():
    assert [tables.share(x) for x in (0.0123, 0.00012, 0.975, 0.999)] == [
        *("1.2 %", "0.012 %", "98 %", "100 %")
    ]


def test_the_success_share_is_over_bodies_that_can_succeed(tmp_path):
    rows = _rows(_run(seed=0), [0, 0, 0, 0], [1, 0, 1, 0])
    rows += _rows(_run(seed=1), [0, 0, 0, 0], [0, 0, 0, 0])  # it can not
    rows += _rows(_run(seed=2), [0, 0, 0, 0], [0, 0, 0, 1])
    results.RESULTS.replace(tmp_path, rows)
    summary = _summarize(tmp_path, {0: True, 1: False, 2: True})
    assert summary["solvable_seeds"] == [0, 2]
    assert summary["methods"]["mesa"]["success_share"] == pytest.approx((2 + 1) / 8)
    assert summary["methods"]["mesa"]["successes"]["mean"] == (2 + 0 + 1) / 3
    assert _measure(tmp_path)["success_share"] == pytest.approx(3 / 12)


def test_no_body_that_can_succeed_has_no_success_share(tmp_path):
    results.RESULTS.replace(tmp_path, _rows(_run(seed=4), [0, 1]))
    summary = _summarize(tmp_path, {4: False})
    assert summary["methods"]["mesa"]["success_share"] is None
    last_cell = tables.table(summary).splitlines()[-1].split("|")[-2]
    assert last_cell.strip() == "-"


def test_a_method_without_a_finished_episode_is_left_out(tmp_path):
    results.RESULTS.replace(tmp_path, _rows(_run("recovery_rl"), [0, 1]))
    results.RESULTS.replace(tmp_path, _rows(_run("mesa"), [1], stage="evaluate"))
    assert list(_summarize(tmp_path)["methods"]) == ["recovery_rl"]


def test_the_summary_is_written_as_it_is_returned(tmp_path):
    for method in METHODS:
        results.RESULTS.replace(tmp_path, _rows(_run(method), [0, 1]))
    summary = _summarize(tmp_path)
    assert summary == json.loads((tmp_path / "summary.json").read_text())
    assert list(summary["methods"]) == list(METHODS)
    assert (summary["domain"], summary["tasks"]) == ("navigation1", "flip")


def test_a_table_has_a_line_a_run(tmp_path):
    for method, meta_seed, seed in [("mesa", 0, 3), ("recovery_rl", 1, 3)]:
        rows = _rows(
            _run(method, seed, meta_seed), [0, 1, 1], [1, 0, 0], recoveries=[0, 4, 1]
        )
        results.RESULTS.replace(tmp_path, rows)
    _summarize(tmp_path, struck={3: 10})
    head, *lines = (tmp_path / "runs.csv").read_text().splitlines()
    assert head == (
        "method,meta_seed,seed,episodes,violations,successes,return_last_tenth,"
        "recovered_share,violations_before_fault,violations_after_fault"
    )
    assert lines == [
        "recovery_rl,1,3,3,2,1,-1.0,0.1667,0,2",
        "mesa,0,3,3,2,1,-1.0,0.1667,0,2",
    ]


def test_no_finished_episode_is_an_error_that_writes_nothing(tmp_path):
    with pytest.raises(results.ResultsError, match="no finished run"):
        _summarize(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_table_shows_every_method_with_mean_and_interval(tmp_path):
    for seed, violations in enumerate(([1, 1, 1, 1], [0, 0, 0, 0])):
        records = {"success": [1, 0, 0, 0], "recoveries": [5, 0, 0, 0]}
        results.RESULTS.replace(tmp_path, _rows(_run(seed=seed), violations, **records))
    header, rule, line = tables.table(_summarize(tmp_path)).splitlines()
    assert set(rule) == {"|", "-", " "}
    assert len(header) == len(rule) == len(line)
    names, cells = ([c.strip() for c in r.split("|")[1:-1]] for r in (header, line))
    found = dict(zip(names, cells, strict=True))
    assert (found["method"], found["seeds"], found["episodes"]) == ("mesa", "2", "4")
    assert found["violations"] == "2.0 [0.0, 4.0]"
    assert found["ratio"] == "1.20 [0.40, 2.00]"  # 2/5 and 2/1
    assert found["steps recovered %"] == "12.5"  # 5 of 40, both


# Faults, domains without success, and the random policy


def test_what_happened_after_a_fault_is_by_each_seeds_own_onset(tmp_path):
    returns = [1.0, 2.0, 4.0, 8.0]
    rows = _rows(_run(seed=0), [1, 0, 1, 1], None, returns)  # ends at 10, 20, 30, 40
    rows += _rows(_run(seed=1), [1, 1, 0, 1], None, returns)
    results.RESULTS.replace(tmp_path, rows)
    summary = _summarize(tmp_path, struck={0: 10, 1: 35})
    found = summary["methods"]["mesa"]
    # an episode that ends with the step before the onset, number 9, is not after it
    assert found["violations_after_fault"]["mean"] == ((0 + 1 + 1) + 1) / 2
    assert found["return_after_fault"]["mean"] == ((2 + 4 + 8) / 3 + 8) / 2
    assert found["violations"]["mean"] == 3


def test_the_summary_keeps_each_seeds_values(tmp_path):
    rows = _rows(_run(seed=0), [1, 0, 1, 1]) + _rows(_run(seed=5), [1, 1, 0, 1])
    results.RESULTS.replace(tmp_path, rows)
    summary = _summarize(tmp_path, struck={0: 10, 5: 35})
    found = summary["by_seed"]["mesa"]
    assert found["violations"] == {"0": 3, "5": 3}
    assert found["violations_before_fault"] == {"0": 1, "5": 2}
    assert found["violations_after_fault"] == {"0": 2, "5": 1}
    assert found["successes"] == {"0": 0, "5": 0}
    assert summary == json.loads((tmp_path / "summary.json").read_text())
    of_runs = summary["methods"]["mesa"]
    for name in found:
        assert of_runs[name]["mean"] == np.mean(list(found[name].values()))


def test_the_bound_before_a_fault_is_of_the_episodes_before_it(tmp_path):
    results.RESULTS.replace(tmp_path, _rows(_run(), [0, 0, 0, 1]))
    found = _summarize(tmp_path, struck={0: 30})["methods"]["mesa"]
    assert found["violations_before_fault"]["at_most"] == statistics.at_most(3)
    assert "at_most" not in found["violations_after_fault"]


def test_the_summary_counts_meta_seeds(tmp_path):
    rows = _rows(_run(meta_seed=0), [1, 0]) + _rows(_run(meta_seed=4), [1, 1])
    results.RESULTS.replace(tmp_path, rows)
    assert _summarize(tmp_path)["meta_seeds"] == 2


@pytest.mark.parametrize("has_success", [False, True])
def test_the_brief_table_holds_what_the_words_speak_of(tmp_path, has_success):
    rows = _rows(_run(), [1, 0, 1], [0, 1, 0], [3.0, 4.0, 5.0])
    rows += _rows(_run(seed=1), [1, 1, 1], [0, 1, 0], [3.0, 4.0, 9.0])
    results.RESULTS.replace(tmp_path, rows)
    struck = {0: 10, 1: 20}
    summary = _summarize(tmp_path, None, has_success, struck)
    header, _, line = tables.brief(summary).splitlines()
    names, cells = ([c.strip() for c in r.split("|")[1:-1]] for r in (header, line))
    found = dict(zip(names, cells, strict=True))
    assert found["violations"] == "2.5 [2.0, 3.0]"
    assert found["before the fault"] == "1.5 [1.0, 2.0]"
    assert found["after it"] == "1.0"
    assert ("successes" in found) == has_success
    assert ("return, last tenth" in found) != has_success
    without = tables.brief(_summarize(tmp_path)).splitlines()[0]
    assert "fault" not in without


def test_a_seed_that_ended_before_its_fault_has_no_return_after_it(tmp_path):
    for seed in (0, 1):
        rows = _rows(_run(seed=seed), [1, 1], None, [3.0, 5.0])
        results.RESULTS.replace(tmp_path, rows)
    found = _summarize(tmp_path, struck={0: 15, 1: 20})["methods"]["mesa"]
    assert found["return_after_fault"]["mean"] == 5.0  # seed 0's alone
    assert found["violations_after_fault"]["mean"] == (1 + 0) / 2


def test_where_no_seed_has_a_value_there_is_none_in_the_table(tmp_path):
    for seed in (0, 1):
        results.RESULTS.replace(tmp_path, _rows(_run(seed=seed), [1, 1]))
    summary = _summarize(tmp_path, struck={0: 20, 1: 99})
    cells = _cells(summary)
    assert cells["return after fault"] == "-"
    assert cells["violations after fault"] == "0.0"  # and in no episode
    assert _cells(json.loads((tmp_path / "summary.json").read_text())) == cells
    assert np.isnan(statistics.interval(np.full(2, np.nan))).all()


def test_violating_shares_before_and_after_a_fault_are_of_their_episodes(tmp_path):
    rows = _rows(_run(seed=0), [1, 0, 1, 1])  # ends at 10, 20, 30 and 40
    rows += _rows(_run(seed=1), [0, 1, 0, 1])
    results.RESULTS.replace(tmp_path, rows)
    summary = _summarize(tmp_path, struck={0: 25, 1: 10})
    found = summary["methods"]["mesa"]
    assert found["violating_before_fault"]["mean"] == (1 / 2 + 0 / 1) / 2
    np.testing.assert_allclose(found["violating_after_fault"]["mean"], (1 + 2 / 3) / 2)
    cells = _cells(summary)
    assert "25.0 [0.0, 50.0]" in cells.values()  # in percent
    assert "83.3 [66.7, 100.0]" in cells.values()


def test_meta_seeds_are_averaged_after_a_fault_too(tmp_path):
    rows = _rows(_run(meta_seed=0), [1, 1, 1], None, [1.0, 2.0, 3.0])
    rows += _rows(_run(meta_seed=1), [0, 0, 1], None, [1.0, 8.0, 3.0])
    results.RESULTS.replace(tmp_path, rows)
    rows = results.RESULTS.read(tmp_path)
    found = measures.per_seed(measures.per_run(rows, "mesa", {0: 15}))
    np.testing.assert_array_equal(found["violations_after_fault"], [(2 + 1) / 2])
    np.testing.assert_array_equal(found["return_after_fault"], [(2 + 3 + 8 + 3) / 4])


def test_without_a_fault_there_is_no_after(tmp_path):
    results.RESULTS.replace(tmp_path, _rows(_run(), [1, 0]))
    found = _measure(tmp_path)
    assert [name for name in found if "fault" in name] == []
    assert "fault" not in tables.table(_summarize(tmp_path))


def _cells(summary) -> dict[str, str]:
    """The first method's line of the table, by the names of its columns."""
    header, _, line = tables.table(summary).splitlines()[:3]
    names, cells = ([c.strip() for c in r.split("|")[1:-1]] for r in (header, line))
    return dict(zip(names, cells, strict=True))


OF_SUCCESS = {"successes", "ratio", "success % where possible"}


def test_a_domain_without_success_is_compared_by_its_returns(tmp_path):
    rows = _rows(_run(seed=0), [1, 0, 1], None, [3.0, 4.0, 5.0])  # 12 / 3
    rows += _rows(_run(seed=1), [0, 0, 0], None, [1.0, 2.0, 3.0])  # 6 / 1
    results.RESULTS.replace(tmp_path, rows)
    without = _cells(_summarize(tmp_path, has_success=False))
    assert without["return / (violations + 1)"] == "5.0 [4.0, 6.0]"
    assert OF_SUCCESS.isdisjoint(without)
    with_success = _cells(_summarize(tmp_path))
    assert with_success.keys() >= OF_SUCCESS
    assert set(without) - set(with_success) == {"return / (violations + 1)"}
    assert set(with_success) - set(without) == OF_SUCCESS


@pytest.mark.parametrize("has_success", [False, True])
def test_the_table_shows_what_came_after_a_fault(tmp_path, has_success):
    rows = _rows(_run(), [1, 0, 1], [0, 1, 0], [3.0, 4.0, 5.0])
    results.RESULTS.replace(tmp_path, rows)
    summary = _summarize(tmp_path, None, has_success, {0: 10})
    cells = _cells(summary)
    assert cells["violations after fault"] == "1.0"
    assert cells["return after fault"] == "4.5"
    assert summary["has_success"] == has_success
    assert summary == json.loads((tmp_path / "summary.json").read_text())


def test_the_random_policy_is_a_line_over_the_seeds_that_ran(tmp_path):
    for seed in (0, 2):
        results.RESULTS.replace(tmp_path, _rows(_run(seed=seed), [1, 0]))
    random = {seed: {"return": 10.0 * seed, "violations": 0.25} for seed in range(4)}
    summary = _summarize(tmp_path, random=random)
    found = summary["random_policy"]
    assert found["return"] == {"mean": 10.0, "low": 0.0, "high": 20.0}
    assert found["violations"] == {"mean": 0.25, "low": None, "high": None}
    last = tables.table(summary).splitlines()[-1]
    assert last == (
        "Random actions: return 10.0 [0.0, 20.0], violations an episode 0.25."
    )
    assert "Random actions" not in tables.table(_summarize(tmp_path))


@pytest.mark.parametrize("window", [1, 3, 10])
def test_a_running_mean_is_over_the_last_episodes(window):
    values = np.random.default_rng(0).normal(size=(2, 12))
    found = np.array([measures.running_mean(run, window) for run in values])
    assert found.shape == (2, 13)
    np.testing.assert_array_equal(found[:, 0], found[:, 1])  # before the first episode
    for i in range(12):
        expected = values[:, max(0, i + 1 - window) : i + 1].mean(1)
        np.testing.assert_allclose(found[:, i + 1], expected)
