"""The strip of runs after a fault: what is drawn is what was recorded."""

import numpy as np
import pytest
from matplotlib import image

from experiments import after_fault as launched
from experiments.run import main as run_main
from experiments.summary import online_runs
from mesa_jax.report import after_fault, layout
from mesa_jax.report.after_fault import Struck
from mesa_jax.report.summary import summarize
from mesa_jax.study import files, records
from mesa_jax.study.artifacts.reference import onset
from tests import launching
from tests.launching import run_here
from tests.report.scenes import FILMS, STEPS

TOTAL, ONSET = 60, 30
MOMENTS = [2, 9, 30]


def _run(make, method="mesa", violated=(10, 31, 44), recovered=(5, 40), **changes):
    steps = np.arange(TOTAL)
    pictures = tuple((make(method=method), min(at, STEPS)) for at in MOMENTS)
    run = Struck(
        method, ONSET, np.isin(steps, violated), np.isin(steps, recovered), pictures
    )
    return run._replace(**changes)


def _texts(figure) -> list[str]:
    return [text.get_text() for ax in figure.axes for text in ax.texts]


@pytest.mark.parametrize("last", [1, 7, 10, 11, 400, 3999])
def test_moments_go_on_to_the_last_step_and_ever_farther_apart(last):
    found = after_fault.moments(last)
    assert found[-1] == last and found[0] == min(10, last)
    assert len(found) <= after_fault.PICTURES
    if last > 100:
        assert len(found) == after_fault.PICTURES
        assert (np.diff(np.diff(found)) > 0).all()


@pytest.mark.parametrize("make", FILMS.values(), ids=FILMS)
def test_a_strip_of_every_kind_of_body_is_drawn_on_the_page(tmp_path, make):
    runs = [_run(make, "mesa_context", violated=()), _run(make, recovered=())]
    runs.append(_run(make, "unconstrained", recovered=None)._replace(recovered=None))
    figure = after_fault.strip("A title", "Notes.\nBody.", runs, MOMENTS)
    pixels = image.imread(
        files.write_atomically(tmp_path / "strip.png", layout.png(figure))
    )[..., :3]
    assert pixels.shape[1] == layout.PAGE * layout.FONT["figure.dpi"]
    frame = np.concatenate([pixels[:4].ravel(), pixels[:, :4].ravel()])
    frame = np.concatenate([frame, pixels[-4:].ravel(), pixels[:, -4:].ravel()])
    assert (frame == 1).all(), "something is clipped by the page"


def test_each_picture_counts_the_violations_since_the_fault():
    figure = after_fault.strip("", "", [_run(FILMS["plane"])], MOMENTS)
    texts = [text for text in _texts(figure) if "violation" in text]
    # at steps 31 and 44 of the run; the one at 10 was before the fault
    assert texts == ["1 violation", "1 violation", "2 violations"]
    assert _run(FILMS["plane"]).after == 2


def test_the_time_line_marks_the_states_that_violate_and_the_fault():
    figure = after_fault.strip("", "", [_run(FILMS["plane"])], MOMENTS)
    line = figure.axes[-1]
    (crosses,) = [one for one in line.lines if one.get_label() == "violation"]
    np.testing.assert_array_equal(crosses.get_xdata(), [11, 32, 45])
    upright = [one for one in line.lines if len(set(one.get_xdata())) == 1]
    assert ONSET in {one.get_xdata()[0] for one in upright}


def test_runs_of_different_lengths_share_one_axis():
    short = _run(FILMS["plane"])
    short = short._replace(violated=short.violated[:50], recovered=None)
    figure = after_fault.strip("", "", [short, _run(FILMS["plane"])], MOMENTS)
    lines = [ax for ax in figure.axes if not ax.texts]  # the others are pictures
    assert {ax.get_xlim() for ax in lines} == {(0, TOTAL)} and len(lines) == 2


def test_a_plane_is_cropped_to_what_any_run_shows():
    near, far = _run(FILMS["plane"]), _run(FILMS["plane"])
    points = near.pictures[0][0].points
    moved = tuple(
        (film._replace(points=points + 50.0), at) for film, at in far.pictures
    )
    (film, _), *_ = after_fault._cropped(near, [near, far._replace(pictures=moved)])
    x0, x1, y0, y1 = film.plane.region
    assert (x0, x1) == (points[:, 0].min() - 2.0, 5.0)  # the region's own end
    assert (y0, y1) == (-3, points[:, 1].max() + 50.0 + 2.0)  # whole, and wider


# From a workdir


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    place = tmp_path_factory.mktemp("strip") / "w"
    recovery = {"risk_threshold": 0.5}
    fault = "reversed:part=1,onset=40..60"
    online = {"chunk_steps": 60, "steps": 200, "episodes": 50}
    methods = ("unconstrained", "recovery_rl")
    tiny = launching.launch(
        place, methods, (1, 2), fault=fault, recovery=recovery, online=online
    )
    return tiny, run_here(tiny, run_main)


def test_a_launch_with_a_fault_ends_with_its_strip_and_words(finished):
    tiny, output = finished
    assert (tiny.study.folder / "report" / "after_fault.png").exists()
    said = " ".join(output.split("\n\n")[-3].split())
    assert said.startswith("The fault: actuator 1 reversed from a step drawn from 40")
    assert "After the fault" in said and "Before the fault" in said


def test_the_runs_of_the_strip_are_the_recorded_ones(finished, monkeypatch):
    tiny, _ = finished
    kept = {}
    monkeypatch.setattr(after_fault, "strip", lambda *given: kept.update(given=given))
    launched.strip_of(tiny.study, summarize(online_runs(tiny.study)))
    _, _, runs, steps = kept["given"]
    assert [run.method for run in runs] == ["recovery_rl", "unconstrained"]
    for run in runs:
        mine = [
            row
            for row in records.RESULTS.read(tiny.study.folder)
            if (row["method"], row["seed"], row["stage"]) == (run.method, 1, "train")
        ]
        assert run.onset == onset(tiny.study.system, 1)
        ends = [row["env_steps"] - 1 for row in mine if row["violation"]]
        np.testing.assert_array_equal(np.flatnonzero(run.violated), ends)
        assert run.recovered.sum() == sum(row["recoveries"] for row in mine)
        after = sum(row["violation"] for row in mine if row["env_steps"] > run.onset)
        assert run.after == after
        for step, (film, at) in zip(steps, run.pictures, strict=True):
            ended = [row["env_steps"] for row in mine]
            end = min(one for one in ended if one >= run.onset + step)
            assert end - film.steps + at == run.onset + step
            assert 0 < at <= film.steps


def test_a_run_that_ended_before_its_fault_has_no_strip(finished, monkeypatch):
    tiny, _ = finished
    monkeypatch.setattr(launched, "onset", lambda *_: 10**6)
    summary = summarize(online_runs(tiny.study))
    assert launched.strip_of(tiny.study, summary) is None


def test_methods_without_a_common_body_have_no_strip(finished):
    tiny, _ = finished
    summary = summarize(online_runs(tiny.study))
    mine = summary["by_seed"]["recovery_rl"]
    mine["violations"] = {"9": 0.0}
    assert launched.strip_of(tiny.study, summary) is None
