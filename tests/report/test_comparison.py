"""risk_quality.csv, its summary and tables: means, intervals and ratios by hand."""

import csv

import numpy as np
import pytest

from mesa_jax.report import comparison as qr
from mesa_jax.report.comparison import Cell
from mesa_jax.report.statistics import Interval, ratio
from mesa_jax.study.records import METRICS, QUALITY, WITHOUT_ADAPTATION, Outside

NAN = float("nan")
STATIC = {"domain": "navigation1", "tasks": "flip"}
OWN_STEPS = {"recovery_rl": 2000, "multi_task": 100, "mesa": 10}
FEW, OWN = "after 5 steps", "at each method's own steps"
RELATIVE = "squared_error_of_mesa_relative_to"


def record(method="mesa", seed=0, rows=200, steps=5, meta_seed=0, **values) -> dict:
    labels = {"method": method, "meta_seed": meta_seed, "seed": seed}
    metrics = dict.fromkeys(METRICS, 0.5) | values
    return STATIC | labels | {"rows": rows, "steps": steps} | metrics


def errors(method, steps, values, rows=200, meta_seed=0) -> list[dict]:
    """Records of bodies 0, 1, ... by their squared errors."""
    return [
        record(method, seed, rows, steps, meta_seed, squared_error=value)
        for seed, value in enumerate(values)
    ]


def summary_of(records, own_steps=OWN_STEPS, **about) -> qr.Summary:
    return qr.summarize(records, own_steps, 1e-4, **about)


def exactly(value):
    """An interval that has no ends."""
    return pytest.approx(Interval(value, NAN, NAN), nan_ok=True)


def lines_of(table: str) -> list[dict]:
    """The lines of a Markdown table under its caption, by heading."""
    cells = [[c.strip() for c in row.split("|")[1:-1]] for row in table.split("\n")[1:]]
    return [dict(zip(cells[0], line, strict=True)) for line in cells[2:]]


# risk_quality.csv


def test_the_file_holds_labels_and_metrics_a_record_a_line(tmp_path):
    records = [record("multi_task", 7, 50, 1), record(seed=3, auroc=0.12345678)]
    QUALITY.write(tmp_path, records)
    text = (tmp_path / "risk_quality.csv").read_text()
    assert text.splitlines()[0] == (
        "domain,tasks,method,meta_seed,seed,rows,steps,squared_error,auroc,"
        "calibration_error,wrong_decisions,false_safe,false_alarm,"
        "false_safe_matched,collapsed,"
        "threshold_calibrated,false_safe_calibrated,false_alarm_calibrated,"
        "recovery_risk"
    )
    first, second = csv.DictReader(text.splitlines())
    assert [first[x] for x in ("method", "seed", "rows", "steps")] == [
        *("multi_task", "7", "50", "1")
    ]
    assert (second["seed"], second["auroc"]) == ("3", "0.123457")


def test_a_metric_that_is_nan_stands_in_the_file_as_such(tmp_path):
    QUALITY.write(tmp_path, [record(auroc=np.float32(NAN), collapsed=np.int32(-1))])
    (line,) = csv.DictReader((tmp_path / "risk_quality.csv").read_text().splitlines())
    assert np.isnan(float(line["auroc"]))
    assert float(line["collapsed"]) == -1.0


# By body, and over bodies


def test_a_bodys_value_is_its_mean_over_meta_seeds():
    records = errors("mesa", 5, [1.0, 2.0]) + errors("mesa", 5, [3.0, 8.0], meta_seed=1)
    found = qr.by_body(records[::-1], Cell("mesa", 200, 5), "squared_error")
    assert list(found.items()) == [(0, 2.0), (1, 5.0)]  # bodies ascending


@pytest.mark.parametrize(
    "other", [{"method": "multi_task"}, {"rows": 50}, {"steps": 10}]
)
def test_other_cells_do_not_enter_a_bodys_value(other):
    records = [record(squared_error=1.0), record(**other, squared_error=9.0)]
    assert qr.by_body(records, Cell("mesa", 200, 5), "squared_error") == {0: 1.0}


def test_a_body_is_nan_where_a_metric_has_no_value():
    records = [record(seed=0, false_safe=NAN), record(seed=1, false_safe=0.25)]
    found = qr.by_body(records, Cell("mesa", 200, 5), "false_safe")
    assert np.isnan(found[0])
    assert found[1] == 0.25


def test_an_estimate_is_over_the_bodies_that_have_a_value():
    # resampled means of (0, 1) are 0, 1/2, 1 with chances 1/4, 1/2, 1/4
    found = qr.over_bodies({0: 0.0, 1: NAN, 2: 1.0, 3: NAN})
    assert found == (0.5, 0.0, 1.0)


