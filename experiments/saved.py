"""What a workdir holds of its constrained runs, read without computing anything."""

import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.build import Build
from mesa_jax import safety
from mesa_jax.agents import METHODS
from mesa_jax.runtime import batches, checkpoints, config
from mesa_jax.runtime.batches import Batch
from mesa_jax.runtime.config import Settings
from mesa_jax.runtime.report_maps import Path
from mesa_jax.types import Params, Prior, Statistics, Task


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
    folder = place / "checkpoints"
    adapted = checkpoints.restore_latest(
        folder / f"adapted-{batch.name}",
        dict.fromkeys(methods, _stacked(_params_like(built), len(batch.seeds))),
    )
    states = checkpoints.restore_latest(
        folder / batch.name,
        _stacked(_state_like(settings, built), len(batch.runs())),
    )
    if adapted is None or states is None:
        return
    for row, (method, seed, _) in enumerate(batch.runs()):
        if method in methods:
            state = jax.tree.map(lambda x: x[row], states[1])  # noqa: B023
            at = batch.seeds.index(seed)
            critic = jax.tree.map(lambda x: x[at], adapted[1][method][0])  # noqa: B023
            paths = _paths(state, settings.data.adaptation)
            yield method, seed, Run(state["task"], critic, paths)


def _params_like(built: Build) -> tuple[Params, Params]:
    """Shapes of a critic and a recovery policy."""

    def make():
        spec = built.domain.spec
        sizes = (spec.observation_size,) * 2 + (spec.action_size,) * 2
        inputs = Statistics(*map(jnp.ones, sizes))
        key = jax.random.key(0)
        return safety.init_params(key, built.risk, built.recovery, inputs)

    return jax.eval_shape(make)


def _state_like(settings: Settings, built: Build) -> dict:
    """Shapes of what is read of a run, under the names of `rollout.RunState`."""

    def make():
        spec, online = built.domain.spec, settings.online
        tasks = built.domain.test_tasks(jax.random.key(0), 1)
        rows = online.rows(spec.horizon) + settings.data.adaptation
        points = jnp.zeros((rows, spec.observation_size))
        counts = jnp.zeros((online.episodes,), jnp.int32)
        return {
            "task": jax.tree.map(lambda x: x[0], tasks),
            "episode": jnp.zeros((), jnp.int32),
            "records": {"length": counts, "violation": counts},
            "safety_replay": {
                "rows": {"observation": points, "next_observation": points}
            },
        }

    return jax.eval_shape(make)


def _stacked(like: Params, count: int) -> Params:
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((count, *x.shape), x.dtype), like
    )


def _paths(state: dict, adaptation: int) -> list[Path]:
    """Online episodes lie behind the adaptation set, one after the other."""
    state = jax.tree.map(np.asarray, state)
    rows, finished = state["safety_replay"]["rows"], int(state["episode"])
    lengths = state["records"]["length"][:finished]
    ends = adaptation + lengths.cumsum()
    return [
        Path(
            np.vstack(
                [rows["observation"][start:end], rows["next_observation"][end - 1]]
            ),
            bool(violation),
        )
        for start, end, violation in zip(
            ends - lengths, ends, state["records"]["violation"], strict=False
        )
    ]


def prior(
    place: pathlib.Path, settings: Settings, built: Build, kind: str, meta_seed: int
) -> Params | None:
    """The critic of a finished prior, or None where there is none."""
    if kind == "scratch":
        return None
    folder = place / "checkpoints" / config.prior_name(settings, kind, meta_seed)
    like = {"best": Prior(_params_like(built), ())}  # of a `pipeline.MetaTrainState`
    found = checkpoints.restore_latest(folder, like)
    if found is None or found[0] != getattr(settings, kind).steps:
        return None
    return found[1]["best"].params[0]
