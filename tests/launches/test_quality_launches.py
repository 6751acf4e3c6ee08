"""evaluate, tune and thresholds end to end, very small."""

import contextlib
import csv
import io
import json

import jax
import numpy as np
import pytest
from absl import flags as absl_flags

from experiments import evaluate, flags, pages, tabulate, thresholds
from mesa_jax import adaptation, configuration, evaluation, methods
from mesa_jax.keys import Stage
from mesa_jax.methods import COMPARED
from mesa_jax.prior import bellman_error
from mesa_jax.report import comparison, training
from mesa_jax.settings import SettingError
from mesa_jax.study import (
    estimates,
    files,
    resolve,
    runs,
    store,
)
from mesa_jax.study import evaluation as study_evaluation
from mesa_jax.study.artifacts import adapted, data, monitor, naming, priors, truth
from mesa_jax.study.batches import Batch
from mesa_jax.study.errors import NotFiniteError
from mesa_jax.study.records import QUALITY, WITHOUT_ADAPTATION
from tests import launching
from tests.launching import SEEDS, TINY, Launch, copied, run_here

METHODS = ("recovery_rl", "mesa")
ROWS = (50, TINY["data"]["adaptation"])
STEPS = {"recovery_rl": (0, 5), "mesa": (0, 3, 5)}  # their own 5 and 3 among them


def launch(place, methods=COMPARED, **sections) -> Launch:
    """What a tiny launch that asks with two numbers of transitions resolves to."""
    quality = {"transitions": ROWS} | sections.pop("quality", {})
    return launching.launch(place, methods, quality=quality, **sections)


@pytest.fixture(scope="module")
def evaluated(finished_workdir, tmp_path_factory):
    """An evaluated workdir, and what the launch printed."""
    place = copied(finished_workdir, tmp_path_factory.mktemp("evaluated") / "w")
    (place / store.CONFIG).unlink()  # it was not asked with as many
    return place, run_here(launch(place, METHODS), evaluate.main)


def _records(place):
    with open(place / "risk_quality.csv") as file:
        return list(csv.DictReader(file))


def test_every_body_is_asked_with_every_number_of_transitions_and_steps(evaluated):
    place, _ = evaluated
    found = [
        (r["method"], int(r["seed"]), int(r["rows"]), int(r["steps"]))
        for r in _records(place)
    ]
    expected = [(WITHOUT_ADAPTATION, seed, 0, 0) for seed in SEEDS]
    expected += [
        (method, seed, rows, steps)
        for method in METHODS
        for seed in SEEDS
        for rows in ROWS
        for steps in STEPS[method]
    ]
    assert sorted(found) == sorted(expected)


def test_estimates_are_those_of_the_adapted_critic(evaluated):
    place, _ = evaluated
    tiny = launch(place, METHODS)
    settings, system = tiny.study.configuration, tiny.study.system
    some = data.load_test_bodies(tiny.study, SEEDS, ROWS[0])
    asked = truth.load_test_truth(tiny.study, some)
    saved = {one.method: one for one in estimates.read(tiny.study, SEEDS)}
    prior = priors.trained_prior(tiny.study, "maml")
    keys = some.keys(Stage.ADAPT)
    adapt = adaptation.adaptation(settings, system.parts, "inner_loop")
    for i in range(len(SEEDS)):
        rows = jax.tree.map(lambda x: x[i], some.rows)  # noqa: B023
        critic = adapt(keys[i], prior, rows, settings.inner_loop.steps)[0]
        expected = system.risk.estimate(critic, asked.observations[i], asked.actions[i])
        found = saved["mesa"].at(ROWS[0], settings.inner_loop.steps)[i]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert saved["mesa"].at(ROWS[0], 7) is None


def test_metrics_compare_the_estimates_with_the_simulated_risk(evaluated):
    place, _ = evaluated
    tiny = launch(place, METHODS)
    some = data.load_test_bodies(tiny.study, SEEDS)
    first, second = truth.load_test_truth(tiny.study, some).halves.swapaxes(0, 1)
    saved = {one.method: one for one in estimates.read(tiny.study, SEEDS)}
    found = saved["mesa"].at(ROWS[1], 5)
    error = ((found - first) * (found - second)).mean(1)  # the halves' noise is apart
    found = {
        int(r["seed"]): float(r["squared_error"])
        for r in _records(place)
        if (r["method"], r["rows"], r["steps"]) == ("mesa", str(ROWS[1]), "5")
    }
    np.testing.assert_allclose([found[seed] for seed in SEEDS], error, atol=2e-6)


