"""Rules: values for whatever has some names; and what `tune` chose, as rules."""

import pathlib
from typing import NamedTuple

from mesa_jax.methods import METHODS, begins_as, program_of
from mesa_jax.risk import RiskConfig
from mesa_jax.settings import Layer
from mesa_jax.study import files

CHOSEN = pathlib.Path(__file__).parent / "chosen.json"  # by `experiments.tune`
MEASURE = RiskConfig().measure
BASE = {"published_risk": "quick"}  # whose rules hold too


def kin(method: str) -> tuple[str, ...]:
    """Returns the methods whose rules a method follows, itself last."""
    return program_of(method), begins_as(method), method


class Rule(NamedTuple):
    """Gives values to whatever has these names; None stands for any."""

    values: Layer
    preset: str | None = None
    domain: str | None = None
    tasks: str | None = None
    method: str | None = None  # also those of its program, or that begin as it
    risk: str | None = None  # a risk measure

    def holds(
        self, preset: str, domain: str, tasks: str, methods: tuple[str, ...], risk: str
    ) -> bool:
        """Returns whether the rule is one of a preset, its bodies, `kin` and risk."""
        names = [(preset, BASE.get(preset)), (domain,), (tasks,), methods, (risk,)]
        return all(
            mine is None or mine in some
            for mine, some in zip(self[1:], names, strict=True)
        )

    @property
    def name(self) -> str:
        """Names its preset, bodies, method and risk measure."""
        return " ".join(filter(None, self[1:]))


def bodies(domain: str, tasks: str, measure: str = MEASURE) -> str:
    """Returns how some bodies, and a risk measure, are called among what was chosen."""
    return "/".join((domain, tasks, *(() if measure == MEASURE else (measure,))))


def chosen() -> dict[str, dict[str, Layer]]:
    """Returns what was chosen on held-out training bodies, by "domain/tasks[/measure]".

    By section; what was chosen for a method with settings of its own is under its name,
    by section in turn.
    """
    return files.read_json(CHOSEN) if CHOSEN.exists() else {}


def chosen_rules() -> tuple[list[Rule], list[Rule]]:
    """Returns what was chosen as rules: of bodies, and of methods on bodies."""
    of_bodies, of_methods = [], []
    for key, layer in chosen().items():
        domain, tasks, *other = key.split("/")
        common = {name: fields for name, fields in layer.items() if name not in METHODS}
        of_bodies.append(Rule(common, None, domain, tasks, None, *other))
        measure = other[0] if other else MEASURE
        of_methods += [
            Rule(layer[name], None, domain, tasks, name, measure)
            for name in layer.keys() - common.keys()
        ]
    return of_bodies, of_methods
