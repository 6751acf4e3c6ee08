"""Figures of a workdir: what they are made of, and that they are drawn."""

import pathlib

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest
from matplotlib import image

from experiments import risk_maps
from experiments.plot import plot
from mesa_jax import configuration
from mesa_jax.domains.navigation import PointTask
from mesa_jax.methods import COMPARED, METHODS
from mesa_jax.report import curves, layout, maps, statistics
from mesa_jax.study import checkpoints, files, records, resolve, store
from mesa_jax.study import episodes as saved
from mesa_jax.study.artifacts import naming
from mesa_jax.study.batches import Batch
from mesa_jax.system import build
from mesa_jax.types import Prior

SETTINGS = configuration.override(
    resolve.resolve("navigation1", "flip", "quick"),
    {"data": {"adaptation": 3}, "online": {"episodes": 4, "evaluate_every": 99}},
)


def _write_results(place: pathlib.Path, episodes: dict[tuple[str, int], int]) -> None:
    """A results.csv of runs (method, seed) with so many finished episodes."""
    rng = np.random.default_rng(0)
    rows = []
    for (method, seed), count in episodes.items():
        for episode in range(1, count + 1):
            row = dict.fromkeys(records.COLUMNS, 1)
            row |= {"domain": "navigation1", "tasks": "flip", "stage": "train"}
            row |= {"method": method, "seed": seed, "episode": episode}
            row |= {"violation": int(rng.random() < 0.5), "return": -1.0}
            rows.append(row | {"success": 1 - row["violation"]})
    _write_config(place, max(episodes.values(), default=4))
    records.replace_runs(place, rows)


def _write_config(place: pathlib.Path, episodes: int = 4) -> None:
    settings = configuration.override(SETTINGS, {"online": {"episodes": episodes}})
    files.write_json(place / "config.json", store.config_json(settings))


def _assert_drawn(path: pathlib.Path) -> None:
    pixels = image.imread(path)[..., :3]
    assert pixels.shape[1] == curves.PAGE * layout.FONT["figure.dpi"]
    assert 0.02 < (pixels < 0.9).any(-1).mean() < 0.9
    frame = np.concatenate([pixels[:4].ravel(), pixels[:, :4].ravel()])
    frame = np.concatenate([frame, pixels[-4:].ravel(), pixels[:, -4:].ravel()])
    assert (frame == 1).all(), "something is clipped by the page"


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


def test_band_holds_the_mean_and_ends_at_the_tables_interval():
    values = np.random.default_rng(0).poisson(2.0, (6, 9)).cumsum(1).astype(float)
    line = curves.curve(values)
    np.testing.assert_allclose(line.mean, values.mean(0))
    assert (line.low <= line.mean).all() and (line.mean <= line.high).all()
    last = line.mean[-1], line.low[-1], line.high[-1]
    np.testing.assert_allclose(last, statistics.interval(values[:, -1]))


def test_band_of_one_seed_is_its_line():
    line = curves.curve(np.arange(4.0)[None])
    np.testing.assert_allclose([line.low, line.high], [line.mean] * 2)


def test_every_method_has_a_style_of_its_own():
    found = layout.styles([*METHODS, "new", "newer"])
    assert len(set(found.values())) == len(METHODS) + 2
    assert found["mesa"] == layout.STYLES["mesa"]


@pytest.mark.parametrize(
    "episodes",
    [
        {(method, seed): 12 for method in METHODS for seed in (0, 1, 2)},
        {("unconstrained", 0): 9, ("unconstrained", 1): 2, ("mesa", 1): 9},
        {("mesa", 4): 1},
    ],
    ids=["finished", "one is not", "one episode"],
)
def test_curves_are_drawn_of_runs_at_their_end(tmp_path, capsys, episodes):
    _write_results(tmp_path, episodes)
    plot(tmp_path)
    said = capsys.readouterr().out
    cut = "left out: unconstrained, seed 1, meta-seed 1 (2 episodes so far)."
    assert (cut in said) == (2 in episodes.values())
    assert ("left out" in said) == (2 in episodes.values())
    for name in ("violations_and_successes.png", "ratio.png"):
        assert str(tmp_path / "report" / name) in said
        _assert_drawn(tmp_path / "report" / name)
    assert len(list((tmp_path / "report").iterdir())) == 2  # no maps without runs


