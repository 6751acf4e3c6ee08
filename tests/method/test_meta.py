"""Meta-learners against closed forms, hand-rolled loops and finite differences.

Most losses are quadratics 0.5 (x - goal)^2 with gradient x - goal, so that an inner
step shrinks the error by 1 - rate.
"""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mesa_jax.equations import inverse_softplus
from mesa_jax.meta import (
    META_LEARNERS,
    FinetuneConfig,
    InnerLoopConfig,
    MAMLConfig,
    PooledConfig,
    anil,
    finetune,
    first_order,
    maml,
    pooled,
    reptile,
)
from mesa_jax.meta.inner import PLAIN, descend
from mesa_jax.settings import SettingError
from mesa_jax.types import Part, Prior, TaskBatch

STEPS = pytest.mark.parametrize("steps", [1, 3])


@pytest.fixture(autouse=True)
def no_silent_broadcasting():
    with jax.numpy_rank_promotion("raise"):
        yield


def everything(key, rows, count):
    """A draw that takes all rows, so that finetuning has a closed form."""
    del key, count
    return rows


ARGUMENTS = {  # what each maker takes after the parts
    "maml": (MAMLConfig(steps=8, inner_steps=2),),
    "first_order": (MAMLConfig(steps=8, inner_steps=2),),
    "anil": (MAMLConfig(steps=8, inner_steps=2),),
    "reptile": (MAMLConfig(steps=8, inner_steps=2),),
    "pooled": (PooledConfig(steps=8), FinetuneConfig(), everything),
}
POOLED_REST = ARGUMENTS["pooled"][1:]


def quadratic(key, params, target, batch, given):
    """Pulls params [] to the mean of the batch [B]."""
    del key, target, given
    loss = 0.5 * jnp.mean((params - batch) ** 2)
    return loss, {"loss": loss}


def follow(key, params, target, batch, given):
    """Pulls params [] to the part before it."""
    del key, target, batch
    loss = 0.5 * (params - given[0]) ** 2
    return loss, {"follow": loss}


def bootstrap(key, params, target, batch, given):
    """Pulls params [] to the batch's mean plus half of the target parameters."""
    return quadratic(key, params, target, batch + 0.5 * target, given)


def on_adapted(inner_loss):
    """An outer loss: the inner one of the adapted parameters on the query."""

    def outer_loss(key, prior, adapted, target, batch, given):
        del prior, target
        return inner_loss(key, adapted, adapted, batch, given)

    return outer_loss


def part(inner_loss) -> Part:
    return Part(inner_loss, on_adapted(inner_loss))


SUPPORT = np.array([1.0, 2.0, 6.0], np.float32)  # mean 3


# Adaptation of MAML


@STEPS
def test_adaptation_follows_gradient_descent(steps):
    learner = maml((part(quadratic),), MAMLConfig(inner_lr=0.1))
    prior = learner.init((jnp.float32(5.0),)).prior
    (adapted,) = learner.adapt(jax.random.key(0), prior, jnp.array(SUPPORT), steps)
    expected = 3.0 + 0.9**steps * (5.0 - 3.0)
    np.testing.assert_allclose(adapted, expected, rtol=1e-6)


@STEPS
def test_every_tensor_descends_at_its_own_learned_rate(steps):
    def loss(key, params, target, batch, given):
        parts = [quadratic(key, p, target, batch, given)[0] for p in params.values()]
        return sum(parts), {}

    learner = maml((part(loss),), MAMLConfig())
    state = learner.init(({"a": jnp.float32(5.0), "b": jnp.float32(4.0)},))
    rho = {"a": jnp.float32(-1.0), "b": jnp.float32(-3.0)}
    prior = Prior(state.prior.params, (rho,))
    (adapted,) = learner.adapt(jax.random.key(0), prior, jnp.array(SUPPORT), steps)
    for name, start in (("a", 5.0), ("b", 4.0)):
        rate = np.log1p(np.exp(float(rho[name])))  # softplus
        expected = 3.0 + (1.0 - rate) ** steps * (start - 3.0)
        np.testing.assert_allclose(adapted[name], expected, rtol=1e-5)


@STEPS
def test_the_second_part_adapts_to_the_first_as_adapted(steps):
    learner = maml((part(quadratic), part(follow)), MAMLConfig(inner_lr=0.2))
    prior = learner.init((jnp.float32(5.0), jnp.float32(-1.0))).prior
    first, second = learner.adapt(jax.random.key(0), prior, jnp.array(SUPPORT), steps)
    expected_first = 3.0 + 0.8**steps * (5.0 - 3.0)
    expected_second = expected_first + 0.8**steps * (-1.0 - expected_first)
    np.testing.assert_allclose(first, expected_first, rtol=1e-5)
    np.testing.assert_allclose(second, expected_second, rtol=1e-5)