def test_the_calibrated_threshold_is_of_the_held_out_training_bodies(evaluated):
    place, _ = evaluated
    tiny = launch(place, METHODS)
    held = truth.heldout_bodies(tiny.study)
    some = held.bodies.first(ROWS[1])
    (found,) = _estimates(tiny.study, "mesa", some, held.truth, (5,))
    threshold = tiny.study.configuration.recovery.risk_threshold
    level = tiny.study.configuration.quality.false_safe
    expected = evaluation.calibrated_threshold(found, held.truth.risk, threshold, level)
    mine = [
        r
        for r in _records(place)
        if (r["method"], r["rows"], r["steps"]) == ("mesa", str(ROWS[1]), "5")
    ]
    found = [float(r["threshold_calibrated"]) for r in mine]
    np.testing.assert_allclose(found, [float(expected)] * len(SEEDS), atol=1e-5)
    assert "nan" not in {r["false_safe_calibrated"] for r in mine}


def _estimates(study, method, bodies, truth, steps):
    source = priors.trained_source(study, methods.METHODS[method])
    return study_evaluation.estimates(
        study.system, method, source, bodies, truth, steps
    )


def test_runs_begin_with_their_methods_own_calibrated_threshold(evaluated, tmp_path):
    place, _ = evaluated
    tiny = launch(place, ("unconstrained", "mesa"), recovery={"false_safe": 0.4})
    study, names = tiny.study, tiny.asked.methods
    held = truth.heldout_bodies(study)
    some = held.bodies.first(study.configuration.data.adaptation)
    own = (study.configuration.inner_loop.steps,)
    values = _estimates(study, "mesa", some, held.truth, own)[0]
    expected = evaluation.calibrated_threshold(values, held.truth.risk, 0.3, 0.4)
    found = runs.risk_thresholds(study, names)
    assert found == {"mesa": pytest.approx(float(expected))}
    batch, some = Batch(names, SEEDS, 0), data.load_test_bodies(study, SEEDS)
    keys = some.keys(Stage.PRIOR_INIT)
    fresh = adaptation.from_scratch(study.system, keys, some.rows)
    params = dict.fromkeys(names, fresh.params)
    states = adapted.initial_states(study.system, batch, some, params, found)
    of = zip(batch.runs(), states.agent.risk_threshold.tolist(), strict=True)
    for run, threshold in of:
        assert threshold == pytest.approx(found.get(run.method, np.inf))
    assert runs.risk_thresholds(launch(tmp_path).study, ("mesa",)) == {"mesa": 0.3}


def test_readers_are_calibrated_on_transitions_that_follow_each_other(evaluated):
    """As online: windows of a body's rows in the order in which they were made."""
    place, _ = evaluated
    tiny = launch(place, METHODS)
    held = truth.heldout_bodies(tiny.study)
    reading = tiny.of("context").configuration
    found = study_evaluation.as_read(reading, "context", held)
    count, rows = reading.online.readapt_transitions, held.in_order.observation[0]
    assert found.rows.cost.shape == (study_evaluation.WINDOWS, count)
    starts = np.linspace(0, len(rows) - count, study_evaluation.WINDOWS).astype(int)
    for window, start in zip(found.rows.observation, starts, strict=True):
        np.testing.assert_array_equal(window, rows[start : start + count])
    drawn = jax.vmap(jax.random.uniform)(found.keys(Stage.ADAPT))
    assert (
        set(found.seeds) == {0} and len(set(drawn.tolist())) == study_evaluation.WINDOWS
    )
    never = configuration.override(reading, {"online": {"readapt_every": 0}})
    for settings, method in ((tiny.study.configuration, "mesa"), (never, "context")):
        whole = study_evaluation.as_read(settings, method, held)
        expected = held.bodies.first(settings.data.adaptation).rows
        np.testing.assert_array_equal(whole.rows.observation, expected.observation)


def test_a_threshold_is_not_calibrated_on_too_few_dangerous_states(evaluated):
    place, _ = evaluated
    tiny = launch(place, ("mesa",), recovery={"false_safe": 0.001})
    with pytest.raises(SettingError, match=r"999 dangerous states .*they have \d+"):
        runs.risk_thresholds(tiny.study, tiny.asked.methods)


