"""Rows of one program, and what `tune` tries with them."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mesa_jax import configuration
from mesa_jax.domains import DOMAINS
from mesa_jax.meta import META_LEARNERS, finetune
from mesa_jax.methods import METHODS, begins_as, filters
from mesa_jax.settings import SettingError
from mesa_jax.study import presets, resolve, sweep
from mesa_jax.study.artifacts.trials import step_shared
from mesa_jax.types import Part, Prior, TaskBatch

TRIED = {name: row.grid for name, row in METHODS.items() if row.grid}
STEPS = {name: row.grid_steps for name, row in METHODS.items() if row.grid}
SETTINGS = resolve.resolve("navigation1", "published", "quick")
BODIES = [(name, row.task_distributions[0]) for name, row in DOMAINS.items()]


# Groups


def test_rows_that_differ_in_floats_only_are_one_group_in_order():
    rows = [
        {"finetune": {"optimizer": "sgd", "lr": 0.1}},
        {"finetune": {"optimizer": "adam", "lr": 0.2}},
        {"finetune": {"optimizer": "sgd", "lr": 0.3}},
        {"finetune": {"lr": 0.4, "optimizer": "adam"}},  # in another order
        {"finetune": {"optimizer": "sgd", "lr": 0.5}},
    ]
    sgd, adam = sweep.grouped(rows)
    assert (sgd.at, adam.at) == ([0, 2, 4], [1, 3])
    assert sgd.static == {"finetune": {"optimizer": "sgd"}}
    assert adam.static == {"finetune": {"optimizer": "adam"}}
    np.testing.assert_allclose(sgd.traced["finetune"]["lr"], [0.1, 0.3, 0.5])
    np.testing.assert_allclose(adam.traced["finetune"]["lr"], [0.2, 0.4])


@pytest.mark.parametrize(
    "other",
    [
        {"maml": {"inner_steps": 5, "anchor": 1.0}, "inner_loop": {"target_rate": 0.5}},
        {"maml": {"inner_steps": 1}, "inner_loop": {"target_rate": 0.5}},
        {
            "maml": {"inner_steps": 1, "inner_lr": 1.0},
            "inner_loop": {"target_rate": 0.5},
        },
        {"maml": {"inner_steps": 1, "anchor": 1.0}, "finetune": {"target_rate": 0.5}},
    ],
    ids=["another number of steps", "a float less", "another float", "another section"],
)
def test_rows_of_other_programs_are_other_groups(other):
    one = {
        "maml": {"inner_steps": 1, "anchor": 0.0},
        "inner_loop": {"target_rate": 0.5},
    }
    groups = sweep.grouped([one, other, one])
    assert [group.at for group in groups] == [[0, 2], [1]]


def test_whole_numbers_and_words_are_never_traced():
    row = {
        "maml": {"inner_steps": 3, "learner": "maml", "anchor": 1.0},
        "inner_loop": {},
    }
    (group,) = sweep.grouped([row, row])
    assert group.static == {
        "maml": {"inner_steps": 3, "learner": "maml"},
        "inner_loop": {},
    }
    assert set(group.traced["maml"]) == {"anchor"}
    assert group.traced["maml"]["anchor"].shape == (2,)


def test_static_and_traced_make_up_each_row_again():
    rows = [row for tried in TRIED.values() for row in tried]
    groups, seen = sweep.grouped(rows), []
    for group in groups:
        for place, i in enumerate(group.at):
            traced = jax.tree.map(lambda x: float(x[place]), group.traced)  # noqa: B023
            merged = {s: group.static[s] | traced[s] for s in group.static}
            assert jax.tree.map(type, merged) == jax.tree.map(type, rows[i])
            for section, fields in rows[i].items():
                assert merged[section] == pytest.approx(fields)  # words exactly
        seen += group.at
    assert sorted(seen) == list(range(len(rows)))


def test_the_rows_of_a_tree_are_those_of_every_leaf():
    tree = {"a": jnp.arange(4.0), "b": (jnp.arange(8.0).reshape(4, 2),)}
    found = sweep.rows_of(tree, [3, 0, 3])
    np.testing.assert_array_equal(found["a"], [3, 0, 3])
    np.testing.assert_array_equal(found["b"][0], [[6, 7], [0, 1], [6, 7]])


# Rows side by side


def bootstrap(key, params, target, batch, given):
    """Pulls params [] to the batch's mean plus half of the target parameters."""
    del key, given
    loss = 0.5 * jnp.mean((params - batch - 0.5 * target) ** 2)
    return loss, {}


