"""Held-out training bodies: they train nothing, and choose settings and priors."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mesa_jax.keys import Stage, stage_key
from mesa_jax.study.artifacts.data import Bodies, trained_and_heldout, training_data
from mesa_jax.study.study import Study
from mesa_jax.types import Array, Transition


class HeldOutSets(NamedTuple):
    """Holds training bodies that train nothing: settings and priors are chosen by."""

    bodies: Bodies  # rows [S, N, ...] in a seeded shuffle; the first n adapt
    keys: Array  # of the truth, [S]
    in_order: Transition  # the rows [S, N, ...] as they were made


def _heldout_keys(meta_seed: int, count: int) -> Array:
    """Returns a key a body, [S]: 0 and 1 of it are the truth's, 2 the shuffle's, 3 its
    root's."""
    root = stage_key(meta_seed, Stage.HELDOUT)
    return jax.vmap(lambda i: jax.random.fold_in(root, i))(jnp.arange(count))


def shuffled(keys: Array, rows: Transition) -> Transition:
    """Shuffles the transitions [S, N, ...] of each body."""

    def one(key, rows):
        order = jax.random.permutation(jax.random.fold_in(key, 2), len(rows.cost))
        return jax.tree.map(lambda x: x[order], rows)

    return jax.vmap(one)(keys, rows)


def heldout_sets(study: Study) -> HeldOutSets:
    """Returns the held-out training bodies."""
    settings, data = study.configuration, training_data(study)
    _, rows = trained_and_heldout(data, settings)
    tasks = jax.tree.map(
        lambda x: jax.device_put(x[settings.data.train_bodies :]), data.tasks
    )
    count = len(rows.cost)
    keys = _heldout_keys(study.meta_seed, count)

    mixed = shuffled(keys, rows)
    roots = jax.vmap(lambda key: jax.random.fold_in(key, 3))(keys)
    return HeldOutSets(Bodies(tuple(range(count)), roots, tasks, mixed), keys, rows)
