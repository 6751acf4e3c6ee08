"""The simulator's own risk on test and held-out bodies, computed once a workdir."""

import functools
import pathlib
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from mesa_jax import configuration, evaluation, sharding
from mesa_jax.keys import Stage
from mesa_jax.study import arrays, files, outcomes
from mesa_jax.study.artifacts import naming
from mesa_jax.study.artifacts.data import Bodies, training_data
from mesa_jax.study.artifacts.heldout import heldout_sets, shuffled
from mesa_jax.study.study import Study
from mesa_jax.system import System, compiled_once
from mesa_jax.types import Array, Params, Task, Transition

WATCHED = {"decision_states": 200, "rollouts": 64}  # at most, while a prior is trained
POLICY_STREAM = 4  # of a truth's key, for the risk of policies; smaller ones are taken


class Truth(NamedTuple):
    """Holds true risk at the decision states of S bodies; NumPy arrays."""

    observations: np.ndarray  # [S, N, D]
    actions: np.ndarray  # [S, N, A]
    halves: np.ndarray  # [S, 2, N] independent; their mean is the truth

    @property
    def risk(self) -> np.ndarray:
        """Returns the truth, [S, N]."""
        return self.halves.mean(1)


class HeldOut(NamedTuple):
    """Holds held-out training bodies, as `HeldOutSets`, and their truth."""

    truth: Truth
    bodies: Bodies
    keys: Array
    in_order: Transition


def paths_of_tested(study: Study, seeds: tuple[int, ...]) -> list[pathlib.Path]:
    """Returns the file of each test body's truth."""
    return [_path(study, f"test-seed{seed}") for seed in seeds]


def paths_of_heldout(study: Study) -> list[pathlib.Path]:
    """Returns the file of each held-out training body's truth."""
    seed, key = study.meta_seed, _data_key(study)
    numbers = range(study.configuration.data.heldout_bodies)
    return [_path(study, f"heldout-meta{seed}-{key}-body{i}") for i in numbers]


def watched(study: Study) -> Study:
    """Returns the study with a truth that is fine enough to watch a prior by.

    What stands in its place where there is no simulator costs nothing, and stays.
    """
    if not study.system.domain.spec.simulated:
        return study
    quality = study.configuration.quality
    coarse = {name: min(most, getattr(quality, name)) for name, most in WATCHED.items()}
    common = configuration.override(study.common, {"quality": coarse})
    return study._replace(common=common)


def _path(study: Study, bodies: str) -> pathlib.Path:
    name = naming.truth_name(study.configuration, bodies)
    return study.folder / "truth" / naming.domain_folder(study.configuration) / name


def _data_key(study: Study) -> str:
    """Returns the hash of what training bodies are drawn by."""
    name = naming.training_data_name(study.configuration, study.meta_seed)
    return name.rpartition("-")[2]


def decisions_of(system: System, key, task: Task) -> evaluation.DecisionSet:
    """Draws the decision states of a body; `key` is its truth's."""
    ask_key = jax.random.fold_in(key, 0)
    count = system.configuration.quality.decision_states
    return evaluation.decision_set(ask_key, system.domain, task, count)


def recovery_risk(
    system: System, key, task: Task, policy: Params, states: int, rolls: int
) -> Array:
    """Simulates the mean true risk of a recovery policy at decision states, [].

    Args:
      key: the body's truth's.
      policy: parameters of `system.recovery`.
      states, rolls: how many states are asked, and simulations a state, at most.
    """
    settings = system.configuration
    return evaluation.policy_risk(
        jax.random.fold_in(key, POLICY_STREAM),
        system.domain,
        task,
        jax.tree.map(lambda x: x[:states], decisions_of(system, key, task).states),
        lambda seen: system.recovery.act(policy, seen),
        settings.risk.discount,
        min(rolls, settings.quality.rollouts),
        settings.quality.precision,
    )


def _simulate(system: System, keys: Array, tasks: Task) -> Truth:
    """Simulates the truth of S bodies in one program, from one key a body."""
    settings, start = system.configuration, time.monotonic()
    found = sharding.read(_truths(system)(keys, tasks))
    print(
        f"[truth] {len(keys)} bodies x {settings.quality.decision_states} states x "
        f"{settings.quality.rollouts} simulations in {time.monotonic() - start:.0f} s"
    )
    return found


