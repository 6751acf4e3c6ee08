"""Bodies with the transitions to adapt on; a test body is fixed by its seed."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from experiments.collect import adaptation_data
from mesa_jax.pipeline import Stage, root_key, stage_key
from mesa_jax.runtime import flags
from mesa_jax.types import Array, Task, Transition


class Bodies(NamedTuple):
    """Some bodies and their adaptation sets."""

    seeds: tuple[int, ...]  # of test bodies; of held-out training bodies, their numbers
    roots: Array  # a key each, [S]
    tasks: Task  # leaves [S, ...]
    rows: Transition  # [S, n, ...]

    def keys(self, stage: Stage) -> Array:
        """One key a body, [S]."""
        return jax.vmap(lambda root: jax.random.fold_in(root, int(stage)))(self.roots)

    def first(self, count: int) -> "Bodies":
        """The bodies with the first `count` of their rows."""
        return self._replace(rows=jax.tree.map(lambda x: x[:, :count], self.rows))


def stage_keys(seeds, stage: Stage) -> Array:
    """One key a seed, [S]."""
    return jax.vmap(lambda seed: stage_key(seed, stage))(jnp.asarray(seeds))


def test_bodies(
    launch: flags.Launch, seeds: tuple[int, ...], count: int | None = None
) -> Bodies:
    """Loads (or collects) the test body of each seed with `count` rows to adapt on."""
    sets = [adaptation_data(launch, seed, count) for seed in seeds]
    tasks, rows = ((s.tasks for s in sets), (s.rows for s in sets))
    join = lambda *x: jnp.concatenate(x)  # noqa: E731
    roots = jax.vmap(root_key)(jnp.asarray(seeds))
    return Bodies(seeds, roots, jax.tree.map(join, *tasks), jax.tree.map(join, *rows))
