"""A workdir: one configuration, one launch at a time, nothing overwritten."""

import contextlib
import datetime
import fcntl
import json
import os
import pathlib
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata

import jax

from mesa_jax.runtime import files, switches
from mesa_jax.runtime.config import Settings, differences, from_json, to_json

CONFIG = "config.json"
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


class WorkdirError(ValueError):
    """A workdir that this launch may not use."""


def stored_settings(workdir: pathlib.Path) -> Settings | None:
    """The configuration of a workdir, or None where there is none yet.

    Raises:
      WorkdirError: if it can not be read, or was made with other switches than are set.
    """
    path = workdir / CONFIG
    if not path.exists():
        return None
    try:
        stored = from_json(files.read_json(path))
    except (TypeError, ValueError) as error:
        raise WorkdirError(f"{path} can not be read: {error}") from None
    if stored.switches != switches.recorded():
        raise WorkdirError(
            f"{workdir} was made with other switches, which change results; set them "
            "so, or use a new --workdir:\n" + switches.difference(stored.switches)
        )
    return stored


@contextlib.contextmanager
def opened(workdir: pathlib.Path, settings: Settings) -> Iterator[None]:
    """Holds the workdir's lock, and keeps or checks its configuration.

    Raises:
      WorkdirError: if another launch holds it, it holds another configuration (the
        differences are named), or it is a folder of something else.
    """
    if workdir.exists() and not workdir.is_dir():
        raise WorkdirError(f"{workdir} is a file, not a folder.")
    foreign = workdir.exists() and any(workdir.iterdir())
    if foreign and not any((workdir / name).exists() for name in (CONFIG, "lock")):
        raise WorkdirError(
            f"{workdir} is not empty and no workdir (it has no {CONFIG})."
        )
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkdirError(f"{workdir} can not be made: {error}.") from None
    with open(workdir / "lock", "a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "another launch"
            raise WorkdirError(f"{workdir} is in use by {holder}.") from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        lock.flush()
        stored = stored_settings(workdir)
        if stored is None:
            files.write_json(workdir / CONFIG, to_json(settings))
        elif stored != settings:
            raise WorkdirError(
                f"{workdir} holds another configuration; nothing was changed. Use a "
                "new --workdir, or the same values:\n" + _table(stored, settings)
            )
        _note_launch(workdir)
        yield


def _table(stored: Settings, asked: Settings) -> str:
    rows = differences(stored, asked)
    return "\n".join(
        f"  --{name}: {ours!r} there, {theirs!r} asked" for name, ours, theirs in rows
    )


def _note_launch(workdir: pathlib.Path) -> None:
    """Appends this launch to provenance.json and its command line to flags.txt."""
    path = workdir / "provenance.json"
    launches = files.read_json(path) if path.exists() else []
    launches.append(
        {
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "command": shlex.join(sys.orig_argv[1:]),
            "python": sys.version.split()[0],
            "versions": {name: metadata.version(name) for name in PACKAGES},
            "devices": [str(device) for device in jax.devices()],
            "switches": switches.in_force(),
            "git_revision": _git_revision(),
        }
    )
    files.write_json(path, launches)
    with open(workdir / "flags.txt", "a") as file:
        file.write("\n".join(sys.argv[1:]) + "\n\n")


def _git_revision() -> str | None:
    here = pathlib.Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40"]
    with contextlib.suppress(OSError):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout.strip() or None
    return None


def read_lines(path: pathlib.Path) -> list[dict]:
    """Records of a .jsonl file; a torn last line (a kill) is left out."""
    if not path.exists():
        return []
    records = []
    for line in path.read_text().splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            records.append(json.loads(line))
    return records
