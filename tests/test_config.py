"""Settings: presets, ranges, unknown names, files, hashes."""

import dataclasses
import json
import math

import pytest

from mesa_jax.agents import METHODS
from mesa_jax.domains import DOMAINS
from mesa_jax.runtime import config
from mesa_jax.settings import SettingError

CASES = [(domain, preset) for domain in DOMAINS for preset in config.PRESETS]
FIELDS = [
    (section, field)
    for section, kind in config.SECTIONS.items()
    for field in dataclasses.fields(kind)
]
NAMES = [config.flag_of(section, field.name) for section, field in FIELDS]


def _settings(**sections) -> config.Settings:
    settings = config.preset_settings("navigation1", "published", "quick")
    return config.override(settings, sections)


def _another(settings: config.Settings, section: str, field) -> config.Settings:
    """The settings with one field at another value of its range."""
    value = getattr(getattr(settings, section), field.name)
    if field.metadata["choices"]:
        other = next(choice for choice in field.metadata["choices"] if choice != value)
    elif isinstance(value, tuple):
        other = (*value, 8)
    elif isinstance(value, int):
        other = value + 1
    else:
        other = value / 2 if value else 0.1
    return config.override(settings, {section: {field.name: other}})


def _just_outside(field) -> list[float]:
    """The nearest values that an interval does not hold (0.5 beyond a closed end)."""
    interval = field.metadata["interval"]
    low, high = (float(end) for end in interval[1:-1].split(","))
    below = low - 0.5 if interval[0] == "[" else low
    above = high + 0.5 if interval[-1] == "]" else high
    return [below, above, math.nan]


@pytest.mark.parametrize(("domain", "preset"), CASES)
def test_every_preset_resolves_for_every_domain(domain, preset):
    settings = config.preset_settings(domain, "published", preset)
    wanted = {
        (section, name): value
        for layer in (config.PRESETS[preset], config.DOMAIN_SETTINGS[domain])
        for section, fields in layer.items()
        for name, value in fields.items()
    }
    found = {(s, n): getattr(getattr(settings, s), n) for s, n in wanted}
    assert found == wanted
    assert (settings.domain, settings.preset) == (domain, preset)


@pytest.mark.parametrize("domain", list(DOMAINS))
def test_every_task_distribution_of_a_domain_resolves(domain):
    for tasks in DOMAINS[domain].task_distributions:
        assert config.preset_settings(domain, tasks, "quick").tasks == tasks


@pytest.mark.parametrize(("section", "field"), FIELDS, ids=NAMES)
def test_a_value_outside_its_range_is_refused_by_flag_value_and_range(section, field):
    if field.metadata["choices"]:
        outside, allowed = ["neither"], field.metadata["choices"]
    else:
        outside, allowed = _just_outside(field), [field.metadata["interval"]]
    for value in outside:
        given = (value,) if isinstance(field.default, tuple) else value
        with pytest.raises(SettingError) as refused:
            _settings(**{section: {field.name: given}})
        flag = config.flag_of(section, field.name)
        assert str(refused.value).startswith(f"{flag} must be ")
        assert str(refused.value).endswith(f"got {given!r}.")
        assert all(name in str(refused.value) for name in allowed)


@pytest.mark.parametrize("section", ["risk", "recovery", "sac"])
def test_a_network_without_layers_is_refused(section):
    with pytest.raises(SettingError, match=f"{section}_hidden must be a list"):
        _settings(**{section: {"hidden": ()}})


def test_more_bodies_an_outer_step_than_there_are_is_refused():
    with pytest.raises(SettingError, match=r"maml_num_tasks .*data_train_bodies \(3\)"):
        _settings(data={"train_bodies": 3}, maml={"num_tasks": 4})


def test_pooled_training_uses_at_most_the_bodies_there_are():
    settings = _settings(data={"train_bodies": 3}, maml={"num_tasks": 3})
    assert settings.pooled.num_tasks == 3


@pytest.mark.parametrize(
    ("kind", "names", "nearest", "known"),
    [
        ("domain", ("navigaton1", "flip", "quick"), "navigation1", DOMAINS),
        ("tasks", ("navigation1", "flop", "quick"), "flip", ("published", "flip")),
        ("preset", ("navigation1", "flip", "qiuck"), "quick", config.PRESETS),
    ],
)
def test_an_unknown_name_lists_the_known_ones_and_the_nearest(
    kind, names, nearest, known
):
    with pytest.raises(SettingError) as refused:
        config.preset_settings(*names)
    message = str(refused.value)
    assert message.startswith(f"{kind} must be one of ")
    assert all(name in message for name in known)
    assert f"(nearest: {nearest})" in message


