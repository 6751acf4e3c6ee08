"""Properties of files and measures: datasets, results, trials, records, statistics."""

import contextlib
import json
import math
import pathlib
import tempfile

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mesa_jax.data import take_valid
from mesa_jax.methods import METHODS
from mesa_jax.report import measures, statistics
from mesa_jax.run_state import EpisodeRecord
from mesa_jax.study import batches, datasets, files, tuning
from mesa_jax.study import records as results
from mesa_jax.study.batches import Batch
from mesa_jax.study.metrics_log import MetricsWriter
from mesa_jax.types import DomainSpec, Transition
from tests.worlds import ToyTask

floats = st.floats(-1e6, 1e6, width=32)


@contextlib.contextmanager
def folder():
    """A new one for each example."""
    with tempfile.TemporaryDirectory() as name:
        yield pathlib.Path(name)


# Datasets


def toy(states, actions):
    return DomainSpec("toy", observation_size=states, action_size=actions, horizon=10)


@st.composite
def toy_data(draw):
    """A domain, its rows [T, N, ...] and as many bodies."""
    bodies, count, states, actions = (draw(st.integers(1, 3)) for _ in range(4))

    def array(*shape, elements=floats):
        return draw(hnp.arrays(np.float32, (bodies, count, *shape), elements=elements))

    bits = st.sampled_from([0.0, 1.0])
    rows = Transition(
        array(states),
        array(actions, elements=st.floats(-1, 1, width=32)),
        array(),
        array(elements=bits),
        array(elements=bits),
        array(states),
    )
    tasks = ToyTask(draw(hnp.arrays(np.float32, (bodies,), elements=floats)))
    return toy(states, actions), rows, tasks


@given(toy_data())
def test_any_dataset_comes_back_bit_for_bit(data):
    spec, rows, tasks = data
    with folder() as place:
        datasets.save(place, rows, tasks, {"domain": "toy"})
        found = datasets.load(place, spec, tasks)
    for ours, theirs in zip((*rows, *tasks), (*found.rows, *found.tasks), strict=True):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
        assert ours.tobytes() == theirs.tobytes()
    assert found.card["violation_share"] == round(float(rows.cost.mean()), 6)


@given(
    toy_data(),
    st.sampled_from([datasets.ARRAYS, datasets.CARD]),
    st.floats(0, 1, exclude_max=True),
    st.integers(0, 7),
)
def test_a_flipped_bit_anywhere_is_refused_or_changes_no_number(data, name, where, bit):
    spec, rows, tasks = data
    with folder() as place:
        datasets.save(place, rows, tasks, {"domain": "toy"})
        content = bytearray((place / name).read_bytes())
        content[int(where * len(content))] ^= 1 << bit
        (place / name).write_bytes(content)
        try:
            found = datasets.load(place, spec, tasks)
        except (datasets.DatasetError, files.DamagedFileError) as error:
            assert str(place) in str(error)
        else:
            for ours, theirs in zip(rows, found.rows, strict=True):
                assert ours.tobytes() == theirs.tobytes()


@given(hnp.arrays(bool, (3, 4)), st.integers(1, 13))
def test_taken_rows_are_the_first_valid_ones(valid, count):
    number = np.arange(12.0).reshape(3, 4)
    vector = number[..., None]
    padded = Transition(vector, vector, number, number, number, vector)
    expected = [number[e, i] for e in range(3) for i in range(4) if valid[e, i]]
    found = take_valid(padded, valid, count)
    if len(expected) < count:
        assert found is None
    else:
        assert found.reward.tolist() == expected[:count]
        assert found.observation[:, 0].tolist() == expected[:count]


# JSON and CSV

leaves = st.none() | st.booleans() | st.integers() | st.text("aä±\n", max_size=3)
leaves |= st.floats(allow_nan=False, allow_infinity=False)
names = st.text("abc", max_size=2)


@given(
    st.recursive(
        leaves, lambda s: st.lists(s) | st.dictionaries(names, s), max_leaves=8
    )
)
def test_json_comes_back_as_it_was_written(value):
    with folder() as place:
        files.write_json(place / "sub" / "value.json", value)
        assert files.read_json(place / "sub" / "value.json") == value


@given(st.lists(st.floats(), max_size=5))
def test_a_number_that_json_does_not_have_is_null(values):
    with folder() as place:
        files.write_json(place / "value.json", {"values": values})
        found = files.read_json(place / "value.json")["values"]
    assert found == [x if math.isfinite(x) else None for x in values]


RUNS = st.tuples(st.sampled_from(list(METHODS)), st.integers(0, 2), st.integers(0, 9))


