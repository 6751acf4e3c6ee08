"""Properties of command lines and configurations: seeds, settings, names, faults."""

import contextlib
import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.whole import SEED_LIMIT, parse_seeds
from mesa_jax import configuration
from mesa_jax.domains.fault_notation import (
    BODY,
    KINDS,
    LIMIT,
    Fault,
    describe,
    kind_of,
    parse,
    text_of,
)
from mesa_jax.methods import METHODS
from mesa_jax.settings import SettingError, setting, validate
from mesa_jax.study import resolve
from mesa_jax.study.artifacts import naming

FIELDS = [
    (section, field)
    for section, kind in configuration.SECTIONS.items()
    for field in dataclasses.fields(kind)
]
MOST = 10**6  # of what is drawn where an interval has no end

# Seeds and methods

counts = st.integers(1, 3000)
spaces = st.sampled_from(["", " ", "  "])


@given(counts, spaces, spaces)
def test_a_count_of_seeds_is_the_first_so_many(count, before, after):
    assert parse_seeds(f"{before}{count}{after}") == tuple(range(count))


@given(st.integers(0, SEED_LIMIT - 1), counts)
def test_a_range_of_seeds_has_its_first_and_not_its_end(first, count):
    end = min(first + count, SEED_LIMIT)
    assert parse_seeds(f"{first}:{end}") == tuple(range(first, end))


@given(st.integers(0, MOST), st.integers(0, MOST))
def test_a_range_of_seeds_that_does_not_rise_is_refused(first, less):
    with pytest.raises(SettingError, match="seeds"):
        parse_seeds(f"{first}:{max(0, first - less)}")


@given(st.text("0129 :-+._eE²٣", max_size=4))
def test_any_text_is_seeds_in_a_row_or_refused(text):
    try:
        seeds = parse_seeds(text)
    except SettingError as error:
        assert repr(text) in str(error)
    else:
        assert seeds == tuple(range(seeds[0], seeds[0] + len(seeds)))
        assert 0 <= seeds[0] <= seeds[-1] < SEED_LIMIT


@given(st.lists(st.sampled_from(list(METHODS)), min_size=1))
def test_methods_come_once_in_the_tables_order_however_they_are_asked(names):
    asked = resolve.known_methods(names)
    assert set(asked) == set(names) and len(set(asked)) == len(asked)
    places = [list(METHODS).index(name) for name in asked]
    assert places == sorted(places)


# Ranges


@st.composite
def intervals(draw):
    """An interval's text, and whether a number lies in it, by its definition."""
    low, width = draw(st.integers(-5, 5)), draw(st.integers(1, 5))
    opens, closes = draw(st.sampled_from("[(")), draw(st.sampled_from("])"))
    high = draw(st.sampled_from([low + width, math.inf]))

    def holds(x):
        edges = (opens == "[" and x == low) or (closes == "]" and x == high)
        return math.isfinite(x) and (low < x < high or edges)

    return f"{opens}{low}, {high}{closes}", holds


numbers = st.one_of(st.integers(-11, 11).map(float), st.floats(), st.floats(-11, 11))


@given(intervals(), st.lists(numbers, min_size=1, max_size=3))
def test_a_value_is_taken_exactly_where_its_interval_holds_every_entry(
    interval, values
):
    text, holds = interval
    field = setting((0.5,), "drawn", text)
    drawn = dataclasses.make_dataclass(
        "Drawn", [("value", object, field)], namespace={"__post_init__": validate}
    )
    if all(map(holds, values)):
        assert drawn(tuple(values)).value == tuple(values)
    else:
        with pytest.raises(SettingError, match="value must be "):
            drawn(tuple(values))


def _ends(field):
    """Both ends of an interval, and whether each belongs to it."""
    text = field.metadata["interval"]
    low, high = (float(end) for end in text[1:-1].split(","))
    return low, high, text[0] == "[", text[-1] == "]"


