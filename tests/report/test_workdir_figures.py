"""Figures of a workdir: what they are made of, and that they are drawn."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib import image

from experiments import risk_maps
from experiments.plot import plot
from mesa_jax import configuration
from mesa_jax.domains.point_bodies import PointTask
from mesa_jax.methods import COMPARED, METHODS
from mesa_jax.report import layout, maps
from mesa_jax.study import checkpoints, episodes, files, records, resolve, store
from mesa_jax.study.artifacts import naming, priors
from mesa_jax.study.batches import Batch
from mesa_jax.study.episodes import Shown
from mesa_jax.study.study import Study

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
            row = dict.fromkeys(records.RESULTS.columns, 1)
            row |= {"domain": "navigation1", "tasks": "flip", "stage": "train"}
            row |= {"method": method, "seed": seed, "episode": episode}
            row |= {"violation": int(rng.random() < 0.5), "return": -1.0}
            rows.append(row | {"success": 1 - row["violation"]})
    _write_config(place, max(episodes.values(), default=4))
    records.RESULTS.replace(place, rows)


def _write_config(place: pathlib.Path, episodes: int = 4) -> None:
    settings = configuration.override(SETTINGS, {"online": {"episodes": episodes}})
    files.write_json(place / "config.json", store.config_json(settings))


def _assert_drawn(path: pathlib.Path) -> None:
    """That a figure was saved; `test_figures` looks at what every one has."""
    assert image.imread(path).shape[1] == layout.PAGE * layout.FONT["figure.dpi"]


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


def _task(upward_gain: float) -> PointTask:
    return PointTask(jnp.diag(jnp.array([1.0, upward_gain])), jnp.zeros(2))


def test_the_chosen_seed_is_the_lowest_flipped_one_that_all_methods_ran():
    def runs(*methods, gain):
        return dict.fromkeys(methods, Shown(_task(gain), None, []))

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
    system, made_by = Study(place, SETTINGS).system, batch.made_by(SETTINGS)

    def ones(like):
        return jax.tree.map(lambda x: np.ones(x.shape, x.dtype), like)

    adapted = ones(episodes.params_like(system, batch))
    methods = dict.fromkeys(batch.methods, adapted)
    checkpoints.save(batch.adapted(place), 0, methods, made_by)
    for kind, steps in (("maml", SETTINGS.maml.steps), ("pooled", 1)):  # not finished
        best = {"best": ones(priors.state_like(system, kind).best)}
        name = naming.prior_name(SETTINGS, kind, batch.meta_seed)
        checkpoints.save(place / "checkpoints" / name, steps, best, {"prior": name})
    state = jax.tree.map(
        lambda x: np.zeros(x.shape, x.dtype), episodes.states_like(system, batch)
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
    given, draw = [], maps.figure
    monkeypatch.setattr(maps, "figure", lambda *args: given.extend(args) or draw(*args))
    halves, simulate = [], risk_maps._truth

    def kept(*args):
        halves[:] = found = simulate(*args)
        return found

    monkeypatch.setattr(risk_maps, "_truth", kept)
    batch = Batch(COMPARED, (0, 1), 0)
    _write_runs(tmp_path, batch)
    figure = risk_maps.of_a_run(Study(tmp_path, SETTINGS))
    assert figure.axes

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
        assert risk_maps.of_a_run(Study(tmp_path, SETTINGS)) is None
    said = capsys.readouterr().out
    assert said.startswith("Warning: no risk map of recovery_rl, multi_task, mesa")
    assert f"{folder} holds no undamaged checkpoint" in said


def test_maps_of_other_settings_are_refused(tmp_path):
    _write_runs(tmp_path, Batch(COMPARED, (0, 1), 0))
    other = configuration.override(SETTINGS, {"sac": {"lr": 0.5}})
    with pytest.raises(checkpoints.CheckpointError, match=r"--sac_lr: .*, 0\.5 asked"):
        risk_maps.of_a_run(Study(tmp_path, other))


def test_no_maps_before_the_first_run(tmp_path):
    assert risk_maps.of_a_run(Study(tmp_path, SETTINGS)) is None
