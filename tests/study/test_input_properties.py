"""Properties of what comes from outside: settings, seeds, configurations, datasets."""

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from experiments import whole as whole_flags
from mesa_jax import configuration
from mesa_jax.settings import SettingError, setting, validate, whole
from mesa_jax.study import arrays, datasets, files, resolve
from mesa_jax.study import store as workdirs
from mesa_jax.study.artifacts import naming
from mesa_jax.types import Transition
from tests.worlds import TOY, TOY_TASK

QUICK = settings(
    deadline=None,
    database=None,
    derandomize=True,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
FIELDS = [
    (section, field)
    for section, kind in configuration.SECTIONS.items()
    for field in dataclasses.fields(kind)
]


@dataclasses.dataclass(frozen=True)
class Example:
    share: float = setting(0.5, "half open", "(0, 1]")
    steps: int = setting(3, "some", "[1, 1_000]")
    widths: tuple[int, ...] = setting((4,), "each", "[1, 64]")

    def __post_init__(self):
        validate(self)


@QUICK
@given(st.floats())
def test_a_float_is_taken_just_where_it_and_its_float32_are_inside(value):
    with np.errstate(over="ignore"):
        inside = 0.0 < value <= 1.0 and 0.0 < np.float32(value) <= 1.0
    if inside:
        assert Example(share=value).share == value
    else:
        with pytest.raises(SettingError):
            Example(share=value)


@QUICK
@given(st.integers() | st.floats() | st.text() | st.none() | st.booleans())
def test_an_integer_is_taken_just_where_it_is_one_and_inside(value):
    if type(value) is int and 1 <= value <= 1000:
        assert Example(steps=value).steps == value
    else:
        with pytest.raises(SettingError):
            Example(steps=value)


@QUICK
@given(st.lists(st.integers(-5, 100), max_size=80))
def test_a_list_is_taken_just_where_it_has_entries_and_each_is_inside(values):
    if 1 <= len(values) <= 64 and all(1 <= x <= 64 for x in values):
        assert Example(widths=tuple(values)).widths == tuple(values)
    else:
        with pytest.raises(SettingError):
            Example(widths=tuple(values))


@QUICK
@given(st.text(max_size=12), st.integers(0, 10**9))
def test_digits_are_what_python_reads_of_them_up_to_a_limit(text, high):
    found = whole(text, high)
    assert found is None or (found == int(text) and 0 <= found <= high)


@QUICK
@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_every_number_up_to_a_limit_is_read(value, more):
    assert whole(f" {value} ", value + more) == value


@QUICK
@given(st.text("0123456789:, -ex²", max_size=16))
def test_seeds_are_ascending_and_below_the_limit_or_refused(text):
    try:
        seeds = whole_flags.parse_seeds(text)
    except SettingError as error:
        assert error.name == "seeds"
    else:
        assert 1 <= len(seeds) <= whole_flags.MOST_SEEDS
        assert seeds == tuple(sorted(set(seeds)))
        assert 0 <= seeds[0] <= seeds[-1] < whole_flags.SEED_LIMIT


@QUICK
@given(st.integers(0, 2**31 - 1), st.integers(1, 1000))
def test_every_range_of_seeds_is_read(first, count):
    end = min(first + count, 2**31)
    assert whole_flags.parse_seeds(f"{first}:{end}") == tuple(range(first, end))


def _field_value(field):
    """A value of a field's range."""
    about = field.metadata
    if about["choices"]:
        return st.sampled_from(about["choices"])
    low, high = (float(end) for end in about["interval"][1:-1].split(","))
    if isinstance(field.default, int):
        return st.integers(math.ceil(low), math.floor(high))
    if isinstance(field.default, tuple):
        return st.lists(st.integers(int(low), int(high)), min_size=1, max_size=4).map(
            tuple
        )
    open_ends = (
        about["interval"][0] == "(",
        high <= 1e6 and about["interval"][-1] == ")",
    )
    ends = dict(zip(("exclude_min", "exclude_max"), open_ends, strict=True))
    return st.floats(low, min(high, 1e6), width=32, **ends)


@QUICK
@given(st.data())
def test_a_configuration_comes_back_from_json_and_names_the_same_data(data):
    ours = resolve.resolve("navigation1", "flip", "quick")
    for section, field in data.draw(st.lists(st.sampled_from(FIELDS), max_size=5)):
        value = data.draw(_field_value(field))
        try:
            ours = configuration.override(ours, {section: {field.name: value}})
        except SettingError:  # not together with the others
            continue
    theirs = resolve.from_json(json.loads(json.dumps(configuration.to_json(ours))))
    assert theirs == ours and repr(theirs) == repr(ours)
    assert naming.training_data_name(theirs, 0) == naming.training_data_name(ours, 0)
    assert configuration.differences(ours, theirs) == []


@QUICK
@given(ANY_JSON)
def test_any_json_is_a_configuration_or_refused_by_name(tmp_path, value):
    (tmp_path / workdirs.CONFIG).write_text(json.dumps(value))
    with pytest.raises(workdirs.WorkdirError, match=r"config\.json can not be read"):
        workdirs.stored_settings(tmp_path)


@QUICK
@given(st.sampled_from(FIELDS), ANY_JSON)
def test_any_json_in_a_field_is_a_value_of_it_or_refused_by_name(
    tmp_path, chosen, value
):
    section, field = chosen
    values = configuration.to_json(resolve.resolve("navigation1", "flip", "quick"))
    values[section][field.name] = value
    whole = {"version": "0.15.0", "asked": {}, "resolved": values}
    (tmp_path / workdirs.CONFIG).write_text(json.dumps(whole))
    try:
        stored = workdirs.stored_settings(tmp_path)
    except workdirs.WorkdirError as error:
        assert "config.json can not be read" in str(error)
    else:
        found = getattr(getattr(stored, section), field.name)
        assert type(found) is type(field.default)


# Arrays

BODIES, ROWS = 2, 3


def _floats(*shape, low=-(2.0**127), high=2.0**127):
    numbers = st.floats(low, high, width=32)
    return arrays_of.arrays(np.float32, (BODIES, ROWS, *shape), elements=numbers)


BITS = arrays_of.arrays(
    np.float32, (BODIES, ROWS), elements=st.sampled_from(np.float32([0, 1]))
)
TRANSITIONS = st.builds(
    Transition,
    observation=_floats(3),
    action=_floats(2, low=-1, high=1),
    reward=_floats(),
    cost=BITS,
    discount=BITS,
    next_observation=_floats(3),
)
TASKS = TOY_TASK._replace(strength=np.zeros(BODIES, np.float32))


@QUICK
@given(TRANSITIONS)
def test_every_dataset_that_is_saved_comes_back_bit_for_bit(tmp_path, rows):
    datasets.save(tmp_path, rows, TASKS, {"domain": "toy"})
    loaded = datasets.load(tmp_path, TOY, TOY_TASK, (BODIES, ROWS))
    for ours, theirs in zip(rows, loaded.rows, strict=True):
        assert ours.tobytes() == theirs.tobytes() and ours.dtype == theirs.dtype


@QUICK
@given(TRANSITIONS, st.integers(0, 10**6), st.integers(0, 7))
def test_a_dataset_with_a_flipped_bit_is_refused_or_the_same(tmp_path, rows, at, bit):
    datasets.save(tmp_path, rows, TASKS, {"domain": "toy"})
    path = tmp_path / datasets.ARRAYS
    content = bytearray(path.read_bytes())
    content[at % len(content)] ^= 1 << bit
    path.write_bytes(content)
    try:
        loaded = datasets.load(tmp_path, TOY, TOY_TASK)
    except datasets.DatasetError as error:
        assert str(path) in str(error)
    else:
        for ours, theirs in zip(rows, loaded.rows, strict=True):
            assert ours.tobytes() == theirs.tobytes()


@QUICK
@given(ANY_JSON)
def test_any_json_as_a_card_is_refused_by_name(tmp_path, value):
    (tmp_path / datasets.CARD).write_text(json.dumps(value))
    with pytest.raises(datasets.DatasetError, match=r"card\.json"):
        datasets.load(tmp_path, TOY, TOY_TASK)


NAMES = st.text("abc", min_size=1, max_size=3)
HELD = st.dictionaries(
    NAMES,
    arrays_of.arrays(
        st.sampled_from([np.float32, np.int64, np.float64]),
        arrays_of.array_shapes(min_dims=0, max_dims=3, max_side=4),
        elements=st.integers(-100, 100),
    ),
    min_size=1,
    max_size=3,
)


@QUICK
@given(HELD)
def test_sealed_arrays_of_any_form_come_back_bit_for_bit(tmp_path, held):
    path = tmp_path / "a.npz"
    arrays.write_sealed(path, held)
    found = arrays.read_sealed(path, lambda forms: None)
    assert found.keys() == held.keys()
    for name, values in held.items():
        assert arrays.Form(found[name].shape, found[name].dtype) == arrays.Form(
            values.shape, values.dtype
        )
        assert found[name].tobytes() == values.tobytes()


@QUICK
@given(st.binary(max_size=300))
def test_any_bytes_as_arrays_are_refused_by_name(tmp_path, content):
    path = tmp_path / "a.npz"
    for start in (b"", b"PK\x03\x04", b"\x93NUMPY"):
        path.write_bytes(start + content)
        with pytest.raises(files.DamagedFileError, match=r"a\.npz"):
            arrays.read(path, lambda forms: None)


@QUICK
@given(HELD, HELD)
def test_arrays_that_differ_have_another_hash(first, second):
    same = first.keys() == second.keys() and all(
        first[k].dtype == second[k].dtype
        and first[k].shape == second[k].shape
        and first[k].tobytes() == second[k].tobytes()
        for k in first
    )
    assert (arrays.content_hash(first) == arrays.content_hash(second)) == same