def inside(field):
    """Values that a setting may have by itself."""
    if field.metadata["choices"]:
        return st.sampled_from(field.metadata["choices"])
    low, high, has_low, has_high = _ends(field)
    most = MOST if math.isinf(high) else high
    if isinstance(field.default, float):
        open_high = not has_high and not math.isinf(high)
        every = st.floats(low, most, exclude_min=not has_low, exclude_max=open_high)
        return every.filter(  # also as the float32 that it is computed with
            lambda x: (
                (low < np.float32(x) or has_low)
                and (np.float32(x) < most or not open_high)
            )
        )
    least = int(low) + (not has_low)
    each = st.integers(least, int(most) - (not has_high and not math.isinf(high)))
    if field.name == "encoder":
        each = st.integers(1, 100).map(lambda n: 8 * n)
    if field.name == "support_least":
        each = st.integers(0, 200)
    if isinstance(field.default, tuple):
        return st.lists(each, min_size=1, max_size=3).map(tuple)
    return each


def outside(field):
    """Values that a setting may not have."""
    if field.metadata["choices"]:
        choices = field.metadata["choices"]
        return st.text("adeinoprst_").filter(lambda word: word not in choices)
    low, high, has_low, has_high = _ends(field)
    never = [math.nan, math.inf, -math.inf]
    never += [end for end, has in ((low, has_low), (high, has_high)) if not has]
    bad = [st.sampled_from(never), st.floats(max_value=low, exclude_max=True)]
    if not math.isinf(high):
        bad.append(st.floats(min_value=high, exclude_min=True))
    if isinstance(field.default, tuple):
        return st.one_of(st.just(()), st.lists(st.one_of(bad), min_size=1).map(tuple))
    return st.one_of(bad)


@given(st.sampled_from(FIELDS), st.data())
def test_every_setting_takes_what_its_range_holds(of, data):
    section, field = of
    value = data.draw(inside(field))
    made = configuration.SECTIONS[section](**{field.name: value})
    assert getattr(made, field.name) == value


@given(st.sampled_from(FIELDS), st.data())
def test_every_setting_refuses_what_its_range_does_not_hold(of, data):
    section, field = of
    value = data.draw(outside(field))
    with pytest.raises(SettingError) as refused:
        configuration.SECTIONS[section](**{field.name: value})
    assert (refused.value.name, repr(refused.value.value)) == (field.name, repr(value))


# Configurations


@st.composite
def changes(draw):
    """A section, a field of it, and a value."""
    section, field = draw(st.sampled_from(FIELDS))
    return section, field.name, draw(inside(field))


def changed(settings, some):
    """The settings with each change that goes with the others."""
    for section, name, value in some:
        with contextlib.suppress(SettingError):
            settings = configuration.override(settings, {section: {name: value}})
    return settings


@st.composite
def configurations(draw):
    domain = draw(st.sampled_from(["navigation1", "cartpole_length"]))
    preset = draw(st.sampled_from(["quick", "paper"]))
    settings = resolve.resolve(domain, "published", preset)
    return changed(settings, draw(st.lists(changes(), max_size=6)))


@given(configurations())
def test_a_configuration_comes_back_from_its_json(settings):
    text = json.dumps(configuration.to_json(settings), allow_nan=False)
    assert resolve.from_json(json.loads(text)) == settings


@given(configurations(), st.lists(changes(), max_size=3))
def test_differences_are_the_settings_that_differ_each_by_its_flag(ours, some):
    theirs = changed(ours, some)
    expected = {
        configuration.flag_of(section, field.name): values
        for section, field in FIELDS
        for values in [
            tuple(getattr(getattr(s, section), field.name) for s in (ours, theirs))
        ]
        if values[0] != values[1]
    }
    found = {name: values for name, *values in configuration.differences(ours, theirs)}
    assert found == json.loads(json.dumps(expected))


@given(st.sampled_from(FIELDS), st.data())
def test_an_override_is_the_last_value_and_leaves_the_others(of, data):
    section, field = of
    preset = resolve.resolve("navigation1", "published", "quick")
    some = [(section, field.name, data.draw(inside(field))) for _ in range(2)]
    assert changed(changed(preset, some[:1]), some[1:]) == changed(preset, some)


def _by_field(settings, wanted):
    """What a name is to depend on: domain, bodies and the fields asked for."""
    values = {
        f"{section}.{field.name}": getattr(getattr(settings, section), field.name)
        for section, field in FIELDS
        if wanted(section, field.name)
    }
    return json.dumps([settings.domain, settings.tasks, values])


