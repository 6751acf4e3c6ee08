"""Gathers what a workdir has to be read: figures, films, launches and settings."""

import dataclasses
import pathlib
from collections.abc import Iterable
from typing import Any, NamedTuple

from mesa_jax.configuration import SECTIONS, Configuration, flag_of
from mesa_jax.study import provenance, resolve

FIGURES, FILMS = "report", "report/films"  # folders of a workdir
MOVING = (".gif", ".mp4")


class Setting(NamedTuple):
    """Holds a setting's flag and value, and what it means or what it is instead of."""

    flag: str
    value: str
    about: str  # the meaning; of what differs, the other value


class Gathered(NamedTuple):
    """Holds what a workdir has that is read as it is."""

    figures: dict[str, bytes]  # PNG files by name
    films: dict[str, bytes]  # GIF and MP4 files by name
    launches: list[dict[str, Any]]  # as `provenance.note` writes them
    flags: str  # of the last launch


def gathered(place: pathlib.Path) -> Gathered:
    """Reads figures, films and launches of a workdir.

    Raises:
      DamagedFileError: if the list of launches can not be read.
    """
    flags, said = place / "flags.txt", ""
    if flags.exists():
        said = flags.read_text(encoding="utf-8", errors="replace")
    films = {}
    for ending in MOVING:
        films |= _contents(place / FILMS, ending)
    figures = _contents(place / FIGURES, ".png")
    last = said.strip().rpartition("\n\n")[2]
    launches = provenance.launches(place)
    return Gathered(figures, dict(sorted(films.items())), launches, last)


def _contents(folder: pathlib.Path, ending: str) -> dict[str, bytes]:
    paths = sorted(path for path in folder.glob(f"*{ending}") if path.is_file())
    return {path.name: path.read_bytes() for path in paths}


def changed(settings: Configuration) -> list[Setting]:
    """Lists what differs from the preset, `about` the preset's value."""
    names = settings.domain, settings.tasks, settings.preset
    found = resolve.differences(resolve.resolve(*names), settings)
    return [Setting(flag, _text(its), _text(usual)) for flag, usual, its in found]


def of_methods(settings: Configuration, methods: Iterable[str]) -> list[Setting]:
    """Lists what methods have otherwise than the others, `about` the methods."""
    found: dict[tuple[str, str], list[str]] = {}
    for name in methods:
        own = resolve.differences(settings, resolve.of_method(settings, name))
        for flag, _, value in own:
            found.setdefault((flag, _text(value)), []).append(name)
    return [
        Setting(flag, value, ", ".join(names)) for (flag, value), names in found.items()
    ]


def every(settings: Configuration) -> list[Setting]:
    """Lists every setting with its meaning."""
    return [
        Setting(
            flag_of(section, field.name),
            _text(getattr(getattr(settings, section), field.name)),
            field.metadata["meaning"],
        )
        for section, kind in SECTIONS.items()
        for field in dataclasses.fields(kind)
    ]


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
