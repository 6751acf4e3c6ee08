"""Looks at this installation: versions, devices, switches, cache, and a self-test.

python -m experiments.doctor

Each finding that is not ok says what to do. Exits 0 if nothing is wrong, else 1.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
import time
from importlib import metadata

from . import findings
from .findings import Finding, wrong

GPU = pathlib.Path("/dev/nvidia0")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _plugins() -> list[str]:
    return [name for name in findings.PLUGINS if _version(name)]


def packages() -> list[Finding]:
    """Python, and whether the packages are there and go together."""
    names = (*findings.LEAST, *findings.OTHERS, *findings.PLUGINS)
    found = {name: _version(name) for name in names}
    python = findings.of_python(sys.version_info[:3])
    return python + findings.of_packages(found)


def ours() -> list[Finding]:
    """Version and revision of this package."""
    import mesa_jax
    from mesa_jax.study import git

    place = pathlib.Path(mesa_jax.__file__).parent
    revision = git.revision(place) or "installed, not a checkout"
    return [Finding(f"mesa_jax {mesa_jax.__version__} ({revision}) in {place}")]


def _devices() -> list[str] | Exception:
    """JAX's devices, or how it failed."""
    import jax

    try:
        return [f"{device.platform}:{device.id}" for device in jax.devices()]
    except Exception as error:  # of several kinds, by platform
        return error


def devices() -> list[Finding]:
    """JAX's devices; also where they can not be initialised."""
    import jax

    asked = jax.config.jax_platforms
    return findings.of_devices(_devices(), asked, _plugins(), GPU.exists())


def switches() -> list[Finding]:
    """What is set of the switches that change numbers."""
    from mesa_jax.study import switches

    now = switches.in_force()
    return findings.of_switches(now, switches.FIXED, switches.RECORDED)


def cache() -> list[Finding]:
    """Where compiled programs are kept, as in a launch."""
    import jax

    from . import device as programs

    try:
        has_home = pathlib.Path.home().is_absolute()
        programs.keep_compiled()
    except RuntimeError:
        has_home = False
    place = jax.config.jax_compilation_cache_dir
    if place is None:
        return findings.of_cache(None, 0, 0, False, has_home)
    folder = pathlib.Path(place)
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    nearest = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    writable = nearest.is_dir() and os.access(nearest, os.W_OK)
    return findings.of_cache(place, sum(sizes), len(sizes), writable, has_home)


def self_test() -> list[Finding]:
    """A small computation beside stored values."""
    if isinstance(_devices(), Exception):
        return [Finding("self-test: not without a device")]
    from mesa_jax.study import switches

    from . import selftest

    switches.fix()
    began = time.monotonic()
    found = selftest.values()
    seconds = time.monotonic() - began
    first, *more = findings.of_self_test(found, selftest.STORED, selftest.TOLERANCE)
    return [first._replace(what=f"{first.what} ({seconds:.0f} s)"), *more]


def look(check) -> list[Finding]:
    """What a check finds, or that it could not be made."""
    try:
        return check()
    except Exception as error:  # whatever it is, the other checks go on
        said = f"{type(error).__name__}: {error}"
        name = check.__name__.replace("_", "-")
        return [
            wrong(f"{name} could not be looked at: {said}", "see what is wrong above")
        ]


def show(found: list[Finding]) -> None:
    for finding in found:
        print(f"{finding.mark:5} {finding.what}", flush=True)
        if finding.advice:
            print(f"      -> {finding.advice}", flush=True)


CHECKS = (packages, ours, devices, switches, cache, self_test)


def main() -> None:
    argparse.ArgumentParser(description=__doc__.split("\n")[0]).parse_args()
    found: list[Finding] = []
    for check in CHECKS:
        some = look(check)
        show(some)
        found += some
    bad = sum(finding.wrong for finding in found)
    print(f"{bad} of {len(found)} findings are wrong." if bad else "All is well.")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
