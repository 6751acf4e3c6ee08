"""Launches with what navigation does without: a fault that strikes online, data of a
learning agent, adaptation anew, replays as datasets; on a cart-pole, very small.
"""

import functools
import json
import pathlib
import shutil
from typing import NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import online, plot, render, run
from experiments.summary import online_runs
from mesa_jax import configuration
from mesa_jax.domains import DOMAINS
from mesa_jax.domains.cartpole import CartPoleTask
from mesa_jax.keys import Stage, stage_key
from mesa_jax.report import films, tables
from mesa_jax.report.summary import summarize
from mesa_jax.study import checkpoints, datasets, records, replays
from mesa_jax.study.artifacts import data, naming, recorded, reference
from mesa_jax.study.batches import Run, stored
from tests.launching import (
    ADAPTATION,
    CHUNK,
    EPISODES,
    SEEDS,
    Launch,
    before_online,
    csv_of,
    interrupted,
    launch,
    online_folder,
    online_metrics,
    run_here,
)
from tests.worlds import LINE, Body

METHODS = ("recovery_rl", "mesa", "mesa_readapting")
FAULT = "weak:onset=4..12,severity=0.75+bias:part=1,onset=9,severity=0.1"
ONSETS = range(4, 10)  # of the first of both
HORIZON, ROWS, TURN, HELD = 24, 300, 15, 40
SECTIONS = {
    "physics": {"horizon": HORIZON},
    "data": {"test_transitions": ROWS},
    "collect": {"environments": 4, "updates": 1, "start_steps": 40, "batch_size": 16},
    "recovery": {"risk_threshold": 0.6},
    "online": {"start_steps": 10, "readapt_every": TURN, "readapt_transitions": HELD},
}


def tiny(place, fault=FAULT, **changes) -> Launch:
    names = {"domain": "cartpole_length", "tasks": "actuator", "fault": fault}
    asked = launch(place, METHODS, SEEDS, **names, **SECTIONS)
    settings = configuration.override(asked.study.configuration, changes)
    study = asked.study._replace(common=settings)
    return asked._replace(study=study).saving_replays()


class Finished(NamedTuple):
    place: pathlib.Path
    output: str


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    place = tmp_path_factory.mktemp("struck") / "w"
    return Finished(place, run_here(tiny(place), run.main))


def _final(place: pathlib.Path) -> dict[str, np.ndarray]:
    """The leaves of the online runs' last checkpoint."""
    folder = online_folder(place)
    return checkpoints.read(folder, checkpoints.steps(folder)[-1])


def _row(method: str, seed: int) -> int:
    return METHODS.index(method) * len(SEEDS) + SEEDS.index(seed)


def _records(place, method, seed) -> list[dict]:
    return [
        row
        for row in records.RESULTS.read(place)
        if (row["method"], row["seed"], row["stage"]) == (method, seed, "train")
    ]


# The launch


def test_every_run_is_finished_and_in_the_table(finished):
    for method in METHODS:
        for seed in SEEDS:
            assert len(_records(finished.place, method, seed)) == EPISODES
    found = json.loads((finished.place / "summary.json").read_text())
    assert list(found["methods"]) == list(METHODS)
    assert tables.table(found) in finished.output
    assert (finished.place / "report" / "violations_and_successes.png").exists()


def test_the_fault_strikes_each_run_at_its_seeds_own_step(finished):
    leaves, system = _final(finished.place), tiny(finished.place).study.system
    onsets = leaves["task.onset"]  # [runs, faults]
    assert (onsets[:, 1] == 9).all()
    assert ((onsets[:, 0] >= 4) & (onsets[:, 0] <= 12)).all()
    for seed in SEEDS:
        of_seed = {tuple(onsets[_row(method, seed)]) for method in METHODS}
        assert len(of_seed) == 1  # whatever the method
        onset = reference.onset(system, seed)
        assert onset == min(*of_seed.pop()) and onset in ONSETS
    assert len({reference.onset(system, seed) for seed in range(8)}) > 1


