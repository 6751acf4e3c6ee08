"""How right a risk measure is, against the simulator's own risk (protocol: truth).

Metrics are functions of one body's predictions and truths [N] at its decision states;
callers `vmap` over bodies. A rate whose condition no state meets is NaN.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mesa_jax import simulation
from mesa_jax.settings import setting, validate
from mesa_jax.types import Array, Domain, Key, Metrics, State, Task

BINS = 10  # of equal mass, of the calibration error
MATCHED_FALSE_ALARM = 0.02
FEW = 0.01  # share of states that are too few to judge a critic by


@dataclasses.dataclass(frozen=True)
class QualityConfig:
    """Where and how finely the simulator is asked for the true risk."""

    decision_states: int = setting(1000, "states and actions a body", "[10, 1_000_000]")
    rollouts: int = setting(256, "simulations a state and action", "[2, 1_000_000]")
    precision: float = setting(
        1e-4, "weight of the last step that a simulation takes", "(0, 1)"
    )
    rows: tuple[int, ...] = setting(
        (50, 200, 1000), "adaptation transitions that are compared", "[1, 1000]"
    )
    steps: tuple[int, ...] = setting(
        (0, 1, 5, 10, 100), "adaptation steps that are compared", "[0, 100_000]"
    )

    false_safe: float = setting(
        0.05,
        "share of the held-out training bodies' dangerous states that the calibrated "
        "threshold lets through",
        "(0, 1)",
    )

    def __post_init__(self):
        validate(self)


class DecisionSet(NamedTuple):
    """Decision states of one body and a uniform action in each."""

    states: State  # [N, ...]
    actions: Array  # [N, A] in [-1, 1]


def decision_set(key: Key, domain: Domain, task: Task, count: int) -> DecisionSet:
    """Draws `count` decision states and actions (protocol: decision states)."""
    state_key, action_key = jax.random.split(key)
    shape = (count, domain.spec.action_size)
    return DecisionSet(
        domain.decision_states(state_key, count, task),
        jax.random.uniform(action_key, shape, minval=-1.0, maxval=1.0),
    )


def true_risk(
    key: Key,
    domain: Domain,
    task: Task,
    asked: DecisionSet,
    discount: float,
    rollouts: int,
    precision: float = 1e-4,
) -> Array:
    """Two independent halves [2, N] of the Monte-Carlo truth of Q_risk.

    Their mean is the truth; half of their difference tells its noise.
    """
    half, count = rollouts // 2, len(asked.actions)

    def one(key, state, action):
        return simulation.risk_truth(
            key, domain, task, state, action, discount, half, precision
        )

    keys = jax.random.split(key, (2, count))
    return jax.vmap(jax.vmap(one), (0, None, None))(keys, *asked)


def policy_risk(
    key: Key,
    domain: Domain,
    task: Task,
    states: State,
    act: Callable[[Array], Array],
    discount: float,
    rollouts: int,
    precision: float = 1e-4,
) -> Array:
    """Mean true risk of what a policy does at states [N, ...] of one body, [].

    Args:
      act: observations [N, D] -> actions [N, A].
    """
    asked = DecisionSet(states, act(jax.vmap(domain.observe)(states)))
    found = true_risk(key, domain, task, asked, discount, rollouts, precision)
    return jnp.mean(found)


def true_risk_without_adaptation(
    key: Key,
    domain: Domain,
    tasks: Task,
    asked: DecisionSet,
    discount: float,
    rollouts: int,
    precision: float = 1e-4,
) -> Array:
    """Mean truth [N] of bodies [T, ...]: the best predictor that does not adapt.

    The rollouts are shared out among the bodies, so that the mean is as precise as one
    body's own truth.
    """
    bodies = jax.tree.leaves(tasks)[0].shape[0]
    each = 2 * -(-rollouts // (2 * bodies))

    def add(total, i):
        task = jax.tree.map(lambda x: x[i], tasks)
        one_key = jax.random.fold_in(key, i)
        halves = true_risk(one_key, domain, task, asked, discount, each, precision)
        return total + halves.mean(0) / bodies, None

    zero = jnp.zeros(len(asked.actions))
    return jax.lax.scan(add, zero, jnp.arange(bodies))[0]


def noise_floor(halves: Array) -> Array:
    """Squared error that the noise of a truth [2, N] alone causes."""
    return jnp.mean((halves[0] - halves[1]) ** 2) / 4.0


def squared_error(prediction: Array, halves: Array) -> Array:
    """Mean squared error of predictions [N] to the truth, without its noise, [].

    E[(p - a) (p - b)] = (p - E a)^2 for independent halves a, b [2, N]. It can be
    negative where the error is smaller than what the noise leaves uncertain.
    """
    return jnp.mean((prediction - halves[0]) * (prediction - halves[1]))


def rate(condition: Array, among: Array) -> Array:
    """Share of `among` (bool [N]) that meets `condition`; NaN where it is empty."""
    return jnp.sum(condition & among) / jnp.where(among.any(), among.sum(), jnp.nan)


def auroc(prediction: Array, positive: Array) -> Array:
    """Probability that a positive is predicted above a negative, ties counting half."""
    ordered = jnp.sort(prediction)
    below = jnp.searchsorted(ordered, prediction, side="left")
    upto = jnp.searchsorted(ordered, prediction, side="right")
    rank = (below + upto + 1) / 2.0  # from 1, mean over ties
    positives, negatives = (jnp.sum(x, dtype=float) for x in (positive, ~positive))
    above = jnp.sum(rank * positive) - positives * (positives + 1) / 2.0
    pairs = positives * negatives
    return above / jnp.where(pairs > 0, pairs, jnp.nan)


def bins(prediction: Array, truth: Array) -> tuple[Array, Array]:
    """Mean prediction and mean truth [BINS] of bins of (almost) equal mass."""
    order = jnp.argsort(prediction)
    number = jnp.arange(len(prediction)) * BINS // len(prediction)
    mass = jnp.bincount(number, length=BINS)
    means = (
        jnp.bincount(number, weights=values[order], length=BINS) / mass
        for values in (prediction, truth)
    )
    return tuple(means)


def calibration_error(prediction: Array, truth: Array) -> Array:
    """Mean over equal-mass bins of |mean prediction - mean truth|."""
    predicted, true = bins(prediction, truth)
    return jnp.mean(jnp.abs(predicted - true))


def false_safe_at(prediction: Array, dangerous: Array, false_alarm: float) -> Array:
    """False-safe rate at the lowest threshold whose false-alarm rate is this or less.

    Compares risk measures whose bias differs: a careful one has fewer false-safe
    decisions at any given threshold, and more false alarms.
    """
    safe = ~dangerous
    ordered = jnp.sort(jnp.where(safe, prediction, jnp.inf))
    allowed = jnp.floor(false_alarm * safe.sum() + 1e-3).astype(int)
    last = jnp.maximum(safe.sum() - 1 - allowed, 0)
    return rate(prediction <= ordered[last], dangerous & safe.any())


def calibrated_threshold(
    prediction: Array, truth: Array, threshold: float, false_safe: float
) -> Array:
    """The highest prediction that may pass for safe, [].

    A dangerous state (truth above `threshold`) drawn like those given is predicted at
    it or below with a probability of `false_safe` at most (split conformal prediction:
    Vovk et al., 2005). 0 where there are too few of them to say so, 1 where no state is
    dangerous. Of several bodies: `calibrate`.

    Args:
      prediction, truth: [N] in [0, 1].
      false_safe: in (0, 1).
    """
    prediction, truth = jnp.broadcast_arrays(prediction, truth)
    dangerous = truth > threshold
    ordered = jnp.sort(jnp.where(dangerous, prediction, jnp.inf).ravel())
    allowed = _allowed(false_safe, dangerous.sum())
    first = ordered[jnp.maximum(allowed - 1, 0)]  # to be called dangerous
    found = jnp.where(allowed > 0, jnp.nextafter(first, 0.0), 0.0)
    return jnp.where(dangerous.any(), found, 1.0)


class Calibration(NamedTuple):
    """A threshold for bodies like those of which H are known."""

    threshold: Array  # [] NaN where the bodies are too few
    dangerous: Array  # [H] dangerous states of each
    able: Array  # [H] bool: enough of them to say anything


def calibrate(
    prediction: Array,
    truth: Array,
    threshold: float,
    false_safe: float,
    failing: float,
    repeats: int = 1,
) -> Calibration:
    """The threshold of a new body: `calibrated_threshold` of bodies, not of states.

    States of one body are not exchangeable with another's, bodies drawn alike are. Each
    has a threshold of its own. The k-th least of H of them is above that of a new body
    with a probability of k / (H + 1) at most, here `failing`; on all other bodies a
    dangerous state passes with a probability of `false_safe` at most. It takes
    1 / `failing` - 1 bodies with 1 / `false_safe` - 1 dangerous states each.

    Args:
      prediction, truth: [H, N] in [0, 1].
      threshold: epsilon_risk; a state is dangerous where the truth exceeds it.
      false_safe, failing: in (0, 1).
      repeats: how often each state is among the N.
    """
    each = jax.vmap(calibrated_threshold, (0, 0, None, None))
    own = each(prediction, truth, threshold, false_safe)
    dangerous = jnp.sum(truth > threshold, axis=1) // repeats
    able = _allowed(false_safe, dangerous) > 0
    allowed = _allowed(failing, jnp.sum(able))
    ordered = jnp.sort(jnp.where(able, own, jnp.inf))
    found = jnp.where(allowed > 0, ordered[jnp.maximum(allowed - 1, 0)], jnp.nan)
    return Calibration(found, dangerous, able)


def _allowed(share: float, count: Array) -> Array:
    """How many of `count` and one more may be worse, so that it is a share at most."""
    return jnp.floor(share * (count + 1) + 1e-6).astype(int)


def metrics(prediction: Array, truth: Array, threshold: float) -> Metrics:
    """Every metric of protocol "Decision states" of one body.

    Args:
      prediction, truth: [N] in [0, 1]. The noise of a simulated truth is in the squared
        error; the function `squared_error` leaves it out.
      threshold: epsilon_risk; a state is dangerous where the truth exceeds it.
    """
    dangerous, alarmed = truth > threshold, prediction > threshold
    return {
        "squared_error": jnp.mean((prediction - truth) ** 2),
        "auroc": auroc(prediction, dangerous),
        "calibration_error": calibration_error(prediction, truth),
        "wrong_decisions": jnp.mean(alarmed != dangerous),
        "false_safe": rate(~alarmed, dangerous),
        "false_alarm": rate(alarmed, ~dangerous),
        "false_safe_matched": false_safe_at(prediction, dangerous, MATCHED_FALSE_ALARM),
    }


def at_threshold(
    prediction: Array, truth: Array, threshold: float, asked: Array
) -> Metrics:
    """False-safe and false-alarm rates of one body if the agent switched at `asked`."""
    alarms, safes = tradeoff(prediction, truth, threshold, asked[None])
    return {
        "threshold_calibrated": asked,
        "false_safe_calibrated": safes[0],
        "false_alarm_calibrated": alarms[0],
    }


def tradeoff(
    prediction: Array, truth: Array, threshold: float, asked: Array
) -> tuple[Array, Array]:
    """False-alarm and false-safe rates [K] if the agent switched at `asked` [K]."""
    dangerous = truth > threshold
    alarmed = prediction > asked[:, None]
    return (
        jax.vmap(rate, (0, None))(alarmed, ~dangerous),
        jax.vmap(rate, (0, None))(~alarmed, dangerous),
    )


def collapse(prediction: Array, truth: Array, threshold: float) -> Array:
    """-1 where a critic calls every state safe though some are not, 1 the reverse.

    0 where it tells states apart, or where hardly any (1 %) are of the other kind.
    """
    dangerous, alarmed = truth > threshold, prediction > threshold
    all_safe = ~alarmed.any() & (dangerous.mean() > FEW)
    all_dangerous = alarmed.all() & ((~dangerous).mean() > FEW)
    return all_dangerous.astype(jnp.int32) - all_safe.astype(jnp.int32)
