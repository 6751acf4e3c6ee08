"""The public names: what they load, and the three phases through them alone."""

import importlib
import pkgutil
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mesa_jax as mesa
from mesa_jax.phases.adapting import adapting, encoding
from mesa_jax.system import assemble

SMALL = {
    "data": {"train_bodies": 3, "heldout_bodies": 1},
    "risk": {"hidden": (8,), "encoder": (8,), "encoding_size": 3},
    "recovery": {"hidden": (8,), "lr": 0.0},
    "sac": {"hidden": (8,)},
    "maml": {
        **{"steps": 3, "num_tasks": 2, "inner_steps": 2, "support_least": 0},
        **{"support_size": 8, "query_size": 8},
    },
    "finetune_scratch": {"steps": 3, "batch_size": 8},
    "inner_loop": {"steps": 0},
    "online": {
        **{"episodes": 20, "chunk_steps": 10, "batch_size": 8, "start_steps": 4},
        **{"readapt_every": 5, "readapt_transitions": 6, "readapt_from": "prior"},
    },
    "quality": {"rollouts": 4},
}


@pytest.fixture(scope="module")
def system():
    config = mesa.configure("navigation1", tasks="flip").override(**SMALL)
    return mesa.build(config)


@pytest.fixture(scope="module")
def scratch():
    config = mesa.configure("navigation1", tasks="flip", method="recovery_rl")
    return mesa.build(config.override(**SMALL))


@pytest.fixture(scope="module")
def data(system):
    bodies = system.domain.train_tasks(jax.random.key(0), 4)
    return mesa.collect(jax.random.key(1), system, bodies, count=40)


@pytest.fixture(scope="module")
def prior(system, data):
    return mesa.meta_train(jax.random.key(2), system, data)


def some(system, count=2):
    """Test bodies, and adaptation sets of them."""
    bodies = system.domain.test_tasks(jax.random.key(3), count)
    key = jax.random.key(4)
    return bodies, mesa.collect(key, system, bodies, count=12, among=30)


def same(ours, theirs) -> bool:
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    return all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)