def test_what_happened_after_the_fault_is_in_the_summary(finished):
    found = json.loads((finished.place / "summary.json").read_text())
    system = tiny(finished.place).study.system
    for method in METHODS:
        counts, returns = [], []
        for seed in SEEDS:
            rows = _records(finished.place, method, seed)
            onset = reference.onset(system, seed)
            after = [row for row in rows if row["env_steps"] > onset]
            assert 0 < len(after) <= len(rows)
            counts.append(sum(row["violation"] for row in after))
            returns.append(np.mean([row["return"] for row in after]))
        measures = found["methods"][method]
        expected = np.mean(counts), np.mean(returns)
        names = "violations_after_fault", "return_after_fault"
        means = [measures[name]["mean"] for name in names]
        np.testing.assert_allclose(means, expected)
    assert "violations after fault" in finished.output


def test_a_biased_observation_is_what_the_agent_learns_from(finished):
    """The pole's angle is shown 0.1 rad off from step 9 on: it starts at most 0.05."""
    leaves = _final(finished.place)
    seen = leaves["safety_replay.rows.observation"][:, ADAPTATION:, 1]
    for method in METHODS:
        for seed in SEEDS:
            i, rows = _row(method, seed), _records(finished.place, method, seed)
            for record in rows:
                start = record["env_steps"] - record["length"]
                assert (abs(seen[i, start] - 0.1) < 0.06) == (start >= 9)


def test_data_are_a_learning_agents_and_of_healthy_bodies(finished, tmp_path):
    place, settings = finished.place, tiny(finished.place).study.configuration
    folder = place / "datasets" / "cartpole_length"
    train = folder / naming.training_data_name(settings, 0)
    tests = [folder / naming.adaptation_data_name(settings, seed) for seed in SEEDS]
    healthy = tiny(tmp_path / "w", fault="")
    for made in (train, *tests):
        card = json.loads((made / datasets.CARD).read_text())
        assert card["generator"].startswith("soft actor-critic without safety")
        assert card["collect"] == SECTIONS["collect"] | {
            "collector": "sac",
            "hold": 10,
            "at_violation": "ends",
            "sac_share": 0.5,
            "calm": 0.25,
        }
        assert card["physics"]["horizon"] == card["horizon"] == HORIZON
        assert card["steps_not_finite_per_body"] == [0] * card["bodies"]
    again = data.adaptation_data(healthy.study, SEEDS[1])  # without the fault
    stored_rows = data.adaptation_data(tiny(place).study, SEEDS[1]).rows
    assert again.rows.cost.shape == (1, ADAPTATION)
    for ours, theirs in zip(again.rows, stored_rows, strict=True):
        np.testing.assert_array_equal(ours, theirs)


# Adaptation anew


def test_it_starts_as_the_method_that_it_is_and_goes_another_way_at_its_turn(finished):
    leaves = _final(finished.place)
    (folder,) = (finished.place / "checkpoints").glob("adapted-*")
    adapted = checkpoints.read(folder, 0)
    pairs = {
        k: k.replace("mesa.", "mesa_readapting.", 1)
        for k in adapted
        if k[:5] == "mesa."
    }
    assert pairs
    for ours, theirs in pairs.items():
        np.testing.assert_array_equal(adapted[ours], adapted[theirs])
    actions = leaves["task_replay.rows.action"][..., 0]
    observed = leaves["safety_replay.rows.observation"][:, ADAPTATION:]
    for seed in SEEDS:
        ours, theirs = _row("mesa", seed), _row("mesa_readapting", seed)
        first = slice(TURN)
        np.testing.assert_array_equal(actions[ours, first], actions[theirs, first])
        np.testing.assert_array_equal(observed[ours, first], observed[theirs, first])
        names = [name for name in leaves if name.startswith("agent.risk.network")]
        assert any((leaves[n][ours] != leaves[n][theirs]).any() for n in names)
    assert leaves["readapts"].tolist() == [False] * 4 + [True] * 2


def test_every_0_steps_it_stays_as_the_method_that_it_is(finished, tmp_path):
    place = tmp_path / "w"
    before_online(finished.place, place)
    (place / "config.json").unlink()
    run_here(tiny(place, online={"readapt_every": 0}), online.main)
    leaves = _final(place)
    for seed in SEEDS:
        ours, theirs = _row("mesa", seed), _row("mesa_readapting", seed)
        for name in leaves:
            if name.startswith("agent."):
                np.testing.assert_array_equal(leaves[name][ours], leaves[name][theirs])


