"""Who made a workdir: every launch, its command line, versions and devices."""

import contextlib
import datetime
import os
import pathlib
import platform
import shlex
import sys
from importlib import metadata
from typing import Any

import jax

import mesa_jax
from mesa_jax.study import documents, files, git, switches

PROVENANCE = "provenance.json"
PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "brax",
    "chex",
    "orbax-checkpoint",
    "numpy",
)


def about_launch() -> dict[str, Any]:
    """Returns the time, the command line, and what computes."""
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(sys.orig_argv[1:]),
        "python": sys.version.split()[0],
        "versions": {"mesa_jax": mesa_jax.__version__} | _versions(),
        "devices": [str(device) for device in jax.devices()],
        "device_kinds": sorted({device.device_kind for device in jax.devices()}),
        "machine": f"{platform.platform()}, {os.cpu_count()} processors",
        "switches": switches.in_force(),
        "git_revision": git.revision(pathlib.Path(mesa_jax.__file__).parent),
    }


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = dict.fromkeys(PACKAGES)
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def launches(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """Reads what was noted of a workdir's launches; nothing where there is no file.

    Raises:
      DamagedFileError: if the file can not be read.
    """
    path = workdir / PROVENANCE
    advice = "Move it away; launches are noted in a new one."
    return documents.read_json(path, noted, advice) if path.exists() else []


def note(workdir: pathlib.Path, about: dict[str, Any]) -> None:
    """Appends a launch to provenance.json and its command line to flags.txt."""
    before = launches(workdir)
    _say_changes(before, about)
    files.write_json(workdir / PROVENANCE, [*before, about])
    # as the bytes were given, whatever they are
    with open(
        workdir / "flags.txt", "a", encoding="utf-8", errors="surrogateescape"
    ) as file:
        file.write("\n".join(sys.argv[1:]) + "\n\n")


def _say_changes(launches: list[dict[str, Any]], now: dict[str, Any]) -> None:
    """Says which packages are others than in the launch before.

    They may round otherwise; nothing is refused, since all must be updated some day.
    """
    before = launches[-1].get("versions") if launches else None
    for name, version in now["versions"].items() if isinstance(before, dict) else ():
        if before.get(name, version) != version:
            print(
                f"Note: {name} was {before[name]} when this workdir was last used, and "
                f"is {version}: numbers may differ in their last digits.",
                file=sys.stderr,
            )


def noted(value: Any) -> list[dict[str, Any]]:
    """Returns the launches of a provenance file.

    Raises:
      TypeError: if they are none.
    """
    if not (isinstance(value, list) and all(isinstance(x, dict) for x in value)):
        raise TypeError("no list of launches")
    return value


def first_version(workdir: pathlib.Path) -> str:
    """Returns the version of mesa_jax that began a workdir, "" if not noted."""
    with contextlib.suppress(OSError, TypeError, ValueError, LookupError):
        launches = noted(files.read_json(workdir / PROVENANCE))
        return str(launches[0]["versions"]["mesa_jax"])
    return ""