def test_import_is_light():
    code = (
        "import sys, mesa_jax; heavy = 'brax mujoco matplotlib scipy absl orbax'; "
        "found = {n.partition('.')[0] for n in sys.modules} & set(heavy.split()); "
        "ours = {n for n in sys.modules if n.startswith('mesa_jax.')}; "
        "print(sorted(found | ours))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_using_the_method_loads_no_engine_and_no_drawing():
    code = (
        "import sys, mesa_jax as m; m.build(m.configure('navigation1')); "
        "heavy = 'brax mujoco matplotlib'; "
        "print(sorted({n.partition('.')[0] for n in sys.modules} & set(heavy.split())))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", mesa.__all__)
def test_every_public_name_is_there(name):
    assert getattr(mesa, name) is not None
    assert name in dir(mesa)


def test_no_public_name_hides_a_module():
    """A module becomes the package's attribute when it is loaded."""
    modules = {module.name for module in pkgutil.iter_modules(mesa.__path__)}
    assert not modules & set(mesa.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        mesa.nothing  # noqa: B018
    assert importlib.import_module("mesa_jax.types").Transition is mesa.Transition


def test_configure_refuses_unknown_names():
    with pytest.raises(mesa.SettingError, match="domain must be one of"):
        mesa.configure("nowhere")
    with pytest.raises(mesa.SettingError, match=r"method must be one of .*nearest"):
        mesa.configure("navigation1", method="messa")


def test_a_method_brings_its_own_settings():
    assert mesa.configure("navigation1").risk.conditioning == "encoded"
    plain = mesa.configure("navigation1", method="mesa")
    assert plain.risk.conditioning == "none"


def test_override_replaces_fields_and_names_what_is_wrong():
    config = mesa.configure("navigation1")
    changed = config.override(maml={"inner_steps": 7}, sac={"lr": 0.5})
    assert (changed.maml.inner_steps, changed.sac.lr) == (7, 0.5)
    assert changed.maml.steps == config.maml.steps
    for sections, message in (
        ({"mamml": {}}, "section must be one of .*nearest: maml"),
        ({"maml": {"inner_step": 1}}, "field of maml must be .*nearest: inner_steps"),
        ({"maml": {"inner_steps": -1}}, "maml_inner_steps must be"),
    ):
        with pytest.raises(mesa.SettingError, match=message):
            config.override(**sections)


def test_collect_gives_transitions_of_each_body(system, data):
    assert data.observation.shape == (4, 40, 2)
    assert data.cost.shape == (4, 40)
    bodies = system.domain.train_tasks(jax.random.key(0), 4)
    assert same(data, mesa.collect(jax.random.key(1), system, bodies, count=40))
    assert not same(data, mesa.collect(jax.random.key(2), system, bodies, count=40))


def test_collect_draws_among_more_without_replacement(system):
    bodies = system.domain.train_tasks(jax.random.key(0), 2)
    drawn = mesa.collect(jax.random.key(1), system, bodies, count=30, among=30)
    in_order = mesa.collect(jax.random.key(1), system, bodies, count=30, among=0)
    assert not same(drawn, in_order)
    for ours, theirs in zip(drawn.reward, in_order.reward, strict=True):
        np.testing.assert_array_equal(np.sort(ours), np.sort(theirs))


def test_collect_by_a_learning_agent(system):
    config = system.configuration.override(
        collect={
            **{"collector": "sac", "environments": 2, "updates": 1},
            **{"start_steps": 8, "batch_size": 4},
        }
    )
    bodies = system.domain.train_tasks(jax.random.key(0), 2)
    found = mesa.collect(jax.random.key(1), mesa.build(config), bodies, count=12)
    assert found.cost.shape == (2, 12)
    moved = found.next_observation - found.observation
    assert np.abs(moved).sum(axis=(1, 2)).min() > 0


def test_collect_refuses_counts_that_can_not_be(system):
    bodies = system.domain.train_tasks(jax.random.key(0), 1)
    for counts, name in (((0, 0), "count"), ((5, 4), "among")):
        with pytest.raises(mesa.SettingError, match=f"^{name} must be"):
            mesa.collect(jax.random.key(1), system, bodies, *counts)


def test_meta_training_yields_chunk_by_chunk(system, data, prior):
    config = system.configuration
    assert config.maml.keep == "last"  # of this method
    chunks = mesa.meta_training(jax.random.key(2), system, data, chunk=1)
    states, metrics = zip(*chunks, strict=True)
    assert [int(state.step) for state in states] == [1, 2, 3]
    assert [len(values["risk/loss"]) for values in metrics] == [1, 1, 1]
    assert not same(states[1].learner.prior, states[2].learner.prior)
    for one, other in zip(*map(jax.tree.leaves, (states[2].best, prior)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def test_held_out_bodies_train_nothing(system, data, prior):
    """They choose among priors; here there is one chunk, thus one to choose."""
    other = jax.tree.map(lambda x: x.at[-1].set(x[0]), data)
    assert same(prior, mesa.meta_train(jax.random.key(2), system, other))
    mixed = jax.tree.map(lambda x: x.at[0].set(x[-1]), data)
    assert not same(prior, mesa.meta_train(jax.random.key(2), system, mixed))


def test_meta_train_refuses_what_has_no_prior_and_too_few_bodies(system, data):
    with pytest.raises(mesa.SettingError, match=r"^method must be one of multi_task"):
        mesa.meta_train(jax.random.key(0), system, data, method="recovery_rl")
    with pytest.raises(mesa.SettingError, match="nearest: mesa"):
        mesa.meta_train(jax.random.key(0), system, data, method="mesaa")
    one = jax.tree.map(lambda x: x[:1], data)
    with pytest.raises(mesa.SettingError, match="maml_num_tasks"):
        mesa.meta_train(jax.random.key(0), system, one)


def test_meta_training_names_the_step_that_is_not_finite(system, data):
    broken = data._replace(observation=data.observation * jnp.nan)
    with pytest.raises(FloatingPointError, match="outer step 0 "):
        mesa.meta_train(jax.random.key(0), system, broken)


@pytest.mark.filterwarnings("ignore::mesa_jax.OutsideTrainingWarning")
def test_adapt_gives_a_filter_of_each_body(system, prior, data):
    _, few = some(system)
    guard = mesa.adapt(jax.random.key(5), system, prior, few)
    assert guard.threshold.shape == (2,)
    assert np.isnan(guard.novelty).all()
    assert same(guard, mesa.adapt(jax.random.key(5), system, prior, few))
    training = mesa.training_novelty(jax.random.key(6), system, prior, data, count=12)
    told = mesa.adapt(jax.random.key(5), system, prior, few, training=training)
    assert (np.asarray(told.novelty) > 0).all()


def test_adapt_gives_a_filter_of_one_body_where_transitions_are_of_one(system, prior):
    _, few = some(system, count=1)
    mine = jax.tree.map(lambda x: x[0], few)
    alone = mesa.adapt(jax.random.key(5), system, prior, mine)
    first = jax.tree.map(
        lambda x: x[0], mesa.adapt(jax.random.key(5), system, prior, few)
    )
    assert alone.threshold.shape == alone.novelty.shape == ()
    assert same(alone, first)
    whole = {
        **{"observations": np.concatenate([mine.observation, mine.observation[:1]])},
        **{
            "actions": mine.action,
            "rewards": mine.reward,
            "infos": {"cost": mine.cost},
        },
        **{"terminations": mine.discount == 0, "truncations": np.zeros(12, bool)},
    }
    episode = types.SimpleNamespace(**whole)
    assert same(
        mesa.adapt(jax.random.key(5), system, prior, [episode]),
        mesa.adapt(jax.random.key(5), system, prior, mesa.transitions_of(episode)),
    )


def test_the_filter_judges_one_body_or_several_alike(system, prior):
    _, few = some(system)
    guard = mesa.adapt(jax.random.key(5), system, prior, few)
    draws = jax.random.split(jax.random.key(6))
    observation = 5.0 * jax.random.normal(draws[0], (2, 7, 2))
    action = jax.random.uniform(draws[1], (2, 7, 2), minval=-1.0)
    risk = guard.risk(observation, action)
    assert risk.shape == (2, 7)
    for i in range(2):
        alone = jax.tree.map(lambda x: x[i], guard)  # noqa: B023
        expected = system.risk.estimate(alone.critic, observation[i], action[i])
        np.testing.assert_allclose(risk[i], expected, rtol=1e-6)
        found = alone.risk(observation[i, 0], action[i, 0])
        np.testing.assert_allclose(found, expected[0], rtol=1e-5)


def test_the_filter_switches_where_risk_exceeds_the_threshold(system, prior):
    _, few = some(system)
    guard = mesa.adapt(jax.random.key(5), system, prior, few)
    observation, proposed = jnp.zeros((2, 1, 2)), jnp.full((2, 1, 2), 0.3)
    risk = guard.risk(observation, proposed)[:, 0]
    decide = jax.jit(lambda guard: guard.decide(observation, proposed))
    careful, why = decide(guard.replace(threshold=risk - 0.01))
    bold, free = decide(guard.replace(threshold=risk + 0.01))
    assert why.recovered.all() and not free.recovered.any()
    np.testing.assert_array_equal(bold, proposed)
    np.testing.assert_allclose(why.risk[:, 0], risk, rtol=1e-5)
    each = [jax.tree.map(lambda x: x[i], guard) for i in range(2)]  # noqa: B023
    for i, one in enumerate(each):
        rescue = system.recovery.act(one.recovery, observation[i])
        np.testing.assert_allclose(careful[i], rescue, rtol=1e-5)


def test_adapt_refuses_what_a_method_lacks(system, prior):
    _, few = some(system)
    with pytest.raises(mesa.SettingError, match=r"^prior must be"):
        mesa.adapt(jax.random.key(0), system, None, few)
    with pytest.raises(mesa.SettingError, match=r"^bodies must be"):
        mesa.adapt(jax.random.key(0), system, prior, few, method="oracle")
    with pytest.raises(mesa.SettingError, match=r"^method must be"):
        mesa.adapt(jax.random.key(0), system, prior, few, method="no")


def test_two_methods_run_side_by_side(scratch):
    bodies, few = some(scratch)
    methods = ("unconstrained", "recovery_rl")
    guards = [
        mesa.adapt(jax.random.key(5), scratch, None, few, method=name)
        for name in methods
    ]
    runs = mesa.init_runs(jax.random.key(6), scratch, guards, bodies, few)
    assert np.isinf(runs.agent.risk_threshold).tolist() == [True, True, False, False]
    assert runs.safety_replay.added.tolist() == [12] * 4
    first, second = (
        jax.tree.map(lambda x: x[half], (runs.agent.sac, runs.progress))  # noqa: B023
        for half in (slice(2), slice(2, 4))
    )
    assert same(first, second)  # runs of a body differ in the method alone
    keys = jax.random.split(jax.random.key(7), 4)
    program = jax.jit(mesa.online_program(scratch))
    once, metrics = program(keys, runs)
    assert once.env_steps.tolist() == [10] * 4
    assert metrics["risk/loss"].shape == (4,)
    assert same(once, program(jax.random.clone(keys), runs)[0])
    twice, _ = program(jax.random.clone(keys), once)
    assert twice.env_steps.tolist() == [20] * 4
    assert program._cache_size() == 1


def test_init_runs_refuses_an_unknown_method(scratch):
    bodies, few = some(scratch)
    guard = mesa.adapt(jax.random.key(5), scratch, None, few, method="recovery_rl")
    guard = guard.replace(method="some")
    with pytest.raises(mesa.SettingError, match=r"^method must be one of"):
        mesa.init_runs(jax.random.key(6), scratch, guard, bodies, few)


def test_a_fault_in_words_strikes(system):
    domain = mesa.faulty(system.domain, "dead:part=1,onset=3")
    task = jax.tree.map(lambda x: x[0], domain.train_tasks(jax.random.key(0), 1))
    state = domain.reset(jax.random.key(1), task)
    command = jnp.array([0.0, 1.0])

    def moved(step):
        at = domain.task_at(task, step)
        _, transition = domain.step(jax.random.key(2), state, command, at)
        return (transition.next_observation - transition.observation)[1]

    gain = float(task.body.gain[1, 1])
    np.testing.assert_allclose(moved(0) - moved(10), gain, rtol=1e-4)
    with pytest.raises(mesa.SettingError):
        mesa.faulty(system.domain, "gone:part=1,onset=3")


def test_truth_is_near_one_where_every_action_violates(system):
    """Beside the wall every action of a gain above 2 reaches it, or none does."""
    bodies, _ = some(system)
    asked = mesa.decision_set(jax.random.key(0), system, bodies, 5)
    assert asked.actions.shape == (2, 5, 2)
    inside = asked._replace(states=jnp.full((2, 5, 2), 7.0))  # y = 7 is a wall
    np.testing.assert_array_equal(
        mesa.true_risk(jax.random.key(1), system, bodies, inside), 1.0
    )
    far = asked._replace(states=jnp.zeros((2, 5, 2)))
    assert (mesa.true_risk(jax.random.key(1), system, bodies, far) < 0.5).all()


def test_predictions_are_scored_against_the_truth(system, prior):
    bodies, few = some(system, 1)
    guard = mesa.adapt(jax.random.key(5), system, prior, few)
    asked = mesa.decision_set(jax.random.key(0), system, bodies, 20)
    seen = jax.vmap(jax.vmap(system.domain.observe))(asked.states)
    truth = mesa.true_risk(jax.random.key(1), system, bodies, asked)
    prediction = guard.risk(seen, asked.actions)
    assert prediction.shape == truth.shape == (1, 20)
    scores = mesa.quality_metrics(prediction[0], truth[0], threshold=0.3)
    expected = np.mean((np.asarray(prediction) - np.asarray(truth)) ** 2)
    np.testing.assert_allclose(scores["squared_error"], expected, rtol=1e-5)


def test_a_run_reads_its_body_anew(system, prior):
    """At step 5 from transitions 11 to 16: 12 of the adaptation set, 5 of the run.

    The critic's rate is 0, so that nothing else changes it.
    """
    bodies, few = some(system, 1)
    guard = mesa.adapt(jax.random.key(5), system, prior, few)
    runs = mesa.init_runs(jax.random.key(6), system, guard, bodies, few)
    assert runs.readapts.tolist() == [True]
    program = jax.jit(mesa.online_program(system, prior))
    after, metrics = program(jax.random.split(jax.random.key(7), 1), runs)
    assert after.env_steps.tolist() == [10]
    assert np.isfinite(metrics["risk/loss"]).all()
    recent = jax.tree.map(lambda x: x[0, 11:17], after.safety_replay.rows)
    expected = system.risk.encode(prior.params[0], recent)["encoding"]
    found = after.agent.risk["encoding"][0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert not np.allclose(found, runs.agent.risk["encoding"][0], rtol=1e-2)


def test_a_program_is_compiled_once_for_a_configuration():
    """Another key and prior, and a system built anew, take the one that there is."""
    config = mesa.configure("navigation1", tasks="flip", method="recovery_rl")
    config = config.override(**SMALL)
    program = adapting(mesa.build(config), "recovery_rl", 0, False)
    for seed in range(3):
        system = mesa.build(config.override(**SMALL))
        _, few = some(system, 2)
        mesa.adapt(jax.random.key(seed), system, None, few, method="recovery_rl")
    assert adapting(system, "recovery_rl", 0, False) is program
    assert program._cache_size() == 1
    assert adapting(system, "recovery_rl", 0, True) is not program


def test_a_changed_system_gets_programs_of_its_own(system, data, prior):
    """Else it would be adapted by what it was before."""
    _, few = some(system, 1)

    def never(key, critic, transitions):
        return jnp.full(3, 7.0)

    changed = system._replace(encode=never)
    assert encoding(changed) is not encoding(system)
    given = jax.random.split(jax.random.key(0), 1), prior.params[0], few
    np.testing.assert_array_equal(encoding(changed)(*given), np.full((1, 3), 7.0))
    assert not np.allclose(encoding(system)(*given), 7.0)


def test_traced_numbers_are_in_no_kept_program(system):
    """A sweep traces settings: what it makes must not outlive it."""
    kept = []

    def traced(discount):
        config = system.configuration.override(risk={"discount": discount})
        kept.append(encoding(assemble(config)) is encoding(assemble(config)))
        return discount

    jax.eval_shape(traced, 0.9)
    assert kept == [False]
    assert encoding(system) is encoding(system)
