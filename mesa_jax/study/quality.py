"""Records of what adapted critics estimate on test bodies: metrics, body by body."""

import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from mesa_jax import adaptation, evaluation
from mesa_jax.agents import RecoveryConfig
from mesa_jax.configuration import Configuration
from mesa_jax.methods import METHODS
from mesa_jax.study import resolve
from mesa_jax.study.artifacts.truth import Truth
from mesa_jax.study.estimates import Saved
from mesa_jax.study.records import OWN, Outside, Row
from mesa_jax.types import Array


def of_row(settings: Configuration, name: str) -> Configuration:
    """Returns what a row of the table was made under; some rows are no method."""
    return resolve.of_method(settings, name) if name in METHODS else settings


def own_steps(settings: Configuration, found: Sequence[Saved]) -> dict[str, int]:
    """Returns by method the number of adaptation steps it is used with, or `OWN`."""
    by_rule = {saved.method for saved in found if OWN in saved.steps}

    def own(name):
        section = getattr(resolve.of_method(settings, name), METHODS[name].adaptation)
        return OWN if name in by_rule else section.steps

    asked = {saved.method for saved in found}  # not all have settings in every domain
    return {name: own(name) for name in METHODS if name in asked}


def with_own_rule(settings: Configuration, saved: Saved) -> Saved:
    """Adds the estimates after as many steps as the method takes to each body, `OWN`.

    They are those after `steps` inside what the prior was trained on, and those after
    `steps_outside` outside.
    """
    if saved.distance is None:
        return saved
    section = adaptation.config_of(
        resolve.of_method(settings, saved.method), METHODS[saved.method]
    )
    if not section.steps_outside:
        return saved

    def joined(estimates, distance):
        at = np.searchsorted(saved.steps, adaptation.steps(section, distance))
        chosen = np.take_along_axis(estimates, at[:, None, :, None], axis=1)
        return np.concatenate([estimates, chosen], axis=1)

    return saved._replace(
        steps=np.append(saved.steps, OWN),
        estimates=joined(saved.estimates, saved.distance),
        held_out=joined(saved.held_out, saved.held_out_distance),
    )


def records_of(
    settings: Configuration,
    found: Sequence[Saved],
    truths: Mapping[str, Truth],
    held_out: Mapping[tuple[str, int], Truth],
) -> list[Row]:
    """Returns a record a method, meta-seed, body, number of transitions and of steps.

    Squared errors are without the noise of the simulated truth.

    Args:
      truths: by method, at the horizon that it looks ahead.
      held_out: of the held-out training bodies, by method and meta-seed.
    """
    level = settings.quality.false_safe

    def thresholds(saved: Saved, i: int, recovery: RecoveryConfig) -> Array:
        """Calibrates one for every number of steps, [P]; NaN where there is none."""
        if saved.held_out is None:
            return jnp.full(len(saved.steps), jnp.nan)
        risk = jnp.asarray(held_out[saved.method, saved.meta_seed].risk)
        asked = recovery.risk_threshold, level, recovery.false_safe_bodies
        found = [evaluation.calibrate(x, risk, *asked) for x in saved.held_out[i]]
        return jnp.stack([one.threshold for one in found])

    records, own = [], own_steps(settings, found)
    for saved in found:
        recovery = of_row(settings, saved.method).recovery
        halves = jnp.asarray(truths[saved.method].halves)
        for i, transitions in enumerate(saved.rows):
            calibrated = thresholds(saved, i, recovery)
            given = jnp.asarray(saved.estimates[i]), halves, calibrated
            values = _metrics(*given, recovery.risk_threshold)
            values = {name: np.asarray(x, float) for name, x in values.items()}
            values["recovery_risk"] = _recovery_risks(saved, i, own)
            for step, body in np.ndindex(values["auroc"].shape):
                records.append(
                    {
                        "domain": settings.domain,
                        "tasks": settings.tasks,
                        "method": saved.method,
                        "meta_seed": saved.meta_seed,
                        "seed": int(saved.seeds[body]),
                        "rows": int(transitions),
                        "steps": int(saved.steps[step]),
                    }
                    | {name: float(x[step, body]) for name, x in values.items()}
                )
    return records


@functools.partial(jax.jit, static_argnums=3)
def _metrics(
    estimates: Array, halves: Array, thresholds: Array, threshold: float
) -> dict[str, Array]:
    """Measures estimates [P, S, N] against halves [S, 2, N] of the truth, [P, S].

    Args:
      thresholds: [P] calibrated ones.
      threshold: the risk threshold in use.
    """

    @functools.partial(jax.vmap, in_axes=(0, None, 0))  # every number of steps
    @functools.partial(jax.vmap, in_axes=(0, 0, None))  # every body
    def measure(estimates, halves, calibrated):
        true = halves.mean(0)
        values = evaluation.quality_metrics(estimates, true, threshold)
        values["squared_error"] = evaluation.squared_error(estimates, halves)
        values |= evaluation.at_threshold(estimates, true, threshold, calibrated)
        collapsed = evaluation.collapse(estimates, true, threshold)
        return values | {"collapsed": (collapsed != 0).astype(float)}

    return measure(estimates, halves, thresholds)


def _recovery_risks(saved: Saved, i: int, own: Mapping[str, int]) -> np.ndarray:
    """Returns the recovery policy's true risk after the own steps, else NaN, [P, S]."""
    risks = np.full((len(saved.steps), len(saved.seeds)), np.nan)
    if saved.recovery_risk is not None:
        risks[saved.steps.tolist().index(own[saved.method])] = saved.recovery_risk[i]
    return risks


def outside_of(found: Sequence[Saved]) -> dict[tuple[str, int], Outside]:
    """Returns who lies outside, by method that encodes and number of transitions.

    Shares of the test bodies and of the held-out training bodies whose distance
    exceeds 1, over all meta-seeds.
    """
    encoding = [saved for saved in found if saved.distance is not None]
    shares: dict[tuple[str, int], Outside] = {}
    for method in dict.fromkeys(saved.method for saved in encoding):
        mine = [saved for saved in encoding if saved.method == method]
        for i, transitions in enumerate(mine[0].rows):
            test = np.concatenate([saved.distance[i] for saved in mine])
            trained = np.concatenate([saved.held_out_distance[i] for saved in mine])
            both = jnp.asarray(np.concatenate([test, trained]))
            positive = jnp.asarray(np.arange(len(both)) < len(test))
            shares[method, int(transitions)] = Outside(
                float(np.mean(test > 1.0)),
                float(np.mean(trained > 1.0)),
                float(evaluation.auroc(both, positive)),
            )
    return shares


def pooled(
    found: Sequence[Saved],
    truths: Mapping[str, Truth],
    method: str,
    transitions: int,
    steps: int,
) -> tuple[Array, Array]:
    """Returns predictions and truths, flat over meta-seeds, bodies and states."""
    mine = [saved.at(transitions, steps) for saved in found if saved.method == method]
    mine = [values for values in mine if values is not None]
    true = np.concatenate([truths[method].risk.ravel()] * len(mine))
    return jnp.asarray(np.concatenate([v.ravel() for v in mine])), jnp.asarray(true)