def test_an_unknown_method_lists_the_known_ones_and_the_nearest():
    with pytest.raises(SettingError) as refused:
        config.known_methods(["mesa", "recovery"])
    assert "got 'recovery'" in str(refused.value)
    assert "(nearest: recovery_rl)" in str(refused.value)
    assert all(name in str(refused.value) for name in METHODS)


def test_no_methods_are_refused():
    with pytest.raises(SettingError, match=r"methods must be a list of .*mesa"):
        config.known_methods([])


def test_methods_come_once_and_in_the_order_of_the_comparison_table():
    first, second = list(METHODS)[:2]
    assert config.known_methods([second, first, second]) == (first, second)


@pytest.mark.parametrize(("domain", "preset"), CASES)
def test_settings_come_back_from_json_unchanged(domain, preset):
    settings = config.preset_settings(domain, "published", preset)
    settings = config.override(settings, {"risk": {"hidden": (7, 5, 3)}})
    text = json.dumps(config.to_json(settings))
    assert config.from_json(json.loads(text)) == settings


@pytest.mark.parametrize("change", ["lacks a section", "lacks a field", "has another"])
def test_settings_of_another_version_are_refused_by_section(change):
    values = config.to_json(_settings())
    if change == "lacks a section":
        del values["maml"]
    elif change == "lacks a field":
        del values["maml"]["inner_lr"]
    else:
        values["maml"]["meta_batch"] = 3
    with pytest.raises(ValueError, match="'maml' was written by another version"):
        config.from_json(values)


def test_values_out_of_range_are_refused_from_json_too():
    values = config.to_json(_settings())
    values["risk"]["discount"] = 1.5
    with pytest.raises(ValueError, match="discount"):
        config.from_json(values)


@pytest.mark.parametrize(("section", "field"), FIELDS, ids=NAMES)
def test_a_difference_is_named_as_its_flag(section, field):
    ours = _settings()
    theirs = _another(ours, section, field)
    asked = getattr(getattr(theirs, section), field.name)
    kept = getattr(getattr(ours, section), field.name)
    expected = [config.flag_of(section, field.name), kept, asked]
    (found,) = config.differences(ours, theirs)
    assert list(found) == json.loads(json.dumps(expected))


def test_names_of_the_launch_are_differences_too():
    ours = config.preset_settings("navigation1", "published", "quick")
    theirs = dataclasses.replace(ours, tasks="flip")
    assert config.differences(ours, theirs) == [("tasks", "published", "flip")]
    assert config.differences(ours, ours) == []


def _prior_depends(prior: str, section: str, name: str) -> bool:
    """What a prior is computed from: learner, critic, data, networks."""
    if section == "data":
        return name != "adaptation"
    if section == "recovery":
        return name in ("hidden", "saturation_penalty")  # the policy's, not the agent's
    return section in (prior, "risk")


@pytest.mark.parametrize("prior", ["maml", "pooled"])
@pytest.mark.parametrize(("section", "field"), FIELDS, ids=NAMES)
def test_a_prior_is_another_only_where_what_it_depends_on_is(prior, section, field):
    ours = _settings()
    theirs = _another(ours, section, field)
    changed = config.prior_name(ours, prior, 0) != config.prior_name(theirs, prior, 0)
    assert changed == _prior_depends(prior, section, field.name)


@pytest.mark.parametrize("change", [{"tasks": "flip"}, {"domain": "elsewhere"}])
def test_a_prior_is_another_for_other_bodies(change):
    ours = _settings()
    theirs = dataclasses.replace(ours, **change)
    assert config.prior_name(ours, "maml", 0) != config.prior_name(theirs, "maml", 0)


def test_a_prior_is_another_for_another_meta_seed_and_learner():
    names = {
        config.prior_name(_settings(), p, m) for p in ("maml", "pooled") for m in (0, 1)
    }
    assert len(names) == 4


def test_training_data_depend_on_the_meta_seed_and_test_bodies_on_the_seed():
    settings = _settings()
    train = {config.training_data_name(settings, seed) for seed in range(3)}
    test = {config.adaptation_data_name(settings, seed) for seed in range(3)}
    assert len(train | test) == 6


def test_a_larger_adaptation_set_is_a_prefix_of_the_same_dataset():
    few, many = _settings(data={"adaptation": 50}), _settings(data={"adaptation": 200})
    assert config.adaptation_data_name(few, 4) == config.adaptation_data_name(many, 4)
    assert config.training_data_name(few, 0) == config.training_data_name(many, 0)
