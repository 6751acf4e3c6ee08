"""Small file helpers: a file is either the old one or the new one, never half."""

import hashlib
import json
import os
import pathlib
from typing import Any


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
    write_atomically(path, json.dumps(value, indent=1) + "\n")


def read_json(path: pathlib.Path) -> Any:
    """Raises DamagedFileError, naming the file, if it is not JSON."""
    try:
        return json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DamagedFileError(f"{path} is damaged: {error}.") from None


def sha256(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