@compiled_once
def _truths(system: System) -> Callable:
    """Compiles `(keys, tasks) -> Truth` of S bodies."""
    settings = system.configuration

    def one(key, task):
        asked = decisions_of(system, key, task)
        observations = jax.vmap(system.domain.observe)(asked.states)
        halves = evaluation.true_risk(
            jax.random.fold_in(key, 1),
            system.domain,
            task,
            asked,
            settings.risk.discount,
            settings.quality.rollouts,
            settings.quality.precision,
        )
        return Truth(observations, asked.actions, halves)

    return jax.jit(jax.vmap(one))


def _cached(
    paths: list[pathlib.Path], keys: Array, tasks: Task, simulate, shapes: dict
) -> dict:
    """Reads arrays [S, ...] of S bodies, one file each; simulates what is missing.

    Args:
      shapes: of a body's arrays, by name.
    """
    found = [_stored(path, shapes) for path in paths]
    missing = [i for i, one in enumerate(found) if one is None]
    if missing:
        at = np.array(missing)
        made = simulate(keys[at], jax.tree.map(lambda x: x[at], tasks))
        for row, i in enumerate(missing):
            arrays.write_sealed(paths[i], {k: v[row] for k, v in made.items()})
            found[i] = arrays.read_sealed(paths[i], _check(paths[i], shapes))
    return {name: np.stack([one[name] for one in found]) for name in shapes}


def _check(path: pathlib.Path, shapes: dict) -> arrays.Check:
    return functools.partial(arrays.require_shapes, path, shapes=shapes)


def _stored(path: pathlib.Path, shapes: dict) -> dict[str, np.ndarray] | None:
    """Reads a file; None where it must be simulated."""
    try:
        return arrays.read_sealed(path, _check(path, shapes))
    except FileNotFoundError:
        return None
    except files.DamagedFileError as error:
        print(f"[truth] {error} It is simulated anew.")
        return None


def _shapes(system: System) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of a body's `Truth`."""
    spec, count = system.domain.spec, system.configuration.quality.decision_states
    return {
        "observations": (count, spec.observation_size),
        "actions": (count, spec.action_size),
        "halves": (2, count),
    }


def load_test_truth(study: Study, bodies: Bodies) -> Truth:
    """Reads (or simulates) the truth of test bodies."""
    found = _cached(
        paths_of_tested(study, bodies.seeds),
        bodies.keys(Stage.TRUTH),
        bodies.tasks,
        lambda *some: _simulate(study.system, *some)._asdict(),
        _shapes(study.system),
    )
    return Truth(**found)


def truth_without_adaptation(study: Study, bodies: Bodies) -> np.ndarray:
    """Reads (or simulates) the training bodies' mean truth, [S, N].

    It is that at the decision states of the test bodies.
    """
    settings = study.configuration
    trained = jax.tree.map(
        lambda x: jax.device_put(x[: settings.data.train_bodies]),
        training_data(study).tasks,
    )

    def simulate(keys, tasks):
        return {"risk": sharding.read(_untold(study.system)(keys, tasks, trained))}

    suffix = f"untold-meta{study.meta_seed}-{_data_key(study)}"
    paths = [_path(study, f"test-seed{seed}-{suffix}") for seed in bodies.seeds]
    shapes = {"risk": (settings.quality.decision_states,)}
    keys = bodies.keys(Stage.TRUTH)
    return _cached(paths, keys, bodies.tasks, simulate, shapes)["risk"]


@compiled_once
def _untold(system: System) -> Callable:
    """Compiles `(keys, tasks, training bodies) -> their mean truth [S, N]`."""
    settings = system.configuration

    def one(key, task, trained):
        return evaluation.true_risk_without_adaptation(
            jax.random.fold_in(key, 2),
            system.domain,
            trained,
            decisions_of(system, key, task),
            settings.risk.discount,
            settings.quality.rollouts,
            settings.quality.precision,
        )

    return jax.jit(jax.vmap(one, (0, 0, None)))


def heldout_bodies(study: Study) -> HeldOut:
    """Reads (or makes) the held-out training bodies with their truth.

    Without a simulator their outcomes stand in its place (`study.outcomes`).
    """
    sets = heldout_sets(study)
    if not study.system.domain.spec.simulated:
        found = outcomes.outcomes(study.configuration, sets.in_order)
        truth = Truth(*found[:2], np.stack([found.risk, found.risk], axis=1))
        adapting = sets.bodies._replace(rows=shuffled(sets.keys, found.earlier))
        return HeldOut(truth, adapting, sets.keys, found.earlier)
    found = _cached(
        paths_of_heldout(study),
        sets.keys,
        sets.bodies.tasks,
        lambda *some: _simulate(study.system, *some)._asdict(),
        _shapes(study.system),
    )
    return HeldOut(Truth(**found), *sets)
