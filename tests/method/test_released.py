"""The released code's rows: their settings, what they are made of, and the collapse."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mesa_jax import configuration, released, replay
from mesa_jax.keys import Stage, stage_key
from mesa_jax.meta import FinetuneConfig, MAMLConfig, finetune, maml
from mesa_jax.methods import COMPARED, CONSTRAINED, METHODS, program_of
from mesa_jax.networks import latent
from mesa_jax.phases.training import choose_from
from mesa_jax.prior import input_statistics, statistics
from mesa_jax.risk import RiskConfig, violation_probability
from mesa_jax.study import resolve
from mesa_jax.study.artifacts import data as data_artifacts
from mesa_jax.study.artifacts import naming
from mesa_jax.study.batches import to_run
from mesa_jax.system import build
from mesa_jax.types import Part, Prior, Statistics, TaskBatch, Transition

PUBLISHED = [name for name, row in METHODS.items() if row.settings]
PRIORS = ("multi_task", "mesa")  # that constrained agents begin with, too


def settings_of(method, **sections):
    base = resolve.resolve("navigation1", "rotation", "quick")
    return resolve.of_method(configuration.override(base, sections), method)


# Settings


def test_every_row_with_settings_is_another_configuration():
    own = [name for name in PUBLISHED if program_of(name) == name]
    found = [settings_of(name) for name in own]
    assert len(set(found)) == len(found)
    others = {"oracle"}  # told, on system_id's prior
    others |= {f"{name}_{prior}" for name in CONSTRAINED for prior in PRIORS}
    assert set(PUBLISHED) - set(own) == others
    for name in COMPARED:
        assert settings_of(name) == settings_of("mesa")


RELEASED = {
    ("mesa_published", "risk", "hidden"): (100, 100, 100),
    ("mesa_published", "risk", "latent_size"): 100,
    ("mesa_published", "risk", "ensemble_size"): 1,
    ("mesa_published", "maml", "steps"): 10_000,
    ("mesa_published", "maml", "num_tasks"): 5,
    ("mesa_published", "maml", "support_size"): 256,
    ("mesa_published", "maml", "inner_steps"): 1,
    ("mesa_published", "maml", "outer_lr"): 1e-5,
    ("mesa_published", "maml", "rate_lr"): 1e-3,
    ("mesa_published", "maml", "beside_lr"): 1e-4,
    ("mesa_published", "maml", "gradient_clip"): 40.0,
    ("mesa_published", "finetune", "lr"): 1e-3,
    ("mesa_published", "finetune", "steps"): 100,
    ("mesa_published", "recovery", "lr"): 1e-3,
    ("mesa_published", "recovery", "target_rate"): 2e-4,
    ("mesa_published", "sac", "hidden"): (256, 256),
    ("mesa_published", "sac", "initializer"): "xavier",
    ("mesa_published", "sac", "temperature"): 0.2,
    ("mesa_published", "data", "transitions"): 30_000,
    ("mesa_published", "data", "adaptation"): 200,
    ("multi_task_published", "risk", "hidden"): (256, 256),
    ("multi_task_published", "risk", "ensemble_size"): 2,
    ("multi_task_published", "pooled", "steps"): 10_000,
    ("multi_task_published", "pooled", "query_size"): 256,
    ("multi_task_published", "pooled", "lr"): 3e-4,
    ("multi_task_published", "finetune", "lr"): 3e-4,
    ("recovery_rl_published", "data", "adaptation"): 10_000,
    ("recovery_rl_published", "finetune_scratch", "steps"): 10_000,
    ("recovery_rl_published", "finetune_scratch", "lr"): 3e-4,
    ("recovery_rl_published", "risk", "initializer"): "xavier",
    ("recovery_rl_published", "recovery", "initializer"): "xavier",
}


@pytest.mark.parametrize(("method", "section", "name"), RELEASED)
def test_a_published_row_has_the_released_numbers(method, section, name):
    found = getattr(getattr(settings_of(method), section), name)
    assert found == RELEASED[method, section, name]


def test_the_learned_rates_start_where_the_released_ones_do():
    released = np.log1p(np.exp(np.log(1e-3)))  # softplus(log 0.001)
    rate = settings_of("mesa_published").maml.inner_lr
    np.testing.assert_allclose(rate, released, rtol=1e-5)


SWITCHES = {  # `released`: a difference, switched to ours by flags
    "inputs": {"risk": {"inputs": "standardized"}},
    "target": {
        "risk": {"next_action": "reference"},
        "maml": {"target_rate": 1.0, "outer_target": "adapted"},
        "finetune": {"target_rate": 1.0},
    },
    "outer": {"maml": {"outer_lr": 1e-3, "outer_lr_end": 0.01}},
    "network": {"risk": {"hidden": (64, 64), "weights": "plain"}},
    "recovery": {"maml": {"recovery": "meta"}},
    "body": {"data": {"adaptation_body": "same"}},
}


@pytest.mark.parametrize("name", SWITCHES)
def test_a_difference_of_the_released_code_is_switched_by_flags(name):
    """All but two of the values are our presets', and heard all the same."""
    asked = SWITCHES[name]
    found = configuration.differences(
        settings_of("mesa_published", **asked), settings_of("mesa_published")
    )
    assert {flag for flag, *_ in found} == {
        f"{section}_{field}" for section, fields in asked.items() for field in fields
    }


