"""Keys: what every stage of every seed draws from is counted, not carried."""

import enum

import jax

from mesa_jax.types import (
    Array,
    Key,
)

SEED_LIMIT = 2**31  # seeds are below


class Stage(enum.IntEnum):
    """Names the stage that a key is for: keys are fold_in(root, seed, stage, step)."""

    TRAIN_TASKS = 0
    TRAIN_DATA = 1
    PRIOR_INIT = 2
    META_TRAIN = 3
    BELLMAN_ERROR = 4
    TEST_TASK = 5
    ADAPTATION_DATA = 6
    AGENT_INIT = 7
    ADAPT = 8
    RUN_START = 9
    ONLINE = 10
    EVALUATE = 11
    REPORT = 12
    TRUTH = 13
    HELDOUT = 14
    FAULT = 15
    SUPPORT = 16
    FILTER_TEST = 17
    ROUNDS = 18
    PROPOSALS = 19


def root_key(seed: int | Array) -> Key:
    """Makes the key that the keys of a seed's stages are made from.

    Args:
      seed: [] below SEED_LIMIT.
    """
    return jax.random.fold_in(jax.random.key(0), seed)


def stage_key(seed: int | Array, stage: Stage) -> Key:
    """Makes the key of a stage; step i of it draws from `fold_in(key, i)`.

    Args:
      seed: [] below SEED_LIMIT.
      stage: what it is for.
    """
    return jax.random.fold_in(root_key(seed), int(stage))


def reading_key(key: Key, turn: Array | int) -> Key:
    """Returns the key of the turn-th time that a body is read anew in a run.

    A run's steps draw from fold_in(key, 0), fold_in(key, 1) and so on, its readings
    from fold_in(key, -1 - turn), which no step uses.

    Args:
      key: of the run; not consumed.
      turn: [] int32, at least 0.
    """
    return jax.random.fold_in(key, -1 - turn)