def lead(key, params, target, batch, given):
    """Pulls params [] to the part after it."""
    del key, target, batch
    return 0.5 * (params - given[0]) ** 2, {}


@STEPS
def test_the_first_part_sees_the_second_as_it_is_while_it_adapts(steps):
    learner = maml((part(lead), part(quadratic)), MAMLConfig(inner_lr=0.2))
    prior = learner.init((jnp.float32(5.0), jnp.float32(-1.0))).prior
    first, second = learner.adapt(jax.random.key(0), prior, jnp.array(SUPPORT), steps)
    np.testing.assert_allclose(first, -1.0 + 0.8**steps * 6.0, rtol=1e-5)
    np.testing.assert_allclose(second, 3.0 + 0.8**steps * -4.0, rtol=1e-5)


def test_the_first_parts_outer_loss_sees_the_second_as_adapted():
    learner = maml((part(lead), part(quadratic)), MAMLConfig(inner_lr=0.2))
    state = learner.init((jnp.float32(5.0), jnp.float32(-1.0)))
    batch = TaskBatch(jnp.array(SUPPORT)[None], jnp.array(SUPPORT)[None])
    _, metrics = learner.update(jax.random.key(0), state, batch)
    first, second = -1.0 + 0.8**5 * 6.0, 3.0 + 0.8**5 * -4.0
    expected = 0.5 * (first - second) ** 2 + 0.5 * np.mean((second - SUPPORT) ** 2)
    np.testing.assert_allclose(metrics["meta/task_loss"], [expected], rtol=1e-5)


def test_a_pooled_part_sees_the_later_ones_before_their_step():
    learner = pooled((part(lead), part(quadratic)), PooledConfig(lr=0.1), *POOLED_REST)
    state = learner.init((jnp.float32(5.0), jnp.float32(5.0)))  # no pull on the first
    batch = TaskBatch(jnp.array(SUPPORT)[None], jnp.array(SUPPORT)[None])
    learned, _ = learner.update(jax.random.key(0), state, batch)
    np.testing.assert_allclose(learned.prior.params, [5.0, 4.9], rtol=1e-5)


def test_the_second_part_settles_where_its_inner_steps_end_half_way():
    """Adam's first steps on a quadratic are of the size of its rate, whatever it is."""
    settled = InnerLoopConfig(settle_steps=2, settle_lr=0.25)
    learner = maml((part(quadratic), part(follow)), MAMLConfig(inner_lr=0.2), settled)
    prior = learner.init((jnp.float32(5.0), jnp.float32(-9.0))).prior

    def adapt(steps):
        return learner.adapt(jax.random.key(0), prior, jnp.array(SUPPORT), steps)

    first, second = map(float, jax.jit(adapt)(1))
    assert first == pytest.approx(3.0 + 0.8 * (5.0 - 3.0), rel=1e-5)
    inner = first + 0.8 * (-9.0 - first)
    assert second == pytest.approx(inner + 2 * 0.25, rel=1e-2)
    assert tuple(map(float, adapt(0))) == (
        5.0,
        -9.0,
    )  # no step of the first, none of the second


def test_a_settled_part_ends_at_the_least_of_its_loss():
    settled = InnerLoopConfig(settle_steps=2000, settle_lr=0.05)
    learner = maml((part(quadratic), part(follow)), MAMLConfig(inner_lr=0.2), settled)
    prior = learner.init((jnp.float32(5.0), jnp.float32(-9.0))).prior
    adapted = learner.adapt(jax.random.key(0), prior, jnp.array(SUPPORT), 1)
    first, second = map(float, adapted)
    assert second == pytest.approx(first, abs=1e-2)


def bootstrapped_descent(start, lr, target_rate, steps):
    """The loss `bootstrap` by hand: parameters and target after each step."""
    params = target = start
    for _ in range(steps):
        params -= lr * (params - (SUPPORT.mean() + 0.5 * target))
        target += target_rate * (params - target)
    return params


@STEPS
@pytest.mark.parametrize("target_rate", [0.0, 0.3, 1.0])
def test_the_inner_target_follows_the_adapting_parameters(target_rate, steps):
    adaptation = InnerLoopConfig(target_rate=target_rate)
    learner = maml((part(bootstrap),), MAMLConfig(inner_lr=0.2), adaptation)
    prior = learner.init((jnp.float32(-4.0),)).prior
    (adapted,) = learner.adapt(jax.random.key(0), prior, jnp.array(SUPPORT), steps)
    expected = bootstrapped_descent(-4.0, 0.2, target_rate, steps)
    np.testing.assert_allclose(adapted, expected, rtol=1e-5)


