"""How right a risk measure is, against the truth.

Metrics are functions of one body's predictions and truths [N] at its decision states;
callers `vmap` over bodies. A rate whose condition no state meets is NaN.
"""

import jax
import jax.numpy as jnp

from mesa_jax.types import Array, Metrics

BINS = 10  # of equal mass, of the calibration error


MATCHED_FALSE_ALARM = 0.02  # rate at which risk measures are compared


FEW = 0.01  # share of states that are too few to judge a critic by


def noise_floor(halves: Array) -> Array:
    """Returns the squared error that the noise of a truth alone causes, [].

    Args:
      halves: [2, N] independent estimates of the truth.
    """
    return jnp.mean((halves[0] - halves[1]) ** 2) / 4.0


def squared_error(prediction: Array, halves: Array) -> Array:
    """Returns the mean squared error to the truth, without the truth's noise, [].

    E[(p - a) (p - b)] = (p - E a)^2 for independent halves a, b. It can be negative
    where the error is smaller than what the noise leaves uncertain.

    Args:
      prediction: [N] p.
      halves: [2, N] independent estimates of the truth, a and b.
    """
    return jnp.mean((prediction - halves[0]) * (prediction - halves[1]))


def rate(condition: Array, among: Array) -> Array:
    """Returns the share of `among` that meets `condition`, []; NaN where it is empty.

    Args:
      condition: [N] bool.
      among: [N] bool.
    """
    return jnp.sum(condition & among) / jnp.where(among.any(), among.sum(), jnp.nan)


def auroc(prediction: Array, positive: Array) -> Array:
    """Returns the probability that a positive is predicted above a negative, [].

    Ties count half. NaN where there is no positive, or no negative.

    Args:
      prediction: [N]
      positive: [N] bool.
    """
    ordered = jnp.sort(prediction)
    below = jnp.searchsorted(ordered, prediction, side="left")
    upto = jnp.searchsorted(ordered, prediction, side="right")
    rank = (below + upto + 1) / 2.0  # from 1, mean over ties
    positives, negatives = (jnp.sum(x, dtype=float) for x in (positive, ~positive))
    above = jnp.sum(rank * positive) - positives * (positives + 1) / 2.0
    pairs = positives * negatives
    return above / jnp.where(pairs > 0, pairs, jnp.nan)


def bins(prediction: Array, truth: Array) -> tuple[Array, Array]:
    """Returns mean prediction and mean truth [BINS] of bins of (almost) equal mass.

    Args:
      prediction: [N]
      truth: [N]
    """
    order = jnp.argsort(prediction)
    number = jnp.arange(len(prediction)) * BINS // len(prediction)
    mass = jnp.bincount(number, length=BINS)
    means = (
        jnp.bincount(number, weights=values[order], length=BINS) / mass
        for values in (prediction, truth)
    )
    return tuple(means)


def calibration_error(prediction: Array, truth: Array) -> Array:
    """Returns the mean over equal-mass bins of |mean prediction - mean truth|, [].

    Args:
      prediction: [N]
      truth: [N]
    """
    predicted, true = bins(prediction, truth)
    return jnp.mean(jnp.abs(predicted - true))


def false_safe_at(prediction: Array, dangerous: Array, false_alarm: float) -> Array:
    """Returns the false-safe rate at a given false-alarm rate, [].

    It is that of the lowest threshold whose false-alarm rate is this or less. Compares
    risk measures whose bias differs: a careful one has fewer false-safe decisions at
    any given threshold, and more false alarms.

    Args:
      prediction: [N]
      dangerous: [N] bool.
      false_alarm: in [0, 1].
    """
    safe = ~dangerous
    ordered = jnp.sort(jnp.where(safe, prediction, jnp.inf))
    # the small number makes up for a product that is whole but for rounding
    allowed = jnp.floor(false_alarm * safe.sum() + 1e-3).astype(int)
    last = jnp.maximum(safe.sum() - 1 - allowed, 0)
    return rate(prediction <= ordered[last], dangerous & safe.any())


def quality_metrics(prediction: Array, truth: Array, threshold: float) -> Metrics:
    """Returns every metric of one body (protocol: decision states).

    The noise of a simulated truth is in the squared error; the function `squared_error`
    leaves it out.

    Args:
      prediction: [N] in [0, 1].
      truth: [N] in [0, 1].
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
    """Returns false-safe and false-alarm rates if the agent switched at `asked`.

    Args:
      prediction: [N] in [0, 1].
      truth: [N] in [0, 1].
      threshold: epsilon_risk; a state is dangerous where the truth exceeds it.
      asked: [] the threshold of the switch.
    """
    alarms, safes = tradeoff(prediction, truth, threshold, asked[None])
    return {
        "threshold_calibrated": asked,
        "false_safe_calibrated": safes[0],
        "false_alarm_calibrated": alarms[0],
    }


def tradeoff(
    prediction: Array, truth: Array, threshold: float, asked: Array
) -> tuple[Array, Array]:
    """Returns false-alarm and false-safe rates [K] if the agent switched at `asked`.

    Args:
      prediction: [N] in [0, 1].
      truth: [N] in [0, 1].
      threshold: epsilon_risk; a state is dangerous where the truth exceeds it.
      asked: [K] thresholds of the switch.
    """
    dangerous = truth > threshold
    alarmed = prediction > asked[:, None]
    return (
        jax.vmap(rate, (0, None))(alarmed, ~dangerous),
        jax.vmap(rate, (0, None))(~alarmed, dangerous),
    )


def collapse(prediction: Array, truth: Array, threshold: float) -> Array:
    """Returns -1 where a critic calls every state safe though some are not, [] int32.

    1 where it calls every state dangerous though some are not.

    0 where it tells states apart, or where hardly any (1 %) are of the other kind.

    Args:
      prediction: [N] in [0, 1].
      truth: [N] in [0, 1].
      threshold: epsilon_risk; a state is dangerous where the truth exceeds it.
    """
    dangerous, alarmed = truth > threshold, prediction > threshold
    all_safe = ~alarmed.any() & (dangerous.mean() > FEW)
    all_dangerous = alarmed.all() & ((~dangerous).mean() > FEW)
    return all_dangerous.astype(jnp.int32) - all_safe.astype(jnp.int32)
