"""Chooses settings on held-out training bodies: sixteen a method, vmapped.

python -m experiments.tune --domain=navigation1 --tasks=flip --workdir=DIR

Writes tuning.csv (of every setting, number of steps and body the squared error of the
critic, and the true risk of what the recovery policy does), and tuning.json (the chosen
settings). With --update_presets the presets of this domain and
these bodies become what was chosen. More --meta_seed add to the choice.
"""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags as absl_flags
from tqdm import tqdm

from mesa_jax import adaptation, evaluation
from mesa_jax.keys import Stage, stage_key
from mesa_jax.methods import METHODS
from mesa_jax.phases.training import outer_steps
from mesa_jax.report import tuning as report
from mesa_jax.settings import SettingError
from mesa_jax.study import store, sweep, tuning
from mesa_jax.study.artifacts.data import Bodies, trained_and_heldout, training_data
from mesa_jax.study.artifacts.priors import CHUNK, trained_prior
from mesa_jax.study.artifacts.truth import HeldOut, heldout_bodies, recovery_risk
from mesa_jax.study.study import Asked, Study
from mesa_jax.system import System, assemble
from mesa_jax.training import init_meta_training
from mesa_jax.types import Prior, Transition

from . import flags
from .pages import draw_training

TRIED = [name for name, row in METHODS.items() if row.grid]
STATES, ROLLOUTS = 100, 16  # of a body and a state, for the recovery policy's risk


