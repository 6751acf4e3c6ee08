"""How right a filter is on held-out transitions, where nothing simulates its bodies."""

import jax
import jax.numpy as jnp

from mesa_jax.evaluation.metrics import rate
from mesa_jax.evaluation.observed import dangerous_and_decided, observed_risk
from mesa_jax.filter import SafetyFilter
from mesa_jax.prior import bellman_error
from mesa_jax.system import System
from mesa_jax.types import Key, Metrics, Transition


def heldout_metrics(
    key: Key, system: System, guard: SafetyFilter, transitions: Transition
) -> Metrics:
    """Returns a filter's metrics on transitions that it has not adapted on, [S] each.

    The squared Bellman error of its critic; and against outcomes, what its risk says of
    the violations that followed under the policy that made the data: the mean of the
    risk beside bounds on that of the outcomes (calibration in the large), and the
    shares of dangerous transitions that pass and of safe ones that do not. One is
    dangerous where its outcome exceeds the risk threshold.

    Args:
      key: consumed.
      system: of the filter's method.
      guard: of S bodies.
      transitions: [S, N, ...] in the order they were made.
    """
    config = system.configuration

    def of_body(key, critic, recovery, threshold, rows):
        policy = lambda key, seen: system.next_action(key, critic, (recovery,), seen)  # noqa: E731
        risk = system.risk.estimate(critic, rows.observation, rows.action)
        bounds = observed_risk(rows, config.risk.discount)
        epsilon = config.recovery.risk_threshold
        dangerous, decided = dangerous_and_decided(bounds, epsilon)
        safe, passes = decided & ~dangerous, risk <= threshold
        return {
            "bellman_error": bellman_error(key, system.risk, policy, critic, rows),
            "mean_risk": jnp.mean(risk),
            "mean_outcome_at_least": jnp.mean(bounds[0]),
            "mean_outcome_at_most": jnp.mean(bounds[1]),
            "false_safe": rate(passes, dangerous),
            "false_alarm": rate(~passes, safe),
        }

    keys = jax.random.split(key, len(transitions.cost))
    program = jax.jit(jax.vmap(of_body))
    return program(keys, guard.critic, guard.recovery, guard.threshold, transitions)
