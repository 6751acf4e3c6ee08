"""Watches a prior while it is trained: is its critic right on held-out bodies?"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from mesa_jax import evaluation
from mesa_jax.adaptation import adaptation
from mesa_jax.keys import Stage
from mesa_jax.methods import METHODS
from mesa_jax.prior import bellman_error
from mesa_jax.study.artifacts.truth import HeldOut
from mesa_jax.system import System, compiled_once
from mesa_jax.types import Prior

KINDS = {-1: "safe", 1: "dangerous"}  # what a collapsed critic calls every state


def watch(
    system: System, kind: str, held: HeldOut
) -> Callable[[Prior], dict[str, float]]:
    """Makes a function of a prior: what its critic is worth on held-out bodies.

    Calibration and error of the critic before and after adaptation, shares of its
    estimates that are saturated, whether it has collapsed, and norms. Without a
    simulator both are to what followed in the data, chance included.
    """
    every = _every(system, kind)
    asked = jnp.asarray(held.truth.observations), jnp.asarray(held.truth.actions)
    halves = jnp.asarray(held.truth.halves)

    def look(prior):
        keys = held.bodies.keys(Stage.ADAPT)
        values = every(keys, prior, held.bodies.rows, asked, halves)
        return {name: float(value) for name, value in values.items()}

    return look


@compiled_once
def _every(system: System, kind: str) -> Callable:
    """Compiles what `watch` says: over held-out bodies, of a prior."""
    settings = system.configuration
    section = next(row.adaptation for row in METHODS.values() if row.prior == kind)
    steps = getattr(settings, section).steps
    adapt = adaptation(settings, system.parts[:1], section)
    threshold = settings.recovery.risk_threshold
    to = "heldout/" if system.domain.spec.simulated else "heldout/outcome_"

    def compared(critic, observations, actions, halves):
        estimates = system.risk.estimate(critic, observations, actions)
        return estimates, {
            "squared_error": evaluation.squared_error(estimates, halves),
            "calibration_error": evaluation.calibration_error(
                estimates, halves.mean(0)
            ),
        }

    def body(key, prior, rows, observations, actions, halves):
        true = halves.mean(0)
        key, error_key = jax.random.split(key)
        support = jax.tree.map(lambda x: x[: settings.data.adaptation], rows)
        unadapted = adapt(key, prior, support, jnp.int32(0))[0]  # encoded, if it is
        policies = prior.params[1:]
        policy = lambda key, seen: system.next_action(key, unadapted, policies, seen)  # noqa: E731
        error = bellman_error(error_key, system.risk, policy, unadapted, rows)
        before, values = compared(unadapted, observations, actions, halves)
        adapted = adapt(key, prior, support, jnp.int32(steps))[0]
        after, adapted_values = compared(adapted, observations, actions, halves)
        return {
            "heldout/bellman_error_before": error,
            **{f"{to}{k}_before": v for k, v in values.items()},
            **{f"{to}{k}_after": v for k, v in adapted_values.items()},
            "heldout/estimates_below_0.01": jnp.mean(before < 0.01),
            "heldout/estimates_above_0.99": jnp.mean(before > 0.99),
            "heldout/collapsed_before": evaluation.collapse(before, true, threshold),
            "heldout/collapsed_after": evaluation.collapse(after, true, threshold),
        }

    @jax.jit
    def every(keys, prior, rows, asked, halves):
        over = jax.vmap(body, (0, None, 0, 0, 0, 0))
        values = over(keys, prior, rows, *asked, halves)
        norms = {
            f"norm/{name}": optax.tree.norm(params["network"])
            for name, params in zip(("critic", "recovery"), prior.params, strict=False)
        }
        means = {name: jnp.mean(value.astype(float)) for name, value in values.items()}
        return means | norms

    return every


def warning(kind: str, step: int, values: dict[str, float]) -> str | None:
    """Returns a warning if the critic has collapsed on all held-out bodies."""
    for when in ("before", "after"):
        verdict = KINDS.get(values[f"heldout/collapsed_{when}"])
        if verdict:
            return (
                f"Warning: meta_train {kind}: {when} adaptation, the critic of outer "
                f"step {step} calls every decision state of the held-out bodies "
                f"{verdict}; it has collapsed. Check input statistics and the outer "
                "learning rate."
            )
    return None
