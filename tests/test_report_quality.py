"""Figures of the quality of the risk measure: what is drawn, and that it is legible."""

import itertools

import numpy as np
import pytest
from matplotlib import colors, image
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mesa_jax.report import curves as report
from mesa_jax.report import decisions, layout, training
from mesa_jax.report.quality import (
    Line,
    Reliability,
    errors,
    online_thresholds,
    reliability,
    safety_tradeoff,
)
from mesa_jax.report.training import Panel, meta_training

NAN = float("nan")
METHODS = ("recovery_rl", "multi_task", "multi_task_few", "mesa")
BEFORE, AFTER = "before adaptation", "after adaptation"
STEPS, ROWS = (0, 1, 5, 10, 100), (50, 200, 1000)
THRESHOLDS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)


def _line(x, mean) -> Line:
    x, mean = np.asarray(x, float), np.broadcast_to(mean, len(x)).astype(float)
    return Line(x, mean, 0.8 * mean, 1.3 * mean)


def _methods(x) -> dict[str, Line]:
    """Lines that come close to each other."""
    fall = np.geomspace(1.0, 0.4, len(x))
    return {name: _line(x, fall * (6 - i) / 1e3) for i, name in enumerate(METHODS)}


def _by_steps() -> dict[int, dict[str, Line]]:
    scratch = {"recovery_rl": _line([2000], 0.07)}
    return {rows: _methods(STEPS) | scratch for rows in ROWS}


def _errors(**changes) -> Figure:
    by_rows = {
        "after 5 steps": {"mesa": _line(ROWS, 0.004), "multi_task": _line(ROWS, 0.005)},
        "at each method's own steps": _methods(ROWS),
    }
    given = {"by_steps": _by_steps(), "by_rows": by_rows, "floor": 5e-4}
    given |= {"without_adaptation": 0.0063} | changes
    return errors("navigation1: error", "16 test bodies.", **given)


def _bins(error=0.0416) -> Reliability:
    prediction = np.linspace(0, 1, 10) ** 2
    return Reliability(prediction, np.sqrt(prediction) * 0.9, error)


def _reliability() -> Figure:
    both = {name: {BEFORE: _bins(), AFTER: _bins(0.02)} for name in METHODS[1:]}
    return reliability("title", "note", {"recovery_rl": {AFTER: _bins()}} | both)


def _tradeoff(at_threshold=None) -> Figure:
    alarm = np.linspace(0, 1, 50)
    powers = dict(zip(METHODS, (2, 5, 5.5, 6), strict=True))
    curves = {name: (alarm, (1 - alarm) ** power) for name, power in powers.items()}
    points = {
        name: (alarm[2 + i], curves[name][1][2 + i]) for i, name in enumerate(METHODS)
    }
    return safety_tradeoff("title", "note", curves, at_threshold or points)


def _training() -> Figure:
    steps = np.arange(0, 3001, 100)
    rates = {
        f"{network} layer {i} {kind}": (steps, 0.1 + steps * 1e-6 * j)
        for j, (network, i, kind) in enumerate(
            itertools.product(("critic", "recovery"), (1, 2, 3), ("weights", "bias"))
        )
    }
    falling = {BEFORE: (steps, np.exp(-steps / 500)), AFTER: (steps, 0 * steps)}
    panels = [
        Panel("Squared error to the truth", "squared error", True, falling),
        Panel("Learned inner rates", "inner rate", True, rates),
        Panel("Saturated estimates", "share", False, falling),
    ]
    return meta_training("title", "note", panels)


ALONE = {"mesa": _line([200], 0.004)}
UNKNOWN = {"mesa": Line(*np.full((4, 3), NAN)), "multi_task": _line(STEPS, 0.004)}
NOTHING = Reliability(*np.full((2, 10), NAN), NAN)
NO_CURVE = (np.full(3, NAN), np.full(3, NAN))
SIX = {name: {AFTER: _bins()} for name in (*METHODS, "other", "another_method")}
LITTLE = {
    "one method": lambda: _errors(
        by_steps={200: {"mesa": _line(STEPS, 0)}}, by_rows={}
    ),
    "one point": lambda: _errors(by_steps={}, by_rows={"after 5 steps": ALONE}),
    "no references": lambda: _errors(floor=NAN, without_adaptation=NAN),
    "missing": lambda: _errors(by_steps={50: _by_steps()[50], 200: UNKNOWN, 1000: {}}),
    "nothing known": lambda: _errors(by_steps={50: {}}, by_rows={}, floor=NAN),
    "no violation": lambda: online_thresholds(
        "", "", {"mesa": _line(THRESHOLDS, 0)}, {"mesa": _line([0.3], 7)}
    ),
    "one diagram": lambda: reliability("", "", {"mesa": {AFTER: _bins()}}),
    "many diagrams": lambda: reliability("", "", SIX | {"mesa": {AFTER: NOTHING}}),
    "collapsed": lambda: _tradeoff({"mesa": (0.0, 1.0), "multi_task": (1.0, 0.0)}),
    "no curve": lambda: safety_tradeoff(
        "", "", {"mesa": NO_CURVE}, {"mesa": (NAN, 0.1)}
    ),
    "first step": lambda: meta_training(
        "", "", [Panel("a", "b", True, {"c": (np.array([0]), np.array([0.0]))})]
    ),
    "no values": lambda: meta_training(
        "", "", [Panel("a", "b", True, {"c": NO_CURVE})]
    ),
}