def test_the_flags_of_the_differences_are_written_as_they_are_tested():
    lines = {}
    for line in released.__doc__.splitlines():
        first, *rest = line.split() or [""]
        if first in SWITCHES:
            name = first
        given = [word for word in (first, *rest) if word.startswith("--")]
        if given:
            lines.setdefault(name, []).extend(given)
    for name, asked in SWITCHES.items():
        written = dict(word[2:].split("=") for word in lines[name])
        for section, fields in asked.items():
            for field, value in fields.items():
                text = written.pop(f"{section}_{field}")
                if isinstance(value, float):
                    assert float(text) == value
                else:
                    shown = ",".join(map(str, value)) if field == "hidden" else value
                    assert text == shown
        assert not written


def test_our_inner_steps_in_place_of_adam_are_a_row_of_their_own():
    ours, theirs = (METHODS[f"mesa_published{end}"] for end in ("_rate", ""))
    assert (ours.adaptation, theirs.adaptation) == ("inner_loop", "finetune")
    found = configuration.differences(
        *map(settings_of, ("mesa_published_rate", "mesa_published"))
    )
    assert {flag for flag, *_ in found} == {
        "inner_loop_steps",
        "inner_loop_target_rate",
    }


def test_what_was_asked_for_stands_over_a_methods_own():
    found = settings_of("mesa_published", maml={"steps": 7}, sac={"lr": 1e-3})
    assert (found.maml.steps, found.sac.lr) == (7, 1e-3)
    assert found.maml.outer_lr == 1e-5


def test_runs_of_another_program_are_another_batch(tmp_path):
    methods = ("mesa", "multi_task", "mesa_published", "multi_task_published")
    found = to_run(tmp_path, methods, (0, 1), 0)
    assert [batch.methods for batch in found] == [methods[:2], *zip(methods[2:])]


# What they are made of


def rows(count=300, seed=0) -> Transition:
    rng = np.random.default_rng(seed)
    cost = jnp.asarray(rng.random(count) < 0.2, jnp.float32)
    return Transition(
        observation=jnp.asarray(rng.normal(5.0, 3.0, (count, 2)), jnp.float32),
        action=jnp.asarray(rng.uniform(-1, 1, (count, 2)), jnp.float32),
        reward=jnp.zeros(count),
        cost=cost,
        discount=1.0 - cost,
        next_observation=jnp.asarray(rng.normal(5.0, 3.0, (count, 2)), jnp.float32),
    )


def test_raw_inputs_are_not_standardised():
    risk = violation_probability(RiskConfig(hidden=(4,)))
    found = input_statistics(rows(), "raw", changes=False)
    assert isinstance(found, Statistics)
    np.testing.assert_array_equal(found[:4], [[0, 0], [1, 1], [0, 0], [1, 1]])
    standard = input_statistics(rows(), "standardized", changes=False)
    np.testing.assert_allclose(standard.observation_mean, rows().observation.mean(0))
    params = [risk.init(jax.random.key(0), s) for s in (found, standard)]
    one, other = (risk.estimate(p, rows().observation, rows().action) for p in params)
    assert np.abs(one - other).max() > 0.01


def test_rows_are_drawn_once_each_and_all_where_they_are_few():
    data = rows(40)._replace(reward=jnp.arange(40.0))
    few, all_of_them = (
        replay.sample_distinct(jax.random.key(i), data, count).reward
        for i, count in enumerate((10, 256))
    )
    assert len(set(few.tolist())) == 10
    assert sorted(all_of_them.tolist()) == list(range(40))
    assert all_of_them.tolist() != list(range(40))


