"""What a launch computes: every hyper-parameter of every stage, from presets and flags.

A `Settings` is a record of the configurations that stand beside the algorithms, one
section each. It determines the numbers of a workdir together with seeds and methods,
which may grow. Datasets and priors are named by the hash of what they depend on.
"""

import dataclasses
import difflib
import hashlib
import json
import math
import pathlib
from typing import Any

from mesa_jax.agents import METHODS, RecoveryConfig, SACConfig
from mesa_jax.collection import CollectConfig
from mesa_jax.domains import DOMAINS, fault_text
from mesa_jax.domains.physics import PhysicsConfig
from mesa_jax.meta import FinetuneConfig, InnerLoopConfig, MAMLConfig, PooledConfig
from mesa_jax.quality import QualityConfig
from mesa_jax.risk import RiskConfig
from mesa_jax.rollout import OnlineConfig
from mesa_jax.runtime import files, switches
from mesa_jax.runtime.presets import (
    BODIES_SETTINGS,
    DOMAIN_SETTINGS,
    DOMAIN_VARIANTS,
    PRESET_CHOICES,
    PRESET_DOMAIN_SETTINGS,
    PRESETS,
    VARIANTS,
    Layer,
)
from mesa_jax.settings import SettingError, setting, validate


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Offline datasets."""

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
class Settings:
    """The resolved configuration of a workdir."""

    domain: str = "navigation1"
    tasks: str = "published"
    preset: str = "quick"
    fault: str = ""  # what strikes online runs, as `domains.fault_text.parse` reads it
    switches: str = ""  # of JAX, as `switches.recorded` writes them; no flag
    physics: PhysicsConfig = PhysicsConfig()
    data: DataConfig = DataConfig()
    collect: CollectConfig = CollectConfig()
    risk: RiskConfig = RiskConfig()
    recovery: RecoveryConfig = RecoveryConfig()
    maml: MAMLConfig = MAMLConfig()
    pooled: PooledConfig = PooledConfig()
    recovery_rl: FinetuneConfig = FinetuneConfig(steps=2000, optimizer="adam", lr=1e-3)
    multi_task: FinetuneConfig = FinetuneConfig(steps=100, optimizer="sgd", lr=0.1)
    multi_task_few: FinetuneConfig = FinetuneConfig(
        steps=5, optimizer="sgd", lr=0.3, batch_size=1024
    )
    mesa: InnerLoopConfig = InnerLoopConfig(settle_steps=100)
    sac: SACConfig = SACConfig()
    online: OnlineConfig = OnlineConfig()
    quality: QualityConfig = QualityConfig()


SECTIONS = {
    field.name: type(field.default)
    for field in dataclasses.fields(Settings)
    if dataclasses.is_dataclass(field.default)
}

KEPT = 1_000  # transitions of a test body that are stored, or as many as are asked for
CHOSEN = pathlib.Path(__file__).parent / "chosen.json"  # by `experiments.tune`


def bodies_key(domain: str, tasks: str) -> str:
    return f"{domain}/{tasks}"


def chosen(domain: str, tasks: str) -> dict[str, dict[str, Any]]:
    """What was chosen on held-out training bodies, by section; {} where nothing was.

    What was chosen for a variant is under its name, by section in turn.
    """
    stored = files.read_json(CHOSEN) if CHOSEN.exists() else {}
    return stored.get(bodies_key(domain, tasks), {})


def known(kind: str, name: str, names) -> str:
    """Returns `name` if it is one of `names`.

    Raises:
      SettingError: naming the known ones and the nearest.
    """
    names = list(names)
    if name not in names:
        near = difflib.get_close_matches(name, names, 1, 0.0)[0]
        raise SettingError(kind, name, f"one of {', '.join(names)} (nearest: {near})")
    return name


def known_methods(names: list[str]) -> tuple[str, ...]:
    """Checked, without repetitions, in the order of the comparison table."""
    if not names:
        raise SettingError("methods", "", "a list of " + ", ".join(METHODS))
    for name in names:
        known("methods", name, METHODS)
    return tuple(name for name in METHODS if name in names)


def preset_settings(domain: str, tasks: str, preset: str) -> Settings:
    """The settings of a preset for a domain; names are checked."""
    known("domain", domain, DOMAINS)
    known("tasks", tasks, DOMAINS[domain].task_distributions)
    known("preset", preset, PRESETS)
    names = {"domain": domain, "tasks": tasks, "preset": preset}
    settings = Settings(**names, switches=switches.recorded())
    layers = (
        PRESETS[preset],
        DOMAIN_SETTINGS[domain],
        BODIES_SETTINGS.get((domain, tasks), {}),
        PRESET_DOMAIN_SETTINGS.get((preset, domain), {}),
        {k: v for k, v in chosen(domain, tasks).items() if k not in VARIANTS},
        PRESET_CHOICES.get(preset, {}),
    )
    return override(settings, _joined(*layers))


def _joined(*layers: Layer) -> Layer:
    """One layer; of a field that several have, the last one's value."""
    joined: Layer = {}
    for layer in layers:
        for section, fields in layer.items():
            joined[section] = joined.get(section, {}) | fields
    return joined


