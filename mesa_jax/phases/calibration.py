"""A risk threshold from transitions of held-out bodies, without a simulator."""

import jax
import jax.numpy as jnp

from mesa_jax.evaluation import (
    Calibration,
    calibrate,
    dangerous_and_decided,
    observed_risk,
)
from mesa_jax.filter import METHOD
from mesa_jax.phases.adapting import adapt
from mesa_jax.settings import SettingError
from mesa_jax.system import System
from mesa_jax.types import Key, Prior, Transition


def halves(transitions: Transition) -> tuple[Transition, Transition]:
    """Returns the earlier and the later half of each body's transitions.

    Args:
      transitions: [H, N, ...] in the order they were made.
    """
    middle = transitions.cost.shape[1] // 2
    return (
        jax.tree.map(lambda x: x[:, :middle], transitions),
        jax.tree.map(lambda x: x[:, middle:], transitions),
    )


def calibrate_on(
    key: Key,
    system: System,
    prior: Prior | None,
    transitions: Transition,
    method: str = METHOD,
) -> Calibration:
    """Calibrates a risk threshold on transitions of held-out bodies.

    Each body adapts on `data.adaptation` of the earlier half of its transitions, drawn
    without replacement. The later half judges: a transition is dangerous where the
    discounted violation that followed it in its episode exceeds
    `recovery.risk_threshold` (`evaluation.observed`); one whose episode was cut before
    that is known is left out. Then as `evaluation.calibrate` does.

    Of a new body drawn as these were, in data made as these were, a transition that
    will turn out dangerous passes for safe with a probability of at most
    `recovery.false_safe`; but for `recovery.false_safe_bodies` of such bodies. It says
    nothing of states that the data's policy avoids, of what other policies do
    afterwards (the guarded one among them), or of dangers that did not come true.
    Rows of an episode are alike: it takes many episodes, not many rows.

    Args:
      key: consumed.
      system: of the method's configuration, `recovery.false_safe` not 0.
      prior: of the method; it has not seen the bodies.
      transitions: [H, N, ...] of held-out bodies, each in the order they were made.
      method: a row of METHODS.

    Returns:
      The threshold: `guard.replace(threshold=...)`.

    Raises:
      SettingError: where nothing is asked for, or there are too few dangerous
        transitions or bodies; says how many there are and are needed.
    """
    config, asked = system.configuration, system.configuration.recovery
    if not asked.false_safe:
        raise SettingError("recovery_false_safe", 0.0, "the share that may pass")
    earlier, later = halves(jax.device_put(transitions))
    draw_key, adapt_key = jax.random.split(key)
    total = earlier.cost.shape[1]
    count = min(config.data.adaptation, total)
    orders = jax.vmap(lambda k: jax.random.permutation(k, total)[:count])(
        jax.random.split(draw_key, len(earlier.cost))
    )
    few = jax.tree.map(lambda x: jax.vmap(lambda y, i: y[i])(x, orders), earlier)
    guard = adapt(adapt_key, system, prior, few, method)
    predicted = jax.jit(lambda *x: guard.risk(*x))(later.observation, later.action)
    bounds = jax.vmap(lambda x: observed_risk(x, config.risk.discount))(later)
    dangerous, _ = jax.vmap(dangerous_and_decided, (0, None))(
        bounds, asked.risk_threshold
    )
    found = calibrate(
        predicted,
        dangerous.astype(predicted.dtype),
        0.5,
        asked.false_safe,
        asked.false_safe_bodies,
    )
    if not bool(jnp.isfinite(found.threshold)):
        raise SettingError(
            "recovery_false_safe", asked.false_safe, _lacking(asked, found)
        )
    return found


def _lacking(asked, found: Calibration) -> str:
    counts = ", ".join(str(int(x)) for x in found.dangerous)
    return (
        f"larger: {int(found.able.sum())} of {len(found.able)} held-out bodies have "
        f"the {asked.dangerous_to_calibrate} dangerous transitions that it takes, and "
        f"it takes {asked.bodies_to_calibrate} such bodies; in the later half of their "
        f"transitions they have {counts}. Give longer recordings, or hold out more "
        "bodies"
    )