def _texts(figure: Figure) -> list:
    """What is written, without the ticks' numbers outside their axes."""
    texts = list(figure.texts)
    for ax in figure.axes:
        texts += [*ax.texts, ax.title, ax._left_title, ax.xaxis.label, ax.yaxis.label]
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in axis.get_major_ticks():
                inside = low - 1e-9 <= tick.get_loc() <= high + 1e-9
                texts += [tick.label1] if inside and tick.label1.get_visible() else []
    return [text for text in texts if text.get_text().strip()]


def _assert_legible(figure: Figure) -> None:
    FigureCanvasAgg(figure).draw()
    boxes = {text: text.get_window_extent() for text in _texts(figure)}
    width, height = figure.bbox.size
    for text, box in boxes.items():
        assert box.x0 >= 0 and box.x1 <= width, text
        assert box.y0 >= 0 and box.y1 <= height, text
        assert text.get_fontsize() >= 7, text
    for (one, a), (other, b) in itertools.combinations(boxes.items(), 2):
        shared = (min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0))
        assert min(shared) <= 1.5, (one, other)  # boxes are higher than letters


def _drawn(ax, colour: str) -> np.ndarray:
    """[P, 2] of the one line of marks or of full width in a colour."""
    (line,) = (x for x in ax.lines if x.get_color() == colour and x.get_linewidth() > 1)
    return line.get_xydata()


def _colour(method: str) -> str:
    return layout.STYLES[method][0]


@pytest.mark.parametrize(
    "draw",
    [
        _errors,
        _reliability,
        _tradeoff,
        _training,
        lambda: online_thresholds("", "", _methods(THRESHOLDS), _methods(THRESHOLDS)),
    ],
    ids=["errors", "reliability", "tradeoff", "training", "thresholds"],
)
def test_nothing_written_overlaps_or_leaves_the_page(tmp_path, draw):
    figure = draw()
    _assert_legible(figure)
    pixels = image.imread(report.save(figure, tmp_path / "figure.png"))
    assert pixels.shape[1] == layout.PAGE * layout.FONT["figure.dpi"]


@pytest.mark.parametrize("draw", LITTLE.values(), ids=LITTLE)
def test_figures_of_little_are_legible(draw):
    _assert_legible(draw())


def test_lines_are_where_the_errors_are():
    first, *_, last = _errors().axes
    np.testing.assert_allclose(
        _drawn(first, _colour("mesa")), np.stack(_by_steps()[50]["mesa"][:2], 1)
    )
    np.testing.assert_allclose(_drawn(first, _colour("recovery_rl")), [[2000, 0.07]])
    np.testing.assert_allclose(
        _drawn(last, _colour("multi_task")),
        np.stack(_methods(ROWS)["multi_task"][:2], 1),
    )


def test_every_panel_of_errors_has_one_scale_and_both_references():
    axes = _errors().axes
    assert len({ax.get_ylim() for ax in axes}) == 1
    for ax in axes:
        levels = [x.get_ydata()[0] for x in ax.lines if x.get_color() == "0.4"]
        assert {5e-4, 0.0063} <= set(levels)


def test_ticks_are_just_the_steps_that_occur():
    figure = _errors()
    FigureCanvasAgg(figure).draw()
    axis = figure.axes[0].xaxis
    np.testing.assert_array_equal(axis.get_majorticklocs(), [*STEPS, 2000])
    texts = [label.get_text() for label in axis.get_ticklabels()]
    assert texts == ["0", "1", "5", "10", "100", "2000"]


def test_close_ticks_leave_a_number_out_but_not_the_first_or_last():
    line = {"mesa": _line((0, 1, 8, 9, 10, 1000, 1010), 0.1)}
    figure = _errors(by_steps=dict.fromkeys(ROWS, line))
    _assert_legible(figure)
    texts = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert texts[0] == "0" and texts[-1] == "1010" and "" in texts


def test_a_method_is_named_in_the_last_panel_that_has_it():
    first, second = {"mesa": _line(STEPS, 0.01)}, {"multi_task": _line(STEPS, 0.02)}
    figure = _errors(by_steps={50: first | second, 200: second}, by_rows={})
    named = [{text.get_text() for text in ax.texts} for ax in figure.axes]
    assert named == [{"mesa"}, {"multi_task", "noise floor", "no adaptation"}]


def test_unknown_entries_are_skipped_and_unknown_intervals_are_the_mean():
    mean = np.array([0.01, NAN, 0.005])
    line = Line(np.array([0.0, 1, 5]), mean, np.full(3, NAN), np.full(3, NAN))
    figure = _errors(by_steps={50: {"mesa": line}}, by_rows={})
    known = [[0, 0.01], [5, 0.005]]
    np.testing.assert_allclose(_drawn(figure.axes[0], _colour("mesa")), known)
    edges = [x for x in figure.axes[0].lines if x.get_linewidth() == 0.5]
    assert len(edges) == 2
    for edge in edges:
        np.testing.assert_allclose(edge.get_xydata(), known)