def of_method(settings: Settings, method: str) -> Settings:
    """The settings that a method runs under: its variant's where it has one.

    A variant's value gives way to one that differs from the preset's: it was asked for.
    It takes as many bodies an outer step as there are, where it would take more.
    """
    name = METHODS[method].variant
    own = (
        VARIANTS.get(name, {}),
        DOMAIN_VARIANTS.get((settings.domain, name), {}),
        chosen(settings.domain, settings.tasks).get(name, {}),
    )
    preset = preset_settings(settings.domain, settings.tasks, settings.preset)

    def untouched(section, name):
        ours, theirs = (getattr(getattr(s, section), name) for s in (settings, preset))
        return ours == theirs

    values = {
        section: {name: x for name, x in fields.items() if untouched(section, name)}
        for section, fields in _joined(*own).items()
    }
    if "num_tasks" in values.get("maml", {}):
        together = min(values["maml"]["num_tasks"], settings.data.train_bodies)
        values["maml"]["num_tasks"] = together
    return override(settings, values) if values else settings


def require_heard(asked: Layer, settings: Settings, method: str) -> None:
    """Checks that a method runs under what was asked for, by section and field.

    What differs from the preset takes the place of a variant's value; what does not
    can not be told from what nobody asked for.

    Raises:
      SettingError: naming the first that the method's variant has otherwise.
    """
    mine = of_method(settings, method)
    for section, fields in asked.items():
        for name in fields:
            ours, own = (getattr(getattr(s, section), name) for s in (settings, mine))
            if ours != own:
                allowed = f"other than the preset's for {method}, which has {own!r}"
                raise SettingError(flag_of(section, name), ours, allowed)


def flag_of(section: str, name: str) -> str:
    """What the launches call a setting: `section_field`, or its own name."""
    fields = {field.name: field for field in dataclasses.fields(SECTIONS[section])}
    return fields[name].metadata["flag"] or f"{section}_{name}"


def override(settings: Settings, values: dict[str, dict[str, Any]]) -> Settings:
    """Replaces fields by section; each section checks its ranges.

    Raises:
      SettingError: named as the flag is.
    """
    sections = {}
    for section, fields in values.items():
        try:
            sections[section] = dataclasses.replace(
                getattr(settings, section), **fields
            )
        except SettingError as error:
            flag = flag_of(section, error.name)
            raise SettingError(flag, error.value, error.allowed) from None
    settings = dataclasses.replace(settings, **sections)
    _require_together(settings)
    bodies = settings.data.train_bodies
    if settings.pooled.num_tasks > bodies:
        value = {"num_tasks": bodies}
        pooled = dataclasses.replace(settings.pooled, **value)
        settings = dataclasses.replace(settings, pooled=pooled)
    return settings


def bodies_to_calibrate(recovery: RecoveryConfig) -> int:
    """Held-out bodies that a calibrated threshold takes (`quality.calibrate`)."""
    return math.ceil(1 / recovery.false_safe_bodies - 1e-6) - 1


def _require_together(settings: Settings) -> None:
    """Raises SettingError on the first value that another one forbids."""
    bodies, maml = settings.data.train_bodies, settings.maml
    latent = settings.risk.weights == "latent"
    where = "where the critic's weights are latent (--risk_weights)"
    steps, horizon = settings.online.steps, settings.physics.horizon
    kept, made = settings.data.adaptation, settings.data.test_transitions
    held, recovery = settings.data.heldout_bodies, settings.recovery
    calibrated = recovery.false_safe > 0.0
    rules = (  # what is wrong, the flag, its value, what is allowed
        (
            maml.num_tasks > bodies,
            *("maml_num_tasks", maml.num_tasks),
            f"at most data_train_bodies ({bodies})",
        ),
        (
            settings.risk.conditioning != "none" and bodies < 2,
            *("data_train_bodies", bodies),
            "at least 2 where the critic reads its body",
        ),
        (
            latent and maml.inner_clip != 0.0,
            *("maml_inner_clip", maml.inner_clip, f"0 {where}"),
        ),
        (
            latent and maml.learner != "maml",
            *("maml_learner", maml.learner, f"maml {where}"),
        ),
        (
            0 < steps < horizon,
            *("online_steps", steps),
            f"0 (no limit), or at least one episode (horizon {horizon})",
        ),
        (
            calibrated and held < bodies_to_calibrate(recovery),
            *("data_heldout_bodies", held),
            f"at least {bodies_to_calibrate(recovery)} to calibrate a threshold "
            "(--recovery_false_safe, --recovery_false_safe_bodies)",
        ),
        (
            kept > made,
            *("data_adaptation", kept),
            f"at most data_test_transitions ({made})",
        ),
    )
    for wrong, flag, value, allowed in rules:
        if wrong:
            raise SettingError(flag, value, allowed)