def test_a_threshold_is_not_calibrated_on_too_few_bodies():
    settings = resolve.resolve("halfcheetah_disabled", "published", "quick")
    with pytest.raises(SettingError, match="data_heldout_bodies must be at least 9 to"):
        configuration.override(settings, {"recovery": {"false_safe": 0.05}})
    enough = {"false_safe": 0.05, "false_safe_bodies": 0.5}  # one of two may fail
    configuration.override(settings, {"recovery": enough})


def test_tables_figures_and_json_agree_with_the_records(evaluated):
    place, output = evaluated
    summary = files.read_json(place / "risk_quality.json")
    found = comparison.summarize(QUALITY.read(place), summary["own_steps"], 0.0)
    assert comparison.tables(found, ROWS[1]) in output
    assert summary["own_steps"] == {"recovery_rl": 5, "mesa": 3}
    assert summary["bodies"] == len(SEEDS) and summary["meta_seeds"] == [0]
    figures = {path.name for path in (place / "report").glob("*.png")}
    assert figures >= {
        *("risk_error.png", "risk_reliability.png", "risk_tradeoff.png"),
        "risk_maps_bodies.png",
    }


def tabulated(place, given, **values):
    """What the launch prints of a workdir."""
    given.workdirs, given.transitions, given.cells = [str(place)], [str(ROWS[1])], []
    for name, value in values.items():
        setattr(given, name, value)
    with contextlib.redirect_stdout(io.StringIO()) as output:
        tabulate.main()
    return output.getvalue().split("\n\n")


@pytest.fixture
def given(monkeypatch):
    """Stands for the flags of tabulate."""
    values = absl_flags.FlagValues()
    for name in ("workdirs", "transitions", "cells"):
        absl_flags.DEFINE_list(name, [], "", flag_values=values)
    values.mark_as_parsed()
    monkeypatch.setattr(absl_flags, "FLAGS", values)
    monkeypatch.setattr(flags, "FLAGS", values)
    return values


def test_cells_are_compared_with_the_first(evaluated, given):
    place, _ = evaluated
    asked = ["mesa:0", "recovery_rl:5", "mesa:own", "mesa:99"]
    errors, shares, tested, about = tabulated(place, given, cells=asked)
    by_steps = files.read_json(place / "risk_quality.json")["methods"]
    cells = [cell.strip() for cell in errors.splitlines()[-1].split("|")[3:-1]]
    several = [("without_adaptation", 0, 0), ("mesa", ROWS[1], 0)]
    several += [("recovery_rl", ROWS[1], 5), ("mesa", ROWS[1], 3)]
    means = [
        by_steps[method][str(count)][str(steps)]["squared_error"]
        for method, count, steps in several
    ]
    assert cells == [
        *(
            f"{1e3 * x['mean']:.1f} [{1e3 * x['low']:.1f}, {1e3 * x['high']:.1f}]"
            for x in means
        ),
        "-",  # it was not asked
    ]
    ours, theirs = means[1]["mean"], means[2]["mean"]
    assert f" {100 * theirs / ours:.1f} [" in shares.splitlines()[-1]
    title, heads, *_ = shares.splitlines()
    assert "mesa, 0" in title and "mesa, 0" not in heads
    assert tested.startswith("Filter test, navigation1 `published`:\n| method ")
    assert "meta-seeds of recovery_rl, mesa: [0]." in about


def test_every_method_is_tabulated_after_its_own_steps(evaluated, given):
    place, _ = evaluated
    errors, *_ = tabulated(place, given)
    assert "| recovery_rl, own" in errors and "| mesa, own" in errors
    assert "multi_task" not in errors and errors.splitlines()[-1].count("[") == 3


NO_CELLS = ["mesa", "mesa:few", "mess:5", "mesa:-1", "mesa:²", "mesa:" + "9" * 5000]


@pytest.mark.parametrize("text", NO_CELLS, ids=range(len(NO_CELLS)))
def test_a_cell_is_a_method_and_steps(text):
    with pytest.raises(SettingError, match="cells must be METHOD:STEPS"):
        tabulate.parse_cells(["mesa:5", text])


def test_a_workdir_that_was_not_evaluated_is_named(tmp_path):
    with pytest.raises(store.WorkdirError, match="is not evaluated"):
        tabulate.evaluated(tmp_path)


