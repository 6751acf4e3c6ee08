"""Every figure of the report: legible, whole, in its colours, and what it shows."""

import functools
import io
import itertools

import matplotlib
import numpy as np
import pytest
from matplotlib import colors, image
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mesa_jax.methods import METHODS
from mesa_jax.report import (
    curves,
    decisions,
    films,
    layout,
    lines,
    maps,
    throughput,
    training,
)
from mesa_jax.report.decisions import Reliability, reliability, safety_tradeoff
from mesa_jax.report.maps import RiskMap, Words
from mesa_jax.report.quality import errors, online_thresholds
from mesa_jax.report.statistics import Curve, curve, interval
from mesa_jax.report.training import Panel, meta_training
from mesa_jax.study.records import Path
from mesa_jax.types import Plane
from tests.report.scenes import FILMS

NAN = float("nan")
FOUR = ("recovery_rl", "multi_task", "multi_task_few", "mesa")
BEFORE, AFTER = "before adaptation", "after adaptation"
STEPS, ROWS = (0, 1, 5, 10, 100), (50, 200, 1000)
THRESHOLDS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)


def _line(x, mean) -> Curve:
    x, mean = np.asarray(x, float), np.broadcast_to(mean, len(x)).astype(float)
    return Curve(x, mean, 0.8 * mean, 1.3 * mean)


def _close(x) -> dict[str, Curve]:
    """Lines that come close to each other."""
    fall = np.geomspace(1.0, 0.4, len(x))
    return {name: _line(x, fall * (6 - i) / 1e3) for i, name in enumerate(FOUR)}


def _runs(seeds: int, methods=tuple(METHODS), steps=40) -> dict[str, Curve]:
    """Cumulative counts, of each method another share of the steps."""
    rng = np.random.default_rng(0)
    return {
        name: curve(
            (rng.random((seeds, steps)) < 0.9 / (1 + i)).cumsum(1).astype(float)
        )
        for i, name in enumerate(methods)
    }


def _counts(seeds=3, **more) -> Figure:
    lines = _runs(seeds)
    return curves.counts("navigation1", lines, lines, list(FOUR), **more)


def _by_steps() -> dict[int, dict[str, Curve]]:
    scratch = {"recovery_rl": _line([2000], 0.07)}
    return {rows: _close(STEPS) | scratch for rows in ROWS}


def _errors(**changes) -> Figure:
    by_transitions = {
        "after 5 steps": {"mesa": _line(ROWS, 0.004), "multi_task": _line(ROWS, 0.005)},
        "at each method's own steps": _close(ROWS),
    }
    given = {"by_steps": _by_steps(), "by_transitions": by_transitions, "floor": 5e-4}
    given |= {"without_adaptation": 0.0063} | changes
    return errors("navigation1: error", "16 test bodies.", **given)


def _bins(error=0.0416) -> Reliability:
    prediction = np.linspace(0, 1, 10) ** 2
    return Reliability(prediction, np.sqrt(prediction) * 0.9, error)


def _reliability() -> Figure:
    both = {name: {BEFORE: _bins(), AFTER: _bins(0.02)} for name in FOUR[1:]}
    return reliability("title", "note", {"recovery_rl": {AFTER: _bins()}} | both)


def _tradeoff(at_threshold=None) -> Figure:
    alarm = np.linspace(0, 1, 50)
    powers = dict(zip(FOUR, (2, 5, 5.5, 6), strict=True))
    found = {name: (alarm, (1 - alarm) ** power) for name, power in powers.items()}
    points = {
        name: (alarm[2 + i], found[name][1][2 + i]) for i, name in enumerate(FOUR)
    }
    return safety_tradeoff("title", "note", found, at_threshold or points)


def _thresholds() -> Figure:
    return online_thresholds("title", "", _close(THRESHOLDS), _close(THRESHOLDS))


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


WALL = Plane(
    ((-83, -80, -6, 6),), (-83, 53, -6, 6), (-50, 0), (0, 0), ((0, 1), (0, -1))
)