@pytest.mark.parametrize("values", [{}, {4: NAN, 5: NAN}])
def test_no_value_at_all_is_nan_without_a_warning(values):
    found = qr.over_bodies(values)
    assert np.isnan(found).all()


def test_one_body_has_no_interval():
    assert qr.over_bodies({3: 0.7, 4: NAN}) == exactly(0.7)


# Ratios


def test_a_ratio_of_proportional_errors_has_no_interval():
    ours = {seed: float(value) for seed, value in enumerate((1, 5, 2, 9))}
    theirs = {seed: 2 * ours[seed] for seed in reversed(ours)}  # in another order
    assert ratio(ours, theirs) == exactly(0.5)


def test_a_ratio_is_of_means_and_resampled_by_body():
    # bodies (1, 1) and (1, 3): both 1, one each 2 / 4, both 1 / 3, and so the ends
    found = ratio({0: 1.0, 1: 1.0}, {0: 1.0, 1: 3.0})
    assert found == pytest.approx((1 / 2, 1 / 3, 1.0))


def test_bodies_of_one_side_alone_do_not_enter_a_ratio():
    found = ratio({0: 1.0, 1: 3.0, 2: 99.0}, {1: 6.0, 0: 2.0, 7: 99.0})
    assert found == exactly(0.5)


@pytest.mark.parametrize("ours", [{}, {5: 1.0}])
def test_a_ratio_without_a_common_body_is_nan(ours):
    assert np.isnan(ratio(ours, {1: 2.0})).all()


def test_a_ratio_lies_within_its_interval_the_same_every_time():
    rng = np.random.default_rng(0)
    ours, theirs = (dict(enumerate(rng.lognormal(size=12))) for _ in range(2))
    found = ratio(ours, theirs)
    assert found.low < found.mean < found.high
    assert found.mean == pytest.approx(
        sum(ours.values()) / sum(theirs.values())  # as many bodies on both sides
    )
    assert ratio(ours, theirs) == found


def test_pairing_by_body_narrows_the_interval():
    rng = np.random.default_rng(1)
    hard = np.geomspace(0.1, 10.0, 12)  # bodies differ much, methods little
    ours, theirs = (dict(enumerate(hard * rng.uniform(0.9, 1.1, 12))) for _ in range(2))
    unpaired = dict(enumerate(list(theirs.values())[::-1]))

    def width(found):
        return found.high - found.low

    assert width(ratio(ours, theirs)) < 0.2 * width(ratio(ours, unpaired))


# Summary


RECORDS = [
    *errors("mesa", 5, [0.1, 0.3]),
    *errors("mesa", 10, [0.1, 0.1]),
    *errors("multi_task", 5, [0.4, 0.4]),
    *errors("multi_task", 100, [0.1, 0.3]),
    *errors("recovery_rl", 2000, [0.2, 0.2]),  # it was not asked after 5 steps
    *errors("mesa", 10, [0.3], rows=50),
    *errors(WITHOUT_ADAPTATION, 0, [0.8, 0.6], rows=0),
]


def test_the_summary_has_every_cell_that_was_asked_and_no_other():
    cells = summary_of(RECORDS).cells
    assert set(cells) == {
        *(Cell("mesa", 50, 10), Cell("mesa", 200, 5), Cell("mesa", 200, 10)),
        *(Cell("multi_task", 200, 5), Cell("multi_task", 200, 100)),
        *(Cell("recovery_rl", 200, 2000), Cell(WITHOUT_ADAPTATION, 0, 0)),
    }
    cell = cells[Cell("mesa", 200, 5)]
    assert tuple(cell) == METRICS
    assert cell["squared_error"] == pytest.approx((0.2, 0.1, 0.3))


def test_the_summary_says_what_it_is_of():
    records = RECORDS + errors("mesa", 10, [0.1] * 5, meta_seed=2)
    found = summary_of(records, risk_threshold=0.3)
    assert (found.domain, found.tasks, found.risk_threshold) == (
        *("navigation1", "flip", 0.3),
    )
    assert (found.bodies, found.meta_seeds) == (5, [0, 2])
    assert (found.noise_floor, found.own_steps) == (1e-4, OWN_STEPS)


def test_methods_are_compared_after_few_steps_and_at_their_own_number():
    found = summary_of(RECORDS).ratios
    assert list(found) == [FEW, OWN]
    # bodies (0.1, 0.4) and (0.3, 0.4); nothing else was asked on 50 transitions
    assert found[FEW] == {(200, "multi_task"): pytest.approx((0.5, 0.25, 0.75))}
    assert found[OWN] == {
        (200, "recovery_rl"): exactly(0.5),
        (200, "multi_task"): pytest.approx((0.5, 1 / 3, 1.0)),
    }