@pytest.mark.parametrize("least", [0.0, 1e-3])
def test_zero_error_is_drawn_on_the_lower_edge_and_said(least):
    line = _line([0, 1, 5], [0.01, least, 0.01])
    figure = _errors(by_steps={50: {"mesa": line}}, by_rows={}, floor=2e-3)
    (ax,), note = figure.axes, figure.texts[1].get_text()
    bottom, drawn = ax.get_ylim()[0], _drawn(ax, _colour("mesa"))
    assert 0 < bottom < 2e-3
    assert (drawn[1, 1] == bottom) == ("lower edge: zero" in note) == (least == 0)


def test_a_lone_mark_has_a_bar():
    ax = _errors(by_steps={50: {"mesa": _line([5], 0.01)}}, by_rows={}).axes[0]
    (bar,) = (x for x in ax.collections if hasattr(x, "get_segments"))
    np.testing.assert_allclose(bar.get_segments(), [[[5, 0.008], [5, 0.013]]])


def test_diagrams_hold_their_bins_and_their_error():
    figure = _reliability()
    top, bottom = figure.axes[:4], figure.axes[4:]
    bins = np.stack(_bins()[:2], 1)
    np.testing.assert_allclose(top[1].lines[-1].get_xydata(), bins)
    assert top[1]._left_title.get_text() == "error 0.042"
    assert not top[0].lines and top[0]._left_title.get_text() == "no estimate"
    assert bottom[0].lines and [ax.get_ylabel() for ax in (top[0], bottom[0])] == [
        "before adaptation\ntruth",
        "after adaptation\ntruth",
    ]


def test_small_rates_have_most_of_the_axes():
    (ax,) = _tradeoff().axes
    corner = ax.transAxes.inverted().transform(ax.transData.transform((0.3, 0.3)))
    assert (corner > 0.5).all()
    assert ax.get_xlim() == ax.get_ylim() == (0, 1)


def test_the_threshold_in_use_is_marked_and_its_rates_written():
    (ax,) = _tradeoff({"mesa": (0.01, 0.2)}).axes
    marks = [x.get_xydata()[0] for x in ax.lines if x.get_marker() == "o"]
    known = [mark for mark in marks if np.isfinite(mark).all()]
    np.testing.assert_allclose(known, [[0.01, 0.2]])
    texts = [text.get_text() for text in ax.texts]
    assert sorted(texts) == sorted(["mesa  0.200, 0.010", *METHODS[:-1]])


def test_unmarked_curves_are_named_where_they_are():
    alarm, safe = np.array([0, NAN, 0.2, 1]), np.array([1, 0.5, 0.1, 0])
    assert decisions._middle(alarm, safe) == (0.2, 0.1)


def test_thresholds_have_two_panels_on_one_axis_and_zero_in_sight():
    violations = {"mesa": _line(THRESHOLDS, 0), "multi_task": _line([0.3, NAN], 4)}
    figure = online_thresholds("", "", violations, {"mesa": _line(THRESHOLDS, 9)})
    upper, lower = figure.axes
    assert upper.get_xlim() == lower.get_xlim() == (0.02, 0.9)
    assert upper.get_ylim()[0] < 0 and upper.get_ylim()[1] > 4
    np.testing.assert_allclose(_drawn(upper, _colour("multi_task")), [[0.3, 4]])
    assert [text.get_text() for text in lower.texts] == ["mesa"]


def test_twelve_rates_are_told_apart_and_given_room():
    first, ax, _ = _training().axes
    lines = [line for line in ax.lines if line.get_linewidth() == 1.3]
    assert len({(line.get_color(), line.is_dashed()) for line in lines}) == 12
    assert ax.get_window_extent().height > 1.4 * first.get_window_extent().height


def test_training_lines_skip_the_unknown_and_keep_zero_on_the_edge():
    values = np.array([0.1, NAN, 0.0])
    panel = Panel("error", "error", True, {"x": (np.array([0, 10, 20]), values)})
    (ax,) = meta_training("", "", [panel, panel._replace(log=False)]).axes[:1]
    (line,) = (x for x in ax.lines if x.get_linewidth() == 1.3)
    np.testing.assert_allclose(line.get_xydata(), [[0, 0.1], [20, ax.get_ylim()[0]]])
    assert training._known({"x": (values, values * NAN)}) == {}


def test_both_ways_of_multi_task_differ_in_brightness_too():
    def brightness(method):
        part = np.array(colors.to_rgb(_colour(method)))
        linear = np.where(
            part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4
        )
        return linear @ [0.2126, 0.7152, 0.0722] + 0.05  # WCAG 2 contrast

    few, many = brightness("multi_task_few"), brightness("multi_task")
    assert many / few > 2 and 1.05 / many > 4.5