# Interruption


def test_an_interrupted_launch_ends_with_the_same_numbers(finished, tmp_path):
    place = tmp_path / "w"
    before_online(finished.place, place)
    shutil.rmtree(next((place / "datasets").glob("*/*-test-seed1-*")))  # collected anew
    for path in (place / "datasets").glob("*/replay-*"):
        shutil.rmtree(path)
    with interrupted("after", CHUNK, "online-"):
        run_here(tiny(place), online.main)
    output = run_here(tiny(place), online.main)
    assert csv_of(place) == csv_of(finished.place)
    assert online_metrics(place) == online_metrics(finished.place)
    for name in _replays(finished.place):
        ours, theirs = (
            (root / "datasets" / "cartpole_length" / name / datasets.CARD).read_text()
            for root in (place, finished.place)
        )
        assert ours == theirs
    assert output.count("replay saved") == len(METHODS) * len(SEEDS)


# Replays


def _replays(place: pathlib.Path) -> list[str]:
    return sorted(p.name for p in (place / "datasets").glob("*/replay-*"))


def _loaded(place: pathlib.Path, method: str, seed: int) -> datasets.Dataset:
    domain = tiny(place).study.system.domain
    name = f"replay-{method}-meta0-seed{seed}"
    folder = place / "datasets" / "cartpole_length" / name
    return datasets.load(folder, domain.spec, data.bodies_like(domain))


