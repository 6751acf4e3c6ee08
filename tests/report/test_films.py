"""Films of episodes: what is drawn, and that it is what was recorded."""

import itertools
from typing import NamedTuple

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from experiments.online import online
from experiments.render import batch_of, film_of, render
from mesa_jax import configuration
from mesa_jax.report import films, layout
from mesa_jax.report.scene import Film
from mesa_jax.settings import SettingError
from mesa_jax.study import checkpoints, episodes, files, playback, records, store
from mesa_jax.study.batches import Run
from mesa_jax.study.episodes import Recorded
from mesa_jax.study.playback import Playback
from tests import launching
from tests.report import scenes
from tests.report.scenes import FILMS, RECOVERED, STEPS

every_kind = pytest.mark.parametrize("make", FILMS.values(), ids=FILMS)


def _drawn(shown: Film, at: int, before: int = 0):
    """The axes of one picture."""
    with layout.drawing():
        ax = Figure(figsize=(4, 2)).subplots()
        films.picture(ax, shown, before, at)
    return ax


def _labelled(ax, label: str) -> list:
    return [a for a in (*ax.lines, *ax.collections) if a.get_label() == label]


def _texts(ax) -> list[str]:
    return [text.get_text() for text in ax.texts]


@every_kind
def test_a_film_is_written(tmp_path, monkeypatch, make):
    monkeypatch.setattr(films, "DPI", 40)
    shown = make()
    path = tmp_path / "one.gif"
    films.write([shown], path)
    with Image.open(path) as gif:
        assert gif.n_frames == STEPS + 1
        assert gif.size[0] == pytest.approx(40 * films.WIDTH, abs=1)
        colours = set()
        for k in range(gif.n_frames):
            gif.seek(k)
            colours |= {colour for _, colour in gif.convert("RGB").getcolors(2**24)}
        assert 2 < len(colours) <= films.COLOURS  # one palette for all
        assert gif.info["duration"] >= 1000 * films.HOLD
    assert path.stat().st_size < 3e6


def test_films_play_at_once_and_the_shorter_waits(tmp_path, monkeypatch):
    monkeypatch.setattr(films, "DPI", 40)
    whole = scenes.plane()
    short = whole._replace(
        method="unconstrained",
        recovered=np.zeros(2, bool),
        violated=np.array([False, True]),
        points=whole.points[:3],
    )
    frames = {}
    for name, shown in {"both": [whole, short], "whole": [whole]}.items():
        films.write(shown, tmp_path / f"{name}.gif")
        with Image.open(tmp_path / f"{name}.gif") as gif:
            assert gif.n_frames == STEPS + 1
            frames[name] = [
                np.asarray(gif.convert("L"), float)
                for k in range(gif.n_frames)
                if gif.seek(k) is None
            ]
    above = len(frames["whole"][0])
    assert len(frames["both"][0]) > 1.5 * above
    lower = [frame[above + 2 :] for frame in frames["both"]]
    moves = [np.abs(b - a).max() > 60 for a, b in itertools.pairwise(lower)]
    assert moves == [True, True] + [False] * (STEPS - 2)


