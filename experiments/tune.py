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

from mesa_jax import evaluation
from mesa_jax import system as building
from mesa_jax.configuration import Settings
from mesa_jax.keys import Stage, stage_key
from mesa_jax.methods import METHODS
from mesa_jax.prior import init_params, input_statistics, statistics
from mesa_jax.report import tables
from mesa_jax.settings import SettingError
from mesa_jax.study import store, sweep, tuning
from mesa_jax.study.artifacts.data import Bodies, training_data
from mesa_jax.study.artifacts.priors import CHUNK, prior, training_rows
from mesa_jax.study.artifacts.truth import HeldOut, held_out, recovery_risk
from mesa_jax.study.grid import STEPS, TRIED
from mesa_jax.study.study import Launch
from mesa_jax.system import build
from mesa_jax.training import init_meta_training, meta_training
from mesa_jax.types import Prior

from . import flags

STATES, ROLLOUTS = 100, 16  # of a body and a state, for the recovery policy's risk


def _meta_trained(launch: Launch, rows: list[sweep.Row]) -> Prior:
    """Priors [rows, ...], meta-trained side by side."""
    settings, seed = launch.settings, launch.meta_seed
    built = build(settings)
    train_rows, heldout = training_rows(training_data(launch), settings)
    params = init_params(
        stage_key(seed, Stage.PRIOR_INIT),
        built.risk,
        built.recovery,
        input_statistics(
            train_rows, settings.risk.inputs, built.risk.encode is not None
        ),
    )

    def learner(settings: Settings):
        return build(settings).learners["maml"]

    def start(settings):
        return init_meta_training(learner(settings), params)

    steps = math.gcd(CHUNK, settings.maml.steps)

    def chunk(settings, state, train_rows, heldout):
        program = meta_training(
            learner(settings),
            building.heldout_error(settings, "maml"),
            building.sizes(settings)["maml"],
            settings.risk.violation_fraction,
            steps,
            building.choose_from(settings, "maml"),
        )
        key, error_key = (
            stage_key(seed, stage) for stage in (Stage.META_TRAIN, Stage.BELLMAN_ERROR)
        )
        return program(key, error_key, state, train_rows, heldout)[0]

    best: list[Prior] = [None] * len(rows)
    groups = sweep.grouped(rows)
    total = len(groups) * settings.maml.steps // steps
    with tqdm(total=total, desc="[tune] meta-training", unit="chunk") as bar:
        for group in groups:
            state = jax.jit(sweep.over(group, settings, start, ()))()
            over = sweep.over(group, settings, chunk, (0, None, None))
            program = jax.jit(over, donate_argnums=0)
            for _ in range(settings.maml.steps // steps):
                state = program(state, train_rows, heldout)
                bar.update()
            for row, i in enumerate(group.at):
                best[i] = jax.tree.map(lambda x: x[row], state.best)  # noqa: B023
    return jax.tree.map(lambda *x: jnp.stack(x), *best)


def _starts(launch: Launch, method: str, bodies: Bodies) -> Prior:
    """What each setting of a method adapts from, [settings, bodies, ...]."""
    settings, kind = launch.settings, METHODS[method].prior
    shape = len(TRIED[method]), len(bodies.seeds)
    if kind == "scratch":
        built = build(settings)

        def fresh(key, rows):
            inputs = statistics(rows)
            return init_params(key, built.risk, built.recovery, inputs)

        keys = bodies.keys(Stage.PRIOR_INIT)
        one = Prior(jax.vmap(fresh)(keys, bodies.rows), ())
        return jax.tree.map(lambda x: jnp.stack([x] * shape[0]), one)
    if kind == "maml":
        rows = [{"maml": row["maml"]} for row in TRIED[method]]
        different = [row for i, row in enumerate(rows) if row not in rows[:i]]
        trained = _meta_trained(launch, different)
        each = sweep.rows_of(trained, [different.index(row) for row in rows])
    else:
        one = prior(launch, kind)
        each = jax.tree.map(lambda x: jnp.stack([x] * shape[0]), one)
    return jax.tree.map(
        lambda x: jnp.broadcast_to(x[:, None], (*shape, *x.shape[1:])), each
    )


def worth(launch: Launch, method: str, held: HeldOut) -> tuple[np.ndarray, np.ndarray]:
    """What each setting is worth after adaptation, [settings, steps, bodies].

    The critic's squared error to the truth, and the true risk of what the recovery
    policy does at decision states.
    """
    settings, rows = launch.settings, TRIED[method]
    bodies = held.bodies.first(settings.data.adaptation)
    starts = _starts(launch, method, bodies)
    given = (
        bodies.keys(Stage.ADAPT),
        *(bodies.rows, bodies.tasks, held.keys),
        *map(jnp.asarray, held.truth),
    )

    def score(settings, start, steps):
        mine = build(settings)
        adapt = mine.adapt[METHODS[method].adaptation]

        def body(prior, key, rows, task, truth_key, observations, actions, halves):
            critic, policy = adapt(key, prior, rows, steps)
            estimates = mine.risk.estimate(critic, observations, actions)
            risk = recovery_risk(
                settings, mine, truth_key, task, policy, STATES, ROLLOUTS
            )
            return evaluation.squared_error(estimates, halves), risk

        return jax.vmap(body)(start, *given)

    shape = len(rows), len(STEPS[method]), len(bodies.seeds)
    errors, risks = np.zeros(shape), np.zeros(shape)
    for group in sweep.grouped(rows):
        program = jax.jit(sweep.over(group, settings, score, (0, None)))
        mine = sweep.rows_of(starts, group.at)
        for i, steps in enumerate(STEPS[method]):
            errors[group.at, i], risks[group.at, i] = program(mine, jnp.int32(steps))
    return errors, risks


def tune(launch: Launch) -> dict[str, dict]:
    """Tries what is missing of the launch; returns the chosen settings by section."""
    held = held_out(launch)
    for method in launch.methods:
        if not tuning.has(launch.workdir, method, launch.meta_seed, TRIED[method]):
            errors, risks = worth(launch.of(method), method, held)
            seed = launch.meta_seed
            tuning.TUNING.replace(
                launch.workdir,
                [
                    tuning.record(method, seed, body, setting, steps, *values)
                    for i, setting in enumerate(TRIED[method])
                    for j, steps in enumerate(STEPS[method])
                    for body, values in enumerate(
                        zip(errors[i, j], risks[i, j], strict=True)
                    )
                ],
            )
    found = tuning.TUNING.read(launch.workdir)
    print(tables.tuning(found, tuning.means(found)))
    return tuning.choose(launch.workdir)


def main() -> None:
    launch = flags.launch()
    for method in launch.methods:
        if method not in TRIED:
            raise SettingError("methods", method, "among " + ", ".join(TRIED))
    with store.opened(launch.workdir, launch.settings):
        chosen = tune(launch)
        print(json.dumps(chosen, indent=1))
        if absl_flags.FLAGS.update_presets:
            tuning.update_presets(launch.settings, chosen)


if __name__ == "__main__":
    flags.define_launch(methods=",".join(TRIED), seeds="")
    absl_flags.DEFINE_bool(
        "update_presets", False, "make the chosen settings the presets' own"
    )
    flags.run(main)