def outer(key, prior, adapted, target, batch, given):
    """Pulls the adapted parameters [] to the mean of the query."""
    del key, prior, target, given
    return 0.5 * jnp.mean((adapted - batch) ** 2), {}


PART = Part(bootstrap, outer)
SUPPORT = jnp.array([[1.0, 2.0, 6.0], [0.0, -1.0, 4.0]])  # two tasks
TASKS = TaskBatch(SUPPORT, SUPPORT[:, :2] + 1.0)


def meta_learned(settings: configuration.Configuration, start, steps):
    """What a prior becomes on one task after two outer steps from `start` []."""
    make = META_LEARNERS[settings.maml.learner]
    learner = make((PART,), settings.maml, settings.inner_loop)
    state = learner.init((start,))
    for i in range(2):
        state, _ = learner.update(jax.random.key(i), state, TASKS)
    return learner.adapt(jax.random.key(9), state.prior, SUPPORT[0], steps)[0]


def fine_tuned(settings: configuration.Configuration, start, steps):
    """What `start` [] becomes on one task."""
    adapt = finetune((PART,), settings.finetune, lambda key, rows, count: rows)
    return adapt(jax.random.key(9), Prior((start,), ()), SUPPORT[0], steps)[0]


def meta_training(learner, inner_lr, outer_lr, during, after) -> sweep.Row:
    maml = {"learner": learner, "inner_lr": inner_lr, "outer_lr": outer_lr}
    return {
        "maml": maml | {"target_rate": during},
        "inner_loop": {"target_rate": after},
    }


ROWS = {
    meta_learned: [
        meta_training("maml", 0.1, 0.1, 1.0, 0.0),
        meta_training("first_order", 0.1, 0.1, 1.0, 0.0),
        meta_training("maml", 0.3, 0.1, 0.0, 1.0),
        meta_training("maml", 0.3, 0.5, 0.5, 0.3),
        meta_training("first_order", 0.2, 0.1, 0.0, 1.0),
    ],
    fine_tuned: [
        {"finetune": {"optimizer": "sgd", "lr": 0.1, "target_rate": 0.0}},
        {"finetune": {"optimizer": "adam", "lr": 0.1, "target_rate": 1.0}},
        {"finetune": {"optimizer": "sgd", "lr": 0.5, "target_rate": 0.3}},
        {"finetune": {"optimizer": "sgd", "lr": 0.5, "target_rate": 1.0}},
        {"finetune": {"optimizer": "adam", "lr": 0.4, "target_rate": 1.0}},
    ],
}


