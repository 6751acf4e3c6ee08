"""Small file helpers: a file is either the old one or the new one, never half."""

import contextlib
import hashlib
import json
import math
import os
import pathlib
import secrets
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from mesa_jax.errors import UserError


class DamagedFileError(UserError, ValueError):
    """Says that a file can not be read; names it."""


PARTIAL = ".partial"


@contextlib.contextmanager
def replacing(path: pathlib.Path, ending: str = PARTIAL) -> Iterator[pathlib.Path]:
    """Yields a path to write to; what lies there then takes the place of `path`.

    No other writer has that path. What stops the writing leaves `path` as it was, and
    nothing beside it; only a kill leaves a `*.partial` behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{secrets.token_hex(4)}{ending}")
    try:
        yield beside
        with open(beside, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        if error.errno:  # the system's, which may name another file or none
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()


def write_atomically(path: pathlib.Path, content: str | bytes) -> pathlib.Path:
    """Writes text as UTF-8, or bytes, in place of a file; returns its path."""
    content = content.encode() if isinstance(content, str) else content
    with replacing(path) as beside:
        beside.write_bytes(content)
    return path


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes a value; numbers that are not finite become null: JSON has none."""
    text = json.dumps(_finite(value), indent=1, allow_nan=False)
    write_atomically(path, text + "\n")


def write_derived(path: pathlib.Path, value: Any) -> None:
    """Writes text, or a value as JSON, that can be made again.

    Warns where there is no room or no right.
    """
    write = write_atomically if isinstance(value, str) else write_json
    try:
        write(path, value)
    except OSError as error:
        print(f"Warning: {path} is not written: {error.strerror}.", file=sys.stderr)


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
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, very deep
        raise DamagedFileError(f"{path} is damaged: {error}.") from None


def write_arrays(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes an .npz beside the file, then renames over it."""
    with replacing(path) as beside, open(beside, "wb") as file:
        np.savez(file, **arrays)


def sha256(path: pathlib.Path) -> str:
    """Hashes the bytes of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
