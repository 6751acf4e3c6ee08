"""Small file helpers: a file is either the old one or the new one, never half."""

import hashlib
import json
import math
import os
import pathlib
import zipfile
from typing import Any

import numpy as np


class DamagedFileError(ValueError):
    """A file that can not be read; names it."""


def write_atomically(path: pathlib.Path, text: str) -> None:
    """Writes beside the file, then renames over it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".partial")
    with open(beside, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


def write_json(path: pathlib.Path, value: Any) -> None:
    """Numbers that are not finite become null: JSON has none."""
    text = json.dumps(_finite(value), indent=1, allow_nan=False)
    write_atomically(path, text + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def read_json(path: pathlib.Path) -> Any:
    """Raises DamagedFileError, naming the file, if it is not JSON."""
    try:
        return json.loads(path.read_text())
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, very deep
        raise DamagedFileError(f"{path} is damaged: {error}.") from None


def write_arrays(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes an .npz beside the file, then renames over it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".partial")
    with open(beside, "wb") as file:
        np.savez(file, **arrays)
    os.replace(beside, path)


def read_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Raises DamagedFileError, naming the file, if it is no whole .npz."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        raise DamagedFileError(f"{path} is damaged: {error}. Delete it.") from None


def sha256(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