def _maps(columns=2, names=("mesa",), paths=True) -> Figure:
    rng = np.random.default_rng(0)
    risks = rng.random((len(names) + 1, columns, 13, 66))
    way = [Path(np.array([[-50.0, 0.0], [-20.0, 4.0]]), violation=True)]
    rows = [RiskMap("truth", risks[0])]
    for name, mine in zip(names, risks[1:], strict=True):
        found = RiskMap(name, mine, np.full(columns, 0.0081))
        rows.append(found._replace(paths=[way] * columns if paths else ()))
    words = Words(
        "Risk on a new body: navigation1, flip bodies",
        "Test body of seed 2: gain [[0.64, 0.0], [0.0, -1.37]], drift [0.0, 0.0]",
        [f"seed {i}: it moves by [0.0, -1.4]" for i in range(columns)],
        "online episodes (left first 3, right last 3)" * paths,
        "Above the risk threshold the recovery policy acts. " * 6,
    )
    return maps.figure(words, rows, WALL, 0.3)


LONG = ("mesa", "recovery_rl_published", "multi_task_published", "mesa_context")


def _throughput(
    cases=tuple(throughput.PANELS), share=0.5, spread=1.0, rate=300
) -> Figure:
    """Of every program; PyTorch beside the first."""
    rows = []
    for case, (i, count) in itertools.product(cases, enumerate((5, 20, 64, 256, 1024))):
        row = {"case": case, "count": count, "per_second": rate * (1 + spread * i)}
        row |= {"share_of_product": share} if share else {}
        if case == "published" and count <= 64:
            row["yardstick_milliseconds"] = 20.0 * count
        rows.append(row)
    machine = {"device": "cpu", "threads": 2, "jax": "0.10.2"}
    return throughput.throughput(machine, rows)


ALONE = {"mesa": _line([200], 0.004)}
UNKNOWN = {"mesa": Curve(*np.full((4, 3), NAN)), "multi_task": _line(STEPS, 0.004)}
NOTHING = Reliability(*np.full((2, 10), NAN), NAN)
NO_CURVE = (np.full(3, NAN), np.full(3, NAN))
SIX = {name: {AFTER: _bins()} for name in (*FOUR, "other", "another_method")}
FIGURES = {  # what a launch draws
    "curves": _counts,
    "curves with bands": lambda: _counts(seeds=12),
    "curves of a fault": lambda: _counts(struck=20.0, outcome_words=curves.RETURNS),
    "ratio": lambda: curves.ratio(
        "navigation1", {n: curve(0.3 + c.runs) for n, c in _runs(3).items()}
    ),
    "errors": _errors,
    "thresholds": _thresholds,
    "reliability": _reliability,
    "tradeoff": _tradeoff,
    "training": _training,
    "maps of a run": _maps,
    "maps of bodies": lambda: _maps(3, LONG[:1], paths=False),
    "maps of long names": lambda: _maps(3, LONG, paths=False),
    "throughput": _throughput,
    "throughput alone": lambda: _throughput(("published", "online"), None, 0.01),
    **{
        f"strip of a {name}": lambda make=make: films.strip(make())
        for name, make in FILMS.items()
    },
}
LITTLE = {  # what it draws of little
    "one seed": lambda: _counts(seeds=1),
    "one method": lambda: _errors(
        by_steps={200: {"mesa": _line(STEPS, 0)}}, by_transitions={}
    ),
    "one point": lambda: _errors(by_steps={}, by_transitions={"after 5 steps": ALONE}),
    "no references": lambda: _errors(floor=NAN, without_adaptation=NAN),
    "missing": lambda: _errors(by_steps={50: _by_steps()[50], 200: UNKNOWN, 1000: {}}),
    "nothing known": lambda: _errors(by_steps={50: {}}, by_transitions={}, floor=NAN),
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
every_figure = pytest.mark.parametrize("make", FIGURES.values(), ids=FIGURES)


# The contract of every figure


def _texts(figure: Figure) -> list:
    """What is written, without the ticks' numbers outside their axes."""
    texts = list(figure.texts)
    for legend in figure.legends:
        texts += legend.get_texts()
    for ax in figure.axes:
        titles = [ax.title, ax._left_title, ax._right_title]
        texts += [*ax.texts, *titles, ax.xaxis.label, ax.yaxis.label]
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in axis.get_major_ticks():
                inside = low - 1e-9 <= tick.get_loc() <= high + 1e-9
                texts += [tick.label1] if inside and tick.label1.get_visible() else []
    return [text for text in texts if text.get_text().strip() and text.get_visible()]


@pytest.mark.parametrize(
    "make", [*FIGURES.values(), *LITTLE.values()], ids=[*FIGURES, *LITTLE]
)
def test_nothing_written_is_small_or_overlaps_or_leaves_the_page(make):
    figure = make()
    FigureCanvasAgg(figure).draw()
    boxes = {text: text.get_window_extent() for text in _texts(figure)}
    width, height = figure.bbox.size
    for text, box in boxes.items():
        assert box.x0 >= 0 and box.x1 <= width, text
        assert box.y0 >= 0 and box.y1 <= height, text
        assert text.get_fontsize() >= 6.5, text
    for (one, a), (other, b) in itertools.combinations(boxes.items(), 2):
        shared = (min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0))
        assert min(shared) <= 1.5, (one, other)  # boxes are higher than letters