def test_target_rates_matter_from_the_second_step_on():
    ends = [bootstrapped_descent(-4.0, 0.2, rate, 3) for rate in (0.0, 0.3, 1.0)]
    assert min(abs(np.diff(ends))) > 0.05  # the test above tells them apart


@STEPS
@pytest.mark.parametrize("target_rate", [0.0, 1.0])
def test_no_outer_gradient_passes_the_bootstrap_target(target_rate, steps):
    adaptation = InnerLoopConfig(target_rate=target_rate)
    learner = maml((part(bootstrap),), MAMLConfig(inner_lr=0.2), adaptation)
    prior = learner.init((jnp.float32(-4.0),)).prior

    def adapted(start):
        return learner.adapt(
            jax.random.key(0), Prior((start,), prior.rates), jnp.array(SUPPORT), steps
        )[0]

    slope = jax.grad(adapted)(jnp.float32(-4.0))  # with the target a constant
    np.testing.assert_allclose(slope, 0.8**steps, rtol=1e-5)


@pytest.mark.parametrize("name", META_LEARNERS)
def test_no_steps_give_the_prior_itself(name):
    learner = META_LEARNERS[name]((part(quadratic), part(follow)), *ARGUMENTS[name])
    prior = learner.init((jnp.float32(5.0), jnp.float32(-1.0))).prior
    adapted = learner.adapt(jax.random.key(0), prior, jnp.array(SUPPORT), 0)
    np.testing.assert_array_equal(adapted, prior.params)


# The outer gradient of MAML


def regression(key, params, target, batch, given):
    """A loss that is not quadratic: its Hessian changes along the inner steps."""
    del key, target, given
    inputs, labels = batch
    predicted = jnp.tanh(inputs @ params["w"] + params["b"][None])
    loss = jnp.mean((predicted - labels) ** 2)
    return loss, {"regression": loss}


def anchored(key, prior, adapted, target, batch, given):
    del target
    loss, metrics = regression(key, adapted, None, batch, given)
    return loss + 0.5 * regression(key, prior, None, batch, given)[0], metrics


def regression_tasks(seed, tasks=3, rows=5) -> TaskBatch:
    rng = np.random.default_rng(seed)

    def batch():
        return (
            jnp.array(rng.normal(size=(tasks, rows, 2))),
            jnp.array(rng.uniform(-0.9, 0.9, size=(tasks, rows))),
        )

    return TaskBatch(batch(), batch())


def regression_start():
    return {"w": jnp.array([0.3, -0.7]), "b": jnp.array(0.2)}


def outer_loss(learner, steps, task_batch, prior) -> jax.Array:
    """What MAML should minimise, from nothing but the learner's `adapt`."""

    def of_task(support, query):
        (adapted,) = learner.adapt(jax.random.key(0), prior, support, steps)
        return anchored(None, prior.params[0], adapted, None, query, ())[0]

    return jnp.mean(jax.vmap(of_task)(task_batch.support, task_batch.query))


def finite_differences(function, point, step=1e-6):
    """Central differences of a scalar function of a pytree."""
    flat, unravel = jax.flatten_util.ravel_pytree(point)
    moves = step * jnp.eye(flat.size)
    values = jax.jit(jax.vmap(lambda x: function(unravel(x))))
    flat = flat[None]
    return unravel((values(flat + moves) - values(flat - moves)) / (2 * step))


@STEPS
def test_the_outer_gradient_is_that_of_finite_differences(float64, steps):
    learner = maml(
        (Part(regression, anchored),), MAMLConfig(inner_lr=0.8, inner_steps=steps)
    )
    prior = learner.init((regression_start(),)).prior
    loss = functools.partial(outer_loss, learner, steps, regression_tasks(0))
    expected = finite_differences(loss, prior)
    gradient = jax.jit(jax.grad(loss))(prior)
    chex.assert_trees_all_close(gradient, expected, rtol=1e-6, atol=1e-8)
    rates = jnp.array(jax.tree.leaves(gradient.rates))
    assert (abs(rates) > 1e-4).all()  # a gradient of zero would prove nothing