def to_json(settings: Settings) -> dict[str, Any]:
    """Plain nested dicts, tuples as lists."""
    return json.loads(json.dumps(dataclasses.asdict(settings)))


def from_json(values: dict[str, Any]) -> Settings:
    """The inverse of `to_json`.

    Raises:
      ValueError: if fields are missing, unknown (another version wrote it), of another
        type or out of range.
    """

    def section(name, fields):
        lists = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
        return SECTIONS[name](**lists)

    expected = to_json(Settings())
    if not isinstance(values, dict):
        raise ValueError("it is no configuration")
    for name in (*expected, *values):
        default, found = expected.get(name), values.get(name)
        same = type(found) is type(default) and name in expected
        if not same or (isinstance(found, dict) and found.keys() != default.keys()):
            raise ValueError(f"its section {name!r} was written by another version")
    preset_settings(*(values[name] for name in ("domain", "tasks", "preset")))
    fault_text.parse(values["fault"])
    settings = Settings(
        **{k: section(k, v) if k in SECTIONS else v for k, v in values.items()}
    )
    return override(settings, {})  # settings that do not go together are refused


def differences(ours: Settings, theirs: Settings) -> list[tuple[str, Any, Any]]:
    """(flag, ours, theirs) of every setting that differs."""

    def flat(settings):
        values = {}
        for name, value in to_json(settings).items():
            fields = value.items() if isinstance(value, dict) else ((None, value),)
            values |= {flag_of(name, k) if k else name: v for k, v in fields}
        return values

    a, b = flat(ours), flat(theirs)
    return [(name, a[name], b[name]) for name in a if a[name] != b[name]]


def _hash(*values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]


def fingerprint(settings: Settings) -> str:
    """The hash of a whole configuration."""
    return _hash(to_json(settings))


def _switched(settings: Settings) -> list[str]:
    return [settings.switches] if settings.switches else []


def _bodies(settings: Settings) -> list[Any]:
    """What a test or training body, and the data of it, are made from."""
    values = to_json(settings)
    names = [settings.domain, settings.tasks, values["physics"], values["collect"]]
    if settings.collect.collector == "sac":
        names += [values["sac"], "first rows"]  # of older versions the latest
    return names + _switched(settings)


def training_data_name(settings: Settings, meta_seed: int) -> str:
    """Folder of the training bodies' dataset."""
    kept = ("train_bodies", "heldout_bodies", "transitions")
    data = {name: getattr(settings.data, name) for name in kept}
    key = _hash(_bodies(settings), meta_seed, data)
    return f"{settings.tasks}-train-meta{meta_seed}-{key}"


def adaptation_data_name(settings: Settings, seed: int) -> str:
    """Folder of a test body's dataset; every adaptation size is a prefix of it."""
    made = [settings.data.test_transitions]
    if settings.data.adaptation > KEPT:
        made.append(settings.data.adaptation)
    another = settings.data.adaptation_body == "another"
    key = _hash(_bodies(settings), *made)
    return f"{settings.tasks}-{'other-' * another}test-seed{seed}-{key}"


def truth_name(settings: Settings, bodies: str) -> str:
    """File of the simulator's risk on some bodies, as "test-seed0"."""
    quality = dataclasses.asdict(settings.quality)
    asked = [quality[name] for name in ("decision_states", "rollouts", "precision")]
    physics = to_json(settings)["physics"]
    key = _hash(settings.risk.discount, physics, asked, *_switched(settings))
    return f"{settings.tasks}-{bodies}-{key}.npz"


def prior_name(settings: Settings, prior: str, meta_seed: int) -> str:
    """Folder of a pre-trained prior: hash of its data, networks and learner."""
    values = to_json(settings)
    of_policy = ("hidden", "saturation_penalty", "initializer")
    policy = [values["recovery"][name] for name in of_policy]
    depends = [values["risk"], policy, values[prior]]
    if settings.risk.next_action == "untrained":
        depends += [values["sac"][name] for name in ("hidden", "initializer")]
    key = _hash(training_data_name(settings, meta_seed), prior, depends)
    return f"{prior}-meta{meta_seed}-{key}"
