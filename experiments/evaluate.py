"""Is the risk measure right? Its estimates beside the simulator's own risk.

python -m experiments.evaluate --workdir=DIR

Adapts each method to test bodies with several numbers of transitions and of steps, and
writes risk_quality.csv, risk_quality.json and figures. Other meta-seeds and methods
that the workdir holds are in tables and figures too.
"""

import numpy as np

from mesa_jax.keys import Stage
from mesa_jax.methods import METHODS, begins_as, filters
from mesa_jax.settings import SettingError
from mesa_jax.study import plan, store
from mesa_jax.study.artifacts.adapted import distances, own_steps
from mesa_jax.study.artifacts.data import load_test_bodies
from mesa_jax.study.artifacts.priors import trained_source
from mesa_jax.study.artifacts.truth import (
    heldout_bodies,
    load_test_truth,
    truth_without_adaptation,
)
from mesa_jax.study.errors import NotFiniteError
from mesa_jax.study.estimates import Saved, read, save
from mesa_jax.study.evaluation import estimates, recovery_risks, steps_of
from mesa_jax.study.records import WITHOUT_ADAPTATION
from mesa_jax.study.study import Asked, Study

from . import flags, quality_report
from .filter_test import filter_test
from .pages import draw_training
from .planned import only_planned

ABLE = tuple(  # what differs online only is the same before
    name for name in METHODS if filters(name) and begins_as(name) == name
)
ASKED = tuple(name for name in ABLE if not METHODS[name].settings)  # by default
BODIES = 12


def evaluate(study: Study, asked: Asked) -> None:
    """Asks every method, and writes what came out."""
    counts, seeds = study.configuration.quality.transitions, asked.seeds
    one = load_test_bodies(study, seeds, counts[0])
    mean = truth_without_adaptation(study, one)
    _save(study, seeds, WITHOUT_ADAPTATION, (0,), (0,), {"estimates": mean[None, None]})
    for method in asked.methods:
        mine, row = study.of(method), METHODS[method]
        system, source = mine.system, trained_source(mine, row)
        truth = load_test_truth(mine, one)
        held, steps = heldout_bodies(mine), steps_of(mine.configuration, method)
        found, parts = _of_another_meta_seed(study, asked, method), []
        for count in counts:
            some = load_test_bodies(mine, seeds, count)
            trained = held.bodies.first(count)
            about = system, method, source
            far = distances(system, source, some)
            more = {"distance": far}
            if "estimates" not in found:
                more["estimates"] = estimates(*about, some, truth, steps)
            more["held_out"] = estimates(*about, trained, held.truth, steps)
            more["held_out_distance"] = distances(system, source, trained)
            more["recovery_risk"] = recovery_risks(
                *about, some, some.keys(Stage.TRUTH), own_steps(system, row, far)
            )
            parts.append({k: x for k, x in more.items() if x is not None})
        found |= {name: np.stack([part[name] for part in parts]) for name in parts[0]}
        _save(study, seeds, method, counts, steps, found)
        print(f"[evaluate] {method}: {len(seeds)} bodies, {counts} transitions")


def _of_another_meta_seed(study: Study, asked: Asked, method: str) -> dict:
    """Reads estimates of a method without a prior: no meta-seed changes them."""
    if METHODS[method].prior != "scratch":
        return {}
    found = (x for x in read(study, asked.seeds) if x.method == method)
    return next(({"estimates": one.estimates} for one in found), {})


def _save(study: Study, seeds, method: str, counts, steps, found: dict) -> None:
    """Keeps estimates [R, P, S, N] of test bodies, and what more there is."""
    values = found["estimates"]
    if not np.isfinite(values).all():
        seed = seeds[int(np.argwhere(~np.isfinite(values))[0, 2])]
        raise NotFiniteError(
            f"evaluate: {method} is not finite on the body of seed {seed} "
            f"(meta-seed {study.meta_seed}). Lower its learning rate in a new workdir."
        )
    about = np.array(counts), np.array(steps), np.array(seeds)
    save(study, Saved(method, study.meta_seed, *about, **found))


def main() -> None:
    study, asked = flags.launch()
    for method in asked.methods:
        if method not in ABLE:
            raise SettingError("methods", method, "among " + ", ".join(ABLE))
    data, counts = study.configuration.data, study.configuration.quality.transitions
    most = min(data.test_transitions, data.transitions)
    if max(counts) > most:
        allowed = f"at most the transitions of a body ({most})"
        raise SettingError("quality_transitions", counts, allowed)
    if only_planned(study, asked, plan.of_evaluate):
        return
    with store.opened(study.folder, study.configuration):
        evaluate(study, asked)
        draw_training(study, asked.methods)
        quality_report.report(study, asked)
        filter_test(study, asked, load_test_bodies(study, asked.seeds), "test")


if __name__ == "__main__":
    flags.define_launch(methods=",".join(ASKED), seeds=str(BODIES))
    flags.run(main)
