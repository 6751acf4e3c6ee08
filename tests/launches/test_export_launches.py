"""A launch's filter is exported, and decides as its online run began."""

import json

import numpy as np
import pytest
from absl import flags as absl_flags

from experiments import export, flags
from mesa_jax.bridges import exporting, numpy_filter
from mesa_jax.settings import SettingError
from mesa_jax.study import episodes
from mesa_jax.study.errors import ExportError
from mesa_jax.study.store import WorkdirError
from tests import launching
from tests.launching import launch, run_here


@pytest.fixture
def given(monkeypatch):
    """Stands for the command line: a function of --workdir, --method and --body."""
    monkeypatch.setattr(exporting, "CALLS", 20)
    monkeypatch.setattr(exporting, "ADAPTATIONS", 2)

    def give(place, method="mesa", body=1):
        values = absl_flags.FlagValues()
        absl_flags.DEFINE_string("workdir", str(place), "", flag_values=values)
        absl_flags.DEFINE_string("method", method, "", flag_values=values)
        absl_flags.DEFINE_integer("body", body, "", flag_values=values)
        absl_flags.DEFINE_integer("meta_seed", 0, "", flag_values=values)
        values.mark_as_parsed()
        monkeypatch.setattr(absl_flags, "FLAGS", values)
        monkeypatch.setattr(flags, "FLAGS", values)

    return give


def test_an_exported_filter_is_what_the_online_run_began_with(
    finished_workdir, tmp_path, given
):
    place = launching.copied(finished_workdir, tmp_path / "w")
    asked = launch(place, ("mesa",))
    given(place)
    output = run_here(asked, export.main)
    folder = place / "export" / "mesa-body1"
    assert f"[export] {folder}" in output
    assert "| NumPy" in output
    about = json.loads((folder / "export.json").read_text(encoding="utf-8"))
    assert (about["method"], about["body"], about["domain"]) == (
        "mesa",
        1,
        "navigation1",
    )
    began = episodes.shown_runs(asked.study)[0, 1]["mesa"]
    check = dict(np.load(folder / "check.npz"))
    inputs = [check[name][:-4] for name in ("observation", "proposed")]
    risk = asked.of("mesa").system.risk.estimate(began.critic, *inputs)
    _, info = numpy_filter.load(folder / "weights.npz").decide(*inputs)
    np.testing.assert_allclose(info["risk"], risk, atol=1e-5)
    np.testing.assert_array_equal(info["recovered"], risk > about["threshold"])


def test_a_failed_check_leaves_nothing(finished_workdir, tmp_path, given, monkeypatch):
    place = launching.copied(finished_workdir, tmp_path / "w")
    given(place, "multi_task", 0)
    monkeypatch.setattr(exporting, "TOLERANCE", -1.0)  # which nothing is within
    with pytest.raises(ExportError, match="Nothing was written"):
        run_here(launch(place, ("multi_task",)), export.main)
    assert not (place / "export").exists()


def test_mistakes_are_named(tmp_path, given):
    asked = launch(tmp_path / "none", ("mesa",))
    given(tmp_path / "none")
    with pytest.raises(WorkdirError, match=r"is no workdir: it has no config\.json"):
        run_here(asked, export.main)
    given(tmp_path, "unconstrained")
    with pytest.raises(SettingError, match="method must be one that has a filter"):
        run_here(asked, export.main)
    given(tmp_path, "mesa_contxt")
    with pytest.raises(SettingError, match="nearest: mesa_context"):
        run_here(asked, export.main)
