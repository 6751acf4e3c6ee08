"""A configuration: every hyper-parameter of every stage, one section each.

It determines the numbers of a workdir together with seeds and methods, which may grow.
"""

import dataclasses
import json
from typing import Any

from mesa_jax.agents import ConstraintConfig, RecoveryConfig, SACConfig
from mesa_jax.data import CollectConfig
from mesa_jax.domains import entry_of
from mesa_jax.domains.base import PhysicsConfig
from mesa_jax.evaluation import QualityConfig
from mesa_jax.exclusions import exclusions
from mesa_jax.meta import FinetuneConfig, InnerLoopConfig, MAMLConfig, PooledConfig
from mesa_jax.planning import PlannerConfig
from mesa_jax.risk import RiskConfig
from mesa_jax.rounds import RoundsConfig
from mesa_jax.run_state import OnlineConfig
from mesa_jax.settings import OTHER_WORDS, Layer, SettingError, known, setting, validate


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Configures offline datasets."""

    train_bodies: int = setting(24, "training bodies", "[1, 10_000]")
    heldout_bodies: int = setting(
        9,
        "more training bodies, held out to choose checkpoint and settings",
        "[1, 10_000]",
    )
    transitions: int = setting(
        12_000, "transitions a training body", "[1, 100_000_000]"
    )
    adaptation: int = setting(
        200,
        "transitions of a test body to adapt on, of data_test_transitions",
        "[1, 100_000_000]",
    )
    test_transitions: int = setting(
        10_000,
        "transitions collected of a test body and shuffled once",
        "[1, 100_000_000]",
    )
    adaptation_body: str = setting(
        "same",
        "whose transitions a test body adapts on: its own, or another's (what the "
        "released code does)",
        choices=("same", "another"),
    )

    def __post_init__(self):
        validate(self)


@dataclasses.dataclass(frozen=True)
class Configuration:
    """Holds every setting of every stage, one section each, and what was asked for."""

    domain: str = "navigation1"
    tasks: str = "published"
    preset: str = "quick"
    fault: str = ""  # what strikes online runs, as `fault_notation.parse` reads it
    switches: str = ""  # of JAX, as `switches.recorded` writes them; no flag
    physics: PhysicsConfig = PhysicsConfig()
    data: DataConfig = DataConfig()
    collect: CollectConfig = CollectConfig()
    risk: RiskConfig = RiskConfig()
    recovery: RecoveryConfig = RecoveryConfig()
    constraint: ConstraintConfig = ConstraintConfig()
    planner: PlannerConfig = PlannerConfig()
    rounds: RoundsConfig = RoundsConfig()
    maml: MAMLConfig = MAMLConfig()
    pooled: PooledConfig = PooledConfig()
    finetune_scratch: FinetuneConfig = FinetuneConfig(
        steps=2000, optimizer="adam", lr=1e-3
    )
    finetune: FinetuneConfig = FinetuneConfig(steps=100, optimizer="sgd", lr=0.1)
    finetune_few: FinetuneConfig = FinetuneConfig(
        steps=5, optimizer="sgd", lr=0.3, batch_size=1024
    )
    inner_loop: InnerLoopConfig = InnerLoopConfig(settle_steps=100)
    sac: SACConfig = SACConfig()
    online: OnlineConfig = OnlineConfig()
    quality: QualityConfig = QualityConfig()
    # (section, field) that somebody gave: no rule of a method takes its place. Two
    # configurations are equal where their settings are, whoever gave them.
    asked: frozenset[tuple[str, str]] = dataclasses.field(
        default=frozenset(), compare=False, repr=False
    )

    def override(self, **sections: dict[str, Any]) -> "Configuration":
        """Returns the configuration with some fields replaced.

        Args:
          sections: new values by field, e.g. `maml={"inner_steps": 5}`.

        Raises:
          SettingError: on an unknown section or field, or a value out of range; named
            as the launches' flag is.
        """
        for section, fields in sections.items():
            known("section", section, SECTIONS)
            for name in fields:
                known(f"field of {section}", name, _fields(section))
        return override(self, sections)


SECTIONS = {
    field.name: type(field.default)
    for field in dataclasses.fields(Configuration)
    if dataclasses.is_dataclass(field.default)
}


KEPT = 1_000  # transitions of a test body that are stored, or as many as are asked for


def _fields(section: str) -> dict[str, dataclasses.Field]:
    return {field.name: field for field in dataclasses.fields(SECTIONS[section])}


def flag_of(section: str, name: str) -> str:
    """Returns the launches' name of a setting: `section_field`, or its own."""
    return _fields(section)[name].metadata["flag"] or f"{section}_{name}"


