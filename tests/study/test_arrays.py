"""Sealed arrays: truth and estimates that are not what was written are never used."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from mesa_jax.study import arrays, files
from mesa_jax.study import estimates as quality_saved
from mesa_jax.study.artifacts import truth
from mesa_jax.study.estimates import Saved
from mesa_jax.study.records import WITHOUT_ADAPTATION
from tests.launching import SEEDS, launch

STATES = 20  # of the tiny launch
SHAPES = {"risk": (STATES,), "actions": (STATES, 2)}
HELD = {name: np.full(shape, 0.25, np.float32) for name, shape in SHAPES.items()}


def _check(path, forms):
    arrays.require_shapes(path, forms, SHAPES)


def _read(path):
    return arrays.read_sealed(path, functools.partial(_check, path))


def _raw(path) -> dict:
    with np.load(path) as archive:
        return dict(archive)


def _first(found, change):
    """The first array that is no seal, changed."""
    name = next(name for name in ("estimates", "risk") if name in found)
    return found | {name: change(found[name])}


def _with_nan(values):
    values = values.copy()
    values.flat[1] = np.nan
    return values


DAMAGES = {  # what becomes of the arrays, and whether they get a hash of their own
    "a value": (lambda found: _first(found, lambda x: x + 1e-6), False),
    "not a number": (lambda found: _first(found, _with_nan), False),
    "not a number, consistent": (lambda found: _first(found, _with_nan), True),
    "infinite, consistent": (lambda found: _first(found, lambda x: x + np.inf), True),
    "fewer, consistent": (lambda found: _first(found, lambda x: x[..., 1:]), True),
    "one axis more, consistent": (lambda found: _first(found, lambda x: x[None]), True),
    "one number, consistent": (lambda found: _first(found, np.mean), True),
    "strings, consistent": (lambda found: _first(found, lambda x: x.astype(str)), True),
    "complex, consistent": (lambda found: _first(found, lambda x: x + 0j), True),
    "one more, consistent": (lambda found: found | {"more": np.zeros(2)}, True),
    "one less, consistent": (lambda found: dict(list(found.items())[1:]), True),
    "nothing": (lambda found: {}, False),
    "without a hash": (lambda found: found, None),
}


def _damage(path, kind) -> None:
    change, resealed = DAMAGES[kind]
    found = _raw(path)
    seal = found.pop(arrays.SEAL)
    found = change(found)
    if resealed:
        arrays.write_sealed(path, found)
    else:
        np.savez(path, **found, **({} if resealed is None else {arrays.SEAL: seal}))


def _cut(path):
    path.write_bytes(path.read_bytes()[:-40])


def _flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    path.write_bytes(content)


def _one_array(path):
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))


FILES = {
    "cut": _cut,
    "flipped": _flipped,
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("{}"),
    "one array": _one_array,
} | {kind: functools.partial(_damage, kind=kind) for kind in DAMAGES}


def test_sealed_arrays_come_back_as_they_were_written(tmp_path):
    arrays.write_sealed(tmp_path / "a.npz", HELD)
    found = _read(tmp_path / "a.npz")
    assert found.keys() == HELD.keys()
    for name, values in found.items():
        np.testing.assert_array_equal(values, HELD[name])
        assert values.dtype == np.float32


@pytest.mark.parametrize("kind", FILES)
def test_arrays_that_are_others_than_were_written_are_refused_by_name(tmp_path, kind):
    path = tmp_path / "a.npz"
    arrays.write_sealed(path, HELD)
    FILES[kind](path)
    with pytest.raises(files.DamagedFileError, match=str(path)):
        _read(path)


@pytest.mark.parametrize("kind", FILES)
def test_a_truth_that_is_not_what_was_simulated_is_simulated_anew(
    tmp_path, capsys, kind
):
    paths, asked = [tmp_path / f"{i}.npz" for i in range(3)], []

    def simulate(keys, tasks):
        asked.append(np.asarray(tasks).tolist())
        return {
            "risk": np.float32(tasks)[:, None] * np.ones(STATES, np.float32),
            "actions": np.zeros((len(tasks), STATES, 2), np.float32),
        }

    def found():
        bodies = jnp.arange(3.0) / 4
        return truth._cached(paths, jnp.arange(3), bodies, simulate, SHAPES)["risk"]

    expected = np.repeat(np.arange(3, dtype=np.float32)[:, None] / 4, STATES, 1)
    np.testing.assert_array_equal(found(), expected)
    np.testing.assert_array_equal(found(), expected)
    assert asked == [[0.0, 0.25, 0.5]]
    FILES[kind](paths[1])
    np.testing.assert_array_equal(found(), expected)
    assert asked[1:] == [[0.25]]
    said = capsys.readouterr().out
    assert str(paths[1]) in said and "simulated anew" in said
    np.testing.assert_array_equal(found(), expected)
    assert len(asked) == 2


def _saved(method="mesa", meta_seed=0, seeds=SEEDS) -> Saved:
    estimates = np.full((2, 3, len(seeds), STATES), 0.5, np.float32)
    return Saved(
        *(method, meta_seed),
        *(np.array([50, 60]), np.array([0, 3, 5]), np.array(seeds), estimates),
        held_out=estimates[:, :, :1],
        distance=np.ones((2, len(seeds)), np.float32),
        held_out_distance=np.ones((2, 1), np.float32),
    )


def test_estimates_come_back_in_the_order_of_the_table(tmp_path):
    tiny = launch(tmp_path).study
    for name, seed in (("mesa", 1), ("mesa", 0), (WITHOUT_ADAPTATION, 0)):
        quality_saved.save(tiny, _saved(name, seed))
    found = quality_saved.read(tiny, SEEDS)
    names = [(one.method, one.meta_seed) for one in found]
    assert names == [(WITHOUT_ADAPTATION, 0), ("mesa", 0), ("mesa", 1)]
    expected = _saved(WITHOUT_ADAPTATION)
    for ours, theirs in zip(found[0][2:], expected[2:], strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("kind", FILES)
def test_estimates_that_are_not_what_was_saved_are_refused_with_what_to_do(
    tmp_path, kind
):
    tiny = launch(tmp_path).study
    quality_saved.save(tiny, _saved(meta_seed=3))
    path = quality_saved.stored(tiny, "mesa", 3)
    FILES[kind](path)
    with pytest.raises(files.DamagedFileError) as refused:
        quality_saved.read(tiny, SEEDS)
    assert str(path) in str(refused.value)
    assert "Delete it and evaluate mesa with --meta_seed=3 again" in str(refused.value)


def test_estimates_at_other_states_or_of_other_held_out_bodies_are_refused(tmp_path):
    tiny, saved = launch(tmp_path).study, _saved()
    for changed in (
        saved._replace(estimates=saved.estimates[..., 1:], held_out=None),
        saved._replace(held_out=np.concatenate([saved.held_out] * 2, axis=2)),
    ):
        quality_saved.save(tiny, changed)
        with pytest.raises(files.DamagedFileError, match=r"mesa-meta0-\w+\.npz"):
            quality_saved.read(tiny, SEEDS)


@pytest.mark.parametrize(
    "name", ["foo-meta0", "mesa-meta-1", "mesa-metax", "mesa-meta²", "-meta0"]
)
def test_a_file_of_no_method_is_left_out_by_name(tmp_path, capsys, name):
    tiny = launch(tmp_path).study
    quality_saved.save(tiny, _saved())
    good = quality_saved.stored(tiny, "mesa", 0)
    good.with_name(f"{name}.npz").write_bytes(good.read_bytes())
    assert [one.method for one in quality_saved.read(tiny, SEEDS)] == ["mesa"]
    assert f"{name}.npz is left out: it is of no method" in capsys.readouterr().out


def test_estimates_of_other_bodies_are_left_out_by_name(tmp_path, capsys):
    tiny = launch(tmp_path).study
    quality_saved.save(tiny, _saved(seeds=(4, 5)))
    assert quality_saved.read(tiny, SEEDS) == []
    name = quality_saved.stored(tiny, "mesa", 0).name
    assert f"{name} is left out" in capsys.readouterr().out


def test_estimates_that_other_settings_made_are_left_out_by_name(tmp_path, capsys):
    """As where config.json was removed: nothing of other settings is mixed in."""
    tiny, other = launch(tmp_path).study, launch(tmp_path, sac={"lr": 0.01}).study
    quality_saved.save(other, _saved())
    assert quality_saved.read(tiny, SEEDS) == []
    name = quality_saved.stored(other, "mesa", 0).name
    said = f"{name} is left out: other settings made it"
    assert said in capsys.readouterr().out
