"""Launches with a domain from outside the package, very small."""

import numpy as np
import pytest

from experiments import evaluate, plot, render, run, tune
from mesa_jax.domains import full_name
from mesa_jax.settings import SettingError
from mesa_jax.study import estimates, files, store
from mesa_jax.study.filtering import FILTER
from mesa_jax.study.records import RESULTS
from tests.launching import TINY, coarse_figures, launch, run_here

pytestmark = pytest.mark.slow
NAME = "experiments.examples.my_domain:maker"
METHODS = ("unconstrained", "context")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    asked = launch(
        tmp_path_factory.mktemp("outside") / "w",
        METHODS,
        (0,),
        domain=NAME,
        tasks="wiring",
        data=TINY["data"] | {"transitions": 1000},
        collect={"collector": "sticky"},
        online={"steps": 100, "episodes": 3},
    )
    run_here(asked, run.main)
    return asked


def test_a_run_is_recorded_under_its_full_name(made):
    place, name = made.study.folder, full_name(NAME)
    rows = RESULTS.read(place)
    assert {row["domain"] for row in rows} == {name}
    assert {row["method"] for row in rows} == {*METHODS}
    assert store.stored_settings(place).domain == name
    (folder,) = (place / "datasets").iterdir()
    assert folder.name == name.replace(":", "-")
    cards = [files.read_json(path) for path in folder.glob("*/card.json")]
    assert len(cards) == 2 and {card["domain"] for card in cards} == {name}


def test_it_is_evaluated_tested_and_drawn(made):
    """With a row that encodes and takes no step: steps do not move it."""
    study = made.study
    asked = made._replace(asked=made.asked._replace(methods=("context",)))
    run_here(asked, evaluate.main)
    with np.load(estimates.stored(study, "context", 0)) as kept:
        by_steps = kept["estimates"][0]
    np.testing.assert_allclose(by_steps[-1], by_steps[0], atol=1e-6)
    assert {row["method"] for row in FILTER.read(study.folder)} == {"context"}
    with coarse_figures():
        plot.plot(study.folder)
    assert list((study.folder / "report").glob("*.png"))


def test_what_can_not_be_seen_is_not_filmed(made):
    with pytest.raises(SettingError, match="one that can be seen"):
        render.render(made.study.folder, ["context"], 0)


def test_a_workdir_of_a_module_that_has_changed_is_refused(made, monkeypatch):
    path = made.study.folder / store.CONFIG
    text = path.read_text(encoding="utf-8")
    here = full_name(NAME).split("@")[1]
    path.write_text(text.replace(here, "0" * 8), encoding="utf-8")
    with pytest.raises(store.WorkdirError, match="as the module's source is now"):
        store.stored_settings(made.study.folder)
    path.write_text(text, encoding="utf-8")


def test_horizons_that_are_tried_are_as_many_steps(made):
    assert tune._horizons(made.study, None) == (2.5, 5.0, 10.0, 20.0)