@functools.cache
def _png(make) -> bytes:
    return layout.png(make())


@every_figure
def test_a_file_is_a_page_wide_and_nothing_is_clipped_by_it(make):
    pixels = image.imread(io.BytesIO(_png(make)))[..., :3]
    assert pixels.shape[1] == layout.PAGE * layout.FONT["figure.dpi"]
    assert 0.02 < (pixels < 0.9).any(-1).mean() < 0.9
    frame = np.concatenate([pixels[:3].ravel(), pixels[:, :3].ravel()])
    frame = np.concatenate([frame, pixels[-3:].ravel(), pixels[:, -3:].ravel()])
    assert (frame == 1).all()


STRANGE = {  # what a user's matplotlibrc may say
    "text.usetex": True,
    "font.family": "serif",
    "font.size": 30,
    "figure.dpi": 50,
    "savefig.dpi": 50,
    "savefig.bbox": "tight",
    "savefig.format": "svg",
    "savefig.transparent": True,
    "axes.facecolor": "black",
    "axes.prop_cycle": "cycler('color', ['r'])",
    "lines.linewidth": 9,
    "figure.constrained_layout.use": True,
}


@every_figure
def test_the_users_matplotlibrc_changes_no_figure(make):
    with matplotlib.rc_context(STRANGE):
        assert layout.png(make()) == _png(make)
        assert matplotlib.rcParams["text.usetex"]  # and none of theirs is changed


@every_figure
def test_a_methods_name_has_its_colour_wherever_it_labels_a_line(make):
    for ax in make().axes:
        if ax.images:
            continue  # a map, where a name is a title
        drawn = {line.get_color() for line in ax.lines if line.get_linewidth() > 1}
        for text in ax.texts:
            method = text.get_text().split("  ")[0]
            if method in layout.STYLES:
                assert text.get_color() == layout.STYLES[method][0]
                assert not drawn or text.get_color() in drawn


def test_where_a_user_keeps_ffmpeg_is_kept():
    theirs = {"animation.ffmpeg_path": "/opt/ffmpeg", "text.usetex": True}
    with matplotlib.rc_context(theirs), layout.drawing():
        assert matplotlib.rcParams["animation.ffmpeg_path"] == "/opt/ffmpeg"
        assert not matplotlib.rcParams["text.usetex"]


# Labels and styles


