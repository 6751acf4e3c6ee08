"""The doctor: what it finds wrong, and what it says to do."""

import re

import numpy as np
import pytest

from experiments import doctor, findings, selftest
from mesa_jax.study import switches
from tests.conftest import ROOT

GOOD = dict.fromkeys(findings.LEAST, "99.1") | {"jaxlib": "99.1", "mujoco": "4.0"}
CUDA = "jax-cuda12-plugin"
USUAL = {
    "JAX_ENABLE_X64": False,
    "JAX_DISABLE_JIT": False,
    "JAX_OPTIMIZATION_LEVEL": "UNKNOWN",
    "XLA_FLAGS": None,
}


def _bad(found):
    return [finding.what for finding in found if finding.wrong]


def of_switches(**values):
    return findings.of_switches(USUAL | values, switches.FIXED, switches.RECORDED)


def test_the_least_versions_are_those_that_are_installed_with_the_package():
    asked = re.search(
        r"install_requires=\[(.*?)\]", (ROOT / "setup.py").read_text(), re.S
    )
    wanted = dict(re.findall(r'"([\w-]+)(?:\[[^]]*\])?>=([\d.]+)"', asked[1]))
    assert wanted == findings.LEAST


def test_where_all_is_well_nothing_is_wrong_or_noted():
    for found in (
        findings.of_python((3, 11, 0)),
        findings.of_packages(GOOD),
        findings.of_packages(GOOD | {CUDA: "99.1"}),
        findings.of_devices(["cpu:0"], None, [], has_gpu=False),
        findings.of_devices(["cuda:0"], None, [CUDA], has_gpu=True),
        findings.of_devices(["cpu:0"], "cpu", [CUDA], has_gpu=True),
        of_switches(),
        findings.of_cache("/cache", 10**6, 3, writable=True, has_home=True),
        findings.of_self_test({"a": 1.00001}, {"a": 1.0}, 1e-3),
    ):
        assert found and {finding.mark for finding in found} == {"ok"}


@pytest.mark.parametrize("version", [(3, 10, 14), (3, 9), (2, 7, 18)])
def test_an_old_python_is_wrong(version):
    (finding,) = findings.of_python(version)
    assert finding.wrong and "3.11" in finding.advice


@pytest.mark.parametrize(
    ("change", "said", "advice"),
    [
        (
            {"jax": "0.8.3", "jaxlib": "0.8.3"},
            "jax 0.8.3 is older than 0.9",
            "jax>=0.9",
        ),
        ({"jax": "0.8.3.dev1", "jaxlib": "0.8.3"}, "is older than 0.9", "jax>=0.9"),
        ({"numpy": "1.26.4"}, "numpy 1.26.4 is older than 2.0", "numpy>=2.0"),
        ({"orbax-checkpoint": "0.11.9"}, "older than 0.11.30", "orbax-checkpoint>="),
        ({"optax": None}, "optax is not installed", "optax>=0.2.6"),
        ({"mujoco": None}, "mujoco is not installed", '"mujoco"'),  # brax needs it
        ({"jaxlib": None}, "jaxlib is not installed", '"jaxlib"'),
        ({"jaxlib": "98.0"}, "jax is 99.1, but jaxlib is 98.0", "jaxlib==99.1"),
        ({CUDA: "99.0"}, f"jax is 99.1, but {CUDA} is 99.0", f"{CUDA}==99.1"),
    ],
)
def test_a_package_that_does_not_fit_is_named_with_what_to_install(
    change, said, advice
):
    found = findings.of_packages(GOOD | change)
    (bad,) = [finding for finding in found if finding.wrong]
    assert said in bad.what and advice in bad.advice


def test_versions_are_compared_by_number():
    same = findings.of_packages(GOOD | {"numpy": "2", "optax": "0.2.10"})
    assert not _bad(same)  # 2 is 2.0, and 10 is after 6
    assert not _bad(
        findings.of_packages(GOOD | {"jax": "0.10.2", "jaxlib": "0.10.2.0"})
    )


@pytest.mark.parametrize("error", [RuntimeError("no cuda"), AssertionError()])
@pytest.mark.parametrize("asked", ["cuda", None])
def test_devices_that_can_not_be_initialised_are_wrong(error, asked):
    (finding,) = findings.of_devices(error, asked, [], has_gpu=False)
    assert finding.wrong and "JAX_PLATFORMS" in finding.advice
    assert (str(error) or "AssertionError") in finding.what