@STEPS
def test_update_takes_the_second_order_gradient(float64, steps):
    config = MAMLConfig(
        steps=100, inner_lr=0.8, inner_steps=steps, outer_lr=0.05, rate_lr=0.02
    )
    learner = maml((Part(regression, anchored),), config)
    state = learner.init((regression_start(),))
    prior, optimizers = state.prior, (optax.adam(0.05), optax.adam(0.02))
    moments = tuple(o.init(p) for o, p in zip(optimizers, prior, strict=True))
    update = jax.jit(learner.update)
    for i in range(3):  # Adam's first step shows the signs alone, later ones the sizes
        tasks = regression_tasks(i)
        gradient = finite_differences(
            functools.partial(outer_loss, learner, steps, tasks), prior
        )
        moved, new_moments = (), ()
        for o, p, g, m in zip(optimizers, prior, gradient, moments, strict=True):
            updates, m = o.update(g, m)
            moved += (optax.apply_updates(p, updates),)
            new_moments += (m,)
        prior, moments = Prior(*moved), new_moments
        state, metrics = update(jax.random.key(i), state, tasks)
        np.testing.assert_allclose(
            metrics["meta/gradient_norm_0"],
            optax.tree.norm(gradient.params),
            rtol=1e-5,
        )
        chex.assert_trees_all_close(state.prior, prior, rtol=1e-6)


def test_a_parts_gradient_is_clipped_to_its_norm(float64):
    clip = 1e-9  # far below Adam's epsilon, where its step is proportional
    config = MAMLConfig(outer_lr=1.0, gradient_clip=clip)
    learner = maml((Part(regression, anchored),), config)
    state = learner.init((regression_start(),))
    moved = jax.jit(learner.update)(jax.random.key(0), state, regression_tasks(0))[0]
    step = jax.tree.map(jnp.subtract, moved.prior.params, state.prior.params)
    # g / (|g| + 1e-8) of entries of at most 1e-9 in norm: between 0 and 0.1
    assert 0.05 < optax.tree.norm(step) < 0.1


@STEPS
@pytest.mark.parametrize("make", [maml, first_order])
def test_an_inner_step_is_no_longer_than_its_bound_allows(make, steps):
    def pull(key, params, target, batch, given):
        error = params - jnp.array([3.0, -4.0])  # of length 5
        return 0.5 * jnp.sum(error**2), {}

    def adapted(start, **settings):
        learner = make((part(pull),), MAMLConfig(**settings))
        prior = Prior((start,), (inverse_softplus(jnp.float32(0.25)),))
        return learner.adapt(jax.random.key(0), prior, jnp.zeros(1), steps)[0]

    far, goal = jnp.zeros(2), jnp.array([3.0, -4.0])
    along = steps * 0.25 * goal / 5.0
    np.testing.assert_allclose(adapted(far, inner_clip=1.0), along, rtol=1e-5)
    for bound in (0.0, 10.0):  # none, and one that none of the gradients reaches
        free = goal * (1.0 - 0.75**steps)
        np.testing.assert_allclose(adapted(far, inner_clip=bound), free, rtol=1e-5)
    at_rest = jax.jacrev(functools.partial(adapted, inner_clip=1.0))(goal)
    slope = {maml: 0.75**steps, first_order: 1.0}[make]
    np.testing.assert_allclose(at_rest, slope * jnp.eye(2), rtol=1e-5, atol=1e-6)


# What the outer gradient takes for constants, in first-order MAML and in both

LEFT = {  # of an outer gradient, on its way from adapted parameters to the prior
    "maml": lambda rate, steps: (1.0 - rate) ** steps,
    "first_order": lambda rate, steps: 1.0,
}


@STEPS
def test_first_order_adapts_as_maml_does(steps):
    parts, config = (part(bootstrap), part(follow)), MAMLConfig(inner_lr=0.2)
    prior = Prior(
        (jnp.float32(-4.0), jnp.float32(2.0)), (jnp.float32(-1.0), jnp.float32(-0.5))
    )
    adapted, expected = (
        make(parts, config, InnerLoopConfig(target_rate=0.3)).adapt(
            jax.random.key(0), prior, jnp.array(SUPPORT), steps
        )
        for make in (first_order, maml)
    )
    np.testing.assert_allclose(adapted, expected, rtol=1e-6)


def first_order_by_hand(start, rho, support, query, steps):
    """Gradients in prior and rho of 0.5 (adapted - query)^2 for quadratic inner steps.

    All arguments are means or numbers. Inner gradients are constants g_k, so that
    adapted = start - rate sum(g_k), with slope 1 in start and -sum(g_k) in the rate.
    """
    rate, slope = np.log1p(np.exp(rho)), 1.0 / (1.0 + np.exp(-rho))  # softplus
    adapted, constants = start, 0.0
    for _ in range(steps):
        gradient = adapted - support
        adapted, constants = adapted - rate * gradient, constants + gradient
    return adapted - query, -(adapted - query) * constants * slope