def meta_trained(
    system: System,
    meta_seed: int,
    transitions: Transition,
    heldout: Transition,
    rows: list[sweep.Row],
) -> Prior:
    """Meta-trains priors [rows, ...] side by side.

    Args:
      transitions, heldout: [T, N, ...] of training bodies, and of those held out.
    """
    settings = system.configuration
    params = system.init(stage_key(meta_seed, Stage.PRIOR_INIT), transitions)
    steps = math.gcd(CHUNK, settings.maml.steps)

    def start(settings):
        return init_meta_training(assemble(settings).learners["maml"], params)

    def chunk(settings, state, transitions, heldout):
        program = outer_steps(assemble(settings), "maml", steps)
        keys = (
            stage_key(meta_seed, stage)
            for stage in (Stage.META_TRAIN, Stage.BELLMAN_ERROR)
        )
        return program(*keys, state, transitions, heldout)[0]

    best: list[Prior] = [None] * len(rows)
    groups = sweep.grouped(rows)
    total = len(groups) * settings.maml.steps // steps
    with tqdm(total=total, desc="[tune] meta-training", unit="chunk") as bar:
        for group in groups:
            state = jax.jit(sweep.over(group, settings, start, ()))()
            over = sweep.over(group, settings, chunk, (0, None, None))
            program = jax.jit(over, donate_argnums=0)
            for _ in range(settings.maml.steps // steps):
                state = program(state, transitions, heldout)
                bar.update()
            for row, i in enumerate(group.at):
                best[i] = jax.tree.map(lambda x: x[row], state.best)  # noqa: B023
    return jax.tree.map(lambda *x: jnp.stack(x), *best)


def trained_starts(study: Study, method: str, bodies: Bodies) -> Prior:
    """Makes what each setting of a method adapts from, [settings, bodies, ...]."""
    system, kind = study.system, METHODS[method].prior
    shape = len(METHODS[method].grid), len(bodies.seeds)
    if kind == "scratch":
        keys = bodies.keys(Stage.PRIOR_INIT)
        one = adaptation.from_scratch(system, keys, bodies.rows)
        return jax.tree.map(lambda x: jnp.stack([x] * shape[0]), one)
    if kind == "maml":
        rows = [{"maml": row["maml"]} for row in METHODS[method].grid]
        different = [row for i, row in enumerate(rows) if row not in rows[:i]]
        data = trained_and_heldout(training_data(study), study.configuration)
        trained = meta_trained(system, study.meta_seed, *data, different)
        each = sweep.rows_of(trained, [different.index(row) for row in rows])
    else:
        one = trained_prior(study, kind)
        each = jax.tree.map(lambda x: jnp.stack([x] * shape[0]), one)
    return jax.tree.map(
        lambda x: jnp.broadcast_to(x[:, None], (*shape, *x.shape[1:])), each
    )


def worth(
    system: System, method: str, starts: Prior, held: HeldOut
) -> tuple[np.ndarray, np.ndarray]:
    """Returns what each setting is worth after adaptation, [settings, steps, bodies].

    The critic's squared error to the truth, and the true risk of what the recovery
    policy does at decision states.

    Args:
      starts: what each setting adapts from, [settings, bodies, ...].
    """
    settings, rows = system.configuration, METHODS[method].grid
    bodies = held.bodies.first(settings.data.adaptation)
    given = (
        bodies.keys(Stage.ADAPT),
        *(bodies.rows, bodies.tasks, held.keys),
        *map(jnp.asarray, held.truth),
    )

    def score(settings, start, steps):
        mine = assemble(settings)
        section = METHODS[method].adaptation
        adapt = adaptation.adaptation(settings, mine.parts, section)

        def body(prior, key, rows, task, truth_key, observations, actions, halves):
            critic, policy = adapt(key, prior, rows, steps)
            estimates = mine.risk.estimate(critic, observations, actions)
            risk = recovery_risk(mine, truth_key, task, policy, STATES, ROLLOUTS)
            return evaluation.squared_error(estimates, halves), risk

        return jax.vmap(body)(start, *given)

    shape = len(rows), len(METHODS[method].grid_steps), len(bodies.seeds)
    errors, risks = np.zeros(shape), np.zeros(shape)
    for group in sweep.grouped(rows):
        program = jax.jit(sweep.over(group, settings, score, (0, None)))
        mine = sweep.rows_of(starts, group.at)
        for i, steps in enumerate(METHODS[method].grid_steps):
            errors[group.at, i], risks[group.at, i] = program(mine, jnp.int32(steps))
    return errors, risks


def tune(study: Study, asked: Asked) -> dict[str, dict]:
    """Tries what is missing; returns the chosen settings by section."""
    held, seed, place = heldout_bodies(study), study.meta_seed, study.folder
    for method in asked.methods:
        if not tuning.has(place, method, seed, METHODS[method].grid):
            mine = study.of(method)
            bodies = held.bodies.first(mine.configuration.data.adaptation)
            starts = trained_starts(mine, method, bodies)
            errors, risks = worth(mine.system, method, starts, held)
            tuning.TUNING.replace(
                place,
                [
                    tuning.record(method, seed, body, setting, steps, *values)
                    for i, setting in enumerate(METHODS[method].grid)
                    for j, steps in enumerate(METHODS[method].grid_steps)
                    for body, values in enumerate(
                        zip(errors[i, j], risks[i, j], strict=True)
                    )
                ],
            )
    records = tuning.TUNING.read(place)
    print(report.tables(records, tuning.means(records)))
    return tuning.choose(place)


def main() -> None:
    study, asked = flags.launch()
    for method in asked.methods:
        if not METHODS[method].grid:
            raise SettingError("methods", method, "among " + ", ".join(TRIED))
    if absl_flags.FLAGS.update_presets:
        tuning.require_clone()
    with store.opened(study.folder, study.configuration):
        chosen = tune(study, asked)
        draw_training(study, asked.methods)
        print(json.dumps(chosen, indent=1))
        if absl_flags.FLAGS.update_presets:
            tuning.update_presets(study.configuration, chosen)


if __name__ == "__main__":
    flags.define_launch(methods=",".join(TRIED), seeds="")
    absl_flags.DEFINE_bool(
        "update_presets", False, "make the chosen settings the presets' own"
    )
    flags.run(main)
