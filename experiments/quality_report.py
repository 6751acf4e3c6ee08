"""What `evaluate` saved of a workdir, as records, tables and figures."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from mesa_jax import adaptation, configuration, evaluation
from mesa_jax.methods import METHODS
from mesa_jax.report import comparison, curves
from mesa_jax.report.comparison import OWN, Record
from mesa_jax.study import files, resolve
from mesa_jax.study.artifacts.data import test_bodies
from mesa_jax.study.artifacts.truth import Truth, heldout_bodies, test_truth
from mesa_jax.study.estimates import read
from mesa_jax.study.study import Asked, Study
from mesa_jax.system import training_transitions

from . import error_maps, quality_figures
from .quality_figures import Saved


def own_steps(
    settings: configuration.Configuration, found: list[Saved]
) -> dict[str, int]:
    """By method, the number of adaptation steps that it is used with, or `OWN`."""
    by_rule = {saved.method for saved in found if OWN in saved.steps}

    def own(name):
        section = getattr(resolve.of_method(settings, name), METHODS[name].adaptation)
        return OWN if name in by_rule else section.steps

    asked = {saved.method for saved in found}  # not all have settings in every domain
    return {name: own(name) for name in METHODS if name in asked}


def with_own_rule(settings: configuration.Configuration, saved: Saved) -> Saved:
    """With the estimates after as many steps as the method takes to each body, `OWN`.

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
    settings: configuration.Configuration,
    found: list[Saved],
    truth: Truth,
    held_out: dict[int, Truth],
) -> list[Record]:
    """One record a method, meta-seed, body, number of transitions and of steps.

    Squared errors are without the noise of the simulated truth.

    Args:
      held_out: truth of the held-out training bodies, by meta-seed.
    """
    threshold, level = settings.recovery.risk_threshold, settings.quality.false_safe
    halves = jnp.asarray(truth.halves)

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, None, 0))  # every number of steps
    @functools.partial(jax.vmap, in_axes=(0, 0, None))  # every body
    def measure(estimates, halves, calibrated):
        true = halves.mean(0)
        values = evaluation.quality_metrics(estimates, true, threshold)
        values["squared_error"] = evaluation.squared_error(estimates, halves)
        values |= evaluation.at_threshold(estimates, true, threshold, calibrated)
        collapsed = evaluation.collapse(estimates, true, threshold)
        return values | {"collapsed": (collapsed != 0).astype(float)}

    def calibrated(saved, i):
        """A threshold for every number of steps, [P]; NaN where there is none."""
        if saved.held_out is None:
            return jnp.full(len(saved.steps), jnp.nan)
        risk = jnp.asarray(held_out[saved.meta_seed].risk)
        asked = threshold, level, settings.recovery.false_safe_bodies
        found = [evaluation.calibrate(x, risk, *asked) for x in saved.held_out[i]]
        return jnp.stack([one.threshold for one in found])

    records, own = [], own_steps(settings, found)
    about = {"domain": settings.domain, "tasks": settings.tasks}
    for saved in found:
        for i, rows in enumerate(saved.rows):
            values = measure(
                jnp.asarray(saved.estimates[i]), halves, calibrated(saved, i)
            )
            values = {name: np.asarray(x, float) for name, x in values.items()}
            values["recovery_risk"] = _recovery_risks(saved, i, own)
            for (step, body), _ in np.ndenumerate(values["auroc"]):
                labels = {
                    "method": saved.method,
                    "meta_seed": saved.meta_seed,
                    "seed": int(saved.seeds[body]),
                    "rows": int(rows),
                    "steps": int(saved.steps[step]),
                }
                mine = {name: float(x[step, body]) for name, x in values.items()}
                records.append(about | labels | mine)
    return records


def _recovery_risks(saved: Saved, i: int, own: dict[str, int]) -> np.ndarray:
    """True risk of the recovery policy after the own steps, else NaN, [P, S]."""
    risks = np.full((len(saved.steps), len(saved.seeds)), np.nan)
    if saved.recovery_risk is not None:
        risks[saved.steps.tolist().index(own[saved.method])] = saved.recovery_risk[i]
    return risks