@pytest.mark.parametrize("empty", [False, True])
def test_plot_without_an_episode_says_so(tmp_path, empty):
    _write_config(tmp_path)
    if empty:
        _write_results(tmp_path, {})
    with pytest.raises(records.ResultsError, match="no finished run"):
        plot(tmp_path)


def test_plot_of_no_workdir_says_so(tmp_path):
    with pytest.raises(store.WorkdirError, match="is no workdir"):
        plot(tmp_path)


def test_a_flattened_panel_is_drawn_again_without_what_flattens_it():
    def lines(**ends):
        return {
            n: curves.curve(np.array([[0.0, e], [0.0, e]])) for n, e in ends.items()
        }

    ours = ["mesa", "multi_task"]
    few = lines(unconstrained=50, mesa=2, multi_task=4)
    close = lines(unconstrained=5, mesa=2, multi_task=4)
    for violations, panels in ((few, 3), (close, 2)):
        figure = curves.counts("", violations, close, ours)
        assert len(figure.axes) == panels
        texts = [text.get_text() for text in figure.axes[1].texts]
        assert any("unconstrained" in text for text in texts) == (panels == 2)


def _curve(*values) -> curves.Curve:
    return curves.curve(np.array([values, values], float))


@pytest.mark.parametrize("struck", [None, 1.5])
def test_a_fault_is_marked_in_every_panel(struck):
    lines = {"mesa": _curve(0, 1, 2), "unconstrained": _curve(0, 9, 20)}
    figure = curves.counts("", lines, lines, ["mesa"], struck=struck)
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


def _task(upward_gain: float) -> PointTask:
    return PointTask(jnp.diag(jnp.array([1.0, upward_gain])), jnp.zeros(2))


def test_the_chosen_seed_is_the_lowest_flipped_one_that_all_methods_ran():
    def runs(*methods, gain):
        return dict.fromkeys(methods, saved.Run(_task(gain), None, []))

    def upward(task):
        return float(task.gain[1, 1])

    found = {
        (0, 0): runs("mesa", "multi_task", gain=1.0),
        (0, 1): runs("mesa", gain=-1.0),
        (0, 2): runs("mesa", "multi_task", gain=-0.7),
        (0, 3): runs("mesa", "multi_task", gain=-0.9),
    }
    assert risk_maps.choose(found, upward) == (0, 2)
    del found[0, 2], found[0, 3]
    assert risk_maps.choose(found, upward) == (0, 0)


def _write_runs(place: pathlib.Path, batch: Batch) -> None:
    """Checkpoints as an unfinished launch leaves them, of untrained parameters."""
    built, made_by = build(SETTINGS), batch.made_by(SETTINGS)

    def ones(like):
        return jax.tree.map(lambda x: np.ones(x.shape, x.dtype), like)

    adapted = ones(saved._params_like(SETTINGS, built, batch))
    methods = dict.fromkeys(batch.methods, adapted)
    checkpoints.save(batch.adapted(place), 0, methods, made_by)
    best = {"best": Prior(jax.tree.map(lambda x: x[0], adapted), ())}
    for kind, steps in (("maml", SETTINGS.maml.steps), ("pooled", 1)):  # not finished
        name = naming.prior_name(SETTINGS, kind, batch.meta_seed)
        checkpoints.save(place / "checkpoints" / name, steps, best, {"prior": name})
    state = jax.tree.map(
        lambda x: np.zeros(x.shape, x.dtype), saved.states_like(SETTINGS, built, batch)
    )
    task = jax.tree.map(lambda x: np.stack([x] * len(batch.runs())), _task(-1.2))
    rows = state.safety_replay.rows
    rows.observation[..., 0] = np.arange(rows.observation.shape[1])
    rows.next_observation[..., 0] = 1 + rows.observation[..., 0]
    state.records.length[:, :2] = 5, 2
    state.records.violation[:, 1] = 1
    state.episode[:] = 2
    checkpoints.save(batch.checkpoints(place), 500, state._replace(task=task), made_by)
    batch.write(place, finished=False)


