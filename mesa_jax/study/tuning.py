"""Trials of settings (tuning.csv): what each is worth, and what that chooses."""

import json
import pathlib
from typing import Any, NamedTuple

import numpy as np

from mesa_jax import configuration
from mesa_jax.configuration import Configuration, differences
from mesa_jax.methods import METHODS, program_of
from mesa_jax.settings import SettingError
from mesa_jax.study import files, presets, resolve
from mesa_jax.study.records import Table, one_of

NUMBERS = ("squared_error", "recovery_risk")
RISKIER = 0.01  # true risk by which a setting's recovery policy may exceed the safest's

Record = dict[str, Any]


class TuningError(ValueError):
    """Names a tuning.csv that does not fit what is tried."""


def record(
    method: str,
    meta_seed: int,
    body: int,
    setting: dict,
    steps: int,
    error: float,
    risk: float,
) -> Record:
    """Returns a line: what a setting is worth on a held-out body after some steps.

    Args:
      error: squared error of the critic.
      risk: true risk of what the recovery policy does.
    """
    numbers = float(error), float(risk)
    values = (method, meta_seed, body, json.dumps(setting), steps, *numbers)
    return dict(zip(TUNING.columns, values, strict=True))


def _setting(text: str) -> str:
    """Takes a setting as JSON of overrides by section."""
    configuration.override(Configuration(), json.loads(text))
    return text


TUNING = Table(
    "tuning.csv",
    {
        "method": one_of(METHODS),
        **dict.fromkeys(("meta_seed", "body"), int),
        "setting": _setting,
        "steps": int,
        **dict.fromkeys(NUMBERS, float),
    },
    key=("method", "meta_seed", "body", "setting", "steps"),
    advice="Delete it; it is tried anew.",
)


def has(
    workdir: pathlib.Path, method: str, meta_seed: int, settings: list[dict]
) -> bool:
    """Tells whether just these settings were tried.

    Raises:
      TuningError: if others were; they would not compare.
    """
    tried = {
        row["setting"]
        for row in TUNING.read(workdir)
        if (row["method"], row["meta_seed"]) == (method, meta_seed)
    }
    if tried and tried != {json.dumps(setting) for setting in settings}:
        raise TuningError(
            f"{workdir / TUNING.file} holds other settings of {method} than are tried "
            "now. Use a new --workdir."
        )
    return bool(tried)


class Mean(NamedTuple):
    """Holds means of a setting after some steps, over bodies and meta-seeds."""

    squared_error: float
    recovery_risk: float


def means(records: list[Record]) -> dict[str, dict[tuple[str, int], Mean]]:
    """Returns by method what each (setting, steps) is worth, best first.

    First come those whose recovery policy is as safe as the method's safest, up to
    `RISKIER`; of these and of the others, in the order of their squared error.
    """
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
    """Chooses each method's best setting and number of steps, by section.

    Those of a method with a variant are apart, under the variant's name. Also written
    as tuning.json.
    """
    chosen: dict[str, dict] = {}
    for method, cells in means(TUNING.read(workdir)).items():
        (setting, steps), _ = next(iter(cells.items()))
        row = METHODS[method]
        mine = chosen.setdefault(program_of(method), {}) if row.settings else chosen
        for section, fields in json.loads(setting).items():
            mine.setdefault(section, {}).update(fields)
        mine.setdefault(row.adaptation, {})["steps"] = steps
    files.write_json(workdir / "tuning.json", chosen)
    return chosen


def require_clone() -> None:
    """Refuses to write presets where the package is installed.

    Raises:
      SettingError: if no source tree holds the presets.
    """
    if not (presets.CHOSEN.parents[2] / "setup.py").exists():
        allowed = "given in a clone; an installed package is not written to"
        raise SettingError("update_presets", True, allowed)


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
        for some in (chosen, presets.chosen().get(presets.bodies(*names), {}))
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
    stored, key = presets.chosen(), presets.bodies(*names)
    stored[key] = stored.get(key, {}) | chosen
    files.write_json(presets.CHOSEN, dict(sorted(stored.items())))
