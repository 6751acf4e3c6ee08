"""Settings: ranges, choices and the words of their errors."""

import dataclasses

import jax
import numpy as np
import pytest

from mesa_jax.agents import RecoveryConfig, SACConfig
from mesa_jax.evaluation import QualityConfig
from mesa_jax.meta import FinetuneConfig, InnerLoopConfig, MAMLConfig, PooledConfig
from mesa_jax.risk import RiskConfig
from mesa_jax.run_state import OnlineConfig
from mesa_jax.settings import SettingError, setting, validate, whole

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
    steps: int = setting(3, "from one on", "[1, 1_000_000_000]")
    widths: tuple[int, ...] = setting((4, 4), "each entry", "[1, 64]")
    kind: str = setting("a", "a choice", choices=("a", "b"))
    anything: float = setting(0.0, "no range", "(-inf, inf)")

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
        ("share", 1e-50, "in (0, 1] as a float32"),  # where it is zero
        ("share", "0.5", "a number in (0, 1]"),
        ("share", True, "a number in (0, 1]"),
        ("share", None, "a number in (0, 1]"),
        ("anything", 1e39, "in (-inf, inf) as a float32"),  # where it is infinite
        ("steps", 0, "in [1, 1_000_000_000]"),
        ("steps", 10**9 + 1, "in [1, 1_000_000_000]"),
        ("steps", float("inf"), "an integer in [1, 1_000_000_000]"),
        ("steps", 2.0, "an integer in [1, 1_000_000_000]"),
        ("steps", "2", "an integer in [1, 1_000_000_000]"),
        ("steps", True, "an integer in [1, 1_000_000_000]"),
        ("widths", (4, 4.0), "an integer in [1, 64]"),
        ("widths", 4, "a list of 1 to 64 numbers"),
        ("widths", (4,) * 65, "a list of 1 to 64 numbers"),
        ("widths", (64, 0), "in [1, 64]"),
        ("widths", (65,), "in [1, 64]"),
        ("widths", (), "a list of 1 to 64 numbers"),
        ("kind", "c", "one of a, b"),
        ("kind", ["a"], "one of a, b"),
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
    with pytest.raises(SettingError, match=r"^steps must be in \[1, .*\], got 0"):
        jax.jit(lambda share: Example(share=share, steps=0).share)(0.5)


def test_what_is_equal_is_written_alike():
    """Names of datasets and priors are hashes of what is written."""
    for given, kept in ((1, "1.0"), (-0.0, "0.0"), (np.float32(0.5), "0.5")):
        assert repr(Example(anything=given).anything) == kept
    assert repr(Example(steps=np.int64(4)).steps) == "4"


def test_an_integer_without_an_upper_end_can_not_be_declared():
    with pytest.raises(TypeError, match="needs an upper end"):
        setting(1, "counts up to nowhere", "[1, inf)")
    with pytest.raises(TypeError, match="needs an upper end"):
        setting((1, 2), "so does each of a list")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("7", 7),
        (" 07 ", 7),
        ("12", 12),
        ("13", None),
        ("²", None),
        ("-1", None),
        ("9" * 5000, None),
        ("", None),
        ("1e1", None),
        ("1_0", None),
        ("٣", 3),
    ],
)
def test_digits_spell_a_number_up_to_a_limit(text, number):
    assert whole(text, 12) == number


def test_a_long_value_is_cut_in_its_message():
    for values in ({"kind": "x" * 10_000}, {"share": 10**400}):
        with pytest.raises(SettingError) as refused:
            Example(**values)
        assert len(str(refused.value)) < 300


def test_a_configuration_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        MAMLConfig().inner_steps = 3