def test_an_accelerator_that_is_not_used_is_told():
    found = findings.of_devices(["cpu:0"], None, [CUDA], has_gpu=False)
    assert _bad(found) == [f"{CUDA}, but no such device"]
    *_, note = findings.of_devices(["cpu:0"], None, [], has_gpu=True)
    assert note.mark == "note" and "jax[cuda12]" in note.advice


@pytest.mark.parametrize(
    ("name", "value", "advice"),
    [
        ("JAX_ENABLE_X64", True, "launches compute with False"),
        ("JAX_DISABLE_JIT", True, "a workdir keeps to the value"),
        ("JAX_OPTIMIZATION_LEVEL", "O0", "a workdir keeps to the value"),
        (
            "XLA_FLAGS",
            "--xla_cpu_enable_fast_math=true",
            "a workdir keeps to the value",
        ),
    ],
)
def test_a_switch_that_changes_numbers_is_noted(name, value, advice):
    (finding,) = of_switches(**{name: value})
    assert finding.mark == "note"
    assert finding.what == f"{name}={value}" and advice in finding.advice


def test_a_cache_that_keeps_nothing_is_wrong():
    there = ("/cache", 10**6, 3)
    homeless = findings.of_cache(*there, writable=True, has_home=False)
    assert _bad(homeless) == ["there is no home folder"]
    assert len(_bad(findings.of_cache(None, 0, 0, False, has_home=False))) == 2
    (finding,) = findings.of_cache(*there, writable=False, has_home=True)
    assert finding.wrong and "3 in /cache" in finding.what
    (full,) = findings.of_cache("/cache", 10**11, 3, writable=True, has_home=True)
    assert full.mark == "note"


@pytest.mark.parametrize("value", [1.01, -1.0, np.nan, np.inf])
def test_a_value_that_is_not_the_stored_one_is_wrong(value):
    stored = {"a": 1.0, "b": -2.0}
    (finding,) = findings.of_self_test({"a": value, "b": -2.0}, stored, 1e-3)
    assert finding.wrong
    assert f"1 of 2 values differ: a is {value}, stored 1.0" in finding.what
    (finding,) = findings.of_self_test({"a": 1.0}, stored, 1e-3)
    assert finding.wrong and "b is None" in finding.what


def test_the_stored_values_are_what_the_code_computes():
    """After a change that is meant to change them: `python -m experiments.selftest`."""
    found = selftest.values()
    assert found.keys() == selftest.STORED.keys()
    assert not _bad(findings.of_self_test(found, selftest.STORED, selftest.TOLERANCE))


# The launch


@pytest.fixture
def examine(monkeypatch, capsys):
    """Runs the doctor here, without the self-test: exit code and output."""

    def run():
        monkeypatch.setattr("sys.argv", ["doctor"])
        with pytest.raises(SystemExit) as ended:
            doctor.main()
        return ended.value.code, capsys.readouterr().out

    checks = [check for check in doctor.CHECKS if check is not doctor.self_test]
    monkeypatch.setattr(doctor, "CHECKS", checks)
    return run


def test_this_installation_is_well(examine):
    code, output = examine()
    assert code == 0 and output.endswith("All is well.\n")
    for name in (*findings.LEAST, "python 3", "mesa_jax 0", "devices: cpu:0", "MB"):
        assert name in output


def test_what_is_wrong_is_shown_with_its_advice_and_ends_with_1(examine, monkeypatch):
    version = doctor._version
    old = {"jax": "0.8.1", "jaxlib": "0.8.1"}
    monkeypatch.setattr(doctor, "_version", lambda name: old.get(name, version(name)))
    code, output = examine()
    assert code == 1
    assert "WRONG jax 0.8.1 is older than 0.9\n      -> python -m pip" in output
    assert re.search(r"1 of \d+ findings are wrong.\n$", output)


def test_a_check_that_fails_is_told_and_the_others_go_on(examine, monkeypatch):
    def broken():
        raise AttributeError("module 'jax' has no attribute 'config'")

    monkeypatch.setattr(doctor, "CHECKS", [broken, doctor.packages])
    code, output = examine()
    assert code == 1 and "broken could not be looked at: AttributeError" in output
    assert "ok    jax " in output


def test_devices_that_are_not_there_are_told_and_no_self_test_is_made(
    examine, monkeypatch
):
    def fails():
        raise RuntimeError("Unable to initialize backend 'cuda'")

    monkeypatch.setattr("jax.devices", fails)
    monkeypatch.setattr(selftest, "values", None)  # not called
    checks = [doctor.devices, doctor.self_test, doctor.cache]
    monkeypatch.setattr(doctor, "CHECKS", checks)
    code, output = examine()
    assert code == 1 and "Unable to initialize backend 'cuda'" in output
    assert "self-test: not without a device" in output
