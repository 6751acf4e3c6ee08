"""What a workdir holds of its online runs, read without computing anything.

Shapes of what is restored are those of what made it, faults and variants included.
"""

import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mesa_jax.configuration import Settings
from mesa_jax.keys import root_key
from mesa_jax.methods import METHODS
from mesa_jax.rollout import RunState
from mesa_jax.study import batches, checkpoints
from mesa_jax.study.artifacts import naming
from mesa_jax.study.artifacts.adapted import from_scratch, initial_states
from mesa_jax.study.artifacts.data import Bodies
from mesa_jax.study.batches import Batch
from mesa_jax.study.records import Path
from mesa_jax.study.study import Launch
from mesa_jax.system import Build
from mesa_jax.types import Params, Prior, Task, Transition


def states_like(settings: Settings, built: Build, batch: Batch) -> RunState:
    """Shapes of a batch's states, [runs, ...].

    Args:
      settings, built: of the batch's methods, as `config.of_method` has them.
    """
    launch = Launch(pathlib.Path(), settings, *batch[:3])

    def make():
        bodies = _some_bodies(settings, built, batch)
        params = dict.fromkeys(batch.methods, from_scratch(built, bodies).params)
        return initial_states(launch, built, batch, bodies, params, {})

    return jax.eval_shape(make)


def _params_like(settings: Settings, built: Build, batch: Batch) -> tuple:
    """Shapes of an adapted critic and recovery policy a seed, [S, ...]."""
    return jax.eval_shape(
        lambda: from_scratch(built, _some_bodies(settings, built, batch)).params
    )


def _some_bodies(settings: Settings, built: Build, batch: Batch) -> Bodies:
    """Bodies and adaptation sets of the right shapes."""
    lead, spec = (len(batch.seeds), settings.data.adaptation), built.domain.spec
    observations = jnp.zeros((*lead, spec.observation_size))
    actions, numbers = jnp.zeros((*lead, spec.action_size)), jnp.zeros(lead)
    rows = Transition(observations, actions, numbers, numbers, numbers, observations)
    roots = jax.vmap(root_key)(jnp.arange(len(batch.seeds)))
    tasks = built.domain.test_tasks(jax.random.key(0), len(batch.seeds))
    return Bodies(batch.seeds, roots, tasks, rows)


def restored(
    place: pathlib.Path, settings: Settings, built: Build, batch: Batch
) -> tuple[int, RunState]:
    """A batch's last undamaged checkpoint: its step and the states, [runs, ...].

    Args:
      settings, built: as `states_like` takes them.

    Raises:
      NoCheckpointError: if there is none; says how to go on.
      CheckpointError: if something else made it.
    """
    like, made_by = states_like(settings, built, batch), batch.made_by(settings)
    found = checkpoints.restore_latest(batch.checkpoints(place), like, made_by)
    if found is None:
        raise checkpoints.NoCheckpointError(
            f"{batch.checkpoints(place)} holds no undamaged checkpoint. To run its "
            f"{len(batch.runs())} runs again from their start, delete that folder and "
            f"{batch.manifest(place)}, and give the same command."
        )
    return found


def require_same(place: pathlib.Path, settings: Settings) -> None:
    """Checks that every online run that a workdir holds was made by these settings.

    Raises:
      CheckpointError: naming what differs.
    """
    for batch, _ in batches.stored(place):
        made_by = batch.made_by(settings)
        checkpoints.require_made_by(batch.checkpoints(place), made_by)


class Run(NamedTuple):
    """What is drawn of a method on a test body."""

    task: Task
    critic: Params  # adapted, before the first online step
    paths: list[Path]  # of each finished online episode


Runs = dict[tuple[int, int], dict[str, Run]]  # by (meta-seed, seed) and method


def runs(place: pathlib.Path, settings: Settings, built: Build) -> Runs:
    """The constrained methods' runs of a workdir that have begun, without variants."""
    found: Runs = {}
    plain = (
        batch
        for batch, _ in batches.stored(place)
        if not batch.thresholds and not METHODS[batch.methods[0]].variant
    )
    for batch in plain:
        for method, seed, run in _runs_of(place, settings, built, batch):
            found.setdefault((batch.meta_seed, seed), {})[method] = run
    return found


def _runs_of(
    place: pathlib.Path, settings: Settings, built: Build, batch: Batch
) -> Iterator[tuple[str, int, Run]]:
    """(method, seed, run) of a batch's constrained methods."""
    methods = [name for name in batch.methods if METHODS[name].constrained]
    if not methods or not checkpoints.steps(batch.checkpoints(place)):
        return
    adapted = checkpoints.restore_latest(
        batch.adapted(place),
        dict.fromkeys(methods, _params_like(settings, built, batch)),
        batch.made_by(settings),
    )
    try:
        _, states = restored(place, settings, built, batch)
    except checkpoints.NoCheckpointError as error:
        print(f"Warning: no risk map of {', '.join(methods)}: {error}")
        return
    if adapted is None:
        seeds = ", ".join(map(str, batch.seeds))
        print(
            f"Warning: no risk map of {', '.join(methods)}, seeds {seeds}: "
            f"{batch.adapted(place)} holds no undamaged checkpoint of their adapted "
            "critics. Their results stand; the same launch in a new --workdir has both."
        )
        return
    for row, (method, seed, _) in enumerate(batch.runs()):
        if method in methods:
            state = jax.tree.map(lambda x: x[row], states)  # noqa: B023
            at = batch.seeds.index(seed)
            critic = jax.tree.map(lambda x: x[at], adapted[1][method][0])  # noqa: B023
            task = state.task.body if settings.fault else state.task
            yield method, seed, Run(task, critic, _paths(state, settings))


def _paths(state: RunState, settings: Settings) -> list[Path]:
    """Online episodes lie behind the adaptation set, one after the other."""
    rows, records = jax.tree.map(np.asarray, (state.safety_replay.rows, state.records))
    lengths = records.length[: int(state.episode)]
    ends = settings.data.adaptation + lengths.cumsum()
    return [
        Path(
            np.vstack([rows.observation[start:end], rows.next_observation[end - 1]]),
            bool(violation),
        )
        for start, end, violation in zip(
            ends - lengths, ends, records.violation, strict=False
        )
    ]


def prior(
    place: pathlib.Path, settings: Settings, built: Build, kind: str, meta_seed: int
) -> Params | None:
    """The critic of a finished prior, or None where there is none."""
    if kind == "scratch":
        return None
    name = naming.prior_name(settings, kind, meta_seed)
    one = Batch(("mesa",), (0,), meta_seed)
    critic_and_policy = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype),
        _params_like(settings, built, one),
    )
    like = {"best": Prior(critic_and_policy, ())}  # of a `pipeline.MetaTrainState`
    folder, made_by = place / "checkpoints" / name, {"prior": name}
    found = checkpoints.restore_latest(folder, like, made_by)
    if found is None or found[0] != getattr(settings, kind).steps:
        return None
    return found[1]["best"].params[0]
