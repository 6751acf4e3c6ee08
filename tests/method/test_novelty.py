"""How far a body lies outside what a prior was trained on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mesa_jax import adaptation, configuration, novelty
from mesa_jax.configuration import override
from mesa_jax.meta import FinetuneConfig, InnerLoopConfig
from mesa_jax.novelty import distance, fit
from mesa_jax.prior import init_params, input_statistics
from mesa_jax.study import quality, resolve
from mesa_jax.study.estimates import Saved
from mesa_jax.study.records import OWN
from mesa_jax.system import build
from mesa_jax.types import Prior, Transition
from tests.worlds import transitions

CLOUD = jax.random.normal(jax.random.key(0), (100, 4, 3))  # 4 sets of 100 bodies


def test_a_new_body_like_the_others_lies_outside_once_in_as_many_and_one():
    """The farthest of 24 bodies and a new one is the new one in 1 of 25 draws."""

    def one_set(key):  # of every body, the last one new
        bodies = jax.random.normal(key, (25, 1, 3))
        return distance(fit(bodies[:24]), bodies[24, 0]) > 1.0

    # one after the other: XLA may wait for ever on so many decompositions at once
    draws = jax.jit(lambda keys: jax.lax.map(one_set, keys))
    outside = draws(jax.random.split(jax.random.key(1), 2000))
    assert 0.02 < np.mean(outside) < 0.06


def test_bodies_of_many_alike_sets_do_not_make_new_bodies_outside():
    """The unit is that of a body left out; that of all is too small for a new one."""
    keys = jax.random.split(jax.random.key(2), 3)
    spread = jnp.array([1.0, 1.0, 1.0, 1.0, 0.05, 0.05])
    noise = 0.05 * jax.random.normal(keys[0], (24, 8, 6))
    bodies = spread * jax.random.normal(keys[1], (24, 1, 6)) + noise
    new = spread * jax.random.normal(keys[2], (2000, 6))
    found = fit(bodies)
    outside = np.mean(distance(found, new) > 1.0)
    assert outside < 0.1
    own = np.max(distance(found, bodies))
    assert own < 1.0 and np.mean(distance(found, new) > own) > 1.5 * outside


def test_one_body_spans_no_support():
    with pytest.raises(ValueError, match="two bodies or more, got 1"):
        fit(CLOUD[:1])


def test_a_distance_grows_outwards_and_has_the_clouds_own_units():
    line = jnp.arange(6.0)[:, None] * jnp.array([1.0, 0.0, 0.0])
    found = distance(fit(CLOUD), line)
    assert (np.diff(found) > 0.2).all()
    turn = jnp.array([[2.0, 1.0, 0.0], [0.0, 0.5, 0.3], [0.1, 0.0, 3.0]])
    turned = distance(fit(CLOUD @ turn + 7.0), line @ turn + 7.0)
    np.testing.assert_allclose(turned, found, rtol=1e-3, atol=1e-3)


def test_numbers_that_never_vary_do_not_divide_by_nothing():
    flat = CLOUD.at[..., 2].set(1.0)
    found = distance(fit(flat), jnp.array([[0.0, 0.0, 1.0], [0.0, 0.0, 9.0]]))
    assert np.isfinite(found).all() and found[0] < 1.0 < found[1]


def test_sets_of_a_body_share_no_row():
    rows = transitions(0, 40)
    sets = novelty.sets_of(jax.random.key(0), rows, 12)
    assert sets.cost.shape == (3, 12)
    drawn = np.asarray(sets.observation).reshape(-1, rows.observation.shape[-1])
    assert len(np.unique(drawn, axis=0)) == 36
    many = novelty.sets_of(jax.random.key(0), rows, 2)
    assert many.cost.shape == (novelty.SETS, 2)


@pytest.mark.parametrize("fraction", [0.0, 0.3])
def test_a_body_is_judged_by_the_encoding_that_it_is_given(fraction):
    """Where support is balanced, the set as it lies has another encoding."""
    settings = resolve.of_method(
        resolve.resolve("navigation1", "wind", "quick"), "context"
    )
    settings = override(settings, {"risk": {"violation_fraction": fraction}})
    built, points = build(settings), jax.random.normal(jax.random.key(2), (3, 40, 2))
    ones, cost = jnp.ones(40), (jnp.arange(40) < 4).astype(float)
    rows = Transition(points[0], points[1], ones, cost, ones, points[2])
    inputs = input_statistics(rows, "standardized", changes=True)
    params = init_params(jax.random.key(0), built.risk, built.recovery, inputs)
    rates = jax.tree.map(jnp.zeros_like, params)
    key, prior = jax.random.key(1), Prior(params, rates)
    adapt = adaptation.adaptation(settings, built.parts, "inner_loop")
    adapted = adapt(key, prior, rows, 0)
    judged = built.encode(jax.random.clone(key), params[0], rows)
    for part in adapted:
        np.testing.assert_array_equal(part["encoding"], judged)
    as_it_lies = built.risk.encode(params[0], rows)["encoding"]
    assert np.array_equal(judged, as_it_lies) == (fraction == 0.0)


def test_only_what_lies_outside_is_told():
    assert novelty.warning("context", np.array([0.2, 0.99])) == ""
    assert novelty.warning("mesa", None) == ""
    said = novelty.warning("context", np.array([0.2, 1.7, 3.4]))
    assert "2 of 3" in said and "up to 3.4" in said and "context" in said


def test_a_number_of_steps_follows_from_the_distance():
    config = InnerLoopConfig(steps=3, steps_outside=7)
    distances = np.array([[0.0, 1.0], [1.01, np.inf]])
    for rule in (adaptation.steps, jax.jit(adaptation.steps, static_argnums=0)):
        np.testing.assert_array_equal(rule(config, distances), [[3, 3], [7, 7]])
    assert adaptation.steps(config) == 3  # where nothing reads
    assert adaptation.steps(InnerLoopConfig(steps=3), distances) == 3
    assert adaptation.steps(FinetuneConfig(steps=4), distances) == 4


def test_sets_of_training_bodies_are_encoded_each_apart():
    rows = jax.tree.map(lambda *x: jnp.stack(x), *(transitions(i, 40) for i in (0, 1)))

    def encode(key, mine):
        return jnp.array([mine.observation.sum(), mine.cost.shape[0]])

    found = novelty.encodings(jax.random.key(0), encode, rows, 20)
    assert found.shape == (2, 2, 2)
    np.testing.assert_array_equal(found[..., 1], 20)
    total = rows.observation.sum(axis=(1, 2))  # two halves of all there are
    np.testing.assert_allclose(found[..., 0].sum(1), total, rtol=1e-4)


def test_a_body_outside_has_the_estimates_after_more_steps():
    settings = resolve.resolve("navigation1", "published", "quick")
    changes = {"inner_loop": {"steps": 3, "steps_outside": 7}}
    settings = configuration.override(settings, changes)
    values = np.arange(2 * 3 * 2 * 4.0).reshape(2, 3, 2, 4)  # rows, steps, bodies
    saved = Saved(
        "mesa_context",
        0,
        rows=np.array([20, 50]),
        steps=np.array([0, 3, 7]),
        seeds=np.array([0, 1]),
        estimates=values,
        held_out=-values,
        distance=np.array([[0.5, 1.5], [2.0, 0.9]]),
        held_out_distance=np.array([[0.5, 0.5], [0.5, 3.0]]),
    )
    found = quality.with_own_rule(settings, saved)
    assert found.steps.tolist() == [0, 3, 7, OWN]
    np.testing.assert_array_equal(found.estimates[:, :3], values)
    expected = [[values[0, 1, 0], values[0, 2, 1]], [values[1, 2, 0], values[1, 1, 1]]]
    np.testing.assert_array_equal(found.estimates[:, 3], expected)
    expected = [[values[0, 1, 0], values[0, 1, 1]], [values[1, 1, 0], values[1, 2, 1]]]
    np.testing.assert_array_equal(found.held_out[:, 3], -np.array(expected))
    assert quality.own_steps(settings, [found]) == {"mesa_context": OWN}
    brax = resolve.resolve("halfcheetah_disabled", "published", "quick")
    assert quality.own_steps(brax, [found]) == {"mesa_context": OWN}
    without = configuration.override(settings, {"inner_loop": {"steps_outside": 0}})
    plain = saved._replace(method="context")
    assert quality.with_own_rule(without, plain) is plain