@STEPS
def test_first_order_stops_at_the_inner_gradients(steps):
    learner = first_order((part(quadratic),), MAMLConfig())

    def loss(prior):
        (adapted,) = learner.adapt(jax.random.key(0), prior, jnp.array(SUPPORT), steps)
        return 0.5 * (adapted + 1.0) ** 2

    gradient = jax.grad(loss)(Prior((jnp.float32(5.0),), (jnp.float32(-1.0),)))
    params, rate = first_order_by_hand(5.0, -1.0, SUPPORT.mean(), -1.0, steps)
    np.testing.assert_allclose(gradient.params[0], params, rtol=1e-5)
    np.testing.assert_allclose(gradient.rates[0], rate, rtol=1e-5)


@STEPS
def test_first_order_updates_by_the_mean_of_its_tasks_gradients(float64, steps):
    config = MAMLConfig(
        steps=100, inner_lr=0.3, inner_steps=steps, outer_lr=0.05, rate_lr=0.02
    )
    learner = first_order((part(quadratic),), config)
    state, rng = learner.init((jnp.array(5.0),)), np.random.default_rng(0)
    found = np.array([5.0, np.log(np.expm1(0.3))])  # prior and rho
    optimizers = optax.adam(0.05), optax.adam(0.02)
    moments = [o.init(jnp.array(x)) for o, x in zip(optimizers, found, strict=True)]
    update = jax.jit(learner.update)
    for i in range(3):  # Adam's first step shows the signs alone, later ones the sizes
        support, query = rng.normal(3.0, size=(2, 4, 6))
        state, metrics = update(
            jax.random.key(i), state, TaskBatch(jnp.array(support), jnp.array(query))
        )
        means = zip(support.mean(1), query.mean(1), strict=True)
        gradient = np.mean(
            [first_order_by_hand(*found, *task, steps) for task in means], axis=0
        )
        for j, optimizer in enumerate(optimizers):
            move, moments[j] = optimizer.update(jnp.array(gradient[j]), moments[j])
            found[j] += move
        np.testing.assert_allclose(
            metrics["meta/gradient_norm_0"], abs(gradient[0]), rtol=1e-9
        )
        np.testing.assert_allclose(state.prior.params[0], found[0], rtol=1e-9)
        np.testing.assert_allclose(state.prior.rates[0], found[1], rtol=1e-9)


@STEPS
@pytest.mark.parametrize("name", LEFT)
def test_meta_training_bootstraps_at_its_own_target_rate(name, steps):
    config = MAMLConfig(inner_lr=0.2, inner_steps=steps, target_rate=0.3)
    learner = META_LEARNERS[name](
        (Part(bootstrap, on_adapted(quadratic)),),
        config,
        InnerLoopConfig(target_rate=1.0),
    )
    state = learner.init((jnp.float32(-4.0),))
    tasks = TaskBatch(jnp.array(SUPPORT)[None], jnp.array([[7.0, 9.0]]))
    _, metrics = jax.jit(learner.update)(jax.random.key(0), state, tasks)
    adapted = bootstrapped_descent(-4.0, 0.2, 0.3, steps)
    expected = abs(adapted - 8.0) * LEFT[name](0.2, steps)
    np.testing.assert_allclose(metrics["meta/gradient_norm_0"], expected, rtol=1e-5)


# Pooled pre-training and fine-tuning


def test_pooled_update_is_adam_on_the_rows_of_all_bodies():
    rng = np.random.default_rng(0)
    learner = pooled((part(bootstrap),), PooledConfig(steps=100, lr=0.1), *POOLED_REST)
    state = learner.init((jnp.float32(2.0),))
    params, first, second = 2.0, 0.0, 0.0
    update = jax.jit(learner.update)
    for i in range(1, 5):
        query = rng.normal(size=(3, 4)).astype(np.float32)
        support = np.full((3, 4), 1e6, np.float32)  # pooling does not look at it
        state, _ = update(jax.random.key(0), state, TaskBatch(support, query))
        gradient = params - (query.mean() + 0.5 * params)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        size = np.sqrt(second / (1 - 0.999**i)) + 1e-8
        params -= 0.1 * first / (1 - 0.9**i) / size
        np.testing.assert_allclose(state.prior.params[0], params, rtol=1e-4)
    assert state.prior.rates == ()


@STEPS
def test_finetuning_follows_gradient_descent(steps):
    adapt = finetune((part(quadratic),), FinetuneConfig(lr=0.1), everything)
    (adapted,) = adapt(
        jax.random.key(0), Prior((jnp.float32(5.0),), ()), jnp.array(SUPPORT), steps
    )
    expected = 3.0 + 0.9**steps * (5.0 - 3.0)
    np.testing.assert_allclose(adapted, expected, rtol=1e-6)


