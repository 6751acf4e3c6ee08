"""Risk thresholds with a guarantee over bodies (split conformal prediction)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mesa_jax.types import Array


def calibrated_threshold(
    prediction: Array, truth: Array, threshold: float, false_safe: float
) -> Array:
    """Returns the highest prediction that may pass for safe, [].

    Split conformal prediction (Vovk et al., 2005; protocol: calibrated threshold). With
    p_(1) <= ... <= p_(n) the predictions at the n dangerous states (truth above
    `threshold`) it is just below

        p_(k),   k = floor(false_safe (n + 1)),

    so that a dangerous state that is *exchangeable* with those given is predicted at it
    or below with a probability of at most k / (n + 1) <= `false_safe`. 0 where k is 0:
    there are too few of them to say so. 1 where no state is dangerous. States of
    several bodies are not exchangeable with a new body's: use `calibrate`.

    Args:
      prediction: [N] in [0, 1].
      truth: [N] in [0, 1].
      threshold: epsilon_risk.
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
    """Holds a threshold for bodies like those of which H are known."""

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
    """Returns a new body's threshold: conformal over bodies, not over states.

    States of one body are not exchangeable with another's, bodies drawn alike are. Each
    has a threshold t_h of its own, and the new one is t_(k), the k-th least of H, with
    k = floor(failing (H + 1)): t_(k) is above a new body's own with a probability of k
    / (H + 1) at most, so at most `failing`; on all other bodies a dangerous state
    passes with a probability of `false_safe` at most. It takes 1 / `failing` - 1 bodies
    with 1 / `false_safe` - 1 dangerous states each.

    Args:
      prediction: [H, N] in [0, 1].
      truth: [H, N] in [0, 1].
      threshold: epsilon_risk; a state is dangerous where the truth exceeds it.
      false_safe: in (0, 1).
      failing: in (0, 1).
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
    """Returns k = floor(share (count + 1)): how many may be worse, of one more.

    The small number makes up for a product that is a whole number but for rounding.
    """
    return jnp.floor(share * (count + 1) + 1e-6).astype(int)