@st.composite
def rows_of_runs(draw):
    """Rows of some runs, by run."""
    found = {}
    for method, meta_seed, seed in draw(st.lists(RUNS, max_size=3, unique=True)):
        count = draw(st.integers(0, 3))
        counts = hnp.arrays(np.int64, count, elements=st.integers(0, 10**6))
        returns = hnp.arrays(np.float32, count, elements=floats)
        records = EpisodeRecord(
            draw(counts), draw(returns), *(draw(counts) for _ in range(5))
        )
        run = {"domain": "navigation1", "tasks": "flip", "method": method}
        run |= {"meta_seed": meta_seed, "seed": seed}
        stage = draw(st.sampled_from(["train", "evaluate"]))
        rows = results.rows_of(run, records, count, stage, draw(st.integers(1, 3)))
        found[method, meta_seed, seed] = rows
    return found


@given(st.lists(rows_of_runs(), min_size=1, max_size=3))
def test_results_hold_the_last_rows_of_every_run_in_the_tables_order(written):
    expected = {}
    with folder() as place:
        for by_run in written:
            expected |= {run: rows for run, rows in by_run.items() if rows}
            results.RESULTS.replace(
                place, [row for rows in by_run.values() for row in rows]
            )
        found = results.RESULTS.read(place)
    order = list(METHODS)
    runs = sorted(expected, key=lambda run: (order.index(run[0]), *run[1:]))
    assert found == [row for run in runs for row in expected[run]]


settings = st.fixed_dictionaries(
    {"inner_loop": st.fixed_dictionaries({"target_rate": st.floats(0, 1)})}
)


@given(
    st.lists(settings, min_size=1, max_size=3, unique_by=json.dumps),
    st.lists(st.integers(0, 99), min_size=1, max_size=3, unique=True),
    st.data(),
)
def test_of_the_safest_settings_the_one_that_recovers_least_is_chosen(
    tried, steps, data
):
    bodies, episodes, length = 2, 10, 50
    shape = (len(tried), len(steps), bodies)
    violated, recovered = (
        data.draw(hnp.arrays(np.int64, shape, elements=st.integers(0, most)))
        for most in (episodes, length)
    )
    records = []
    for i, j, body in np.ndindex(shape):
        where = ("mesa", 0, body, json.dumps(tried[i]), steps[j], "held", 0.3)
        counts = episodes, violated[i, j, body], 0, length, recovered[i, j, body]
        values = (*where, *map(int, counts))
        records.append(dict(zip(tuning.TUNING.columns, values, strict=True)))
    with folder() as place:
        tuning.TUNING.replace(place, records)
        found = tuning.TUNING.read(place)
        chosen = tuning.choose(place)
    assert sorted(map(str, found)) == sorted(map(str, records))
    shares = violated.mean(2) / episodes
    safe = shares <= shares.min() + tuning.RISKIER
    least = np.where(safe, recovered.sum(2), np.inf)
    assume((least == least.min()).sum() == 1)
    i, j = np.unravel_index(least.argmin(), least.shape)
    section = tried[i]["inner_loop"] | {"steps": steps[j]}
    own = {"recovery": {"risk_threshold": 0.3}}
    assert chosen == {"mesa": own, "inner_loop": section}


# What is still to run

COMMON = ("unconstrained", "recovery_rl", "multi_task", "mesa")  # one program
some_methods = st.lists(st.sampled_from(COMMON), min_size=1, unique=True).map(tuple)
some_seeds = st.lists(st.integers(0, 3), min_size=1, unique=True).map(
    lambda seeds: tuple(sorted(seeds))
)


@given(
    st.lists(st.tuples(some_methods, some_seeds, st.booleans()), max_size=3),
    some_methods,
    some_seeds,
)
def test_a_launch_has_to_run_what_was_asked_and_is_not_finished(
    earlier, methods, seeds
):
    """Earlier launches ran what was missing then; the last of each may have stopped."""
    with folder() as place:
        finished = set()
        for *asked, done in earlier:
            for batch in batches.to_run(place, *asked, 0):
                batch.write(place, finished=done)
                finished |= set(batch.runs()) if done else set()
        todo = batches.to_run(place, methods, seeds, 0)
    runs = [run for batch in todo for run in batch.runs()]
    assert len(runs) == len(set(runs))
    assert not finished & set(runs)
    assert set(Batch(methods, seeds, 0).runs()) <= finished | set(runs)