@STEPS
def test_finetuning_shows_the_second_part_the_first_as_just_updated(steps):
    adapt = finetune(
        (part(quadratic), part(follow)), FinetuneConfig(lr=0.2), everything
    )
    prior = Prior((jnp.float32(5.0), jnp.float32(-1.0)), ())
    adapted = adapt(jax.random.key(0), prior, jnp.array(SUPPORT), steps)
    first, second = 5.0, -1.0
    for _ in range(steps):
        first -= 0.2 * (first - 3.0)
        second -= 0.2 * (second - first)
    np.testing.assert_allclose(adapted, [first, second], rtol=1e-5)


@STEPS
@pytest.mark.parametrize("target_rate", [0.0, 0.3, 1.0])
def test_the_finetuning_target_follows_the_adapting_parameters(target_rate, steps):
    config = FinetuneConfig(lr=0.2, target_rate=target_rate)
    adapt = finetune((part(bootstrap),), config, everything)
    (adapted,) = adapt(
        jax.random.key(0), Prior((jnp.float32(-4.0),), ()), jnp.array(SUPPORT), steps
    )
    expected = bootstrapped_descent(-4.0, 0.2, target_rate, steps)
    np.testing.assert_allclose(adapted, expected, rtol=1e-5)


def test_finetuning_draws_a_fresh_batch_of_its_size_each_step():
    def draw(key, rows, count):
        assert rows.shape == (3,)
        return jax.random.choice(key, rows, (count,))

    def sum_of_batch(key, params, target, batch, given):
        del key, target, given
        assert batch.shape == (60,)
        return -params * jnp.sum(batch), {}

    config = FinetuneConfig(lr=1.0, batch_size=60)
    adapt = jax.jit(finetune((part(sum_of_batch),), config, draw), static_argnums=3)
    prior, rows = Prior((jnp.float32(0.0),), ()), jnp.array([1.0, 100.0, 10000.0])
    ends = [
        float(adapt(jax.random.key(0), prior, rows, steps)[0]) for steps in (1, 2, 3)
    ]
    drawn = np.diff([0.0, *ends])  # digits in base 100 count the rows of each batch
    for batch in drawn:
        assert sum(divmod(batch % 10000, 100)) + batch // 10000 == 60
    assert len(set(drawn)) == 3


def test_finetuning_with_adam_moves_by_the_rate():
    config = FinetuneConfig(optimizer="adam", lr=0.01)
    adapt = finetune((part(quadratic),), config, everything)
    (adapted,) = adapt(
        jax.random.key(0), Prior((jnp.float32(5.0),), ()), jnp.array(SUPPORT), 1
    )
    np.testing.assert_allclose(adapted, 5.0 - 0.01, rtol=1e-6)  # the first step's sign


# Contract over META_LEARNERS


def linear(key, params, target, batch, given):
    """A loss of slope 3, whatever the rates: Adam then steps by its rate."""
    del key, target, batch, given
    return 3.0 * params, {}


SCHEDULED = {  # rate 0.1 and 8 steps
    "maml": (MAMLConfig(steps=8, outer_lr=0.1, inner_steps=1),),
    "first_order": (MAMLConfig(steps=8, outer_lr=0.1, inner_steps=1),),
    "anil": (MAMLConfig(steps=8, outer_lr=0.1, inner_steps=1),),
    "reptile": (MAMLConfig(steps=8, outer_lr=0.1, inner_steps=1),),
    "pooled": (PooledConfig(steps=8, lr=0.1), *POOLED_REST),
}


@pytest.mark.parametrize("name", META_LEARNERS)
def test_the_rate_decays_over_the_second_half(name):
    learner = META_LEARNERS[name]((part(linear),), *SCHEDULED[name])
    state, update = learner.init((jnp.float32(0.0),)), jax.jit(learner.update)
    tasks = TaskBatch(jnp.zeros((2, 3)), jnp.zeros((2, 3)))
    params = [0.0]
    for i in range(10):
        state, _ = update(jax.random.key(i), state, tasks)
        params.append(float(state.prior.params[0]))
    half = np.linspace(0.1, 0.001, 5)  # from step 4 to step 8, and so on
    expected = np.concatenate([[0.1] * 4, half, [0.001]])
    np.testing.assert_allclose(-np.diff(params), expected, rtol=1e-3)


