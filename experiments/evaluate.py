"""Is the risk measure right? Its estimates beside the simulator's own risk.

python -m experiments.evaluate --workdir=DIR

Adapts each method to test bodies with several numbers of transitions and of steps, and
writes risk_quality.csv, risk_quality.json and figures. Other meta-seeds and methods
that the workdir holds are in tables and figures too.
"""

import numpy as np

from mesa_jax.keys import Stage
from mesa_jax.methods import METHODS
from mesa_jax.settings import SettingError
from mesa_jax.study import store
from mesa_jax.study.artifacts.data import test_bodies
from mesa_jax.study.artifacts.distance import distances, own_steps
from mesa_jax.study.artifacts.truth import held_out, test_truth, without_adaptation
from mesa_jax.study.errors import NotFiniteError
from mesa_jax.study.estimates import Saved, read, save
from mesa_jax.study.evaluation import estimates, recovery_risks, steps_of
from mesa_jax.study.records import WITHOUT_ADAPTATION
from mesa_jax.study.study import Launch
from mesa_jax.system import build

from . import flags, quality_report

CONSTRAINED = tuple(  # a method that also adapts online is the same before it does
    name
    for name, row in METHODS.items()
    if row.constrained
    and not (row.readapts and row._replace(readapts=False) in METHODS.values())
)
ASKED = tuple(name for name in CONSTRAINED if not METHODS[name].variant)  # by default
BODIES = 12


def evaluate(launch: Launch) -> None:
    """Asks every method of the launch, and writes what came out."""
    rows, seeds = launch.settings.quality.rows, launch.seeds
    one = test_bodies(launch, seeds, rows[0])
    truth, untold = test_truth(launch, one), without_adaptation(launch, one)
    _save(launch, WITHOUT_ADAPTATION, (0,), (0,), untold[None, None])
    for method in launch.methods:
        mine, found = launch.of(method), _of_another_meta_seed(launch, method)
        held, asked = held_out(mine), steps_of(mine.settings, method)
        bodies = [test_bodies(mine, seeds, n) for n in rows]
        trained = [held.bodies.first(n) for n in rows]
        if found is None:
            found = _over_rows(estimates, mine, method, bodies, truth, asked)
        more = {
            "held_out": _over_rows(estimates, mine, method, trained, held.truth, asked)
        }
        if build(mine.settings).risk.encode:
            more["distance"] = _over_rows(distances, mine, method, bodies)
            more["held_out_distance"] = _over_rows(distances, mine, method, trained)
        more["recovery_risk"] = np.stack(
            [
                recovery_risks(
                    mine,
                    method,
                    some,
                    some.keys(Stage.TRUTH),
                    own_steps(mine, method, some)[0],
                )
                for some in bodies
            ]
        )
        _save(launch, method, rows, asked, found, more)
        print(f"[evaluate] {method}: {len(seeds)} bodies, {rows} transitions")


def _over_rows(function, launch, method: str, bodies: list, *more) -> np.ndarray:
    """[R, ...] of bodies with R numbers of rows."""
    return np.stack([function(launch, method, some, *more) for some in bodies])


def _of_another_meta_seed(launch: Launch, method: str) -> np.ndarray | None:
    """What was estimated before, where no prior and so no meta-seed changes it."""
    if METHODS[method].prior != "scratch":
        return None
    return next((x.estimates for x in read(launch) if x.method == method), None)


def _save(launch, method: str, rows, steps, values: np.ndarray, more=None) -> None:
    """Keeps estimates [R, P, S, N] of test bodies, and what more there is."""
    if not np.isfinite(values).all():
        seed = launch.seeds[int(np.argwhere(~np.isfinite(values))[0, 2])]
        raise NotFiniteError(
            f"evaluate: {method} is not finite on the body of seed {seed} "
            f"(meta-seed {launch.meta_seed}). Lower its learning rate in a new workdir."
        )
    about = np.array(rows), np.array(steps), np.array(launch.seeds)
    save(launch, Saved(method, launch.meta_seed, *about, values, **(more or {})))


def main() -> None:
    launch = flags.launch()
    for method in launch.methods:
        if method not in CONSTRAINED:
            raise SettingError("methods", method, "among " + ", ".join(CONSTRAINED))
    data, asked = launch.settings.data, launch.settings.quality.rows
    most = min(data.test_transitions, data.transitions)
    if max(asked) > most:
        allowed = f"at most the transitions of a body ({most})"
        raise SettingError("quality_rows", asked, allowed)
    with store.opened(launch.workdir, launch.settings):
        evaluate(launch)
        quality_report.report(launch)


if __name__ == "__main__":
    flags.define_launch(methods=",".join(ASKED), seeds=str(BODIES))
    flags.run(main)