def test_maps_of_an_unfinished_workdir(tmp_path, monkeypatch):
    monkeypatch.setattr(risk_maps, "CELLS", (14, 10))  # y from -5.4 in steps of 1.2
    monkeypatch.setattr(risk_maps, "ROLLOUTS", 4)
    given, draw = [], maps.risk_maps
    monkeypatch.setattr(
        maps, "risk_maps", lambda *args: given.extend(args) or draw(*args)
    )
    halves, simulate = [], risk_maps.truth_on_grid

    def kept(*args):
        halves[:] = found = simulate(*args)
        return found

    monkeypatch.setattr(risk_maps, "truth_on_grid", kept)
    batch = Batch(COMPARED, (0, 1), 0)
    _write_runs(tmp_path, batch)
    figure = risk_maps.risk_maps(tmp_path, SETTINGS)
    _assert_drawn(curves.save(figure, tmp_path / "maps.png"))

    words, (truth, *others) = given[:2]
    assert words.headings == [  # a body that moves against the command
        "command +y moves this body by [0.0, -1.2]",
        "command -y moves this body by [0.0, 1.2]",
    ]
    assert [strip.title for strip in others] == [
        "recovery_rl after adaptation",
        "multi_task after adaptation",  # its prior is not finished
        "mesa before adaptation",
        "mesa after adaptation",
    ]
    np.testing.assert_array_equal(truth.risks[0][1], 1.0)  # +y from y = -4.2, flipped
    assert (truth.risks[1][1] < 0.9).all()
    first, second = (half.reshape(truth.risks.shape) for half in halves)
    np.testing.assert_allclose(truth.risks, (first + second) / 2, rtol=1e-6)
    for strip in others:
        error = (strip.risks - first) * (strip.risks - second)
        error = error[:, 1:9].mean((1, 2))  # no wall
        np.testing.assert_allclose(strip.errors, error, rtol=1e-5, atol=1e-7)

    (first,), (second,) = others[-1].paths  # behind the 3 rows of the adaptation set
    assert (first.points[:, 0] == np.arange(3, 9)).all() and not first.violation
    assert (second.points[:, 0] == np.arange(8, 11)).all() and second.violation


@pytest.mark.parametrize("lost", ["adapted", "checkpoints"])
def test_a_map_that_is_missing_is_said_to_be(tmp_path, capsys, lost):
    batch = Batch(COMPARED, (0, 1), 0)
    _write_runs(tmp_path, batch)
    folder = getattr(batch, lost)(tmp_path)
    (step,) = checkpoints.steps(folder)
    (folder / str(step) / checkpoints.MANIFEST).write_text("{}")
    with pytest.warns(UserWarning, match="is damaged"):
        assert risk_maps.risk_maps(tmp_path, SETTINGS) is None
    said = capsys.readouterr().out
    assert said.startswith("Warning: no risk map of recovery_rl, multi_task, mesa")
    assert f"{folder} holds no undamaged checkpoint" in said


def test_maps_of_other_settings_are_refused(tmp_path):
    _write_runs(tmp_path, Batch(COMPARED, (0, 1), 0))
    other = configuration.override(SETTINGS, {"sac": {"lr": 0.5}})
    with pytest.raises(checkpoints.CheckpointError, match=r"--sac_lr: .*, 0\.5 asked"):
        risk_maps.risk_maps(tmp_path, other)


def test_no_maps_before_the_first_run(tmp_path):
    assert risk_maps.risk_maps(tmp_path, SETTINGS) is None


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


def test_the_users_matplotlibrc_changes_no_figure(tmp_path):
    lines = {"mesa": curves.curve(np.array([[0, 1, 2.0], [0, 1, 3.0]]))}

    def drawn(name: str) -> bytes:
        figure = curves.counts("A title", lines, lines, ["mesa"])
        return curves.save(figure, tmp_path / name).read_bytes()

    usual = drawn("usual.png")
    with matplotlib.rc_context(STRANGE):
        assert drawn("strange.png") == usual
        assert matplotlib.rcParams["text.usetex"]  # and none of theirs is changed


def test_where_a_user_keeps_ffmpeg_is_kept():
    theirs = {"animation.ffmpeg_path": "/opt/ffmpeg", "text.usetex": True}
    with matplotlib.rc_context(theirs), layout.drawing():
        assert matplotlib.rcParams["animation.ffmpeg_path"] == "/opt/ffmpeg"
        assert not matplotlib.rcParams["text.usetex"]
