"""Watching a prior while it is trained: is its critic right on held-out bodies?"""

import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mesa_jax import configuration, evaluation
from mesa_jax.keys import Stage
from mesa_jax.prior import bellman_error as bellman_error_of
from mesa_jax.report import layout, training
from mesa_jax.report.training import Panel
from mesa_jax.study import files, metrics_log
from mesa_jax.study.artifacts.truth import HeldOut
from mesa_jax.system import Build, critic_only
from mesa_jax.types import Prior

ADAPTED_BY = {"maml": "mesa", "pooled": "multi_task"}  # by kind of prior
KINDS = {-1: "safe", 1: "dangerous"}  # what a collapsed critic calls every state


def watch(
    settings: configuration.Settings, built: Build, kind: str, held: HeldOut
) -> Callable[[Prior], dict[str, float]]:
    """Makes a function of a prior: what its critic is worth on held-out bodies.

    Calibration and error of the critic before and after adaptation, shares of its
    estimates that are saturated, whether it has collapsed, and norms.
    """
    section = ADAPTED_BY[kind]
    steps = getattr(settings, section).steps
    threshold = settings.recovery.risk_threshold
    asked = jnp.asarray(held.truth.observations), jnp.asarray(held.truth.actions)

    def compared(critic, observations, actions, halves):
        estimates = built.risk.estimate(critic, observations, actions)
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
        adapt, start = built.adapt_critic[section], critic_only(prior)
        unadapted = adapt(key, start, support, jnp.int32(0))[0]  # encoded, if it is
        bellman_error = bellman_error_of(
            error_key, built.risk, built.domain.reference_policy, unadapted, rows
        )
        before, values = compared(unadapted, observations, actions, halves)
        adapted = adapt(key, start, support, jnp.int32(steps))[0]
        after, adapted_values = compared(adapted, observations, actions, halves)
        return {
            "heldout/bellman_error_before": bellman_error,
            **{f"heldout/{k}_before": v for k, v in values.items()},
            **{f"heldout/{k}_after": v for k, v in adapted_values.items()},
            "heldout/estimates_below_0.01": jnp.mean(before < 0.01),
            "heldout/estimates_above_0.99": jnp.mean(before > 0.99),
            "heldout/collapsed_before": evaluation.collapse(before, true, threshold),
            "heldout/collapsed_after": evaluation.collapse(after, true, threshold),
        }

    @jax.jit
    def every(prior, rows, asked, halves):
        over = jax.vmap(body, (0, None, 0, 0, 0, 0))
        values = over(held.bodies.keys(Stage.ADAPT), prior, rows, *asked, halves)
        norms = {
            f"norm/{name}": optax.tree.norm(params["network"])
            for name, params in zip(("critic", "recovery"), prior.params, strict=False)
        }
        means = {name: jnp.mean(value.astype(float)) for name, value in values.items()}
        return means | norms

    halves = jnp.asarray(held.truth.halves)

    def look(prior):
        values = every(prior, held.bodies.rows, asked, halves)
        return {name: float(value) for name, value in values.items()}

    return look


def warning(kind: str, step: int, values: dict[str, float]) -> str | None:
    """What to tell where the critic has collapsed on all held-out bodies, or None."""
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


PAGE = (  # title, unit, logarithmic; label: value, or the start of values' names
    (
        "Bellman error of the critic, held-out training bodies",
        *("squared error", True),
        {
            "before adaptation": "heldout/bellman_error_before",
            "the one to keep by": "risk/heldout_bellman_error",
        },
    ),
    (
        "Error of the critic to the simulator's risk, held-out training bodies",
        *("squared error", True),
        {
            "before adaptation": "heldout/squared_error_before",
            "after adaptation": "heldout/squared_error_after",
        },
    ),
    (
        "Calibration of the critic, held-out training bodies",
        *("calibration error", True),
        {
            "before adaptation": "heldout/calibration_error_before",
            "after adaptation": "heldout/calibration_error_after",
        },
    ),
    (
        "Saturation of the un-adapted critic, held-out training bodies",
        *("share of estimates", False),
        {
            "below 0.01": "heldout/estimates_below_0.01",
            "above 0.99": "heldout/estimates_above_0.99",
        },
    ),
    (
        "Norms of parameters and of outer gradients",
        *("global norm", True),
        {
            "critic": "norm/critic",
            "recovery policy": "norm/recovery",
            "critic's gradient": "meta/gradient_norm_0",
            "recovery's gradient": "meta/gradient_norm_1",
        },
    ),
)
RATES = "rate/critic/"


def page_of(place: pathlib.Path, name: str) -> pathlib.Path:
    """Where the page of a prior lies."""
    return place / "report" / f"training_{name}.png"


def page(place: pathlib.Path, name: str, kind: str) -> pathlib.Path | None:
    """Draws the training of a prior from metrics.jsonl; None if nothing is there."""
    series: dict[str, tuple[list, list]] = {}
    for record in metrics_log.read(place):
        if record["stage"] == name:
            for key, value in record["values"].items():
                steps, values = series.setdefault(key, ([], []))
                steps.append(record["step"])
                values.append(value)
    lines = {key: tuple(map(np.array, pair)) for key, pair in series.items()}
    panels = [
        Panel(title, unit, log, {k: lines[v] for k, v in mine.items() if v in lines})
        for title, unit, log, mine in PAGE
    ]
    rates = {
        key.removeprefix(RATES).removeprefix("params/"): line
        for key, line in lines.items()
        if key.startswith(RATES)
    }
    panels.append(Panel("Learned inner rates of the critic", "rate", True, rates))
    panels = [panel for panel in panels if panel.lines]
    if not panels:
        return None
    figure = training.meta_training(
        f"Training of a prior: {kind}", f"{name}; a value a checkpoint.", panels
    )
    return files.write_atomically(page_of(place, name), layout.png(figure))
