"""A workdir: one configuration, one launch at a time, nothing overwritten."""

import contextlib
import fnmatch
import os
import pathlib
import re
import sys
import time
from collections.abc import Iterator
from typing import Any

import mesa_jax
from mesa_jax.configuration import (
    SECTIONS,
    Configuration,
    asked_values,
    marked,
    to_json,
)
from mesa_jax.study import checkpoints, files, provenance, switches, together
from mesa_jax.study.locks import WorkdirError, locked
from mesa_jax.study.resolve import differences, from_json

CONFIG = "config.json"
KEYS = {"version", "asked", "resolved"}  # of the configuration's file
OURS = (CONFIG, "lock")  # a workdir has one of these
SYSTEMS = (  # what file systems, desktops and version control leave in an empty folder
    *("lost+found", ".snapshot", ".nfs*", ".fuse_hidden*", ".Trash*", "@eaDir"),
    *(".gitkeep", ".gitignore", ".keep", ".DS_Store", "._*", ".ipynb_checkpoints"),
    *("Thumbs.db", "desktop.ini", "$RECYCLE.BIN", "System Volume Information"),
    *("lock.*", f"{CONFIG}.*{files.PARTIAL}"),  # ours, killed at its begin
)
LOGS = re.compile(  # log.txt, run_log, nohup.out, slurm-12.err, job.o12
    r"(.*[\W_])?(logs?|out|output|err|stdout|stderr|console)[\W_\d]*(\.txt)?|.*\.[oe]\d+",
    re.IGNORECASE,
)
BEGUN = time.time()  # what changes from here on may be the log of what we say
STALE = 3600  # seconds after which nobody writes a half file any more


def stored_settings(workdir: pathlib.Path) -> Configuration | None:
    """Reads the configuration of a workdir to work in; None where there is none yet.

    Raises:
      WorkdirError: as `read_settings`, and if it was made with other switches.
    """
    stored = read_settings(workdir)
    if stored is not None and stored.switches != switches.recorded():
        raise WorkdirError(
            f"{workdir} was made with other switches, which change results; set them "
            "so, or use a new --workdir:\n" + switches.difference(stored.switches)
        )
    return stored


def settings_of(workdir: pathlib.Path) -> Configuration:
    """Returns the configuration of what must be a workdir.

    Raises:
      WorkdirError: as `stored_settings`, and if it is no workdir.
    """
    if (stored := stored_settings(workdir)) is None:
        raise WorkdirError(f"{workdir} is no workdir: it has no {CONFIG}.")
    return stored


def read_settings(workdir: pathlib.Path) -> Configuration | None:
    """Reads the configuration of a workdir, or returns None where there is none yet.

    Raises:
      WorkdirError: if it can not be read, or another version wrote it.
    """
    path = workdir / CONFIG
    if not path.exists():
        return None
    try:
        values = files.read_json(path)
        older = isinstance(values, dict) and "domain" in values  # before 0.14
        stored = None if older else _from_json(values)
    except (TypeError, ValueError) as error:
        raise WorkdirError(
            f"{path} can not be read: {error} Restore it, or use a new --workdir."
        ) from None
    if stored is None:
        raise WorkdirError(_of_another_version(workdir))
    return stored


def config_json(configuration: Configuration) -> dict[str, Any]:
    """Returns the content of a workdir's configuration file."""
    return {
        "version": mesa_jax.__version__,
        "asked": asked_values(configuration),
        "resolved": to_json(configuration),
    }


def _from_json(values: Any) -> Configuration:
    """Returns the configuration of a file: what was resolved, and asked for.

    Raises:
      TypeError, ValueError: if it is none.
    """
    if not isinstance(values, dict) or values.keys() != KEYS:
        raise ValueError("it is no configuration.")
    resolved, asked = from_json(values["resolved"]), values["asked"]
    if not (isinstance(asked, dict) and asked.keys() <= SECTIONS.keys()):
        raise ValueError("what was asked for is by no section.")
    for section, fields in asked.items():
        if not isinstance(fields, dict):
            raise ValueError(f"what was asked for of {section} is by no field.")
        for name in fields:
            if fields[name] != values["resolved"][section].get(name):
                raise ValueError(f"{section}_{name} is not as it was asked for.")
    return marked(resolved, asked)


