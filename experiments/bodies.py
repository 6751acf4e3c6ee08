"""Test bodies: each fixed by its seed, with the transitions to adapt on."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from experiments.collect import adaptation_data
from mesa_jax.pipeline import Stage, stage_key
from mesa_jax.runtime import flags
from mesa_jax.types import Array, Task, Transition


class TestBodies(NamedTuple):
    """The test bodies of some seeds and their adaptation sets."""

    seeds: tuple[int, ...]
    tasks: Task  # leaves [S, ...]
    rows: Transition  # [S, n, ...]

    def keys(self, stage: Stage) -> Array:
        return stage_keys(self.seeds, stage)


def stage_keys(seeds, stage: Stage) -> Array:
    """One key a seed, [S]."""
    return jax.vmap(lambda seed: stage_key(seed, stage))(jnp.asarray(seeds))


def test_bodies(
    launch: flags.Launch, seeds: tuple[int, ...], count: int | None = None
) -> TestBodies:
    """Loads (or collects) the test body of each seed with `count` rows to adapt on."""
    sets = [adaptation_data(launch, seed, count) for seed in seeds]
    tasks, rows = ((s.tasks for s in sets), (s.rows for s in sets))
    join = lambda *x: jnp.concatenate(x)  # noqa: E731
    return TestBodies(seeds, jax.tree.map(join, *tasks), jax.tree.map(join, *rows))
