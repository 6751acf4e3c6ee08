"""JSON and CSV files of a workdir: what is read has the form of what was written."""

import csv
import io
import pathlib
from collections.abc import Callable
from typing import Any

from mesa_jax.study import files
from mesa_jax.study.files import DamagedFileError

UNLIKE = (AttributeError, LookupError, TypeError, ValueError, OverflowError)


def read_json(path: pathlib.Path, take: Callable[[Any], Any], advice: str) -> Any:
    """Returns what `take` makes of a JSON file's value.

    Args:
      take: raises one of `UNLIKE` for a value of another form.
      advice: what to do about such a file.

    Raises:
      DamagedFileError: naming the file, with the advice.
    """
    value = files.read_json(path)
    try:
        return take(value)
    except UNLIKE:
        raise DamagedFileError(
            f"{path} is JSON, and not what was written there. {advice}"
        ) from None


def read_csv(
    path: pathlib.Path,
    columns: tuple[str, ...],
    take: Callable[[dict[str, str]], Any],
    advice: str,
) -> list[Any]:
    """Returns what `take` makes of each line of a CSV file with a head.

    Raises:
      DamagedFileError: naming the file, and the line where one is not as it must.
    """
    reader = None
    try:
        text = path.read_text(encoding="utf-8")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        if tuple(reader.fieldnames or ()) != columns:
            raise ValueError(f"its columns are not {', '.join(columns)}")
        rows = []
        for row in reader:
            if None in row or None in row.values():
                raise ValueError(f"a line has {len(columns)} values")
            rows.append(take(row))
        return rows
    except (*UNLIKE, csv.Error) as error:
        where = f" in line {reader.line_num}" if reader else ""
        raise DamagedFileError(
            f"{path} can not be read{where}: {error}. {advice}"
        ) from None


def number(value: Any) -> float:
    """Returns a number of a JSON file.

    Raises:
      TypeError: if it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    return float(value)