def override(configuration: Configuration, values: Layer) -> Configuration:
    """Returns the configuration with values that are asked for, by section and field.

    They also stand in the configuration of each method (`resolve.of_method`).

    Raises:
      SettingError: on the first value out of its range, named as its flag is, or the
        first that another one forbids.
    """
    return with_values(marked(configuration, values), values)


def marked(configuration: Configuration, values: Layer) -> Configuration:
    """Returns the configuration with the fields of `values` as asked for."""
    given = {(section, name) for section, fields in values.items() for name in fields}
    kept = configuration.asked - {OTHER_WORDS.get(one) for one in given}
    return dataclasses.replace(configuration, asked=kept | given)


def is_asked(configuration: Configuration, section: str, name: str) -> bool:
    """Returns whether somebody gave a setting, in whatever words."""
    words = {(section, name), OTHER_WORDS.get((section, name))}
    return bool(words & configuration.asked)


def with_values(configuration: Configuration, values: Layer) -> Configuration:
    """Returns the configuration with values that nobody asked for.

    Raises:
      SettingError: as `override`.
    """
    sections = {}
    for section, fields in values.items():
        try:
            sections[section] = dataclasses.replace(
                getattr(configuration, section), **fields
            )
        except SettingError as error:
            flag = flag_of(section, error.name)
            raise SettingError(flag, error.value, error.allowed) from None
    changed = _with_what_there_is(dataclasses.replace(configuration, **sections))
    changed = _with_one_horizon(changed, values.get("risk", {}))
    _require_together(changed)
    return changed


def _with_what_there_is(configuration: Configuration) -> Configuration:
    """Limits counts to what they are drawn from, unless more was asked for.

    Those of bodies an outer step, and of transitions to adapt on.
    """
    data, limited = configuration.data, {}
    for section, name, most in (
        ("maml", "num_tasks", data.train_bodies),
        ("pooled", "num_tasks", data.train_bodies),
        ("data", "adaptation", data.test_transitions),
    ):
        mine = getattr(configuration, section)
        asked = (section, name) in configuration.asked
        if getattr(mine, name) > most and not asked:
            limited[section] = dataclasses.replace(mine, **{name: most})
    return dataclasses.replace(configuration, **limited)


def seconds_of(configuration: Configuration) -> float:
    """Returns how long a control step takes, in s; in navigation a step is the unit."""
    entry, physics = entry_of(configuration.domain), configuration.physics
    if entry.seconds is None:
        return entry.make(configuration.tasks, physics).spec.seconds
    return entry.seconds * physics.frame_skip


def _with_one_horizon(settings: Configuration, risk: dict[str, Any]) -> Configuration:
    """Lets the one of discount and horizon that is given say what the other is.

        gamma_risk = 1 - seconds of a step / horizon

    Args:
      risk: values that were just set.
    """
    if "discount" in risk and risk.get("horizon", 0.0) != 0.0:
        allowed = "left out, or 0, where the discount is given (--risk_discount)"
        raise SettingError("risk_horizon", risk["horizon"], allowed)
    if "discount" in risk:
        found = {"horizon": 0.0}
    elif settings.risk.horizon == 0.0:
        return settings
    else:
        step, horizon = seconds_of(settings), settings.risk.horizon
        if horizon <= step:
            allowed = f"0, or longer than a step ({step:g})"
            raise SettingError("risk_horizon", horizon, allowed)
        found = {"discount": 1.0 - step / horizon}
    risk = dataclasses.replace(settings.risk, **found)
    return dataclasses.replace(settings, risk=risk)


def asked_values(configuration: Configuration) -> Layer:
    """Returns what was asked for, by section and field, in a fixed order."""
    values: Layer = {}
    for section, name in sorted(configuration.asked):
        value = getattr(getattr(configuration, section), name)
        values.setdefault(section, {})[name] = value
    return values


def _require_together(settings: Configuration) -> None:
    """Raises SettingError on the first value that another one excludes."""
    for error in exclusions(settings):
        raise SettingError(*error)


def to_json(settings: Configuration) -> dict[str, Any]:
    """Returns the settings as plain nested dicts, tuples as lists."""
    values = dataclasses.asdict(dataclasses.replace(settings, asked=frozenset()))
    del values["asked"]
    return json.loads(json.dumps(values))


def differences(
    ours: Configuration, theirs: Configuration
) -> list[tuple[str, Any, Any]]:
    """Lists (flag, ours, theirs) of every setting that differs."""

    def flat(settings):
        values = {}
        for name, value in to_json(settings).items():
            fields = value.items() if isinstance(value, dict) else ((None, value),)
            values |= {flag_of(name, k) if k else name: v for k, v in fields}
        return values

    a, b = flat(ours), flat(theirs)
    return [(name, a[name], b[name]) for name in a if a[name] != b[name]]
