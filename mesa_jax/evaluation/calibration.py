"""Risk thresholds with a guarantee over bodies (split conformal prediction)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mesa_jax.types import Array


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