@given(some_methods, some_seeds, st.integers(0, 5))
def test_batches_come_back_and_differ_by_name(methods, seeds, meta_seed):
    batch = Batch(methods, seeds, meta_seed)
    others = batch._replace(meta_seed=meta_seed + 1), batch._replace(seeds=(*seeds, 9))
    with folder() as place:
        batch.write(place, finished=True)
        assert batches.stored(place) == [(batch, True)]
    assert len({batch.name, *(other.name for other in others)}) == 3


# metrics.jsonl


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 4)), max_size=3))
def test_a_stage_that_goes_on_has_each_record_once_in_order(attempts):
    """Each attempt begins at a checkpoint at or before what was written."""
    written = []
    with folder() as place:
        with MetricsWriter(place, "other", 0) as writer:
            writer.write("run", 1, {"x": 0.5})
        for start, count in attempts:
            first = min(start, max(written, default=0))
            with MetricsWriter(place, "stage", first) as writer:
                for step in range(first + 1, first + 1 + count):
                    writer.write("run", step, {"x": step / 2})
            written = [*range(1, first + 1), *range(first + 1, first + 1 + count)]
        lines = (place / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    mine = [(r["step"], r["values"]) for r in records if r["stage"] == "stage"]
    assert mine == [(step, {"x": step / 2}) for step in written]
    assert len(records) == len(mine) + 1


# Measures

bits = hnp.arrays(np.int64, st.integers(1, 20), elements=st.integers(0, 1))
curve = hnp.arrays(np.float64, st.integers(1, 20), elements=st.floats(-100, 100))


@given(bits)
def test_so_far_counts_from_before_the_first_episode(values):
    expected = [sum(values[:i]) for i in range(len(values) + 1)]
    assert measures.so_far(values).tolist() == expected


@given(curve, st.integers(1, 25))
def test_a_running_mean_is_over_the_episodes_in_its_window(values, window):
    ends = range(1, len(values) + 1)
    means = [np.mean(values[max(0, end - window) : end]) for end in ends]
    found = measures.running_mean(values, window)
    np.testing.assert_allclose(found, [means[0], *means], atol=1e-9)


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=8))
def test_an_interval_holds_the_mean_and_lies_within_its_seeds(values):
    values = np.array(values)
    assume(np.ptp(values) > 1e-6)
    mean, low, high = statistics.interval(values)
    assert mean == pytest.approx(values.mean())
    tiny = 1e-9 * np.abs(values).max()
    assert values.min() - tiny <= low <= mean + tiny
    assert mean - tiny <= high <= values.max() + tiny


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=6), st.floats(0.5, 4), floats)
def test_an_interval_moves_and_scales_with_its_seeds(values, scale, shift):
    values = np.array(values)
    shift = round(shift) % 10  # of the values' size, so that no digits are lost
    assume(np.ptp(values) > 1e-3)
    plain, moved = (
        np.array(statistics.interval(v)) for v in (values, scale * values + shift)
    )
    np.testing.assert_allclose(moved, scale * plain + shift, atol=1e-6)


@given(st.data())
def test_a_seeds_measures_are_those_of_its_episodes(data):
    """Two seeds of as many episodes, each value a mean over two meta-seeds."""
    count = data.draw(st.integers(1, 5))
    shape = (2, 2, count)  # seeds, meta-seeds, episodes
    ones = hnp.arrays(np.int64, shape, elements=st.integers(0, 1))
    violation, success = data.draw(ones), data.draw(ones)
    returns = data.draw(
        hnp.arrays(np.float32, shape, elements=st.floats(-100, 0, width=32))
    )
    rows = []
    for seed, meta_seed in np.ndindex(2, 2):
        at = seed, meta_seed
        run = {"domain": "navigation1", "tasks": "flip", "method": "mesa"}
        run |= {"meta_seed": meta_seed, "seed": seed}
        ends, length = 10 * np.arange(1, count + 1), np.full(count, 10)
        none = np.zeros(count, int)
        record = EpisodeRecord(
            ends, returns[at], length, violation[at], none, success[at], none
        )
        rows += results.rows_of(run, record, count, "train", 1)
    found = measures.per_seed(measures.per_run(rows, "mesa"))
    violations, successes = violation.sum(2), success.sum(2)
    ratio = (successes + 1) / (violations + 1)
    np.testing.assert_allclose(found["violations"], violations.mean(1))
    np.testing.assert_allclose(found["successes"], successes.mean(1))
    np.testing.assert_allclose(found["ratio"], ratio.mean(1))
    per = np.round(returns.astype(float), 4).sum(2) / (violations + 1)
    np.testing.assert_allclose(found["return_per_violation"], per.mean(1), atol=1e-6)