@pytest.mark.parametrize(
    ("sections", "most"),
    [
        ({"quality": TINY["quality"] | {"transitions": (50, 301)}}, 300),
        ({"data": TINY["data"] | {"test_transitions": 59}}, 59),
    ],
)
def test_more_transitions_than_a_body_has_are_refused(tmp_path, sections, most):
    """A body with fewer would be asked with all it has, under the larger number."""
    few = {"data": sections.get("data", {}) | {"adaptation": 10}}
    tiny = launch(tmp_path / "w", METHODS, **(sections | few))
    with pytest.raises(
        SettingError, match=rf"quality_transitions must be .* \({most}\)"
    ):
        run_here(tiny, evaluate.main)
    assert not (tmp_path / "w").exists()


def test_the_truth_is_simulated_once(evaluated, capsys):
    """What is simulated is told, and written."""
    place, output = evaluated
    assert "[truth] " in output
    tiny = launch(place, METHODS)
    some = data.load_test_bodies(tiny.study, SEEDS)
    stamps = {path: path.stat().st_mtime_ns for path in place.glob("truth/*/*")}
    before, after = (truth.load_test_truth(tiny.study, some) for _ in range(2))
    np.testing.assert_array_equal(before.halves, after.halves)
    assert before.halves.shape == (len(SEEDS), 2, TINY["quality"]["decision_states"])
    truth.truth_without_adaptation(tiny.study, some)
    found = {path: path.stat().st_mtime_ns for path in place.glob("truth/*/*")}
    assert found == stamps and any("untold" in path.name for path in stamps)
    assert "[truth]" not in capsys.readouterr().out


@pytest.mark.slow
def test_another_meta_seed_adds_to_the_table(evaluated):
    place, _ = evaluated
    run_here(launch(place, ("mesa",)).with_meta_seed(1), evaluate.main)
    summary = files.read_json(place / "risk_quality.json")
    assert summary["meta_seeds"] == [0, 1]
    assert {r["meta_seed"] for r in _records(place) if r["method"] == "mesa"} == {
        *("0", "1")
    }


@pytest.mark.parametrize(
    ("asked", "expected"), [((1000, 256), (200, 64)), ((50, 128), (50, 64))]
)
def test_a_prior_is_watched_by_a_coarser_truth_of_the_same_bodies(
    tmp_path, asked, expected
):
    names = ("decision_states", "rollouts")
    quality = dict(zip(names, asked, strict=True))
    study = launching.launch(tmp_path, ("mesa",), quality=quality).study
    watched = truth.watched(study)
    found = watched.configuration.quality
    assert tuple(getattr(found, name) for name in names) == expected
    assert truth.paths_of_heldout(watched) != truth.paths_of_heldout(study)
    priors_of = [
        naming.prior_name(one.configuration, "maml", 0) for one in (watched, study)
    ]
    assert priors_of[0] == priors_of[1]


def test_an_unconstrained_method_has_no_risk_to_evaluate(evaluated):
    place, _ = evaluated
    with pytest.raises(SettingError, match="methods must be among recovery_rl"):
        run_here(launch(place, ("unconstrained",)), evaluate.main)


def test_a_method_without_a_prior_is_asked_for_one_meta_seed_only(evaluated):
    """What is stored is taken, as it is: it is not estimated again."""
    place, _ = evaluated
    tiny = launch(place, ("recovery_rl",))
    (stored,) = [
        one
        for one in estimates.read(tiny.study, SEEDS)
        if (one.method, one.meta_seed) == ("recovery_rl", 0)
    ]
    marked = stored._replace(estimates=stored.estimates / 2)
    estimates.save(tiny.study, marked)
    other = tiny.with_meta_seed(1)
    evaluate.evaluate(*other)
    found = {
        one.meta_seed: one
        for one in estimates.read(other.study, SEEDS)
        if one.method == "recovery_rl"
    }
    np.testing.assert_array_equal(found[1].estimates, marked.estimates)
    assert found[1].held_out.shape == stored.held_out.shape  # its meta-seed's own
    assert not np.array_equal(found[1].held_out, stored.held_out)
    estimates.save(tiny.study, stored)
    estimates.stored(other.study, "recovery_rl", 1).unlink()


def test_an_estimate_that_is_not_finite_is_named(evaluated):
    place, _ = evaluated
    values = np.full((1, 1, len(SEEDS), 2), 0.5)
    values[0, 0, 1] = np.nan
    found = {"estimates": values}
    with pytest.raises(NotFiniteError, match=r"mesa .* seed 1"):
        evaluate._save(launch(place).study, SEEDS, "mesa", (50,), (5,), found)