@pytest.mark.parametrize("name", META_LEARNERS)
def test_the_order_of_tasks_does_not_matter(name):
    learner = META_LEARNERS[name]((Part(regression, anchored),), *ARGUMENTS[name])
    start = jax.tree.map(lambda x: x.astype(jnp.float32), regression_start())
    state, update = learner.init((start,)), jax.jit(learner.update)
    tasks = regression_tasks(0)
    other = jax.tree.map(lambda x: x[jnp.array([2, 0, 1])], tasks)
    for i in range(2):
        turned, _ = update(jax.random.key(i), state, other)
        state, _ = update(jax.random.key(i), state, tasks)
        chex.assert_trees_all_close(state, turned, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", META_LEARNERS)
def test_every_task_counts(name):
    learner = META_LEARNERS[name]((part(quadratic),), *ARGUMENTS[name])
    state, update = learner.init((jnp.float32(0.0),)), jax.jit(learner.update)
    goals = jnp.array([[1.0, 1.0], [-5.0, -5.0]])
    ends = [
        update(jax.random.key(0), state, TaskBatch(goal, goal))[0].prior.params[0]
        for goal in (goals, -goals)
    ]
    assert ends[0] < 0.0 < ends[1]  # towards the mean of the tasks


@pytest.mark.parametrize("name", META_LEARNERS)
def test_update_compiles_once_and_its_state_keeps_its_form(name):
    learner = META_LEARNERS[name]((part(quadratic), part(follow)), *ARGUMENTS[name])
    chex.clear_trace_counter()
    update = jax.jit(chex.assert_max_traces(learner.update, n=1))
    state = learner.init((jnp.float32(5.0), jnp.float32(-1.0)))
    form = form_of(state)
    for i in range(3):
        tasks = TaskBatch(jnp.full((2, 3), float(i)), jnp.zeros((2, 4)))
        state, metrics = update(jax.random.key(i), state, tasks)
        assert form_of(state) == form
        assert all(jnp.isfinite(x).all() for x in jax.tree.leaves((state, metrics)))


@pytest.mark.parametrize("name", META_LEARNERS)
def test_init_can_be_traced(name):
    learner = META_LEARNERS[name]((part(quadratic),), *ARGUMENTS[name])
    params = (jnp.float32(5.0),)
    shapes = jax.eval_shape(learner.init, params)
    assert form_of(shapes) == form_of(learner.init(params))


@pytest.mark.parametrize("name", META_LEARNERS)
def test_adapted_parameters_have_the_form_of_the_prior(name):
    learner = META_LEARNERS[name]((part(quadratic), part(follow)), *ARGUMENTS[name])
    prior = learner.init((jnp.float32(5.0), jnp.float32(-1.0))).prior
    adapted = learner.adapt(jax.random.key(0), prior, jnp.array(SUPPORT), 2)
    assert form_of(adapted) == form_of(prior.params)


@pytest.mark.parametrize("name", META_LEARNERS)
def test_a_traced_number_of_steps_adapts_as_a_plain_one(name):
    learner = META_LEARNERS[name]((part(bootstrap), part(follow)), *ARGUMENTS[name])
    prior = learner.init((jnp.float32(5.0), jnp.float32(-1.0))).prior

    def adapted(steps):
        return learner.adapt(jax.random.key(0), prior, jnp.array(SUPPORT), steps)

    traced = jax.jit(adapted)
    for steps in (0, 1, 3):
        np.testing.assert_allclose(traced(jnp.int32(steps)), adapted(steps), rtol=1e-6)
    assert traced._cache_size() == 1  # one program for every number of steps


def form_of(tree):
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(x.shape, x.dtype, x.weak_type) for x in leaves]


@pytest.mark.parametrize("steps", [1, 3])
def test_each_inner_step_draws_from_a_key_of_its_own(steps):
    """The gradient is what the step's key draws."""

    def chance(key, params, target, support, given):
        del params, target, support, given
        return jax.random.uniform(key), {}

    key = jax.random.key(5)
    found, _ = descend(key, chance, jnp.float32(2.0), 0.5, 1.0, (), (), steps)
    draws = [jax.random.uniform(jax.random.fold_in(key, i)) for i in range(steps)]
    np.testing.assert_allclose(found, 2.0 - 0.5 * np.sum(draws), rtol=1e-6)


# Head only


def layered(key, params, target, batch, given):
    """A linear model of a body [] and a head [], their product pulled to the batch."""
    del key, target, given
    return 0.5 * jnp.mean((params["body"] * params["head"] - batch) ** 2), {}


def head_of(params):
    return {name: name == "head" for name in params}


LAYERED = {"body": jnp.float32(2.0), "head": jnp.float32(0.5)}


@STEPS
def test_only_the_head_adapts(steps):
    layers = part(layered)._replace(head=head_of)
    learner = anil((layers,), MAMLConfig(inner_lr=0.1, inner_steps=steps))
    prior = learner.init((LAYERED,)).prior
    (adapted,) = learner.adapt(jax.random.key(0), prior, jnp.array(SUPPORT), steps)
    assert adapted["body"] == LAYERED["body"]
    # with w = body * head: w' = w - rate body^2 (w - 3)
    expected = 3.0 + (1.0 - 0.1 * 2.0**2) ** steps * (1.0 - 3.0)
    np.testing.assert_allclose(2.0 * adapted["head"], expected, rtol=1e-5)