@pytest.mark.parametrize("count", [1, 2, 7])
def test_spread_labels_keep_order_and_gap(count):
    rng = np.random.default_rng(count)
    for _ in range(50):
        wanted = rng.uniform(0, 30, count).round()  # with ties
        placed = layout.spread(wanted, 10.0, 0.0, 100.0)
        order = np.argsort(wanted, kind="stable")
        assert (np.diff(placed[order]) >= 10.0 - 1e-9).all()
        assert placed.min() >= 0 and placed.max() <= 100


def test_spread_leaves_labels_that_have_room_alone():
    wanted = [40.0, 5.0, 20.0]
    np.testing.assert_allclose(layout.spread(wanted, 10.0, 0.0, 50.0), wanted)


def test_every_method_has_a_style_of_its_own():
    found = layout.styles([*METHODS, "new", "newer"])
    assert len(set(found.values())) == len(METHODS) + 2
    assert found["mesa"] == layout.STYLES["mesa"]


def test_both_ways_of_multi_task_differ_in_brightness_too():
    def brightness(method):
        part = np.array(colors.to_rgb(_colour(method)))
        linear = np.where(
            part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4
        )
        return linear @ [0.2126, 0.7152, 0.0722] + 0.05  # WCAG 2 contrast

    few, many = brightness("multi_task_few"), brightness("multi_task")
    assert many / few > 2 and 1.05 / many > 4.5


def _colour(method: str) -> str:
    return layout.STYLES[method][0]


def _drawn(ax, colour: str) -> np.ndarray:
    """[P, 2] of the one line of marks or of full width in a colour."""
    (line,) = (x for x in ax.lines if x.get_color() == colour and x.get_linewidth() > 1)
    return line.get_xydata()


# Curves


def test_band_holds_the_mean_and_ends_at_the_tables_interval():
    values = np.random.default_rng(0).poisson(2.0, (6, 9)).cumsum(1).astype(float)
    line = curve(values)
    np.testing.assert_allclose(line.mean, values.mean(0))
    assert (line.low <= line.mean).all() and (line.mean <= line.high).all()
    last = line.mean[-1], line.low[-1], line.high[-1]
    np.testing.assert_allclose(last, interval(values[:, -1]))


def test_band_of_one_seed_is_its_line():
    line = curve(np.arange(4.0)[None])
    np.testing.assert_allclose([line.low, line.high], [line.mean] * 2)


@pytest.mark.parametrize("seeds", [1, lines.BAND_SEEDS - 1, lines.BAND_SEEDS])
def test_runs_are_drawn_where_they_are_few_and_else_their_band(seeds):
    found = _runs(seeds, ("mesa",))
    figure = curves.counts("", found, found, [])
    ax, note = figure.axes[0], figure.texts[1].get_text()
    faint = [line.get_ydata() for line in ax.lines if line.get_linewidth() == 0.5]
    few = seeds < lines.BAND_SEEDS
    np.testing.assert_array_equal(
        faint, found["mesa"].runs if few else [found["mesa"].low, found["mesa"].high]
    )
    assert bool(ax.collections) == ("band" in note) == (not few)
    assert ("the runs of" in note) == (1 < seeds < lines.BAND_SEEDS)


def test_a_flattened_panel_is_drawn_again_without_what_flattens_it():
    def ends(**ends):
        return {n: curve(np.array([[0.0, e], [0.0, e]])) for n, e in ends.items()}

    ours = ["mesa", "multi_task"]
    few = ends(unconstrained=50, mesa=2, multi_task=4)
    close = ends(unconstrained=5, mesa=2, multi_task=4)
    for violations, panels in ((few, 3), (close, 2)):
        figure = curves.counts("", violations, close, ours)
        assert len(figure.axes) == panels
        texts = [text.get_text() for text in figure.axes[1].texts]
        assert any("unconstrained" in text for text in texts) == (panels == 2)


def _curve(*values) -> Curve:
    return curve(np.array([values, values], float))