def write(study: Study, asked: Asked) -> None:
    """Writes risk_quality.csv and .json and the figures; prints the tables."""
    settings, place = study.configuration, study.folder
    bodies = test_bodies(study, asked.seeds)
    truth = test_truth(study, bodies)
    found = [with_own_rule(settings, saved) for saved in read(study, asked.seeds)]
    held = {  # another meta-seed's are of the same workdir
        seed: heldout_bodies(study._replace(meta_seed=seed)).truth
        for seed in {saved.meta_seed for saved in found}
    }
    records = records_of(settings, found, truth, held)
    floor = float(np.mean(jax.vmap(evaluation.noise_floor)(truth.halves)))
    summary = comparison.summarize(
        records,
        own_steps(settings, found),
        floor,
        {
            "domain": settings.domain,
            "tasks": settings.tasks,
            "risk_threshold": settings.recovery.risk_threshold,
            "training_transitions": {
                name: training_transitions(
                    resolve.of_method(settings, name), METHODS[name].prior
                )
                for name in METHODS
                if name in {saved.method for saved in found}
            },
        },
    )
    comparison.write(place, records)
    summary["support"] = support_of(found)
    files.write_json(place / "risk_quality.json", summary)
    rows = shown_rows(settings)
    print(comparison.tables(summary, rows))
    print(
        f"{summary['bodies']} test bodies, meta-seeds {summary['meta_seeds']}; 95 % "
        f"bootstrap intervals over bodies. The noise of the truth, {floor:.5f}, is not "
        "in the squared errors."
    )
    drawn = summary["training_transitions"].items()
    amounts = [f"{method} {count / 1e6:.1f}" for method, count in drawn if count]
    print(f"Transitions drawn in training, millions: {', '.join(amounts)}.")
    for method, by_rows in summary["support"].items():
        print(_supported(method, by_rows, rows))
    for record in _collapsed(summary, rows):
        print(record)
    shown = quality_figures.Shown(settings, summary, found, truth, rows)
    figures = {
        "risk_error.png": quality_figures.errors(shown),
        "risk_reliability.png": quality_figures.reliability(shown),
        "risk_tradeoff.png": quality_figures.tradeoff(shown),
    }
    maps = error_maps.risk_maps(study, asked.methods, asked.seeds)
    if maps is not None:
        figures["risk_maps_bodies.png"] = maps
    for name, figure in figures.items():
        print(f"[evaluate] {curves.save(figure, place / 'report' / name)}")


def support_of(found: list[Saved]) -> dict[str, dict[str, dict[str, float]]]:
    """By method that encodes and number of transitions: who lies outside.

    Shares of the test bodies and of the held-out training bodies whose distance
    exceeds 1, and how well it tells both apart (AUROC; 0.5 where test bodies are drawn
    like training bodies), over all meta-seeds.
    """
    encoding = [saved for saved in found if saved.distance is not None]
    together: dict[str, dict[str, dict[str, float]]] = {}
    for method in dict.fromkeys(saved.method for saved in encoding):
        mine = [saved for saved in encoding if saved.method == method]
        for i, rows in enumerate(mine[0].rows):
            test, trained = (
                np.concatenate([getattr(saved, name)[i] for saved in mine])
                for name in ("distance", "held_out_distance")
            )
            both = np.concatenate([test, trained])
            positive = np.arange(len(both)) < len(test)
            together.setdefault(method, {})[str(rows)] = {
                "test_outside": float(np.mean(test > 1.0)),
                "held_out_outside": float(np.mean(trained > 1.0)),
                "auroc": float(
                    evaluation.auroc(jnp.asarray(both), jnp.asarray(positive))
                ),
            }
    return together


def _supported(method: str, by_rows: dict, rows: int) -> str:
    found = by_rows[str(rows)]
    test, trained = (
        f"{100 * found[name]:.0f} %" for name in ("test_outside", "held_out_outside")
    )
    return (
        f"{method}: by its encoding {test} of the test bodies and {trained} of the "
        "held-out training bodies lie outside what it was trained on (AUROC "
        f"{found['auroc']:.2f})."
    )


def shown_rows(settings: configuration.Configuration) -> int:
    """The number of transitions of tables and figures that show one only."""
    rows = settings.quality.transitions
    return min(rows, key=lambda count: abs(count - settings.data.adaptation))


def _collapsed(summary: dict, rows: int) -> list[str]:
    """A warning for each method that calls all states of some body alike."""
    warnings = []
    for method, steps in summary["own_steps"].items():
        share = summary["methods"][method][str(rows)][str(steps)]["collapsed"]["mean"]
        if share > 0:
            warnings.append(
                f"Warning: adapted to {100 * share:.0f} % of the bodies, the critic of "
                f"{method} has collapsed: it calls every state safe, or none."
            )
    return warnings