def test_the_training_page_shows_what_was_watched(evaluated):
    place, _ = evaluated
    name = naming.prior_name(launch(place).study.configuration, "maml", 0)
    assert (place / "report" / f"training_{name}.png").exists()
    lines = (place / "metrics.jsonl").read_text().splitlines()
    (values,) = (r["values"] for r in map(json.loads, lines) if r["stage"] == name)
    wanted = {key for *_, mine in training.PANELS for key in mine.values()}
    wanted = {key for key in wanted if "outcome" not in key}  # there is a simulator
    assert wanted <= set(values)
    assert any(key.startswith(training.RATES) for key in values)
    assert values["heldout/collapsed_before"] in (-1.0, 0.0, 1.0)


def test_a_training_of_which_nothing_is_recorded_has_no_page(tmp_path):
    assert pages.page(tmp_path, "maml-meta0-0", "maml") is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [(0.0, 0.0, None), (-1.0, 0.0, "before .* safe"), (0.0, 1.0, "after .* dangerous")],
)
def test_a_collapsed_critic_is_warned_of(before, after, said):
    values = {"heldout/collapsed_before": before, "heldout/collapsed_after": after}
    warning = monitor.warning("maml", 250, values)
    if said is None:
        assert warning is None
    else:
        when, verdict = said.split(" .* ")
        assert f"{when} adaptation" in warning and verdict in warning
        assert "step 250" in warning


def test_a_prior_is_watched_by_the_error_that_selects_it(evaluated):
    """Of a pooled prior without steps both ask the critic as it is, on one body."""
    place, _ = evaluated
    sections = {"risk": TINY["risk"] | {"next_action": "untrained"}}
    study = launch(place, ("multi_task",), **sections).study
    held, kind = truth.heldout_bodies(study), "pooled"
    prior = priors.trained_prior(study, kind)
    seen = monitor.watch(study.system, kind, held)(prior)
    key = jax.random.split(held.bodies.keys(Stage.ADAPT)[0])[1]
    rows = jax.tree.map(lambda x: x[0], held.bodies.rows)
    system = study.system
    policies = system.offline_policy, system.domain.reference_policy
    ours, other = (
        bellman_error(jax.random.clone(key), system.risk, policy, prior.params[0], rows)
        for policy in policies
    )
    assert seen["heldout/bellman_error_before"] == pytest.approx(float(ours), rel=1e-5)
    assert abs(ours - other) > 1e-4 * ours


def test_thresholds_are_rows_of_one_program(tmp_path):
    # bodies are too few to calibrate on, and a sweep has no need to
    calibrates = TINY.get("recovery", {}) | {"false_safe": 0.05}
    tiny = launch(tmp_path / "w", ("recovery_rl",), recovery=calibrates)
    asked = (0.001, 0.999)
    parsed = thresholds.parse([str(value) for value in reversed(asked)])
    assert parsed == asked
    output = _run_thresholds(tiny, asked)
    rows = thresholds.TABLE.read(tiny.study.folder)
    assert [(r["risk_threshold"], r["seed"]) for r in rows] == [
        (threshold, seed) for threshold in asked for seed in SEEDS
    ]
    episodes = tiny.study.configuration.online.episodes
    assert {r["episodes"] for r in rows} == {episodes}
    careful, careless = (
        sum(r["recoveries"] for r in rows if r["risk_threshold"] == threshold)
        for threshold in asked
    )
    assert careful == sum(r["length"] for r in rows if r["risk_threshold"] == asked[0])
    assert careless == 0
    assert (tiny.study.folder / "report" / "online_thresholds.png").exists()
    assert "| recovery_rl | 0.001" in output
    assert "nothing to do" in _run_thresholds(tiny, asked)


def _run_thresholds(tiny, asked) -> str:
    values = absl_flags.FlagValues()
    absl_flags.DEFINE_list("thresholds", [str(t) for t in asked], "", values)
    values.mark_as_parsed()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(absl_flags, "FLAGS", values)
        return run_here(tiny, thresholds.main)


@pytest.mark.parametrize("values", [[], ["x"], ["0"], ["0.3", "1"], ["nan"], ["1e-50"]])
def test_a_threshold_outside_its_range_is_refused(values):
    with pytest.raises(SettingError, match=r"thresholds must be .*\(0, 1\)"):
        thresholds.parse(values)
