"""The page of a workdir: its numbers are the workdir's, what is missing is named."""

import json
import re

import numpy as np
import pytest

from experiments import report, risk_maps, risk_steps
from mesa_jax.methods import COMPARED, METHODS
from mesa_jax.study.records import RESULTS
from mesa_jax.study.study import Study
from mesa_jax.study.timelines import timelines
from tests import launching
from tests.launching import SEEDS, command, launch
from tests.report.pages import Page, require_whole, table_of


@pytest.fixture(scope="module")
def place(finished_workdir, tmp_path_factory):
    return launching.copied(finished_workdir, tmp_path_factory.mktemp("<b> &'") / "w")


@pytest.fixture(scope="module")
def page(place):
    """The page that the launch makes, maps over adaptation steps included."""
    with launching.coarse_figures():
        assert command("report", f"--workdir={place}") == 0
    return Page((place / "report" / report.ONE).read_text(encoding="utf-8"))


def test_the_main_job_ends_by_naming_its_page(finished_workdir):
    path = finished_workdir.place / "report" / report.ONE
    assert finished_workdir.output.splitlines()[-1].endswith(str(path))
    found = Page(path.read_text(encoding="utf-8"))
    require_whole(found)
    asked = " ".join(found.texts("p", class_="lacking"))
    for name in ("report", "evaluate", "filter_test", "render"):
        assert f"experiments.{name} --workdir={finished_workdir.place}" in asked
    assert not found.of("input")  # no simulation for a slider


def test_a_page_is_whole_and_escapes_the_workdirs_name(page, place):
    require_whole(page)
    assert "<b>" in str(place) and not page.of("b")
    assert any(text.endswith(str(place)) for text in page.texts("dd"))
    drawn = len(list((place / "report").glob("*.png")))
    stops = len(page.of("div", class_="stop"))
    assert len(page.of("img")) == drawn + stops and stops > 2


def test_every_number_of_the_table_is_the_summarys(page, place):
    summary = json.loads((place / "summary.json").read_text())
    head, *rows = table_of(page)
    assert [row[0] for row in rows] == list(COMPARED)
    columns = {"violations": 1, "successes": 1, "ratio": 1, "return, last tenth": 1}
    columns |= {"steps recovered %": 100, "violations recovering": 1}
    names = {"return, last tenth": "return_last_tenth"}
    names |= {"steps recovered %": "recovered_share"}
    names |= {"violations recovering": "violations_while_recovering"}
    for row in rows:
        values = summary["methods"][row[0]]
        assert row[1:3] == [str(values["seeds"]), str(values["episodes"])]
        for column, scale in columns.items():
            mine = values[names.get(column, column)]
            cell = row[head.index(column)]
            shown = [float(x) for x in re.findall(r"-?\d+\.?\d*", cell)]
            wanted = [mine["mean"], mine["low"], mine["high"]]
            if mine.get("at_most") is not None:
                wanted, shown = [0.0], shown[:1]
            wanted = [scale * x for x in wanted if x is not None]
            half = 0.5001 * 10.0 ** -len(cell.split(" ")[0].partition(".")[2])
            np.testing.assert_allclose(shown, wanted, rtol=0, atol=half)


def test_what_a_workdir_lacks_is_named_with_its_command(page, place):
    lacks = page.texts("p", class_="lacking")
    commands = [text.partition("This makes it: ")[2].split() for text in lacks]
    names = {words[2].removeprefix("experiments.") for words in commands if words}
    assert names == {"evaluate", "filter_test", "render"}  # the maps are there


def test_timelines_count_what_the_results_count(page, place):
    found, lost = timelines(Study(place, launch(place).study.common))
    assert not lost and len(found) == len(COMPARED) * len(SEEDS)
    rows = [row for row in RESULTS.read(place) if row["stage"] == "train"]
    for one in found:
        mine = [r for r in rows if (r["method"], r["seed"]) == (one.method, one.seed)]
        assert len(one.violated) == sum(row["length"] for row in mine)
        assert one.violated.sum() == sum(row["violation"] for row in mine)
        recovered = sum(row["recoveries"] for row in mine)
        assert one.recovered.sum() <= recovered  # both may want the same action
        assert (one.recovered.sum() > 0) == (recovered > 0)
    assert len(page.of("svg")) == len(found)


def test_maps_end_with_what_online_runs_begin_with(place):
    study = Study(place, launch(place).study.common)
    with launching.coarse_figures():
        body = risk_maps.chosen_body(study)
        found = risk_steps.methods_of(study, body)
        estimate = risk_maps._estimate(study.system, body.cells, body.commands)
        assert list(found) == [name for name in COMPARED if METHODS[name].constrained]
        for name, one in found.items():
            wanted = np.asarray(estimate(body.runs[name].critic))
            assert list(one.risks) == risk_steps.positions(one.own)
            np.testing.assert_allclose(one.risks[one.own], wanted, atol=1e-5)
            assert np.abs(one.risks[0] - wanted).max() > 1e-4  # it did adapt


@pytest.mark.parametrize(
    ("most", "expected"),
    [(0, [0]), (1, [0, 1]), (5, [0, 1, 2, 3, 5]), (40, [0, 1, 2, 3, 5, 10, 30, 40])],
)
def test_a_slider_stops_at_few_steps_and_the_last(most, expected):
    assert risk_steps.positions(most) == expected


def test_workdirs_stand_beside_each_other_with_their_difference(
    finished_workdir, place, tmp_path
):
    other, output = tmp_path / "other", tmp_path / "both.html"
    launching.copied(finished_workdir, other)
    assert command("rm", other, "--methods=mesa", "--yes") == 0
    written = report.report([place, other, other], output, maps=False)
    found = Page(written.read_text(encoding="utf-8"))
    require_whole(found)
    assert {f"A: {place}", f"B: {other}", f"C: {other}"} <= set(found.texts("h3"))
    assert {"B beside A", "C beside A"} <= set(found.texts("h2"))
    head, *rows = table_of(found)
    assert head[2:5] == ["A", "B", "B - A"]
    assert [row[0] for row in rows] == [m for m in COMPARED if m != "mesa"]
    assert {row[4] for row in rows} == {"0.0"} and {row[6] for row in rows} == {"no"}
    assert "Their configurations are the same." in found.texts("p", class_="note")


def test_a_workdir_without_a_run_says_which_launch_makes_one(
    finished_workdir, place, tmp_path
):
    other = tmp_path / "w"
    launching.before_online(finished_workdir.place, other)
    written = report.report([other])
    assert written == other / "report" / report.ONE
    found = Page(written.read_text(encoding="utf-8"))
    assert not found.of("img") and not found.of("table", class_="sorted")
    lacks = " ".join(found.texts("p", class_="lacking"))
    assert f"There is no finished online run yet. This makes it: {_run(other)}" in lacks
    both = report.report([place, other], tmp_path / "both.html", maps=False)
    said = Page(both.read_text(encoding="utf-8")).texts("p", class_="said")
    assert f"Nothing to compare: {other} has no finished run." in said


def _run(place) -> str:
    return f"python -m experiments.run --workdir={place}"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ([], "workdir must be given"),
        (["--workdir=/nowhere/w"], "/nowhere/w is no workdir"),
        (["--workdir=,a"], "workdir must be given"),
    ],
)
def test_what_is_no_workdir_is_refused(capsys, asked, said):
    assert command("report", *asked) == 2
    assert said in capsys.readouterr().err
