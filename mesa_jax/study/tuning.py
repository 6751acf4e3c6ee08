"""tuning.csv: what every setting that was tried is worth, and what that chooses."""

import csv
import io
import json
import pathlib
from typing import Any, NamedTuple

import numpy as np

from mesa_jax import configuration
from mesa_jax.configuration import Configuration, bodies_key, differences, known
from mesa_jax.methods import METHODS, program_of
from mesa_jax.settings import SettingError
from mesa_jax.study import documents, files, presets, resolve

NUMBERS = ("squared_error", "recovery_risk")
COLUMNS = ("method", "meta_seed", "body", "setting", "steps", *NUMBERS)
RISKIER = 0.01  # true risk by which a setting's recovery policy may exceed the safest's

Record = dict[str, Any]


class TuningError(ValueError):
    """Says that a tuning.csv does not fit what is tried; names the file."""


def record(
    method: str,
    meta_seed: int,
    body: int,
    setting: dict,
    steps: int,
    error: float,
    risk: float,
) -> Record:
    """Makes one line: what a setting is worth on one held-out body after some steps."""
    numbers = float(error), float(risk)
    values = (method, meta_seed, body, json.dumps(setting), steps, *numbers)
    return dict(zip(COLUMNS, values, strict=True))


def read(workdir: pathlib.Path) -> list[Record]:
    """Reads all records of a workdir; none where nothing was tried yet."""
    path = workdir / "tuning.csv"
    if not path.exists():
        return []

    def take(row):
        known("methods", row["method"], METHODS)
        configuration.override(Configuration(), json.loads(row["setting"]))
        return (
            row
            | {name: int(row[name]) for name in ("meta_seed", "body", "steps")}
            | {name: float(row[name]) for name in NUMBERS}
        )

    return documents.read_csv(path, COLUMNS, take, "Delete it; it is tried anew.")


def has(
    workdir: pathlib.Path, method: str, meta_seed: int, settings: list[dict]
) -> bool:
    """Returns whether just these settings were tried."""
    tried = {
        row["setting"]
        for row in read(workdir)
        if (row["method"], row["meta_seed"]) == (method, meta_seed)
    }
    if tried and tried != {json.dumps(setting) for setting in settings}:
        raise TuningError(
            f"{workdir / 'tuning.csv'} holds other settings of {method} than are tried "
            "now. Use a new --workdir."
        )
    return bool(tried)


def add(workdir: pathlib.Path, records: list[Record]) -> None:
    """Appends records; the file is either the old one or the new one."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(read(workdir) + records)
    files.write_atomically(workdir / "tuning.csv", text.getvalue())


class Mean(NamedTuple):
    """Holds the worth of a setting after some steps, over bodies and meta-seeds."""

    squared_error: float
    recovery_risk: float


def means(records: list[Record]) -> dict[str, dict[tuple[str, int], Mean]]:
    """Returns by method what each (setting, steps) is worth, best first."""
    values: dict[str, dict[tuple[str, int], list[Record]]] = {}
    for row in records:
        cell = values.setdefault(row["method"], {})
        cell.setdefault((row["setting"], row["steps"]), []).append(row)
    found = {}
    for method, cells in values.items():
        mean = {
            key: Mean(
                *(float(np.mean([row[name] for row in rows])) for name in NUMBERS)
            )
            for key, rows in cells.items()
        }
        allowed = np.nanmin([one.recovery_risk for one in mean.values()]) + RISKIER

        def rank(item, allowed=allowed):
            error, risk = item[1]
            return not risk <= allowed, np.nan_to_num(error, nan=np.inf)

        found[method] = dict(sorted(mean.items(), key=rank))
    return found


def choose(workdir: pathlib.Path) -> dict[str, dict]:
    """Returns each method's best setting and number of steps, overrides by section."""
    chosen: dict[str, dict] = {}
    for method, cells in means(read(workdir)).items():
        (setting, steps), _ = next(iter(cells.items()))
        row = METHODS[method]
        mine = chosen.setdefault(program_of(method), {}) if row.settings else chosen
        for section, fields in json.loads(setting).items():
            mine.setdefault(section, {}).update(fields)
        mine.setdefault(row.adaptation, {})["steps"] = steps
    files.write_json(workdir / "tuning.json", chosen)
    return chosen


def update_presets(settings: Configuration, chosen: dict[str, dict]) -> None:
    """Makes `chosen` what the presets hold of the settings' domain and bodies.

    What was chosen before for methods that `chosen` does not name stays.

    Raises:
      SettingError: if what was tried ran under other settings than the preset's.
    """
    names = settings.domain, settings.tasks
    theirs = resolve.resolve(*names, settings.preset)
    choices = {
        f"{section}_{name}"
        for some in (chosen, presets.chosen().get(bodies_key(*names), {}))
        for section, fields in some.items()
        for name in fields
    }
    other = [
        name
        for name, *_ in differences(settings, theirs)
        if name not in choices and not name.startswith("quality_")
    ]
    if other or settings.preset != "quick":
        allowed = "given with the quick preset and no other setting"
        raise SettingError("update_presets", ", ".join(other) or "paper", allowed)
    stored, key = presets.chosen(), bodies_key(*names)
    stored[key] = stored.get(key, {}) | chosen
    files.write_json(presets.CHOSEN, dict(sorted(stored.items())))