def test_offline_targets_may_ask_a_policy_that_has_learned_nothing():
    published, ours = (build(settings_of(m)) for m in ("mesa_published", "mesa"))
    key, observation = jax.random.key(3), rows().observation
    critic, _ = published.parts
    params = published.risk.init(jax.random.key(0), statistics(rows()))
    start = published.task_policy.init(stage_key(0, Stage.AGENT_INIT))
    asked = published.task_policy.sample(key, start, rows().next_observation)
    loss, _ = critic.inner_loss(jax.random.key(3), params, params, rows(), ())
    expected, _ = published.risk.loss(params, params, rows(), asked)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    reference = ours.domain.reference_policy(jax.random.key(3), observation)
    assert np.abs(asked - reference).max() > 0.1


def pull(to):
    """A loss that pulls params [] towards a number, or to the part before it."""

    def loss(key, params, target, batch, given):
        del key, target, batch
        value = 0.5 * (params - (given[0] if to is None else to)) ** 2
        return value, {"loss": value}

    return loss


def outer_of(inner):
    def outer(key, prior, adapted, target, batch, given):
        del prior, target
        return inner(key, adapted, adapted, batch, given)

    return outer


def test_a_part_learned_beside_descends_against_the_prior():
    first, second = pull(3.0), pull(None)
    parts = (
        Part(first, outer_of(first)),
        Part(second, outer_of(second), beside=True),
    )
    config_ = MAMLConfig(steps=100, outer_lr=0.05, beside_lr=0.01, inner_lr=0.1)
    learner = maml(parts, config_)
    state = learner.init((jnp.float32(5.0), jnp.float32(-1.0)))
    batch = TaskBatch(jnp.zeros((2, 3)), jnp.zeros((2, 3)))
    moments, expected = optax.adam(0.01), jnp.float32(-1.0)
    moment = moments.init(expected)
    for i in range(3):
        state, metrics = learner.update(jax.random.key(i), state, batch)
        gradient = expected - state.prior.params[0]  # the critic as just learned
        updates, moment = moments.update(gradient, moment)
        expected = optax.apply_updates(expected, updates)
        np.testing.assert_allclose(state.prior.params[1], expected, rtol=1e-6)
    np.testing.assert_array_equal(
        state.prior.rates[1],
        learner.init((jnp.float32(5.0), jnp.float32(-1.0))).prior.rates[1],
    )  # no rate of it is learned
    assert set(metrics) >= {"meta/gradient_norm_0", "meta/gradient_norm_1"}


@pytest.mark.parametrize("kind", ["maml", "pooled"])
def test_a_published_prior_is_the_last_one(kind):
    method = {"maml": "mesa_published", "pooled": "multi_task_published"}[kind]
    assert choose_from(settings_of(method), kind) == 10_000 - 1
    assert choose_from(settings_of("mesa"), kind) < 2_500


# The collapse


def critic_step(weights: str):
    """Weights of a critic before and after one Adam(0.001) step of adaptation."""
    risk = violation_probability(
        RiskConfig(hidden=(100, 100, 100), weights=weights, inputs="raw")
    )
    inputs = input_statistics(rows(), "raw", changes=False)
    params = risk.init(jax.random.key(0), inputs)

    def loss(key, params, target, batch, given):
        del key, given
        return risk.loss(params, target, batch, batch.action)

    tuning = FinetuneConfig(steps=1, optimizer="adam", lr=1e-3)
    adapt = finetune((Part(loss, None),), tuning, lambda key, rows, count: rows)
    (adapted,) = jax.jit(adapt)(jax.random.key(1), Prior((params,), ()), rows(), 1)
    return [latent.generate(p["network"])["params"] for p in (params, adapted)]


def test_one_adam_step_on_latent_layers_moves_weights_by_their_latents_size():
    """Every entry of F moves by 0.001 in the gradient's sign, and so does z: the last
    layer's weights, made from 100 numbers of size 1, by about 0.07 to 0.09 each."""
    before, after = critic_step("latent")
    moved = np.abs(after["Dense_3"]["kernel"] - before["Dense_3"]["kernel"])
    alive = moved[moved > 1e-3]  # a unit that no row switches on has no gradient
    assert len(alive) > 20
    assert 0.05 < np.median(alive) < 0.1
    before, after = critic_step("plain")
    plain = np.abs(after["Dense_3"]["kernel"] - before["Dense_3"]["kernel"])
    assert plain.max() < 1.1e-3


# Their data


def test_a_larger_adaptation_set_is_a_dataset_of_its_own():
    few, many = (
        dataclasses.replace(
            configuration.Configuration(),
            data=configuration.DataConfig(adaptation=count),
        )
        for count in (1000, 1001)
    )
    assert naming.adaptation_data_name(few, 0) != naming.adaptation_data_name(many, 0)
    assert configuration.KEPT == 1000 and data_artifacts.adaptation_data