@pytest.mark.parametrize("struck", [None, 1.5])
def test_a_fault_is_marked_in_every_panel(struck):
    found = {"mesa": _curve(0, 1, 2), "unconstrained": _curve(0, 9, 20)}
    figure = curves.counts("", found, found, ["mesa"], struck=struck)
    assert len(figure.axes) == 3
    for ax in figure.axes:
        marks = [x.get_xdata()[0] for x in ax.lines if x.get_linestyle() == ":"]
        assert marks == ([] if struck is None else [struck])
        notes = [text.get_text() for text in ax.texts]
        assert notes.count("fault") == (struck is not None)


def test_returns_are_named_and_shown_below_zero_too():
    violations = {"mesa": _curve(0, 1, 1)}
    for returns in (_curve(-300, -200, -90), _curve(2, 3, 800)):
        outcome = {"mesa": returns}
        words = curves.RETURNS
        *_, ax = curves.counts("", violations, outcome, [], words).axes
        assert (ax.get_title("left"), ax.get_ylabel()) == words
        bottom, top = ax.get_ylim()
        assert bottom < min(0.0, returns.low.min())
        assert top > max(0.0, returns.high.max())


def test_a_ratio_below_the_panel_at_first_is_drawn_where_it_is():
    found = {"mesa": _curve(1.0, 0.1, 0.02), "unconstrained": _curve(1.0, 2.0, 9.0)}
    (ax,) = curves.ratio("", found).axes
    np.testing.assert_allclose(_drawn(ax, _colour("mesa"))[:, 1], [1.0, 0.1, 0.02])
    assert ax.get_ylim()[0] <= 0.02


# Errors


