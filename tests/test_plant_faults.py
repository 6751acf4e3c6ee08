"""Planted faults: rows that fit the source, and the quick tests that catch them."""

import collections

import pytest

from tests.plant_faults import FAULTS, ROOT, copied_to, plant, plant_all, stale
from tests.planted_faults import Fault


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.why for fault in FAULTS])
def test_a_planted_fault_fits_the_source_and_changes_it(fault):
    assert not stale(fault)
    assert fault.new != fault.old
    compile((ROOT / fault.file).read_text().replace(fault.old, fault.new), "", "exec")
    assert fault.tests and all((ROOT / "tests" / name).exists() for name in fault.tests)


def test_no_fault_is_planted_twice():
    edits = collections.Counter((f.file, f.old, f.new) for f in FAULTS)
    whys = collections.Counter(f.why for f in FAULTS)
    assert edits.most_common(1)[0][1] == whys.most_common(1)[0][1] == 1
    assert len(FAULTS) >= 20


def test_a_row_that_does_not_fit_is_stale(tmp_path):
    (tmp_path / "a.py").write_text("x = 1\nx = 1\n")
    for file, old in (("a.py", "x = 2"), ("a.py", "x = 1"), ("b.py", "x")):
        fault = Fault(file, old, "x = 3", "wrong", ("method/test_equations.py",))
        assert plant(fault, tmp_path).verdict == "stale"
    assert (tmp_path / "a.py").read_text() == "x = 1\nx = 1\n"


@pytest.mark.slow
def test_what_is_no_fault_is_missed_and_what_can_not_run_is_broken(tmp_path):
    place, file = copied_to(tmp_path), "mesa_jax/equations.py"
    before = (place / file).read_text()
    for new, verdict in (("1.0 * a * g", "missed"), ("(", "broken")):
        fault = Fault(file, "a * g,", f"{new},", "", ("method/test_equations.py",))
        assert plant(fault, place).verdict == verdict
        assert (place / file).read_text() == before


@pytest.mark.slow
def test_the_quick_tests_catch_every_planted_fault():
    found = plant_all(FAULTS)
    missed = [f"{f.why}: {outcome}" for f, outcome in found if not outcome.fine]
    assert not missed, "\n".join(missed)