def _of_bodies(settings):
    sections = ["physics", "collect"]
    if settings.collect.collector == "sac":
        sections.append("sac")
    return sections


def _made_of(settings, kind):
    """The settings that training data, test data or a prior are made from."""
    bodies = _of_bodies(settings)
    counts = ("train_bodies", "heldout_bodies", "transitions")
    if kind == "test":
        counts = ("test_transitions", "adaptation_body")
        if settings.data.adaptation > configuration.KEPT:
            counts += ("adaptation",)
    policy = ("hidden", "objective", "saturation_penalty", "initializer")
    untrained = settings.risk.next_action == "untrained"

    def wanted(section, name):
        if section == "data":
            return name in counts
        if section in bodies:
            return True
        if kind in ("training", "test"):
            return False
        return (
            section in ("risk", kind)
            or (section == "recovery" and name in policy)
            or (section == "sac" and untrained and name in ("hidden", "initializer"))
        )

    return _by_field(settings, wanted)


NAMES = {
    "training": lambda settings: naming.training_data_name(settings, 0),
    "test": lambda settings: naming.adaptation_data_name(settings, 0),
    "maml": lambda settings: naming.prior_name(settings, "maml", 0),
    "pooled": lambda settings: naming.prior_name(settings, "pooled", 0),
}


@pytest.mark.parametrize("kind", NAMES)
@given(configurations(), st.lists(changes(), max_size=2))
def test_a_name_is_another_exactly_where_what_it_is_made_of_is(kind, ours, some):
    theirs = changed(ours, some)
    same_name = NAMES[kind](ours) == NAMES[kind](theirs)
    assert same_name == (_made_of(ours, kind) == _made_of(theirs, kind))


@given(configurations(), st.integers(0, 99), st.integers(0, 99))
def test_names_are_of_one_seed(settings, seed, other):
    for name in (naming.training_data_name, naming.adaptation_data_name):
        assert (name(settings, seed) == name(settings, other)) == (seed == other)


# Faults


@st.composite
def some_faults(draw):
    name = draw(st.sampled_from([*KINDS, "length", "mass_factor"]))
    kind, fault = kind_of(Fault(name)), Fault(name)
    if kind.on != BODY:
        parts = draw(st.sets(st.integers(0, 20), max_size=3))
        fault = fault._replace(parts=tuple(sorted(parts)))
    if kind.levels:
        whole = st.integers(int(kind.low), int(kind.high)).map(float)
        some = st.floats(kind.low, kind.high)
        fault = fault._replace(severity=draw(whole if kind.number is int else some))
    onset = draw(st.lists(st.integers(0, LIMIT - 1), min_size=2, max_size=2))
    duration = draw(st.none() | st.integers(1, LIMIT - 1))
    return fault._replace(onset=tuple(sorted(onset)), duration=duration)


@given(st.lists(some_faults(), max_size=4).map(tuple))
def test_faults_are_read_from_their_own_text(faults):
    text = text_of(faults)
    assert parse(text) == faults
    assert text_of(parse(text)) == text
    assert describe(faults).count("; ") == max(0, len(faults) - 1)


@given(some_faults(), st.randoms(use_true_random=False))
def test_spaces_order_and_repeated_parts_do_not_change_a_fault(fault, draw):
    kind, colon, rest = text_of((fault,)).partition(":")
    pairs = [pair.partition("=")[::2] for pair in rest.split(",")] if colon else []
    draw.shuffle(pairs)
    words = []
    for name, value in pairs:
        if name == "part":
            value = "/".join(reversed([*value.split("/"), value.split("/")[0]]))
        words.append(f" {name} = {value} ")
    assert parse(f" {kind} {colon}{','.join(words)} ") == (fault,)


TOKENS = [*KINDS, "gain", *":,=+/. -", "..", "part", "onset", "duration", "severity"]
TOKENS += ["0", "3", "17", "0.5", "mild", "held_out", "nan", "inf", "none", "²"]


@given(st.lists(st.sampled_from(TOKENS), max_size=9).map("".join))
def test_any_text_is_faults_or_refused_by_name(text):
    try:
        faults = parse(text, ["gain"])
    except SettingError as error:
        assert error.name == "fault"
    else:
        assert parse(text_of(faults), ["gain"]) == faults