def test_lines_are_where_the_errors_are():
    first, *_, last = _errors().axes
    np.testing.assert_allclose(
        _drawn(first, _colour("mesa")), np.stack(_by_steps()[50]["mesa"][:2], 1)
    )
    np.testing.assert_allclose(_drawn(first, _colour("recovery_rl")), [[2000, 0.07]])
    np.testing.assert_allclose(
        _drawn(last, _colour("multi_task")),
        np.stack(_close(ROWS)["multi_task"][:2], 1),
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
    make = lambda: _errors(by_steps=dict.fromkeys(ROWS, line))  # noqa: E731
    test_nothing_written_is_small_or_overlaps_or_leaves_the_page(make)
    texts = [label.get_text() for label in make().axes[0].get_xticklabels()]
    assert texts[0] == "0" and texts[-1] == "1010" and "" in texts


def test_a_method_is_named_in_the_last_panel_that_has_it():
    first, second = {"mesa": _line(STEPS, 0.01)}, {"multi_task": _line(STEPS, 0.02)}
    figure = _errors(by_steps={50: first | second, 200: second}, by_transitions={})
    named = [{text.get_text() for text in ax.texts} for ax in figure.axes]
    assert named == [{"mesa"}, {"multi_task", "noise floor", "no adaptation"}]


def test_unknown_entries_are_skipped_and_unknown_intervals_are_the_mean():
    mean = np.array([0.01, NAN, 0.005])
    line = Curve(np.array([0.0, 1, 5]), mean, np.full(3, NAN), np.full(3, NAN))
    figure = _errors(by_steps={50: {"mesa": line}}, by_transitions={})
    known = [[0, 0.01], [5, 0.005]]
    np.testing.assert_allclose(_drawn(figure.axes[0], _colour("mesa")), known)
    edges = [x for x in figure.axes[0].lines if x.get_linewidth() == 0.5]
    assert len(edges) == 2
    for edge in edges:
        np.testing.assert_allclose(edge.get_xydata(), known)


@pytest.mark.parametrize("least", [0.0, 1e-3])
def test_zero_error_is_drawn_on_the_lower_edge_and_said(least):
    line = _line([0, 1, 5], [0.01, least, 0.01])
    figure = _errors(by_steps={50: {"mesa": line}}, by_transitions={}, floor=2e-3)
    (ax,), note = figure.axes, figure.texts[1].get_text()
    bottom, drawn = ax.get_ylim()[0], _drawn(ax, _colour("mesa"))
    assert 0 < bottom < 2e-3
    assert (drawn[1, 1] == bottom) == ("lower edge: zero" in note) == (least == 0)


def test_a_lone_mark_has_a_bar():
    figure = _errors(by_steps={50: {"mesa": _line([5], 0.01)}}, by_transitions={})
    (bar,) = (x for x in figure.axes[0].collections if hasattr(x, "get_segments"))
    np.testing.assert_allclose(bar.get_segments(), [[[5, 0.008], [5, 0.013]]])


def test_thresholds_have_two_panels_on_one_axis_and_zero_in_sight():
    violations = {"mesa": _line(THRESHOLDS, 0), "multi_task": _line([0.3, NAN], 4)}
    figure = online_thresholds("", "", violations, {"mesa": _line(THRESHOLDS, 9)})
    upper, lower = figure.axes
    assert upper.get_xlim() == lower.get_xlim() == (0.02, 0.9)
    assert upper.get_ylim()[0] < 0 and upper.get_ylim()[1] > 4
    np.testing.assert_allclose(_drawn(upper, _colour("multi_task")), [[0.3, 4]])
    assert [text.get_text() for text in lower.texts] == ["mesa"]


# Decisions


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
    assert sorted(texts) == sorted(["mesa  0.200, 0.010", *FOUR[:-1]])


def test_unmarked_curves_are_named_where_they_are():
    alarm, safe = np.array([0, NAN, 0.2, 1]), np.array([1, 0.5, 0.1, 0])
    assert decisions._middle(alarm, safe) == (0.2, 0.1)


# Meta-training


def test_twelve_rates_are_told_apart_and_given_room():
    first, ax, _ = _training().axes
    drawn = [line for line in ax.lines if line.get_linewidth() == 1.3]
    assert len({(line.get_color(), line.is_dashed()) for line in drawn}) == 12
    assert ax.get_window_extent().height > 1.4 * first.get_window_extent().height


def test_training_lines_skip_the_unknown_and_keep_zero_on_the_edge():
    values = np.array([0.1, NAN, 0.0])
    panel = Panel("error", "error", True, {"x": (np.array([0, 10, 20]), values)})
    (ax,) = meta_training("", "", [panel, panel._replace(log=False)]).axes[:1]
    (line,) = (x for x in ax.lines if x.get_linewidth() == 1.3)
    np.testing.assert_allclose(line.get_xydata(), [[0, 0.1], [20, ax.get_ylim()[0]]])
    assert training._known({"x": (values, values * NAN)}) == {}


# Maps and throughput


def test_a_maps_title_stands_above_its_errors_where_both_lack_room():
    for figure, apart in ((_maps(3, LONG[:1]), False), (_maps(3, LONG), True)):
        FigureCanvasAgg(figure).draw()
        ax = figure.axes[3]  # the first row of a method
        (title,), error = ax.texts, ax._right_title
        assert (title.get_text(), error.get_text()) == ("mesa", "error 0.0081")
        above = title.get_window_extent().y0 > error.get_window_extent().y1
        assert above == apart


@pytest.mark.parametrize("spread", [0.0, 0.1, 1.0, 1000.0])
@pytest.mark.parametrize("share", [None, 0.8])
@pytest.mark.parametrize("rate", [96, 154, 312, 950, 1360])
def test_every_panel_of_throughput_has_several_ticks(rate, share, spread):
    figure = _throughput(("default", "online"), share, spread, rate)
    FigureCanvasAgg(figure).draw()
    for ax in figure.axes:
        low, high = ax.get_ylim()
        ticks = ax.yaxis.get_majorticklocs()
        assert ((low <= ticks) & (ticks <= high)).sum() >= 3
        texts = [text.get_text() for text in ax.yaxis.get_ticklabels()]
        assert len(set(texts)) == len(texts)  # told apart


def test_throughput_without_products_shows_what_was_measured_alone():
    figure = _throughput(("published",), share=None)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["mesa_jax", "PyTorch, one task after the other"]
    assert "Product" not in figure.texts[1].get_text()
