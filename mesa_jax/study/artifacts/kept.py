"""Keeps what a launch has read, so that it is read and verified once."""

import pathlib
from collections.abc import Callable
from typing import Any

Stamp = tuple[tuple[str, int, int], ...]  # name, time and size of every file


class Kept:
    """Keeps the last few folders that were read, each until a file of it changes."""

    def __init__(self, most: int):
        self._most = most
        self._read: dict[pathlib.Path, tuple[Stamp, Any]] = {}

    def read(self, folder: pathlib.Path, reader: Callable[[], Any]) -> Any:
        """Returns what `reader` made of a folder as it is now; None is not kept."""
        stamp = _stamp(folder)
        known, value = self._read.pop(folder, (None, None))
        if known != stamp:
            value = reader()
        if value is not None:
            self._read[folder] = stamp, value
        for oldest in list(self._read)[: -self._most]:
            del self._read[oldest]
        return value


def _stamp(folder: pathlib.Path) -> Stamp:
    found = [(path, path.stat()) for path in folder.rglob("*") if path.is_file()]
    return tuple(
        sorted((str(path), stat.st_mtime_ns, stat.st_size) for path, stat in found)
    )