def test_a_replay_is_read_without_its_domain(finished):
    loaded, name = _loaded(finished.place, "mesa", 0), "replay-mesa-meta0-seed0"
    place = finished.place / "datasets" / "cartpole_length" / name
    found = recorded.read_folder(place)
    for ours, theirs in zip(loaded.rows, found.rows, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert found.tasks._asdict().keys() == loaded.tasks._asdict().keys()


def test_every_asked_run_has_one_replay(finished):
    expected = [f"replay-{m}-meta0-seed{seed}" for m in METHODS for seed in SEEDS]
    assert _replays(finished.place) == sorted(expected)
    assert all(f"/{name}\n" in finished.output for name in expected)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("method", METHODS)
def test_a_replay_holds_what_was_executed_in_the_order_of_the_run(
    finished, method, seed
):
    rows = jax.tree.map(lambda x: x[0], _loaded(finished.place, method, seed).rows)
    leaves, i = _final(finished.place), _row(method, seed)
    count = int(leaves["env_steps"][i])
    assert rows.reward.shape == (count,)
    held = leaves["safety_replay.rows.action"][i, ADAPTATION : ADAPTATION + count]
    np.testing.assert_array_equal(rows.action, held)
    proposed = leaves["task_replay.rows.action"][i, :count]
    recovered = (rows.action != proposed).any(-1)
    at = 0
    for record in _records(finished.place, method, seed):
        episode = slice(at, at + record["length"])
        at = record["env_steps"]
        assert episode.stop == at
        np.testing.assert_allclose(
            rows.reward[episode].sum(), record["return"], atol=1e-3
        )
        assert rows.cost[episode].sum() == record["violation"]
        assert recovered[episode].sum() == record["recoveries"]
        after, before = (
            rows.observation[episode][1:],
            rows.next_observation[episode][:-1],
        )
        np.testing.assert_array_equal(after, before)
    assert at == count


@pytest.mark.parametrize("seed", SEEDS)
def test_a_replays_body_is_the_healthy_one_and_its_card_tells_the_fault(finished, seed):
    found = _loaded(finished.place, "mesa", seed)
    key = stage_key(seed, Stage.TEST_TASK)
    body = tiny(finished.place).study.system.domain.test_tasks(key, 1)
    jax.tree.map(np.testing.assert_array_equal, found.tasks, body)
    assert found.card["fault"] == FAULT
    assert "online run of mesa" in found.card["generator"]
    assert (found.card["seed"], found.card["meta_seed"]) == (seed, 0)


def test_some_actions_were_the_recovery_policys(finished):
    rows = [r for m in METHODS for s in SEEDS for r in _records(finished.place, m, s)]
    assert 0 < sum(row["recoveries"] for row in rows) < sum(r["length"] for r in rows)


def test_a_missing_checkpoint_of_a_replay_is_named(finished, tmp_path):
    place = tmp_path / "w"
    shutil.copytree(finished.place, place)
    shutil.rmtree(online_folder(place))
    ((batch, done),) = stored(place)
    assert done and Run("mesa", 0, None) in batch.runs()
    with pytest.raises(checkpoints.CheckpointError, match=batch.name):
        replays.save_replays(tiny(place).study, METHODS, SEEDS)


# The summary's comparison with random actions


def test_random_actions_fall_and_are_told_with_the_table(finished):
    stored_values = json.loads((finished.place / "random_policy.json").read_text())
    stored_values = stored_values["bodies"]
    assert set(stored_values) == {str(seed) for seed in SEEDS}
    for found in stored_values.values():
        assert 0.3 < found["violations"] <= 1.0
        assert 5.0 < found["return"] < HORIZON
    last = [x for x in finished.output.splitlines() if x.startswith("Random actions")]
    means = np.mean([found["return"] for found in stored_values.values()])
    assert last and all(f"return {means:.1f} [" in line for line in last)


def _line(continues, limit=2.5):
    spec = LINE.spec._replace(continues=continues)
    body = Body(jnp.full(1, limit), jnp.full(1, jnp.inf))
    return LINE._replace(spec=spec, test_tasks=lambda key, count: body)


def _random_episodes(domain):
    return reference.random_episodes(reference.playing(domain), domain, 3)


@pytest.mark.parametrize("continues", [False, True])
def test_a_random_episode_ends_as_an_online_one_does(continues):
    # the line's reference policy goes 0, 1, 2 and violates at 3; more would be worth 3
    counted = {"episodes": reference.EPISODES}
    found = _random_episodes(_line(continues))
    assert found == {"return": 0 + 1 + 2, "violations": 1.0} | counted
    found = _random_episodes(_line(continues, limit=99.0))
    assert found == {"return": 0 + 1 + 2 + 3, "violations": 0.0} | counted


def _random(place, made: list) -> dict:
    """What is stored of random actions; adds to `made` the seeds that are simulated."""

    def simulate(seed):
        made.append(seed)
        return {"return": 3.0, "violations": 1.0, "episodes": 32}

    settings = configuration.Configuration()
    return reference.stored_or_made(place / reference.FILE, settings, [3, 5], simulate)


OTHERS = ["{", "[]", "3", "null", '{"3": 5}', '{"3": {"return": 1}, "5": {}}', "\xff"]
OTHERS += ['{"3": {"return": null, "violations": 1.0}}', '{"3": {"return": "1"}}']
OTHERS += ["", "{}", '{"3": 4}', '{"bodies": {}, "made_by": "x"}', "[" * 10**5]


@pytest.mark.parametrize("text", OTHERS, ids=lambda text: text[:20])
def test_another_file_of_random_actions_is_told_and_made_anew(tmp_path, capsys, text):
    made, path = [], tmp_path / reference.FILE
    expected = _random(tmp_path, made)
    whole = path.read_bytes()
    path.write_bytes(text.encode("latin-1"))
    assert _random(tmp_path, made) == expected and made == [3, 5, 3, 5]
    assert f"Warning: {path} is damaged" in capsys.readouterr().out
    assert path.read_bytes() == whole
    assert _random(tmp_path, made) == expected and len(made) == 4
    assert capsys.readouterr().out == ""


def test_a_flipped_digit_of_random_actions_is_noticed(tmp_path, capsys):
    made, path = [], tmp_path / reference.FILE
    expected = _random(tmp_path, made)
    flipped = path.read_bytes().replace(b'"return": 3', b'"return": 7')
    assert flipped != path.read_bytes()
    path.write_bytes(flipped)
    assert _random(tmp_path, made) == expected and made == [3, 5, 3, 5]
    assert f"Warning: {path} is damaged" in capsys.readouterr().out


# Who makes the data


@pytest.mark.parametrize("collector", ["random", "sticky"])
def test_actions_of_data_are_held_only_where_asked(tmp_path, collector):
    hold = 4
    asked = tiny(
        tmp_path / "w",
        collect={"collector": collector, "hold": hold},
        data={"test_transitions": 200},
        physics={"horizon": 8},
    )
    system = asked.study.system
    tasks = system.domain.train_tasks(jax.random.key(0), 4)
    key = jax.random.key(1)
    rows, about = data.collected(system, key, tasks, 200)
    assert rows.cost.shape == (4, 200)
    assert about["share_entering_violation"] == pytest.approx(rows.cost.mean())
    assert about["share_beginning_in_violation"] == 0.0
    same = (rows.action[:, 1:] == rows.action[:, :-1]).all(-1)
    goes_on = (rows.observation[:, 1:] == rows.next_observation[:, :-1]).all(-1)
    assert goes_on.mean() > 0.7
    # of a whole episode's 7 pairs all but the one between its two holds
    share = same[goes_on].mean()
    assert share == 0.0 if collector == "random" else 0.75 < share < 0.95


@pytest.mark.parametrize(
    ("violating", "warned"),
    [(0, True), (9, True), (10, False), (300, False), (600, False), (601, True)],
)
def test_a_dataset_with_few_or_many_violations_is_warned_of(
    tmp_path, capsys, violating, warned
):
    """Of 1,000 transitions; one of two bodies has none of them, which is not judged."""
    cost = (np.arange(1000) < violating).astype(np.float32).reshape(1, -1)
    zeros = np.zeros((1, 1000), np.float32)
    column = zeros[..., None]
    rows = datasets.Transition(column, column, zeros, cost, 1 - cost, column)
    task = CartPoleTask(*(np.ones(1, np.float32) for _ in CartPoleTask._fields))
    data._say(datasets.save(tmp_path, rows, task, {}), tmp_path)
    said = capsys.readouterr().out
    assert ("Warning: " in said) == warned
    if warned:
        assert f"{violating / 10:.2f} % of the transitions violate" in said
        assert "from 1 to 60 %" in said


def test_plots_without_success_show_returns(finished):
    """As of a domain that does not say what success is."""
    study = tiny(finished.place).study
    runs = online_runs(study)
    summary = summarize(runs)
    draw = functools.partial(plot.curve_figures, study.configuration)
    assert set(draw(runs, summary)) == {"violations_and_successes.png", "ratio.png"}
    found = draw(runs._replace(has_success=False), summary)
    assert set(found) == {"violations_and_returns.png"}
    drawn = {path.name for path in (finished.place / "report").iterdir()}
    assert "after_fault.png" in drawn and "risk_maps.png" not in drawn


# Readers of a run rebuild its shapes by what made them


def _rendered(place: pathlib.Path, method: str, seed: int) -> None:
    """That a film and a strip of a run are drawn."""
    with (
        mock.patch.object(films, "DPI", 30),
        mock.patch.object(films, "FILM_PICTURES", 5),
    ):
        film, strip, *_ = render.render(place, [method], seed=seed)
    assert film.exists() and strip.exists()


def test_a_run_whose_data_an_agent_collected_is_rendered(finished, tmp_path):
    place = tmp_path / "w"
    shutil.copytree(finished.place, place)
    _rendered(place, "recovery_rl", seed=1)


@pytest.mark.slow  # cart-pole is this file's, navigation1 test_after_fault's
@pytest.mark.parametrize(("name", "row"), DOMAINS.items())
def test_a_run_with_a_fault_ends_with_every_figure_film_and_replay(
    tmp_path, monkeypatch, name, row
):
    monkeypatch.setattr(datasets, "require_violations", lambda *_: None)  # so few rows
    place = tmp_path / "w"
    sections = {"online": {"episodes": 1, "chunk_steps": 25, "start_steps": 10}}
    if not name.startswith("navigation"):
        sections |= {"collect": SECTIONS["collect"], "physics": {"horizon": HORIZON}}
        sections["data"] = {"test_transitions": ROWS}
    names = {"domain": name, "tasks": row.task_distributions[0], "fault": FAULT}
    asked = launch(place, ("recovery_rl",), (3,), **names, **sections)
    output = run_here(asked.saving_replays(), run.main)
    figures = {path.name for path in (place / "report").glob("*.png")}
    plane = asked.study.system.domain.spec.plane
    assert ("risk_maps.png" in figures) == (plane is not None)
    assert any(figure.startswith("violations_and_") for figure in figures)
    assert "replay-recovery_rl-meta0-seed3" in output
    _rendered(place, "recovery_rl", seed=3)
