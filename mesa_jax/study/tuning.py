"""Trials of settings (tuning.csv): what each is worth, and what that chooses."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from mesa_jax import configuration
from mesa_jax.configuration import Configuration, differences
from mesa_jax.errors import UserError
from mesa_jax.evaluation.filtering import THRESHOLDS
from mesa_jax.methods import METHODS
from mesa_jax.settings import SettingError
from mesa_jax.simulation import Filtered
from mesa_jax.study import files, filtering, resolve, rules
from mesa_jax.study.records import Table, one_of

COUNTS = filtering.COUNTS
SHORTEST = Configuration("halfcheetah_disabled")  # of the shortest step: any horizon
RISKIER = 0.02  # share of episodes by which a choice may violate more than the safest

Record = dict[str, Any]


class TuningError(UserError, ValueError):
    """Names a tuning.csv that does not fit what is tried."""


def records(
    method: str,
    meta_seed: int,
    rows: Sequence[dict],
    steps: Sequence[int],
    found: Filtered,
) -> list[Record]:
    """Returns lines: what each setting was worth on each held-out body.

    Args:
      rows: the settings.
      steps: of adaptation.
      found: of the filter test, [settings, steps, bodies, 2, thresholds, episodes].
    """
    bodies, kinds, thresholds, _ = found.violated.shape[2:]
    lines = []
    for at in np.ndindex(len(rows), len(steps), bodies, kinds, thresholds):
        setting, step, body, kind, threshold = at
        values = (method, meta_seed, body, json.dumps(rows[setting]), steps[step])
        values += (filtering.PROPOSALS[kind], THRESHOLDS[threshold])
        counted = filtering.counts(jax.tree.map(lambda x: x[at], found))  # noqa: B023
        lines.append(dict(zip(TUNING.columns, values, strict=False)) | counted)
    return lines


def _setting(text: str) -> str:
    """Takes a setting as JSON of overrides by section."""
    configuration.override(SHORTEST, json.loads(text))
    return text


TUNING = Table(
    "tuning.csv",
    {
        "method": one_of(METHODS),
        **dict.fromkeys(("meta_seed", "body"), int),
        "setting": _setting,
        "adaptation_steps": int,
        "proposals": one_of(filtering.PROPOSALS),
        "threshold": float,
        **dict.fromkeys(COUNTS, int),
    },
    key=("method", "meta_seed"),
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
    """Holds shares over bodies, meta-seeds and kinds of proposal."""

    violated: float  # of episodes
    recovered: float  # of steps


Cell = tuple[str, int, float]  # setting, adaptation steps, threshold


def means(records: list[Record]) -> dict[str, dict[Cell, Mean]]:
    """Returns by method what each cell is worth, best first.

    First come those that violate as rarely as the method's safest, up to `RISKIER`, in
    the order of their recovered steps; then the others, in that of their violations.
    """
    counts: dict[str, dict[Cell, np.ndarray]] = {}
    for row in records:
        cells = counts.setdefault(row["method"], {})
        cell = row["setting"], row["adaptation_steps"], row["threshold"]
        mine = np.array([row[name] for name in COUNTS])
        cells[cell] = cells.get(cell, 0) + mine
    found = {}
    for method, cells in counts.items():
        mean = {}
        for cell, total in cells.items():
            count = dict(zip(COUNTS, total.tolist(), strict=True))
            violated = count["violated"] / count["episodes"]
            mean[cell] = Mean(violated, count["recovered"] / count["steps"])
        allowed = min(one.violated for one in mean.values()) + RISKIER

        def rank(item, allowed=allowed):
            violated, recovered = item[1]
            safe = violated <= allowed
            return not safe, recovered if safe else violated

        found[method] = dict(sorted(mean.items(), key=rank))
    return found


def choose(workdir: pathlib.Path) -> dict[str, dict]:
    """Chooses each method's best setting, number of steps and threshold, by section.

    Horizon and threshold are the method's own, under its name; so is all that is chosen
    for a method with a variant. Also written as tuning.json.
    """
    chosen: dict[str, dict] = {}
    for method, cells in means(TUNING.read(workdir)).items():
        (setting, steps, threshold), _ = next(iter(cells.items()))
        row = METHODS[method]
        own = chosen.setdefault(method, {})
        mine = own if row.settings else chosen
        for section, fields in json.loads(setting).items():
            place = own if section == "risk" else mine
            place.setdefault(section, {}).update(fields)
        own["recovery"] = {"risk_threshold": threshold}
        mine.setdefault(row.adaptation, {})["steps"] = steps
    files.write_json(workdir / "tuning.json", chosen)
    return chosen


def require_clone() -> None:
    """Refuses to write presets where the package is installed.

    Raises:
      SettingError: if no source tree holds the presets.
    """
    if not (rules.CHOSEN.parents[2] / "setup.py").exists():
        allowed = "given in a clone; an installed package is not written to"
        raise SettingError("update_presets", True, allowed)


def update_presets(settings: Configuration, chosen: dict[str, dict]) -> None:
    """Makes `chosen` what the presets hold of the settings' domain and bodies.

    What was chosen before for methods that `chosen` does not name stays.

    Raises:
      SettingError: if what was tried ran under other settings than the preset's.
    """
    names, measure = (settings.domain, settings.tasks), settings.risk.measure
    asked = {} if measure == rules.MEASURE else {"risk": {"measure": measure}}
    theirs = resolve.resolve(*names, settings.preset, asked)
    key = rules.bodies(*names, measure)
    choices = {
        f"{section}_{name}"
        for some in (chosen, rules.chosen().get(key, {}))
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
    stored = rules.chosen()
    stored[key] = stored.get(key, {}) | chosen
    files.write_json(rules.CHOSEN, dict(sorted(stored.items())))