@pytest.mark.parametrize("function", ROWS)
def test_rows_side_by_side_become_what_each_becomes_alone(function):
    rows, steps = ROWS[function], jnp.int32(3)
    starts = jnp.array([5.0, 4.0, -3.0, 2.0, 1.0])
    found = np.zeros(len(rows))
    for group in sweep.grouped(rows):
        program = jax.jit(sweep.over(group, SETTINGS, function, (0, None)))
        found[group.at] = program(sweep.rows_of(starts, group.at), steps)
    alone = jax.jit(function, static_argnums=(0, 2))
    expected = [
        alone(configuration.override(SETTINGS, row), start, 3)
        for row, start in zip(rows, starts, strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert len(set(np.round(found, 3))) == len(rows)


def test_a_group_keeps_the_settings_that_no_row_names():
    rows = [{"finetune": {"lr": lr}} for lr in (0.1, 0.2)]
    settings = configuration.override(SETTINGS, {"risk": {"discount": 0.625}})
    (group,) = sweep.grouped(rows)
    program = sweep.over(group, settings, lambda s: s.finetune.lr * s.risk.discount, ())
    np.testing.assert_allclose(program(), [0.0625, 0.125])


def test_a_static_value_out_of_its_range_is_refused():
    (group,) = sweep.grouped([{"maml": {"inner_steps": -1, "anchor": 1.0}}])
    with pytest.raises(SettingError, match="maml_inner_steps"):
        sweep.over(group, SETTINGS, meta_learned, (None, None))


# What is tried


def test_every_compared_method_gets_four_settings_a_horizon():
    references = {"oracle"}  # takes what is chosen for `system_id`
    tried = {
        name
        for name, row in METHODS.items()
        if filters(name) and begins_as(name) == name
        if "published" not in name and name not in references
    }
    counts = {name: len(grid) for name, grid in TRIED.items()}
    assert counts == dict.fromkeys(tried, 4)  # protocol: matched


def test_few_steps_are_tried_with_fixed_rates_only():
    rows = [row["finetune_few"] for row in TRIED["multi_task_few"]]
    assert {row["optimizer"] for row in rows} == {"sgd"}
    rates = {row["lr"] for row in rows}
    assert {row["finetune"]["lr"] for row in TRIED["multi_task"][:2]} <= rates
    assert STEPS["multi_task_few"] == (5,)


@pytest.mark.parametrize("method", TRIED)
@pytest.mark.parametrize(("domain", "tasks"), BODIES)
@pytest.mark.parametrize("preset", presets.PRESETS)
def test_every_tried_setting_is_a_different_one_in_its_range(
    domain, tasks, preset, method
):
    settings = resolve.resolve(domain, tasks, preset)
    found = {configuration.override(settings, row) for row in TRIED[method]}
    assert len(found) == len(TRIED[method])


@pytest.mark.parametrize("method", TRIED)
def test_a_method_is_tried_in_its_own_sections(method):
    own = {METHODS[method].adaptation, METHODS[method].prior}
    assert all(set(row) <= own for row in TRIED[method])


@pytest.mark.parametrize(("domain", "tasks"), BODIES)
def test_horizons_that_are_tried_are_in_range_and_the_published_one_is_near(
    domain, tasks
):
    settings = resolve.resolve(domain, tasks, "published_risk")
    step = configuration.seconds_of(settings)
    published = step / (1.0 - settings.risk.discount)
    tried = presets.HORIZONS[domain]
    assert min(abs(math.log(horizon / published)) for horizon in tried) < 0.3
    for horizon in tried:
        found = configuration.override(settings, {"risk": {"horizon": horizon}})
        assert found.risk.discount == pytest.approx(1.0 - step / horizon)


def test_methods_with_the_common_settings_each_have_a_section_for_their_steps():
    sections = [METHODS[m].adaptation for m in TRIED if not METHODS[m].settings]
    assert len(sections) == len(set(sections))


def test_numbers_of_steps_are_tried_for_every_method():
    assert all(STEPS.values())
    for steps in STEPS.values():
        assert list(steps) == sorted(set(steps))
        assert steps[0] >= 0
    reads = {name for name, steps in STEPS.items() if steps[0] == 0}
    assert reads == {"context", "mesa_context", "system_id"}


def test_rows_share_their_outer_step():
    """What is done every second step is not computed in the others, in no row."""
    rows = [{"maml": {"inner_lr": rate}} for rate in (0.1, 0.3, 0.5)]
    settings = configuration.override(SETTINGS, {"maml": {"inner_every": 2}})

    def learner_of(settings):
        return META_LEARNERS["maml"]((PART,), settings.maml, settings.inner_loop)

    def start(settings, params):
        return learner_of(settings).init((params,))

    def step(settings, state, key):
        return learner_of(settings).update(key, state, TASKS)[0]

    (group,) = sweep.grouped(rows)
    begun = sweep.over(group, settings, start, (None,))(jnp.float32(5.0))
    state, axes = step_shared(begun)
    assert begun.step.shape == (3,) and state.step.shape == ()
    program = sweep.over(group, settings, step, (axes, None), axes)
    key = jax.random.key(0)
    assert "cond[" in str(jax.make_jaxpr(program)(state, key))
    alone = [
        start(configuration.override(settings, row), jnp.float32(5.0)) for row in rows
    ]
    for i in range(3):
        key = jax.random.key(i)
        state = jax.jit(program)(state, key)
        alone = [
            step(configuration.override(settings, row), one, jax.random.clone(key))
            for row, one in zip(rows, alone, strict=True)
        ]
    assert state.step == 3
    for i, one in enumerate(alone):
        mine = jax.tree.map(lambda x: x[i], state.prior)  # noqa: B023
        np.testing.assert_allclose(mine.params[0], one.prior.params[0], rtol=1e-5)
        np.testing.assert_allclose(mine.rates[0], one.prior.rates[0], rtol=1e-5)
