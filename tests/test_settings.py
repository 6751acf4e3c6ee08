"""Settings: ranges, choices and the words of their errors."""

import dataclasses

import jax
import pytest

from mesa_jax.agents import RecoveryConfig, SACConfig
from mesa_jax.meta import FinetuneConfig, InnerLoopConfig, MAMLConfig, PooledConfig
from mesa_jax.quality import QualityConfig
from mesa_jax.risk import RiskConfig
from mesa_jax.rollout import OnlineConfig
from mesa_jax.settings import SettingError, setting, validate

CONFIGS = [
    FinetuneConfig,
    InnerLoopConfig,
    MAMLConfig,
    OnlineConfig,
    PooledConfig,
    QualityConfig,
    RecoveryConfig,
    RiskConfig,
    SACConfig,
]


@dataclasses.dataclass(frozen=True)
class Example:
    share: float = setting(0.5, "half open", "(0, 1]")
    steps: int = setting(3, "from one on", "[1, inf)")
    widths: tuple[int, ...] = setting((4, 4), "each entry", "[1, 64]")
    kind: str = setting("a", "a choice", choices=("a", "b"))
    anything: float = setting(0.0, "no range")

    def __post_init__(self):
        validate(self)


@pytest.mark.parametrize(
    "values",
    [
        {"share": 1.0},
        {"share": 1e-9},
        {"steps": 1},
        {"steps": 10**9},
        {"widths": (1,)},
        {"widths": (64, 1, 64)},
        {"kind": "b"},
        {"anything": -1e9},
    ],
)
def test_values_in_their_range_are_taken(values):
    (name, value), *_ = values.items()
    assert getattr(Example(**values), name) == value


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("share", 0.0, "in (0, 1]"),
        ("share", 1.0001, "in (0, 1]"),
        ("share", -0.5, "in (0, 1]"),
        ("share", float("nan"), "in (0, 1]"),
        ("steps", 0, "in [1, inf)"),
        ("steps", float("inf"), "in [1, inf)"),
        ("widths", (64, 0), "in [1, 64]"),
        ("widths", (65,), "in [1, 64]"),
        ("widths", (), "a list of at least one number"),
        ("kind", "c", "one of a, b"),
    ],
)
def test_an_error_names_the_setting_the_value_and_what_is_allowed(name, value, allowed):
    with pytest.raises(SettingError) as caught:
        Example(**{name: value})
    assert str(caught.value) == f"{name} must be {allowed}, got {value!r}."
    assert isinstance(caught.value, ValueError)
    assert (caught.value.name, caught.value.allowed) == (name, allowed)


def test_the_first_bad_setting_is_named():
    with pytest.raises(SettingError, match=r"^steps "):
        Example(steps=0, kind="c")


@pytest.mark.parametrize("config", CONFIGS)
def test_every_setting_of_a_configuration_has_a_meaning_and_a_range(config):
    config()  # its defaults are in their ranges
    for field in dataclasses.fields(config):
        assert field.metadata["meaning"], field.name
        assert field.metadata["interval"] or field.metadata["choices"], field.name


@pytest.mark.parametrize("config", CONFIGS)
def test_every_configuration_checks_its_values(config):
    for field in dataclasses.fields(config):
        bad = "no such choice" if field.metadata["choices"] else -1
        value = (bad,) if isinstance(field.default, tuple) else bad
        with pytest.raises(SettingError, match=f"^{field.name} "):
            config(**{field.name: value})


def test_a_traced_number_is_taken_unchecked():
    """Its value is not known; whoever made the rows of a sweep checked it."""
    doubled = jax.jit(lambda share: 2 * Example(share=share).share)
    assert doubled(7.0) == 14.0


def test_a_plain_number_beside_a_traced_one_is_still_checked():
    with pytest.raises(SettingError, match=r"^steps must be in \[1, inf\), got 0"):
        jax.jit(lambda share: Example(share=share, steps=0).share)(0.5)


def test_a_configuration_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        MAMLConfig().inner_steps = 3
