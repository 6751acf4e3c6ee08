"""What can be wrong with an installation and its surroundings, and what to do then."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

PYTHON = (3, 11)
LEAST = {  # as setup.py asks for them
    "absl-py": "2.1",
    "brax": "0.14",
    "chex": "0.1.90",
    "etils": "1.7",
    "filelock": "4",
    "flatbuffers": "24",
    "flax": "0.12",
    "jax": "0.9",
    "jinja2": "3.1",
    "matplotlib": "3.9",
    "numpy": "2.0",
    "optax": "0.2.6",
    "orbax-checkpoint": "0.11.30",
    "scipy": "1.14",
    "tensorboardX": "2.6",
    "tqdm": "4.66",
}
OTHERS = ("jaxlib", "mujoco")  # they come with those
PLUGINS = ("jax-cuda12-plugin", "jax-cuda13-plugin", "libtpu")
MANY = 20e9  # bytes of compiled programs


class Finding(NamedTuple):
    """What was seen; with advice where it is not as it should be."""

    what: str
    advice: str = ""
    wrong: bool = False  # else advice is a note: launches work

    @property
    def mark(self) -> str:
        return "WRONG" if self.wrong else "note" if self.advice else "ok"


def wrong(what: str, advice: str) -> Finding:
    return Finding(what, advice, wrong=True)


def _numbers(version: str) -> tuple[int, ...]:
    """The release of a version: 2 of 2.0.0, (0, 10, 2) of 0.10.2.dev3."""
    release = re.match(r"[0-9.]*", version)[0].strip(".")
    numbers = [int(number) for number in release.split(".") if number]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def of_python(version: tuple[int, ...]) -> list[Finding]:
    what = "python " + ".".join(map(str, version))
    if version < PYTHON:
        least = ".".join(map(str, PYTHON))
        return [wrong(what, f"use Python {least} or newer: make PYTHON=python3.12")]
    return [Finding(what)]


def of_packages(found: Mapping[str, str | None]) -> list[Finding]:
    """Of versions by package; None where there is none."""
    findings = []
    for name in (*LEAST, *OTHERS):
        version, least = found.get(name), LEAST.get(name)
        asked = f"{name}>={least}" if least else name
        install = f'python -m pip install --upgrade "{asked}"'
        if version is None:
            findings.append(wrong(f"{name} is not installed", install))
        elif least and _numbers(version) < _numbers(least):
            findings.append(wrong(f"{name} {version} is older than {least}", install))
        else:
            findings.append(Finding(f"{name} {version}"))
    return findings + _together(found)


def _together(found: Mapping[str, str | None]) -> list[Finding]:
    """Packages that are to be of one version."""
    jax = found.get("jax")
    same = [name for name in ("jaxlib", *PLUGINS[:2]) if jax and found.get(name)]
    return [
        wrong(
            f"jax is {jax}, but {name} is {found[name]}",
            f"install both of one version: python -m pip install {name}=={jax}",
        )
        for name in same
        if _numbers(found[name]) != _numbers(jax)
    ]


def of_devices(
    found: list[str] | Exception, asked: str | None, plugins: list[str], has_gpu: bool
) -> list[Finding]:
    """Of JAX's devices, or of how it failed.

    Args:
      found: such as "cpu:0" and "cuda:0".
      asked: JAX_PLATFORMS.
      plugins: accelerator plugins that are installed.
      has_gpu: whether this machine shows an NVIDIA GPU.
    """
    if isinstance(found, Exception):
        reason = str(found) or type(found).__name__
        advice = "unset JAX_PLATFORMS, or set it to cpu"
        if asked is None:
            advice = "set JAX_PLATFORMS=cpu, and see to the accelerator's driver"
        platforms = asked or "automatic"
        return [wrong(f"no device (JAX_PLATFORMS is {platforms}): {reason}", advice)]
    findings = [Finding("devices: " + ", ".join(found))]
    if any(not name.startswith("cpu") for name in found) or asked == "cpu":
        return findings
    if plugins:
        advice = "see to its driver, or uninstall it; all runs on the CPU"
        findings.append(wrong(f"{', '.join(plugins)}, but no such device", advice))
    elif has_gpu:
        advice = 'python -m pip install "jax[cuda12]" of the same version as jax'
        findings.append(Finding("an NVIDIA GPU that JAX can not use", advice))
    return findings


def of_switches(
    now: Mapping[str, Any], fixed: Mapping, usual: Mapping
) -> list[Finding]:
    """Of switches and variables that change numbers.

    Args:
      now: values by upper-case name.
      fixed: what launches give them, whatever is asked for.
      usual: the others' values where nobody asks for one.
    """
    findings = []
    for name, value in now.items():
        if name.lower() in fixed:
            if value != fixed[name.lower()]:
                kept = f"launches compute with {fixed[name.lower()]}; unset it"
                findings.append(Finding(f"{name}={value}", kept))
        elif value not in (None, "", usual.get(name.lower())):
            advice = "it changes numbers; a workdir keeps to the value it began with"
            findings.append(Finding(f"{name}={value}", advice))
    return findings or [Finding("no switch that changes numbers is set")]


def of_cache(
    place: str | None, size: int, programs: int, writable: bool, has_home: bool
) -> list[Finding]:
    """Of where compiled programs are kept; None where nowhere."""
    findings = []
    if not has_home:
        advice = "set HOME, or JAX_COMPILATION_CACHE_DIR to a folder that is kept"
        findings.append(wrong("there is no home folder", advice))
    if place is None:
        advice = "set JAX_COMPILATION_CACHE_DIR; else each launch compiles anew"
        return [*findings, wrong("compiled programs are not kept", advice)]
    what = f"compiled programs: {programs} in {place}, {size / 1e6:.0f} MB"
    if not writable:
        advice = "make it writable, or set JAX_COMPILATION_CACHE_DIR to another folder"
        return [*findings, wrong(f"{what}, not writable", advice)]
    if size > MANY:
        return [*findings, Finding(what, "delete the folder; it is filled again")]
    return [*findings, Finding(what)]


def of_self_test(
    found: Mapping[str, float], stored: Mapping[str, float], tolerance: float
) -> list[Finding]:
    """Of the small computation's values beside the stored ones."""
    different = [
        f"{name} is {found.get(name)}, stored {value}"
        for name, value in stored.items()
        if not abs(found.get(name, float("nan")) - value) <= tolerance * abs(value)
    ]
    if not different:
        return [Finding(f"self-test: {len(stored)} values are the stored ones")]
    more = f" and {len(different) - 3} more" if len(different) > 3 else ""
    advice = (
        "do not trust results of this installation: mend what is wrong above, or "
        "install the tested versions (make, or pip install -r requirements.lock)"
    )
    count = f"self-test: {len(different)} of {len(stored)} values differ: "
    return [wrong(count + "; ".join(different[:3]) + more, advice)]
