"""Files that are JSON or CSV, but not what they should be: each is named."""

import copy
import dataclasses
import json
import random

import pytest

from experiments import tabulate, thresholds
from mesa_jax import configuration
from mesa_jax.errors import UserError
from mesa_jax.study import files, records, resolve, store
from mesa_jax.study.records import METRICS, WITHOUT_ADAPTATION

OTHERS = (None, True, 5, 0.5, "text", [], ["text"], [[1]], {}, {"text": 5})
TEXTS = ("", "{", "[" * 100_000, "9" * 5000, "nan", "\xff")


def _settings() -> configuration.Configuration:
    return resolve.resolve("navigation1", "published", "quick")


VALUES = configuration.to_json(dataclasses.replace(_settings(), switches=""))


def _text(values: dict) -> str:
    """The file of a configuration that nothing was asked of."""
    return json.dumps({"version": "0.15.0", "asked": {}, "resolved": values})


def _others(value) -> list:
    """Values of other kinds: a number is no list, and a list of words no numbers."""
    kinds = [x for x in OTHERS if type(x) is not type(value)]
    if isinstance(value, list):
        kinds += [[], ["text"], [[1]], [None], [1.5]]
    if isinstance(value, float):
        kinds.remove(5)  # is 5.0
    return kinds


@pytest.mark.parametrize("name", VALUES)
def test_a_section_of_another_kind_is_named_with_its_file(tmp_path, name):
    path = tmp_path / store.CONFIG
    for other in _others(VALUES[name]):
        path.write_text(_text(VALUES | {name: other}))
        with pytest.raises(store.WorkdirError) as refused:
            store.stored_settings(tmp_path)
        assert str(refused.value).startswith(f"{path} can not be read: ")
        assert "use a new --workdir" in str(refused.value)


@pytest.mark.parametrize("section", configuration.SECTIONS)
def test_a_field_of_another_kind_is_named_with_its_file(tmp_path, section):
    path = tmp_path / store.CONFIG
    for name, value in VALUES[section].items():
        for other in _others(value):
            changed = copy.deepcopy(VALUES)
            changed[section][name] = other
            path.write_text(_text(changed))
            with pytest.raises(store.WorkdirError, match=name):
                store.stored_settings(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"fault": "no_such_fault"},
        {"more": {}},
        {"more": "text"},
        {"domain": "navigation3"},
        {"data": VALUES["data"] | {"adaptation": 10_001}},
        {"maml": VALUES["maml"] | {"num_tasks": 10_000}},
        {"risk": VALUES["risk"] | {"horizon": 7.0}},
        {"online": VALUES["online"] | {"steps": 5}},
    ],
)
def test_a_configuration_that_no_launch_makes_is_refused(tmp_path, changes):
    (tmp_path / store.CONFIG).write_text(_text(VALUES | changes))
    with pytest.raises(store.WorkdirError, match=r"config\.json can not be read"):
        store.stored_settings(tmp_path)


def test_whole_numbers_stand_for_floats_and_name_the_same_data(tmp_path):
    """Editors and other languages write 1.0 as 1."""
    settings = configuration.override(_settings(), {"sac": {"temperature": 1.0}})
    values = configuration.to_json(settings)
    values["sac"]["temperature"] = 1
    (tmp_path / store.CONFIG).write_text(_text(values))
    stored = store.stored_settings(tmp_path)
    assert stored == settings
    assert repr(stored) == repr(settings)


