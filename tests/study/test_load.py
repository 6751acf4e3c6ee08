"""Priors of a workdir, as `mesa_jax.load` reads them: nothing is made."""

import pathlib
import re
import shutil
import types
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mesa_jax as mesa
from mesa_jax.checked import checked_transitions
from mesa_jax.keys import Stage, stage_key
from mesa_jax.study import store
from mesa_jax.study.artifacts import priors, recorded
from mesa_jax.study.datasets import DatasetError
from mesa_jax.study.locks import WorkdirError
from tests import launching
from tests.recorded import same_bits

METHOD, COUNT = "mesa_context", 20


def made(place: pathlib.Path, method: str, **sections) -> pathlib.Path:
    """A workdir with the prior of a method, and what it was trained on."""
    study = launching.launch(place, tasks="flip", **sections).study
    with store.opened(place, study.common):
        priors.trained_prior(study.of(method), "maml")
    return place


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return made(tmp_path_factory.mktemp("load") / "w", METHOD)


@pytest.fixture(scope="module")
def prior(workdir):
    with mock.patch.object(priors, "_trained", side_effect=AssertionError):
        return mesa.load(str(workdir))


@pytest.fixture(scope="module")
def few(prior):
    bodies = prior.system.domain.train_tasks(stage_key(0, Stage.TRAIN_TASKS), 2)
    return mesa.collect(jax.random.key(1), prior.system, bodies, COUNT, among=200)


def one_of(tree, i=0):
    return jax.tree.map(lambda x: x[i], tree)