def test_the_outer_gradient_reaches_what_does_not_adapt():
    """L = (b h' - q)^2 / 2 with h' = h - r b (b h - s), by hand at r = 0.1."""
    layers = part(layered)._replace(head=head_of)
    learner = anil((layers,), MAMLConfig(inner_lr=0.1, inner_steps=1, anchor=0.0))
    state = learner.init((LAYERED,))
    tasks = TaskBatch(jnp.array(SUPPORT)[None], jnp.array([[8.0, 8.0]]))
    _, metrics = jax.jit(learner.update)(jax.random.key(0), state, tasks)

    def after(body, head, support=3.0, query=8.0, rate=0.1):
        head = head - rate * body * (body * head - support)
        return 0.5 * (body * head - query) ** 2

    slopes = jax.grad(after, (0, 1))(2.0, 0.5)
    norm = np.hypot(*map(float, slopes))
    np.testing.assert_allclose(metrics["meta/gradient_norm_0"], norm, rtol=1e-4)


def test_rates_of_what_does_not_adapt_stay_zero():
    layers = part(layered)._replace(head=head_of)
    learner = anil((layers,), MAMLConfig(inner_lr=0.1, inner_steps=2))
    state, update = learner.init((LAYERED,)), jax.jit(learner.update)
    tasks = TaskBatch(jnp.array(SUPPORT)[None], jnp.array([[8.0, 8.0]]))
    for i in range(3):
        state, _ = update(jax.random.key(i), state, tasks)
    (rates,) = jax.tree.map(jax.nn.softplus, state.prior.rates)
    assert rates["body"] == 0.0 and rates["head"] != pytest.approx(0.1, rel=1e-4)
    assert np.isfinite(list(state.prior.params[0].values())).all()
    assert state.prior.params[0]["body"] != LAYERED["body"]  # it learns


def test_latent_weights_have_no_head():
    space = Part(quadratic, on_adapted(quadratic), space=PLAIN)
    with pytest.raises(SettingError, match="learner must be maml where the critic's"):
        anil((space,), MAMLConfig())


# Reptile


def pulled(start, support, query, rate, steps):
    """K steps to the support's mean, K more to the query's."""
    for goal in (support, query):
        start = goal + (1.0 - rate) ** steps * (start - goal)
    return start


@STEPS
def test_the_prior_moves_to_where_the_tasks_steps_lead(steps):
    config = MAMLConfig(inner_lr=0.2, inner_steps=steps, steps=100, outer_lr=0.1)
    learner = reptile((part(quadratic),), config)
    state = learner.init((jnp.float32(5.0),))
    means = (3.0, -1.0), (2.0, 6.0)  # support's and query's of two tasks
    batch = TaskBatch(*(jnp.array(x)[:, None] for x in zip(*means, strict=True)))
    after, metrics = jax.jit(learner.update)(jax.random.key(0), state, batch)
    ends = [pulled(5.0, *task, 0.2, steps) for task in means]
    gap = 5.0 - np.mean(ends)
    np.testing.assert_allclose(metrics["meta/gradient_norm_0"], abs(gap), rtol=1e-5)
    moved = float(after.prior.params[0]) - 5.0
    np.testing.assert_allclose(moved, -0.1 * np.sign(gap), rtol=1e-4)  # Adam's first
    losses = [
        0.5 * (end - query) ** 2 for end, (_, query) in zip(ends, means, strict=True)
    ]
    np.testing.assert_allclose(metrics["meta/task_loss"], losses, rtol=1e-4)
    assert after.prior.rates == state.prior.rates


def test_the_second_part_follows_the_first_as_it_moves():
    config = MAMLConfig(inner_lr=0.2, inner_steps=1)
    learner = reptile((part(quadratic), part(follow)), config)
    state = learner.init((jnp.float32(5.0), jnp.float32(-1.0)))
    batch = TaskBatch(jnp.full((1, 2), 3.0), jnp.full((1, 2), 1.0))
    _, metrics = jax.jit(learner.update)(jax.random.key(0), state, batch)
    first, second = 5.0, -1.0
    for goal in (3.0, 1.0):
        first += 0.2 * (goal - first)
        second += 0.2 * (first - second)
    np.testing.assert_allclose(metrics["meta/gradient_norm_1"], second + 1.0, rtol=1e-5)


def test_reptile_has_no_gradient_for_what_reads_the_support():
    reads = part(quadratic)._replace(begin=lambda params, support, given: params)
    with pytest.raises(SettingError, match="learner must be maml where the critic"):
        reptile((reads,), MAMLConfig())
    with pytest.raises(SettingError, match="inner_steps must be at least 1"):
        reptile((part(quadratic),), MAMLConfig(inner_steps=0))
