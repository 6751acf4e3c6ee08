"""Launches of methods that read their body: evaluated, run online, known bodies."""

import shutil
from unittest import mock

import chex
import jax
import numpy as np
import pytest

from experiments import evaluate, online
from mesa_jax import adaptation, configuration
from mesa_jax.keys import Stage
from mesa_jax.methods import COMPARED, METHODS
from mesa_jax.phases.training import heldout_error
from mesa_jax.study import checkpoints, datasets, files, records
from mesa_jax.study import estimates as quality_saved
from mesa_jax.study.artifacts import adapted, data
from mesa_jax.study.artifacts.priors import trained_prior, trained_source
from mesa_jax.system import build
from tests.launching import TINY, copied, launch, run_here

EVALUATED = ("mesa_context",)  # `context` is in test_outside_launches


@pytest.fixture(scope="module")
def tiny(finished_workdir, tmp_path_factory):
    """A tiny evaluation of one row that encodes, and an online run of both."""
    place = copied(finished_workdir, tmp_path_factory.mktemp("context") / "w")
    asked = launch(place, ("context", "mesa_context"))
    evaluated = run_here(launch(place, EVALUATED), evaluate.main)
    return asked, evaluated + run_here(asked, online.main)


def test_rows_that_encode_are_evaluated_and_run_online(tiny):
    asked, output = tiny
    for method in EVALUATED:
        assert f"[evaluate] {method}: 2 bodies" in output
        kept = np.load(quality_saved.stored(asked.study, method, 0))
        assert np.isfinite(kept["estimates"]).all()
        by_steps = kept["estimates"][0]
        assert np.abs(by_steps[-1] - by_steps[0]).max() > 1e-6
    ran = records.RESULTS.read(asked.study.folder)
    assert {(row["method"], row["seed"]) for row in ran} == {
        (method, seed)
        for method in (*COMPARED, *asked.asked.methods)
        for seed in asked.asked.seeds
    }


def test_what_lies_outside_the_training_bodies_is_reported(tiny):
    asked, output = tiny
    found = files.read_json(asked.study.folder / "risk_quality.json")["support"]
    assert set(found) == set(EVALUATED)
    with np.load(quality_saved.stored(asked.study, *EVALUATED, 0)) as kept:
        distances, trained = kept["distance"], kept["held_out_distance"]
    counts = TINY["quality"]["transitions"]
    assert distances.shape == (len(counts), len(asked.asked.seeds))
    assert trained.shape[1] == TINY["data"]["heldout_bodies"]
    for i, rows in enumerate(counts):
        mine = found[EVALUATED[0]][str(rows)]
        assert mine["test_outside"] == np.mean(distances[i] > 1.0)
        above = distances[i][:, None] > trained[i][None]
        assert mine["auroc"] == pytest.approx(above.mean())
    assert "lie outside what it was trained on" in output


def test_a_run_begins_with_the_encoding_of_its_own_body(tiny):
    mine, seeds = tiny[0].of("context"), tiny[0].asked.seeds
    found = data.load_test_bodies(mine, seeds)
    critic, recovery = adapted.adapted(mine, ("context",), found)["context"]
    prior_params = trained_prior(mine, "maml").params[0]
    for i in range(len(seeds)):
        rows = jax.tree.map(lambda x: x[i], found.rows)  # noqa: B023
        expected = mine.system.risk.encode(prior_params, rows)["encoding"]
        np.testing.assert_allclose(critic["encoding"][i], expected, atol=1e-5)
        np.testing.assert_allclose(recovery["encoding"][i], expected, atol=1e-5)
    assert np.abs(critic["encoding"][0] - critic["encoding"][1]).max() > 1e-4


def test_a_body_outside_takes_more_steps(tiny):
    mine, method = tiny[0].of("mesa_context"), METHODS["mesa_context"]
    config = mine.configuration.inner_loop
    assert 0 < config.steps < config.steps_outside
    found = data.load_test_bodies(mine, tiny[0].asked.seeds)
    source = trained_source(mine, method)

    def become(*distances):
        steps = adapted.own_steps(mine.system, method, np.array(distances))
        return steps, adapted.adapt(mine.system, "mesa_context", source, found, steps)

    counts, mixed = become(0.5, 1.5)
    assert counts.tolist() == [config.steps, config.steps_outside]
    for i, distance in enumerate((0.5, 1.5)):
        _, alike = become(distance, distance)
        for ours, theirs in zip(*map(jax.tree.leaves, (mixed, alike)), strict=True):
            np.testing.assert_allclose(ours[i], theirs[i], rtol=1e-4, atol=1e-5)


