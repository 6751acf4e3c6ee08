"""How right a risk measure is, against the truth.

Metrics are functions of one body's predictions and truths [N] at its decision states;
callers `vmap` over bodies. A rate whose condition no state meets is NaN.
"""

import jax
import jax.numpy as jnp

from mesa_jax.types import Array, Metrics

BINS = 10  # of equal mass, of the calibration error


MATCHED_FALSE_ALARM = 0.02


FEW = 0.01  # share of states that are too few to judge a critic by


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


def quality_metrics(prediction: Array, truth: Array, threshold: float) -> Metrics:
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