def _flips(content: bytes, count: int):
    """Contents with one bit another."""
    draw = random.Random(0)
    for _ in range(count):
        flipped = bytearray(content)
        flipped[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        yield bytes(flipped)


def test_a_flipped_bit_of_a_configuration_is_refused_or_gives_settings(
    tmp_path, monkeypatch
):
    monkeypatch.delenv("XLA_FLAGS")  # the stored configuration has no switches
    path = tmp_path / store.CONFIG
    refused = 0
    for content in _flips(_text(VALUES).encode(), 400):
        path.write_bytes(content)
        try:
            settings = store.stored_settings(tmp_path)
        except UserError as error:
            assert str(path) in str(error)
            refused += 1
        else:
            configuration.override(settings, {})
    assert refused > 200


@pytest.mark.parametrize(
    "text",
    [*TEXTS, *(json.dumps(x) for x in OTHERS if x != [])],
    ids=lambda text: text[:10],
)
def test_a_provenance_of_another_kind_is_named_and_left_as_it_is(tmp_path, text):
    place = tmp_path / "w"
    with store.opened(place, _settings()):
        pass
    path = place / "provenance.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(files.DamagedFileError, match=r"provenance\.json"):
        store.opened(place, _settings()).__enter__()
    assert path.read_bytes() == text.encode("latin-1")
    path.unlink()
    with store.opened(place, _settings()):
        assert len(json.loads(path.read_text())) == 1


# What evaluate writes


def _record(method, rows, steps, seed, error) -> dict:
    labels = {"domain": "navigation1", "tasks": "flip", "method": method}
    labels |= {"meta_seed": 0, "seed": seed, "rows": rows, "steps": steps}
    return labels | dict.fromkeys(METRICS, 0.25) | {"squared_error": error}


RECORDS = [_record(WITHOUT_ADAPTATION, 0, 0, seed, 0.5) for seed in (0, 1)]
RECORDS += [_record(m, 50, 5, s, 0.1) for m in ("mesa", "multi_task") for s in (0, 1)]


@pytest.fixture
def evaluated(tmp_path):
    records.QUALITY.write(tmp_path, RECORDS)
    return tmp_path


def _errors(place):
    cells = [("mesa", 5), ("multi_task", 5)]
    tabulate.error_tables([tabulate.evaluated(place)], [50], cells)


LINE = "navigation1,flip,mesa,0,0,50,5" + ",0.25" * len(METRICS)
HEAD = ",".join(records.QUALITY.columns)
CSV = {
    "nothing": "",
    "no line": HEAD,
    "other columns": "a,b\n1,2",
    "fewer values": f"{HEAD}\n{LINE[:-5]}",
    "more values": f"{HEAD}\n{LINE},1",
    "a word": f"{HEAD}\n{LINE[:-4]}word",
    "half a seed": f"{HEAD}\n" + LINE.replace("mesa,0,0", "mesa,0,0.5"),
    "an open quote": f'{HEAD}\n"{LINE}',
    "a zero byte": f"{HEAD}\n{LINE}\0",
    "no text": f"{HEAD}\n\xff{LINE}",
    "a long value": f"{HEAD}\n" + LINE.replace("flip", "x" * 200_000),
}


@pytest.mark.parametrize("kind", CSV)
def test_other_records_are_named_with_what_to_do(evaluated, kind):
    path = evaluated / "risk_quality.csv"
    path.write_bytes(CSV[kind].encode("latin-1"))
    with pytest.raises(files.DamagedFileError) as refused:
        _errors(evaluated)
    assert str(path) in str(refused.value)
    assert "Evaluate its workdir again" in str(refused.value)


@pytest.mark.parametrize("value", ["word", "1e999", "", "nan"])
def test_another_line_of_thresholds_is_named(tmp_path, value):
    path = tmp_path / thresholds.TABLE.file
    line = ["0.3", "mesa", "0", "0", "40", *["1"] * len(thresholds.COUNTS)]
    head = ",".join(thresholds.TABLE.columns)
    path.write_text(f"{head}\n{','.join(line)}\n")
    assert thresholds.TABLE.read(tmp_path)[0]["episodes"] == 40
    line[4] = value
    path.write_text(f"{head}\n{','.join(line)}\n")
    with pytest.raises(records.ResultsError, match=r"thresholds\.csv can not be read"):
        thresholds.TABLE.read(tmp_path)