def _of_another_version(workdir: pathlib.Path) -> str:
    """Says which version's settings a workdir holds, and what to do."""
    theirs = provenance.first_version(workdir) or "a version before 0.14"
    return (
        f"{workdir} was made by mesa_jax {theirs}, whose settings have other names "
        f"than those of {mesa_jax.__version__}. Go on with it in that version, or use "
        "a new --workdir."
    )


@contextlib.contextmanager
def opened(workdir: pathlib.Path, settings: Configuration) -> Iterator[None]:
    """Holds the workdir's lock, and keeps or checks its configuration.

    Raises:
      WorkdirError: if another launch holds it, it holds another configuration (the
        differences are named), or it is a folder of something else.
    """
    require_ours(workdir)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkdirError(f"{workdir} can not be made: {error}.") from None
    with locked(workdir):
        _remove_half_files(workdir)
        launch = provenance.about_launch()
        if require_same(workdir, settings) is None:
            files.write_json(workdir / CONFIG, config_json(settings))
        provenance.note(workdir, launch)
        try:
            yield
        except BaseException as error:
            if together.is_first():  # others have a copy, which goes
                error.add_note(_what_stands(workdir))
            raise


def require_same(
    workdir: pathlib.Path, settings: Configuration
) -> Configuration | None:
    """Returns the configuration of a workdir, None where there is none yet.

    Raises:
      WorkdirError: if it holds another one (the differences are named), or the folder
        is one of something else.
    """
    require_ours(workdir)
    stored = stored_settings(workdir)
    if stored is not None and differences(stored, settings):
        raise WorkdirError(
            f"{workdir} holds another configuration; nothing was changed. Use a "
            "new --workdir, or the same values:\n" + _table(stored, settings)
        )
    return stored


def require_ours(workdir: pathlib.Path) -> None:
    """Refuses what is no folder, and a folder of something else.

    One that holds nothing but logs, empty files and what systems leave is ours: a
    launch's own log is opened before the launch begins.
    """
    if workdir.exists() and not workdir.is_dir():
        raise WorkdirError(f"{workdir} is a file, not a folder.")
    if not workdir.exists() or any((workdir / name).exists() for name in OURS):
        return
    held = (p for p in workdir.iterdir() if not (_harmless(p) or _just_opened(p)))
    foreign = sorted(path.name for path in held)
    if foreign:
        more = f" and {len(foreign) - 1} more" * (len(foreign) > 1)
        raise WorkdirError(
            f"{workdir} is not empty and no workdir (it has no {CONFIG}, but "
            f"{foreign[0]}{more}). Use another --workdir."
        )


def _harmless(path: pathlib.Path) -> bool:
    if any(fnmatch.fnmatch(path.name, pattern) for pattern in SYSTEMS):
        return True
    with contextlib.suppress(PermissionError):
        if path.is_dir():
            return all(map(_harmless, path.iterdir()))
        return path.is_file() and LOGS.fullmatch(path.name) is not None
    return False


def _just_opened(path: pathlib.Path) -> bool:
    """Whether a file is empty, as `tee` makes it, or takes what this process says."""
    if not path.is_file():
        return False
    size, changed = path.stat().st_size, path.stat().st_mtime
    if size == 0 or (path.suffix in ("", ".txt") and changed > BEGUN):
        return True
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):
            if os.path.samestat(path.stat(), os.fstat(stream.fileno())):
                return True
    return False


def _remove_half_files(workdir: pathlib.Path) -> None:
    """Removes what killed writers left beside their files."""
    for path in workdir.rglob(f"*{files.PARTIAL}*"):
        with contextlib.suppress(OSError):
            if path.is_file() and time.time() - path.stat().st_mtime > STALE:
                path.unlink()


def _what_stands(workdir: pathlib.Path) -> str:
    """What a launch that was stopped has left, and how to go on."""
    with contextlib.suppress(OSError):
        folders = [path for path in workdir.glob("checkpoints/*") if path.is_dir()]
        if any(map(checkpoints.steps, folders)):
            return (
                f"Everything up to the last checkpoint is in {workdir};\nthe same "
                "command goes on from there and ends with the same numbers."
            )
    return (
        f"There is no checkpoint yet; the same command goes on with what {workdir} has."
    )


def _table(stored: Configuration, asked: Configuration) -> str:
    rows = differences(stored, asked)
    return "\n".join(
        f"  --{name}: {ours!r} there, {theirs!r} asked" for name, ours, theirs in rows
    )
