"""Training data after rounds: loads the rounds, or plays what is missing.

Each round's transitions are a dataset of its own, and each round begins from keys that
are counted: a launch that was killed begins its round anew, with equal numbers.
"""

import dataclasses
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np

from mesa_jax import sharding
from mesa_jax.evaluation.filtering import THRESHOLDS, best_threshold
from mesa_jax.keys import Stage, stage_key
from mesa_jax.phases.rounds import Rounds, numbers_of, rounds
from mesa_jax.study import datasets, files
from mesa_jax.study.artifacts import naming
from mesa_jax.study.artifacts.data import bodies_like, training_data
from mesa_jax.study.artifacts.kept import Kept
from mesa_jax.study.study import Study
from mesa_jax.types import Task, Transition

TESTS = "tests.json"
LEARN, ACT, TEST = range(3)  # streams of a round's key
JOINED = Kept(most=1)


def joined_data(study: Study) -> datasets.Dataset:
    """Returns the training data with what the rounds up to the best one have added.

    In round k a recovery policy that learned from all transitions before it is tested
    on the held-out training bodies, and acts in all. What the policy of the best price
    (`evaluation.filtering.Best`) learned from is returned.
    """
    data, settings = training_data(study), study.configuration
    if settings.rounds.count == 0:
        return data
    name = naming.rounds_name(settings, study.meta_seed)
    folder = study.folder / "datasets" / naming.domain_folder(settings) / name
    if not (folder / TESTS).exists():
        _play(study, data, folder)
    found = files.read_json(folder / TESTS)
    return JOINED.read(folder, lambda: _joined(study, data, folder, found["kept"]))


def _joined(study: Study, data, folder: pathlib.Path, count: int) -> datasets.Dataset:
    """The training data and the first `count` rounds."""
    added = [_load(study, data, _place(folder, k)).rows for k in range(count)]
    rows = jax.tree.map(lambda *x: np.concatenate(x, axis=1), data.rows, *added)
    return data._replace(rows=rows)


def _place(folder: pathlib.Path, k: int) -> pathlib.Path:
    return folder / f"round{k}"


def _load(study: Study, data, place: pathlib.Path) -> datasets.Dataset:
    domain = study.system.domain
    asked = len(data.rows.cost), study.configuration.rounds.transitions
    return datasets.load(place, domain.spec, bodies_like(domain), asked)


def _play(study: Study, data: datasets.Dataset, folder: pathlib.Path) -> None:
    """Plays the rounds that are missing, and writes which one is kept."""
    settings, tests = study.configuration, []
    bodies = jax.device_put(data.tasks)
    programs = rounds(study.system, bodies)
    numbers = numbers_of(bodies, settings.data.train_bodies)
    for k in range(settings.rounds.count + 1):
        place = _place(folder, k)
        if (place / datasets.CARD).exists():
            tests.append(files.read_json(place / datasets.CARD)["tested"])
            continue
        start = time.monotonic()
        rows = _joined(study, data, folder, k).rows
        acted, tested = _round(study, programs, rows, bodies, numbers, k)
        tests.append(tested)
        print(
            f"[rounds] round {k}: {100 * tested['violated']:.1f} % of the episodes on "
            f"held-out training bodies violate, {100 * tested['recovered']:.1f} % of "
            f"the steps recovered, at threshold {tested['threshold']:.2g}; "
            f"{time.monotonic() - start:.0f} s"
        )
        if k < settings.rounds.count:
            about = {"domain": settings.domain, "seed": study.meta_seed, "round": k}
            about |= {"generator": "a recovery policy, disturbed", "tested": tested}
            about["rounds"] = dataclasses.asdict(settings.rounds)
            datasets.save(place, acted, data.tasks, about)
    kept = min(range(len(tests)), key=lambda k: tests[k]["price"])
    print(f"[rounds] kept: the data before round {kept}")
    files.write_json(folder / TESTS, {"kept": kept, "tests": tests})


def _round(
    study: Study, programs: Rounds, rows: Transition, bodies: Task, numbers, k: int
) -> tuple[Transition, dict[str, float]]:
    """Learns, acts in all bodies, and is tested on those held out."""
    trained = study.configuration.data.train_bodies
    key = jax.random.fold_in(stage_key(study.meta_seed, Stage.ROUNDS), k)
    keys = [jax.random.fold_in(key, stream) for stream in (LEARN, ACT, TEST)]
    learned_from = jax.tree.map(lambda x: jax.device_put(x[:trained]), rows)
    params = programs.learn(keys[LEARN], learned_from, numbers[:trained])
    acted = programs.act(keys[ACT], params, bodies, numbers)
    held = jax.tree.map(lambda x: x[trained:], bodies)
    thresholds = jnp.array(THRESHOLDS)
    found = programs.test(keys[TEST], params, held, numbers[trained:], thresholds)
    together = jax.tree.map(lambda x: jnp.concatenate(x, axis=-1), found)
    best = best_threshold(together, thresholds)
    return sharding.read(acted), {k: float(v) for k, v in best._asdict().items()}