def test_cells_are_paired_over_the_meta_seeds_that_both_have():
    more = errors("multi_task", 5, [0.8, 0.8], meta_seed=1)
    more += errors("recovery_rl", 5, [0.9, 0.9], meta_seed=1)
    cells = [Cell(method, 200, 5) for method in ("mesa", "multi_task", "recovery_rl")]
    ours, theirs = qr.paired(RECORDS + more, *cells[:2])
    assert (ours, theirs) == ({0: 0.1, 1: 0.3}, {0: 0.4, 1: 0.4})
    (alone,) = qr.paired(RECORDS + more, cells[1])
    assert alone == pytest.approx({0: 0.6, 1: 0.6})
    assert qr.paired(RECORDS + more, cells[0], cells[2]) == [{}, {}]


def test_a_methods_own_steps_are_those_after_which_its_recovery_was_judged():
    records = [record(steps=5, recovery_risk=NAN), record(steps=10)]
    records += [record(steps=3, rows=50)]
    assert qr.own_cell(records, "mesa", 200) == Cell("mesa", 200, 10)
    assert qr.own_cell(records, "mesa", 50) == Cell("mesa", 50, 3)
    assert qr.own_cell(records, "context", 200) not in map(qr._cell, records)


def test_a_workdir_without_ours_compares_nothing():
    records = [r for r in RECORDS if r["method"] != "mesa"]
    own_steps = {k: v for k, v in OWN_STEPS.items() if k != "mesa"}
    assert summary_of(records, own_steps).ratios == {FEW: {}, OWN: {}}


def test_the_file_holds_the_summary_by_name():
    outside = {("mesa", 200): Outside(0.5, 0.25, 0.75)}
    written = summary_of(RECORDS, outside=outside, training_transitions={"mesa": 9})
    value = qr.to_json(written)
    assert value["training_transitions"] == {"mesa": 9}
    assert value["own_steps"] == OWN_STEPS
    by_count = value["methods"]["mesa"]
    assert {count: list(mine) for count, mine in by_count.items()} == {
        "50": ["10"],
        "200": ["5", "10"],
    }
    assert value[RELATIVE][FEW] == {
        "50": {},
        "200": {"multi_task": written.ratios[FEW][200, "multi_task"]._asdict()},
    }
    assert value["support"] == {
        "mesa": {"200": {"test_outside": 0.5, "held_out_outside": 0.25, "auroc": 0.75}}
    }


# Tables


def test_tables_show_the_methods_that_were_asked():
    few, own = qr.tables(summary_of(RECORDS), 200).split("\n\n")
    assert few.startswith(f"200 transitions, {FEW}:\n")
    assert own.startswith(f"200 transitions, {OWN}:\n")
    shown = [[(r["method"], r["steps"]) for r in lines_of(t)] for t in (few, own)]
    untold = ("without_adaptation", "0")
    assert shown[0] == [untold, ("multi_task", "5"), ("mesa", "5")]
    assert shown[1] == [
        *(untold, ("recovery_rl", "2000"), ("multi_task", "100"), ("mesa", "10"))
    ]


def test_a_table_shows_our_error_relative_to_each_other_method():
    relative = "error of mesa / its error"
    few, own = map(lines_of, qr.tables(summary_of(RECORDS), 200).split("\n\n"))
    assert [line[relative] for line in few] == ["", "0.50 [0.25, 0.75]", ""]
    assert [line[relative] for line in own] == [*("", "0.50", "0.50 [0.33, 1.00]", "")]


def test_a_table_shows_means_with_intervals_and_rates_in_percent():
    values = {"squared_error": 0.01234, "wrong_decisions": 0.125, "false_safe": NAN}
    values |= {"false_alarm": 0.02, "false_safe_matched": 0.5, "auroc": 0.875}
    records = [record(**values, calibration_error=0.25)]  # one body
    table, _ = qr.tables(summary_of(records), 200).split("\n\n")
    (line,) = lines_of(table)
    assert line == {
        "method": "mesa",
        "steps": "5",
        "squared error": "0.0123",
        "wrong decisions %": "12.5",
        "false-safe %": "-",
        "false-alarm %": "2.0",
        "false-safe % at false-alarm 2 %": "50.0",
        "calibrated threshold": "0.5000",
        "false-safe % at it": "50.0",
        "false-alarm % at it": "50.0",
        "calibration error": "0.2500",
        "AUROC": "0.8750",
        "true risk of the recovery policy": "0.5000",
        "error of mesa / its error": "",
    }