def test_the_prior_is_the_one_that_was_trained(workdir, prior):
    study = launching.launch(workdir, tasks="flip").study.of(METHOD)
    theirs = priors.finished_prior(study, "maml")
    for a, b in zip(jax.tree.leaves(prior.prior), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_array_equal(a, b)
    assert prior.system.configuration == study.configuration
    assert prior.threshold == study.configuration.recovery.risk_threshold
    assert (prior.method, prior.system.domain.spec.name) == (METHOD, "navigation1")


@pytest.mark.filterwarnings("ignore::mesa_jax.OutsideTrainingWarning")
def test_a_filter_is_of_one_body_or_of_several(prior, few):
    several = prior.adapt(few)
    assert several.threshold.shape == several.novelty.shape == (2,)
    alone = prior.adapt(one_of(few))
    assert alone.threshold.shape == ()
    expected = mesa.adapt(
        jax.random.key(0), prior.system, prior.prior, few, METHOD, prior.novelty(COUNT)
    )
    at = jnp.ones((2, 3, 2)), jnp.zeros((2, 3, 2))
    np.testing.assert_allclose(several.risk(*at), expected.risk(*at), rtol=1e-5)
    np.testing.assert_allclose(
        alone.risk(*one_of(at)), expected.risk(*at)[0], rtol=1e-4
    )
    assert np.isfinite(several.novelty).all()


def test_a_body_outside_is_warned_of(prior, few):
    far = one_of(few)
    far = far._replace(next_observation=far.observation + 40.0)
    with pytest.warns(mesa.OutsideTrainingWarning, match="1 of 1 adaptation sets lie"):
        filter = prior.adapt(far)
    assert float(filter.novelty) > 1.0


@pytest.mark.filterwarnings("ignore::mesa_jax.OutsideTrainingWarning")
def test_one_transition_is_warned_of(prior, few):
    with pytest.warns(mesa.FewTransitionsWarning, match="one transition"):
        prior.adapt(jax.tree.map(lambda x: x[:1], one_of(few)))


@pytest.mark.filterwarnings("ignore::mesa_jax.OutsideTrainingWarning")
def test_a_guard_reads_its_body_as_online_runs_do(prior, few):
    guard = prior.guard(one_of(few))
    online = prior.system.configuration.online
    assert guard.rereading.every == online.readapt_every == 10
    assert guard._latest.cost.shape == (online.readapt_transitions,)
    for _ in range(10):
        guard(np.zeros(2), np.zeros(2))
        guard.observe(np.ones(2), 0.0)
    assert guard.readings == 1
    assert prior.guard(one_of(few), copies=3)._latest.action.shape == (3, COUNT, 2)
    with pytest.raises(mesa.SettingError, match=r"^copies must be"):
        prior.guard(few, copies=3)


@pytest.mark.filterwarnings("ignore::mesa_jax.OutsideTrainingWarning")
def test_episodes_and_replays_are_transitions_of_their_body(prior, few, tmp_path):
    mine, at = jax.tree.map(np.asarray, one_of(few)), np.ones((3, 2))
    each = [  # a step is an episode
        types.SimpleNamespace(
            observations=np.stack([row.observation, row.next_observation]),
            actions=row.action[None],
            rewards=row.reward[None],
            terminations=row.discount[None] == 0,
            truncations=row.discount[None] == 1,
            infos={"cost": np.array([0.0, row.cost])},
        )
        for row in (mesa.Transition(*(x[i] for x in mine)) for i in range(COUNT))
    ]
    recorded.save_bodies(tmp_path / "replay", [mine], {})
    for held in (each, iter(each), tmp_path / "replay", str(tmp_path / "replay"), mine):
        same_bits(mine, mesa.transitions_of(held))
    ours, theirs = prior.adapt(each), prior.adapt(mine)
    np.testing.assert_array_equal(ours.risk(at, -at), theirs.risk(at, -at))
    several = jax.tree.map(np.asarray, few)
    recorded.save_bodies(tmp_path / "two", [one_of(several, i) for i in range(2)], {})
    np.testing.assert_array_equal(mesa.transitions_of(tmp_path / "two").cost, few.cost)


def test_a_folder_without_a_replay_and_fields_that_episodes_lack_are_named(
    prior, tmp_path
):
    with pytest.raises(DatasetError, match=r"is no dataset: it has no card\.json"):
        prior.adapt(tmp_path)
    lacks = types.SimpleNamespace(observations=np.zeros((3, 2)), actions=[[0, 0]] * 2)
    for adapts in (prior.adapt, prior.guard):
        with pytest.raises(mesa.SettingError, match="got 'one without rewards, term"):
            adapts(lacks)


def test_a_threshold_is_calibrated_on_held_out_bodies(prior, capsys):
    calibrated = prior.calibrated(0.4, failing=0.5)
    assert 0.0 <= calibrated.threshold <= 1.0
    assert calibrated.threshold != prior.threshold
    assert "at most 40 % of the dangerous states pass" in capsys.readouterr().out


def test_a_threshold_that_can_not_be_calibrated_says_what_it_takes(prior):
    with pytest.raises(mesa.SettingError, match=r"heldout_bodies .*least 9 .*got 1"):
        prior.calibrated(0.4)
    takes = r"1 held-out training bodies 0 have the 999 dangerous states .*have \d+"
    with pytest.raises(mesa.SettingError, match=takes):
        prior.calibrated(0.001, failing=0.5)
    with pytest.raises(mesa.SettingError, match=r"^false_safe must be above 0"):
        prior.calibrated(0.0, failing=0.5)


def test_what_is_missing_is_named_with_its_command(workdir, tmp_path):
    for given, message in (
        ({"method": "mesa"}, r"no finished prior of mesa, meta-seed 0\. There: .*"),
        ({"meta_seed": 7}, r"no finished prior of mesa_context, meta-seed 7\. There: "),
    ):
        with pytest.raises(WorkdirError, match=message) as caught:
            mesa.load(workdir, **given)
        said = str(caught.value)
        assert "mesa_context (meta-seed 0)" in said
        assert f"experiments.meta_train --method={given.get('method', METHOD)}" in said
        assert f"--meta_seed={given.get('meta_seed', 0)} --workdir={workdir}" in said
    with pytest.raises(WorkdirError, match=r"is no workdir: it has no config\.json"):
        mesa.load(tmp_path / "none")
    for method in ("recovery_rl", "oracle"):
        with pytest.raises(mesa.SettingError, match=r"^method must be one of multi"):
            mesa.load(workdir, method)
    with pytest.raises(mesa.SettingError, match=r"^meta_seed must be"):
        mesa.load(workdir, meta_seed=-1)


def test_a_prior_that_is_not_done_or_lacks_its_data_is_no_prior(workdir, tmp_path):
    place = tmp_path / "w"
    shutil.copytree(workdir, place)
    shutil.rmtree(place / "datasets")
    with pytest.raises(WorkdirError, match="no data of the training bodies"):
        mesa.load(place)
    (folder,) = (place / "checkpoints").glob("maml-*")
    (folder / "4").rename(folder / "2")  # of 4 outer steps
    with pytest.raises(WorkdirError, match=r"outer step 2 of 4"):
        mesa.load(place)
    text = (place / "config.json").read_text()
    older = re.sub(r'"version": "[^"]*"', '"version": "0.1.0"', text)
    (place / "config.json").write_text(older.replace('"inner_steps"', '"steps_in"'))
    with pytest.raises(WorkdirError, match="was written by another version"):
        mesa.load(place)


def test_transitions_of_somebody_else_are_checked(prior, few):
    spec, mine = prior.system.domain.spec, jax.tree.map(np.array, one_of(few))

    def with_entry(name, value, at=3):
        changed = np.array(getattr(mine, name))
        changed[at] = value
        return mine._replace(**{name: changed})

    for wrong, message in (
        (mine._asdict(), r"^transitions must be a mesa_jax.Transition"),
        (
            with_entry("observation", np.nan),
            "observation must be finite, got 'nan at t",
        ),
        (with_entry("reward", np.inf), "reward must be finite, got 'inf at transition"),
        (with_entry("cost", 0.5), r"cost must be 0 or 1 \(a violation\), got '0.5 at"),
        (with_entry("discount", 0.99), "discount must be 0 or 1, got '0.99 at trans"),
        (with_entry("action", -1.5), r"action must be in \[-1, 1\].*-1.5 at tran"),
        (
            mine._replace(action=mine.action[:, :1]),
            r"action must be of shape \(20, 2\)",
        ),
        (mine._replace(reward=mine.reward[1:]), r"reward must be of shape \(20,\)"),
        (mine._replace(cost=None), "cost must be one of real numbers"),
        (mine._replace(reward=mine.reward + 1j), "reward must be one of real numbers"),
        (jax.tree.map(lambda x: x[:0], mine), "cost must be of shape .* at least one"),
        (jax.tree.map(lambda x: x[None, None], mine), "cost must be of shape"),
    ):
        with pytest.raises(mesa.SettingError, match=message):
            prior.adapt(wrong)
    lists = mesa.Transition(*(x.tolist() for x in mine))
    whole = lists._replace(cost=[bool(x) for x in lists.cost])
    found = checked_transitions(spec, whole)
    assert {x.dtype for x in found} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(found.observation, mine.observation)