def test_online_the_same_rule_says_how_many_steps(tiny):
    """The unit is put between two bodies: one of them is outside."""
    mine, method = tiny[0].of("mesa_context"), METHODS["mesa_context"]
    system, source = mine.system, trained_source(mine, method)
    found = data.load_test_bodies(mine, tiny[0].asked.seeds)
    training = source.novelty(system, mine.configuration.data.adaptation)
    unscaled = adapted.distances(system, source, found)
    between = np.mean(np.sort(unscaled)[:2])
    training = training._replace(unit=training.unit * between)
    config = mine.configuration.inner_loop
    expected = adaptation.steps(config, unscaled / between)
    assert set(expected.tolist()) == {config.steps, config.steps_outside}
    anew = jax.jit(adaptation.adapts_anew(system, method, training))
    adapt = jax.jit(
        adaptation.adaptation(mine.configuration, system.parts, "inner_loop")
    )
    for i, steps in enumerate(expected):
        rows = jax.tree.map(lambda x: x[i], found.rows)  # noqa: B023
        given = found.keys(Stage.ADAPT)[i], source.prior, rows
        ours, theirs = anew(*given), adapt(*given, steps)
        chex.assert_trees_all_close(ours, theirs, rtol=1e-5, atol=1e-6)
    near, far = (adapt(*given, steps)[0] for steps in sorted(set(expected.tolist())))
    moved = jax.tree.map(lambda x, y: np.abs(x - y).max(), near, far)
    assert max(jax.tree.leaves(moved)) > 1e-5


def test_the_training_data_and_the_prior_are_read_once_a_launch(tiny, tmp_path):
    asked, place = tiny[0], tmp_path / "w"
    shutil.copytree(
        asked.study.folder,
        place,
        ignore=shutil.ignore_patterns("online*", "adapted-*", "*.csv"),
    )
    one = launch(place, ("mesa_context",))
    with (
        mock.patch.object(datasets, "load", wraps=datasets.load) as loaded,
        mock.patch.object(
            checkpoints, "restore_latest", wraps=checkpoints.restore_latest
        ) as restored,
    ):
        run_here(one, online.main)
    folders = [call.args[0].name for call in loaded.call_args_list]
    assert sum("-train-" in name for name in folders) == 1
    folders = [call.args[0].name for call in restored.call_args_list]
    assert sum(name.startswith("maml-") for name in folders) == 1


def test_a_prior_is_kept_for_what_most_of_its_outer_steps_make_of_it(tiny):
    mine, seeds = tiny[0].of("mesa_context"), tiny[0].asked.seeds
    found, key = data.load_test_bodies(mine, seeds), jax.random.key(0)
    rows = jax.tree.map(lambda x: x[0], found.rows)
    learned = trained_prior(mine, "maml")
    still = learned._replace(rates=jax.tree.map(lambda x: x - 30.0, learned.rates))
    for every, steps_count in ((4, False), (1, True)):
        asked = configuration.override(
            mine.configuration, {"maml": {"inner_every": every}}
        )
        error = jax.jit(heldout_error(build(asked), "maml"))
        ours, theirs = (
            error(jax.random.clone(key), prior, rows) for prior in (learned, still)
        )
        assert (ours != theirs) == steps_count


def test_an_oracle_is_told_the_body_and_system_identification_finds_it(tiny):
    asked = launch(tiny[0].study.folder, ("system_id", "oracle"))
    mine = asked.of("oracle")
    found = data.load_test_bodies(mine, asked.asked.seeds)
    params = adapted.adapted(mine, asked.asked.methods, found)
    true = jax.vmap(mine.system.domain.parametrisation.of)(found.tasks)
    for part in params["oracle"]:
        np.testing.assert_array_equal(part["encoding"], true)
    for part in params["system_id"]:
        error = np.abs(part["encoding"] - true)
        assert 0.0 < error.max() < 0.1
    told, read = (params[name][0]["network"] for name in ("oracle", "system_id"))
    chex.assert_trees_all_equal(told, read)  # one prior serves both