@pytest.mark.parametrize(("steps", "apart"), [(1, 1), (100, 1), (101, 2), (1000, 10)])
def test_moments_are_even_and_hold_the_ends_and_the_violation(steps, apart):
    violated = np.arange(steps) == steps // 3
    shown = scenes.plane(violated=violated)
    chosen = films.moments(shown, films.FILM_PICTURES)
    even = {*range(0, steps, apart), steps}
    assert chosen == sorted(even | {steps // 3 + 1})
    assert len(even) <= films.FILM_PICTURES


@every_kind
def test_the_strip_shows_the_violation_and_counts_recovered_steps(make):
    figure = films.strip(make())
    pictures = figure.axes[:-1]
    line = figure.axes[-1]
    texts = [_texts(ax) for ax in pictures if ax is not line]
    assert len(texts) == 7  # every second step
    assert "VIOLATION" in texts[-1] and "VIOLATION" not in str(texts[:-1])
    counts = [who for _, who, *_ in texts]
    nobody = "task policy"
    once = "RECOVERY 1 of 2 steps"
    assert counts == ["start", nobody, once, once, nobody, once, nobody]


@every_kind
@pytest.mark.parametrize("at", [5, 9])
def test_a_picture_has_the_colour_of_who_acted_last(make, at):
    ax = _drawn(make(), at, before=at - 1)
    acted = RECOVERED[at - 1]
    colour = films.RECOVERY if acted else films.TASK
    (when, who), (body, *_) = (
        ax.texts,
        _labelled(ax, "robot") or _labelled(ax, "rod")[-1:],
    )
    assert when.get_text() == f"{at * 0.25:.2f} s"
    assert who.get_text() == ("RECOVERY POLICY" if acted else "task policy")
    assert to_rgb(body.get_color()) == pytest.approx(to_rgb(colour))
    box = who.get_bbox_patch().get_facecolor()
    assert (box[:3] == to_rgb(films.RECOVERY)) == acted


def test_the_trail_tells_recovered_steps_apart_and_marks_the_violation():
    shown = scenes.plane()
    ax = _drawn(shown, STEPS)
    legs = np.stack([shown.points[:-1], shown.points[1:]], axis=1)
    for label, mine in (("task policy", ~RECOVERED), ("recovery policy", RECOVERED)):
        (trail,) = _labelled(ax, label)
        np.testing.assert_allclose(trail.get_segments(), legs[mine])
    (cross,) = _labelled(ax, "violation")
    np.testing.assert_allclose(cross.get_xydata(), shown.points[-1:])
    (cross,) = _labelled(_drawn(shown, STEPS - 1), "violation")
    assert not len(cross.get_xydata())


def test_the_region_holds_a_trail_that_leaves_it():
    shown = scenes.plane(points=np.full((STEPS + 1, 2), 9.0))
    assert _drawn(shown, 1).get_xlim() == (-5, 10) and _drawn(shown, 1).get_ylim() == (
        -3,
        10,
    )


@pytest.mark.parametrize("seconds", [None, 0.5])
def test_the_time_line_marks_recovered_steps_the_violation_and_what_is_shown(seconds):
    ax, unit = Figure().subplots(), seconds or 1.0
    films.time_line(ax, scenes.plane(seconds=seconds), [2, 5])
    (bars,) = _labelled(ax, "recovered")
    found = [path.get_extents().intervalx for path in bars.get_paths()]
    wanted = [(i * unit, (i + 1) * unit) for i in np.flatnonzero(RECOVERED)]
    np.testing.assert_allclose(found, wanted)
    (cross,), (marks,) = _labelled(ax, "violation"), _labelled(ax, "shown")
    assert cross.get_xdata() == [STEPS * unit]
    assert marks.get_xdata().tolist() == [2 * unit, 5 * unit]
    assert ax.get_xlabel() == ("seconds" if seconds else "step")


def test_it_is_said_where_nobody_knows_who_acted():
    figure = films.strip(scenes.runner(recovered=None))
    assert _texts(figure.axes[1])[1] == "who acted: not recorded"
    (key,) = figure.legends
    assert [text.get_text() for text in key.get_texts()] == ["violation", "shown"]


@pytest.mark.parametrize(
    "make", [scenes.cart, scenes.runner, scenes.walker], ids=list(FILMS)[1:]
)
def test_rods_are_as_thick_as_they_are(make):
    shown = make()
    ax = _drawn(shown, 5)
    rods = _labelled(ax, "rod")
    assert len(rods) == shown.shapes.radii.shape[1]
    (left, bottom), (right, top) = ax.transData.transform([(0, 0), (0.1, 0.1)])
    assert right - left == pytest.approx(top - bottom)  # one scale on both axes
    for rod in rods:
        assert rod.get_linewidth() / 72 * ax.figure.dpi == pytest.approx(right - left)
        assert rod.get_solid_capstyle() == "round"
        start, end = ax.transData.transform(rod.get_xydata())
        assert np.abs(end - start).max() >= 1  # nothing is drawn of less than a pixel


@pytest.mark.parametrize("make", [scenes.runner, scenes.walker], ids=list(FILMS)[2:])
def test_the_camera_follows_the_body_past_numbers_on_the_floor(make):
    first, last = (_drawn(make(), at) for at in (0, STEPS))
    np.testing.assert_allclose(
        np.subtract(last.get_xlim(), first.get_xlim()), 0.3 * STEPS
    )
    assert first.get_ylim() == last.get_ylim()
    lines = [np.diff(ax.get_xticks()) for ax in (first, last)]
    np.testing.assert_allclose(lines[0][0], lines[1])
    for ax in (first, last):
        named = [float(t.get_text().removesuffix(" m")) for t in ax.get_xticklabels()]
        assert len(named) >= 2
        lean = np.subtract(ax.get_xticks(), named)  # where depth leans the floor
        np.testing.assert_allclose(lean, lean[0], atol=1e-9)


def test_depth_tells_four_legs_apart():
    ax = _drawn(scenes.walker(), 1)
    feet = [tuple(rod.get_xydata()[1].round(6)) for rod in _labelled(ax, "rod")]
    assert len(set(feet)) == 5
    greys = [to_rgb(rod.get_color())[0] for rod in _labelled(ax, "rod")]
    assert greys == sorted(greys, reverse=True)  # the farthest first, and paler
    assert greys[0] > greys[-1] + 0.2


def test_a_rail_stays_and_shows_its_ends():
    first, last = (_drawn(scenes.cart(), at) for at in (0, STEPS))
    assert first.get_xticks()[[0, -1]].tolist() == [-2.4, 2.4]
    assert np.diff(first.get_xticks()).min() >= 0.9  # names do not overlap
    assert first.get_xlim() == last.get_xlim()
    ends = sorted(box.get_x() for box in first.patches)
    assert ends[1] == 2.4 and ends[0] + first.patches[0].get_width() == pytest.approx(
        -2.4
    )


# Recorded episodes.


@pytest.fixture(scope="module")
def launched(tmp_path_factory):
    """A tiny online run in which the recovery policy acts now and then."""
    place = tmp_path_factory.mktemp("render") / "w"
    recovery = {"risk_threshold": 0.5}
    tiny = launching.launch(place, ("unconstrained", "recovery_rl"), recovery=recovery)
    with store.opened(place, tiny.study.configuration):
        launching.run_here(tiny, lambda: online(*tiny))
    return tiny.study


class Replay(NamedTuple):
    """An episode as it was recorded, moved again, and drawn."""

    recorded: Recorded
    moved: Playback
    film: Film


def _state(study, method, seed):
    batch = batch_of(study.folder, method, seed, 0)
    _, states = episodes.restored(study, batch)
    return episodes.run_of(states, batch.runs().index(Run(method, seed, None)))


def _replay(study, method, seed, episode, strays=playback.STRAYS, **online) -> Replay:
    settings = configuration.override(study.configuration, {"online": online})
    study = study._replace(common=settings)
    recorded = episodes.episode_of(settings, _state(study, method, seed), episode)
    moved = playback.moved_again(playback.mover(study.system), seed, recorded, strays)
    return Replay(recorded, moved, film_of(study, method, seed, recorded, moved))


@pytest.mark.parametrize(
    ("method", "seed", "episode"),
    [*(("recovery_rl", 0, episode) for episode in (1, 2, 3)), ("unconstrained", 1, 3)],
)
def test_a_replayed_episode_is_the_recorded_one(launched, method, seed, episode):
    (row,) = (
        row
        for row in records.RESULTS.read(launched.folder)
        if row["stage"] == "train"
        and (row["method"], row["seed"], row["episode"]) == (method, seed, episode)
    )
    found = _replay(launched, method, seed, episode)
    shown, seen = found.film, found.recorded.next_observation
    assert found.moved.difference < 1e-5 and found.moved.strays_at is None
    np.testing.assert_allclose(shown.points[1:], seen, atol=1e-5)
    way = np.linalg.norm(shown.points[:-1], axis=1).sum()  # rewards are distances
    assert way == pytest.approx(-row["return"], rel=1e-5)
    assert shown.steps == row["length"] == len(shown.points) - 1
    assert shown.violated[-1] == row["violation"] and not shown.violated[:-1].any()
    assert shown.recovered.sum() == row["recoveries"]


def test_the_last_episode_is_minus_one(launched):
    last, first = (_replay(launched, "recovery_rl", 1, k) for k in (-1, -3))
    assert last.recorded.number == launching.EPISODES and first.recorded.number == 1


def test_executed_actions_do_not_tell_who_acted(launched):
    # read as if the run had been of that setting
    settings = configuration.override(
        launched.configuration, {"online": {"relabel": "executed"}}
    )
    constrained, never = (
        episodes.episode_of(settings, _state(launched, method, 0), 1)
        for method in ("recovery_rl", "unconstrained")
    )
    assert constrained.recoveries > 0 and constrained.recovered is None
    assert not never.recovered.any()  # which the count of recoveries tells


def test_another_course_is_noticed(launched):
    found = _replay(launched, "recovery_rl", 0, 1, strays=-1.0)
    assert (
        found.moved.strays_at == 1
        and "from step 1 on another course" in found.film.notes
    )


def test_a_run_that_forgot_steps_is_refused(launched):
    state = _state(launched, "recovery_rl", 0)
    replay = state.task_replay
    forgot = state._replace(task_replay=replay._replace(added=replay.added - 1))
    with pytest.raises(checkpoints.CheckpointError, match="not finite"):
        episodes.episode_of(launched.configuration, forgot, 1)


def test_methods_are_rendered_in_one_film(launched, monkeypatch, capsys):
    monkeypatch.setattr(films, "DPI", 30)
    monkeypatch.setattr(films, "FILM_PICTURES", 5)
    (film,) = render(launched.folder, ["unconstrained", "recovery_rl"], episode=1)
    assert film.name == "unconstrained-recovery_rl-seed0-episode1.gif"
    said = capsys.readouterr().out
    assert "episode 1, unconstrained" in said and "episode 1, recovery_rl" in said
    film.unlink()


def test_what_is_rendered_is_said(launched, monkeypatch, capsys):
    monkeypatch.setattr(films, "DPI", 30)
    monkeypatch.setattr(films, "FILM_PICTURES", 5)
    written = render(launched.folder, ["recovery_rl"], seed=1, episode=2)
    folder = launched.folder / "report" / "films"
    names = ["recovery_rl-seed1-episode2.gif", "recovery_rl-seed1-episode2.png"]
    assert written == [folder / name for name in names]
    assert sorted(path.name for path in folder.iterdir()) == names
    said = capsys.readouterr().out
    assert "episode 2, recovery_rl" in said and "differ" in said
    assert "Warning" not in said


@pytest.mark.parametrize(
    ("asked", "name", "there"),
    [
        ({"methods": ["mesa"]}, "method", "recovery_rl, unconstrained"),
        ({"methods": ["recovery_rl", "mesa"]}, "method", "recovery_rl, unconstrained"),
        ({"methods": []}, "method", "at least one"),
        ({"methods": ["mesa_2"]}, "method", "recovery_rl, unconstrained"),
        ({"seed": 7}, "seed", "0, 1"),
        ({"meta_seed": 3}, "meta_seed", "0"),
        ({"episode": 4}, "episode", "1 to 3"),
        ({"episode": 0}, "episode", "1 to 3"),
        ({"episode": -4}, "episode", "1 to 3"),
        ({"kind": "avi"}, "format", "gif, mp4"),
    ],
    ids=str,
)
def test_what_is_not_there_is_named(launched, asked, name, there):
    with pytest.raises(SettingError, match=there) as error:
        render(launched.folder, **({"methods": ["recovery_rl"]} | asked))
    assert error.value.name == name


def test_mp4_needs_ffmpeg(launched, monkeypatch):
    monkeypatch.setattr(films.WRITERS["mp4"], "isAvailable", lambda: False)
    with pytest.raises(SettingError, match="ffmpeg"):
        render(launched.folder, ["recovery_rl"], kind="mp4")


def test_no_workdir_and_no_run_are_told_apart(tmp_path, launched):
    with pytest.raises(store.WorkdirError, match="is no workdir"):
        render(tmp_path)
    files.write_json(
        tmp_path / "config.json", store.config_json(launched.configuration)
    )
    with pytest.raises(records.ResultsError, match="no online run"):
        render(tmp_path)
