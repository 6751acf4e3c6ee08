"""Properties of arrays: replay, equations, networks, encodings, measures of risk."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mesa_jax import equations, evaluation, replay
from mesa_jax.networks import encoder, latent
from mesa_jax.networks.latent import LOW_RANK, Latent
from mesa_jax.networks.mlp import LOG_STD_RANGE, MLP, sample_squashed, squashed_gaussian
from mesa_jax.novelty import distance, fit
from mesa_jax.prior import statistics
from mesa_jax.types import Statistics, Transition
from tests.worlds import added_rows, numbers_beside_cost, violating
from tests.worlds import numbered as rows_of

seeds = st.integers(0, 2**31 - 1)


def arrays(*shape, low=-3.0, high=3.0):
    elements = st.floats(low, high, width=32, allow_subnormal=False)
    return hnp.arrays(np.float32, shape, elements=elements)


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# Replay

CAPACITY, STEPS, COUNT = 5, 12, 16
history = st.tuples(
    hnp.arrays(np.float32, STEPS, elements=st.sampled_from([0.0, 1.0])),
    hnp.arrays(bool, STEPS),
)


def held_of(costs, keep):
    """What a list would hold: (number, cost) of the last kept rows."""
    kept = [(i, cost) for i, cost in enumerate(costs) if keep[i]]
    return kept[-CAPACITY:]


def ring_of(costs, keep):
    return added_rows(replay.init(CAPACITY, rows_of(0)), costs, keep)


@given(history)
def test_a_ring_is_a_list_of_its_last_kept_rows(of):
    ring, held = ring_of(*of), held_of(*of)
    assert int(replay.size(ring)) == len(held)
    assert int(ring.added) == of[1].sum()
    slots = [(int(ring.added) - len(held) + i) % CAPACITY for i in range(len(held))]
    rows = jax.tree.map(lambda x: np.asarray(x)[np.array(slots, int)], ring.rows)
    assert [*zip(numbers_beside_cost(rows), rows.cost, strict=True)] == held


@given(history)
def test_the_members_of_a_class_are_its_held_rows_in_order(of):
    ring, held = jax.tree.map(np.asarray, ring_of(*of)), held_of(*of)
    for kind in (0, 1):
        first, count = ring.members.first[kind], ring.members.held[kind]
        places = [(first + i) % CAPACITY for i in range(count)]
        slots = ring.members.slots[kind, np.array(places, int)]
        expected = [number for number, cost in held if cost == kind]
        assert ring.rows.reward[slots].astype(int).tolist() == expected


@given(history, st.integers(1, 8))
def test_the_latest_rows_are_the_lists_last_the_oldest_again(of, count):
    held = [number for number, _ in held_of(*of)]
    assume(held)
    expected = [held[max(-1 - age, -len(held))] for age in reversed(range(count))]
    found = _latest(ring_of(*of), count)
    assert numbers_beside_cost(found).tolist() == expected


_latest = jax.jit(replay.latest, static_argnums=1)
_sample = jax.jit(replay.sample, static_argnums=(2, 3))
_draw = jax.jit(replay.draw_indices, static_argnums=(2, 3))
_distinct = jax.jit(replay.sample_distinct, static_argnums=2)
fractions = st.sampled_from([0.3, 0.5])


def _shares(cost, fraction):
    """Violating rows in a batch: the share, or all or none where a class is empty."""
    if min(cost) == max(cost):
        return COUNT * int(cost[0])
    return round(fraction * COUNT)


@given(history, fractions, seeds)
def test_a_balanced_batch_has_its_share_of_held_violations(of, fraction, seed):
    held = dict(held_of(*of))
    assume(held)
    batch = _sample(jax.random.key(seed), ring_of(*of), COUNT, fraction)
    numbers = numbers_beside_cost(batch)
    assert [held[number] for number in numbers] == batch.cost.tolist()
    assert batch.cost.sum() == _shares([*held.values()], fraction)


@given(history, seeds)
def test_a_plain_batch_holds_held_rows(of, seed):
    held = dict(held_of(*of))
    assume(held)
    batch = _sample(jax.random.key(seed), ring_of(*of), COUNT, 0.0)
    assert set(numbers_beside_cost(batch)) <= set(held)


@given(history.map(lambda of: of[0]), fractions, seeds)
def test_rows_of_a_dataset_are_drawn_in_their_shares(cost, fraction, seed):
    index = _draw(jax.random.key(seed), cost, COUNT, fraction)
    assert cost[index].sum() == _shares(cost, fraction)


@given(st.sampled_from([5, 20]), seeds)
def test_distinct_rows_come_once_each(count, seed):
    rows = violating(np.arange(STEPS) % 2)
    found = _distinct(jax.random.key(seed), rows, count)
    numbers = numbers_beside_cost(found).tolist()
    assert len(numbers) == len(set(numbers)) == min(count, STEPS)
    assert set(numbers) <= set(range(STEPS))


# Equations

N = 6
shares = arrays(N, low=0.0, high=1.0)
costs = hnp.arrays(np.float32, N, elements=st.sampled_from([0.0, 1.0]))
_backup = jax.jit(jax.vmap(equations.risk_backup))


@given(costs, shares, shares)
def test_a_risk_target_is_a_probability_and_one_at_a_violation(cost, discount, risk):
    found = np.asarray(_backup(cost, discount, risk))
    assert ((found >= 0.0) & (found <= 1.0)).all()
    np.testing.assert_allclose(
        found, np.where(cost == 1, 1, discount * risk), atol=1e-6
    )


@given(costs, shares, shares, shares)
def test_a_risk_target_rises_with_the_next_risk(cost, discount, risk, more):
    low, high = np.minimum(risk, more), np.maximum(risk, more)
    assert (_backup(cost, discount, low) <= _backup(cost, discount, high)).all()


@given(arrays(N), shares, arrays(N, 2), arrays(N), st.floats(0.125, 2, width=32))
def test_a_soft_target_is_the_lower_twins_less_entropy(r, discount, q, log_prob, alpha):
    backup = jax.vmap(equations.soft_q_backup, (0, 0, 0, 0, None))
    expected = r + discount * (np.minimum(*q.T) - alpha * log_prob)
    found = jax.jit(backup)(r, discount, q, log_prob, alpha)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


trees = st.fixed_dictionaries({"a": arrays(3), "b": arrays(2, 2)})


def assert_close(ours, theirs, **within):
    within = {"rtol": 1e-5, "atol": 1e-5} | within
    jax.tree.map(functools.partial(np.testing.assert_allclose, **within), ours, theirs)


@given(trees, trees, st.floats(0, 1, width=32))
def test_polyak_lies_between_and_ends_at_both(target, online, rate):
    found = equations.polyak(target, online, rate)
    expected = jax.tree.map(lambda t, o: (1 - rate) * t + rate * o, target, online)
    assert_close(found, expected)
    assert_close(equations.polyak(target, online, 0.0), target, rtol=0, atol=0)
    assert_close(equations.polyak(target, online, 1.0), online)


@given(trees, trees, trees, st.tuples(*[st.floats(0, 1, width=32)] * 2))
def test_two_steps_of_descent_are_one_along_the_sum(params, one, two, rates):
    rates = dict(zip("ab", rates, strict=True))
    together = jax.tree.map(np.add, one, two)
    in_turn = equations.sgd(equations.sgd(params, one, rates), two, rates)
    assert_close(in_turn, equations.sgd(params, together, rates))
    expected = {k: params[k] - rates[k] * together[k] for k in params}
    assert_close(in_turn, expected)


@given(st.floats(1e-4, 50.0))
def test_a_learned_rate_starts_at_its_value(rate):
    rho = float(equations.inverse_softplus(rate))
    np.testing.assert_allclose(np.logaddexp(0.0, rho), rate, rtol=1e-3)


@given(arrays(N, 2, low=-4, high=4), arrays(N, 2, low=-3, high=1), seeds)
def test_a_squashed_density_is_the_normals_over_tanhs_slope(mean, log_std, seed):
    key, std = jax.random.key(seed), np.exp(log_std)
    action, found = jax.jit(sample_squashed)(key, mean, std)
    noise = np.asarray(jax.random.normal(jax.random.key(seed), mean.shape), float)
    raw = mean + std.astype(float) * noise
    density = -(noise**2) / 2 - log_std - np.log(2 * np.pi) / 2
    slope = 2 * (np.log(2) - np.logaddexp(raw, -raw))  # log(1 - tanh^2)
    np.testing.assert_allclose(action, np.tanh(raw), atol=1e-5)
    np.testing.assert_allclose(found, (density - slope).sum(-1), rtol=1e-4, atol=1e-3)


@given(arrays(4, low=-50, high=50))
def test_a_standard_deviation_stays_in_its_range(outputs):
    mean, std = squashed_gaussian(outputs)
    assert mean.tolist() == outputs[:2].tolist()
    expected = np.exp(np.clip(outputs[2:].astype(float), *LOG_STD_RANGE))
    np.testing.assert_allclose(std, expected, rtol=1e-4)


# Latent layers

K, INPUTS, OUTPUTS, LATENT = 2, 2, 3, 4


def _latent(seed):
    z, basis = normal(seed, K, LATENT), normal(seed + 1, K, INPUTS + 1, OUTPUTS, LATENT)
    return z, basis, normal(seed + 2, K, INPUTS + 1, OUTPUTS)


def _made(z, basis, offset):
    return np.einsum("kiol,kl->kio", basis, z) + offset


def _assert_weights(made, z, basis, offset):
    expected = _made(z, basis, offset)
    np.testing.assert_allclose(made["kernel"], expected[:, :-1], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(made["bias"], expected[:, -1], rtol=1e-4, atol=1e-4)


@given(
    seeds,
    st.integers(0, 3),
    st.tuples(*[st.floats(0, 0.5, width=32)] * 3),
    st.sampled_from([0.0, 0.3, 1.0]),
)
def test_low_rank_steps_are_descent_on_every_tensor(seed, steps, rates, target_rate):
    dense = [x.astype(float) for x in _latent(seed)]
    target = list(dense)
    prior = {"layer": Latent(*map(jnp.asarray, _latent(seed)))}
    rate_of = {"layer": Latent(*map(jnp.float32, rates))}
    adapted, followed = LOW_RANK.begin(prior), LOW_RANK.begin(prior)
    for step in range(steps):
        g = normal(seed + 10 + step, K, INPUTS + 1, OUTPUTS)
        z, basis, _ = dense
        pulled = np.einsum("kiol,kio->kl", basis, g)
        outer = np.einsum("kio,kl->kiol", g, z)
        dense = [
            x - rate * slope
            for x, rate, slope in zip(dense, rates, (pulled, outer, g), strict=True)
        ]
        target = [t + target_rate * (x - t) for t, x in zip(target, dense, strict=True)]
        gradient = {"layer": {"kernel": g[:, :-1], "bias": g[:, -1]}}
        adapted = LOW_RANK.step(prior, adapted, rate_of, gradient)
        followed = LOW_RANK.follow(prior, followed, adapted, target_rate)
    _assert_weights(LOW_RANK.weights(prior, adapted)["layer"], *dense)
    _assert_weights(LOW_RANK.weights(prior, followed)["layer"], *target)


@given(seeds)
def test_generated_weights_are_basis_times_latent_plus_offset(seed):
    tensors = _latent(seed)
    layer = Latent(*map(jnp.asarray, tensors))
    _assert_weights(latent.generate({"layer": layer})["layer"], *tensors)


# Encodings

ROWS, STATES, ACTIONS, ENCODING = 9, 3, 2, 4
ENCODER = encoder.set_encoder((6, 8), ENCODING)
FIXED = Statistics(*(jnp.full(n, x) for n in (STATES, ACTIONS) for x in (0.3, 1.7)))
FIXED = FIXED._replace(change_std=jnp.full(STATES, 0.6))
PARAMS = ENCODER.init(jax.random.key(0), FIXED)
_encode = jax.jit(functools.partial(ENCODER.encode, PARAMS, FIXED))


def _transitions(seed, count=ROWS):
    states, moved = normal(seed, count, STATES), normal(seed + 1, count, STATES)
    cost = (normal(seed + 2, count) > 0).astype(np.float32)
    actions = np.tanh(normal(seed + 3, count, ACTIONS))
    return Transition(states, actions, cost, cost, 1 - cost, states + moved)


@given(seeds, st.permutations(range(ROWS)))
def test_an_encoding_is_of_the_set_in_any_order(seed, order):
    rows = _transitions(seed)
    shuffled = jax.tree.map(lambda x: x[np.array(order)], rows)
    np.testing.assert_allclose(_encode(shuffled), _encode(rows), atol=1e-5)


@given(seeds, st.integers(2, 4))
def test_an_encoding_is_of_shares_and_not_of_counts(seed, times):
    rows = _transitions(seed)
    again = jax.tree.map(lambda x: np.concatenate([x] * times), rows)
    np.testing.assert_allclose(_encode(again), _encode(rows), atol=1e-5)


@given(seeds)
def test_a_conditioned_network_is_one_of_inputs_encoding_and_their_products(seed):
    size, hidden = 3, 5
    wide = size + ENCODING + size * ENCODING
    assert wide == encoder.conditioned_size(size, ENCODING)
    first, second = normal(seed, wide, hidden), normal(seed + 1, hidden, 2)
    biases = normal(seed + 2, hidden), normal(seed + 3, 2)
    layers = zip((first, second), biases, strict=True)
    network = {
        f"Dense_{i}": {"kernel": k, "bias": b} for i, (k, b) in enumerate(layers)
    }
    encoding, x = normal(seed + 4, ENCODING), normal(seed + 5, 7, size)
    own = jax.jit(encoder.conditioned)({"params": network}, {"encoding": encoding})
    beside = np.tile(encoding, (7, 1))
    products = np.einsum("nd,e->nde", x, encoding).reshape(7, -1)
    inputs = np.concatenate([x, beside, products], axis=1)
    expected = np.maximum(inputs @ first + biases[0], 0) @ second + biases[1]
    found = MLP((hidden,), 2).apply(own, x)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


_support = jax.jit(fit)


@given(seeds, arrays(ENCODING), st.floats(0.2, 5.0))
def test_a_distance_does_not_depend_on_axes_units_and_origin(seed, shift, scale):
    turn, _ = np.linalg.qr(normal(seed + 1, ENCODING, ENCODING))
    cloud, asked = normal(seed, 5, 6, ENCODING), 4 * normal(seed + 2, 7, ENCODING)

    def elsewhere(x):
        return (scale * x @ turn + shift).astype(np.float32)

    plain = distance(_support(cloud), asked)
    moved = distance(_support(elsewhere(cloud)), elsewhere(asked))
    np.testing.assert_allclose(moved, plain, rtol=2e-2, atol=1e-3)


@given(seeds)
def test_a_distance_is_mahalanobis_own_in_the_supports_unit(seed):
    cloud, asked = normal(seed, 5, 6, ENCODING), 4 * normal(seed + 2, 7, ENCODING)
    found = _support(cloud)
    flat = cloud.reshape(-1, ENCODING).astype(float)
    centred = asked - flat.mean(0)
    inverse = np.linalg.inv(np.cov(flat.T))
    squares = np.einsum("ni,ij,nj->n", centred, inverse, centred)
    expected = np.sqrt(squares) / float(found.unit)
    np.testing.assert_allclose(distance(found, asked), expected, rtol=1e-2)


@given(seeds, st.floats(0.01, 100), st.floats(-5, 5))
def test_standardised_inputs_have_mean_zero_and_deviation_one(seed, scale, shift):
    rows = _transitions(seed, 40)
    rows = rows._replace(observation=np.float32(scale * rows.observation + shift))
    split = jax.tree.map(lambda x: x.reshape(4, 10, *x.shape[1:]), rows)
    found = statistics(split)
    assert_close(found.observation_mean, rows.observation.mean(0), rtol=1e-3, atol=1e-3)
    inputs = (rows.observation - found.observation_mean) / found.observation_std
    np.testing.assert_allclose(inputs.mean(0), 0.0, atol=1e-2)
    np.testing.assert_allclose(inputs.std(0), 1.0, atol=1e-2)


# How right a risk measure is

levels = st.integers(0, 10).map(lambda n: n / 10)  # ties are as likely as not
risks = hnp.arrays(np.float32, 12, elements=levels)
bools = hnp.arrays(bool, 12)


@given(risks, bools)
def test_auroc_is_the_share_of_pairs_in_order(prediction, positive):
    above, below = prediction[positive, None], prediction[None, ~positive]
    order = (above > below) + 0.5 * (above == below)
    expected = order.mean() if order.size else np.nan
    np.testing.assert_allclose(
        jax.jit(evaluation.auroc)(prediction, positive), expected, rtol=1e-5
    )


@given(risks, risks, levels)
def test_rates_are_shares_of_the_states_they_are_among(prediction, truth, threshold):
    threshold = np.float32(threshold)
    dangerous, alarmed = truth > threshold, prediction > threshold
    found = jax.jit(evaluation.quality_metrics)(prediction, truth, threshold)
    np.testing.assert_allclose(
        found["wrong_decisions"], np.mean(dangerous != alarmed), rtol=1e-5
    )
    for name, wrong, among in (
        ("false_safe", ~alarmed, dangerous),
        ("false_alarm", alarmed, ~dangerous),
    ):
        expected = wrong[among].mean() if among.any() else np.nan
        np.testing.assert_allclose(found[name], expected, rtol=1e-5)
    error = np.mean((prediction - truth) ** 2)
    np.testing.assert_allclose(found["squared_error"], error, rtol=1e-4, atol=1e-6)


@jax.jit
def _passes(predictions, false_safe):
    """Whether each state passes for safe under the threshold of the others."""

    def one(i):
        others = (jnp.arange(predictions.size) != i).astype(jnp.float32)
        asked = evaluation.calibrated_threshold(
            predictions[None], others[None], 0.5, false_safe
        )
        return predictions[i] <= asked

    return jax.vmap(one)(jnp.arange(predictions.size))


@given(
    hnp.arrays(np.float32, 20, elements=st.integers(1, 60).map(lambda n: n / 64)),
    st.integers(1, 39).map(lambda n: n / 40),
)
def test_a_left_out_dangerous_state_passes_no_more_often_than_asked(predictions, share):
    passing = np.asarray(_passes(predictions, share))
    assert passing.mean() <= share + 1e-6
    if len(set(predictions.tolist())) == len(predictions):  # and hardly less often
        assert passing.sum() == int(share * 20 + 1e-6)


@given(seeds, st.floats(0.1, 10.0))
def test_an_encoding_sees_changes_of_state_in_their_own_unit(seed, unit):
    """Changes twice as large, of twice the spread, are the same changes."""
    rows = _transitions(seed)
    moved = np.float32(unit) * (rows.next_observation - rows.observation)
    larger = rows._replace(next_observation=rows.observation + moved)
    fixed = FIXED._replace(change_std=unit * FIXED.change_std)
    found = jax.jit(ENCODER.encode)(PARAMS, fixed, larger)
    np.testing.assert_allclose(found, _encode(rows), rtol=1e-2, atol=1e-3)
