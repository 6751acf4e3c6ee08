"""Filter tests of a study: which bodies, and a record of each (filter_test.csv)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mesa_jax import adaptation, sharding
from mesa_jax.configuration import seconds_of
from mesa_jax.evaluation.filtering import (
    ALWAYS,
    HOLD,
    NEVER,
    THRESHOLDS,
    filter_test,
)
from mesa_jax.keys import Stage
from mesa_jax.methods import METHODS, Method
from mesa_jax.simulation import Filtered, Reading
from mesa_jax.study.artifacts.adapted import adapted
from mesa_jax.study.artifacts.data import Bodies
from mesa_jax.study.artifacts.priors import trained_source
from mesa_jax.study.artifacts.proposals import unsafe_policies
from mesa_jax.study.records import Row, Table, one_of
from mesa_jax.study.study import Study
from mesa_jax.system import System
from mesa_jax.types import State, Task

PROPOSALS = ("held", "learned")  # random held actions, a learned unsafe policy
BODIES = ("training", "test")  # new ones like those of training, or those of seeds
COUNTS = ("episodes", "violated", "while_recovering", "steps", "recovered")
FILTER = Table(
    "filter_test.csv",
    {
        "method": one_of(METHODS),
        "meta_seed": int,
        "bodies": one_of(BODIES),
        "body": int,
        "transitions": int,
        "horizon": float,  # seconds (steps in navigation) that the risk looks ahead
        "own_threshold": float,
        "proposals": one_of(PROPOSALS),
        "threshold": float,
        **dict.fromkeys(COUNTS, int),
    },
    key=("method", "meta_seed", "bodies"),
    advice="Delete it; it is tested anew.",
    digits=6,
)


LOOK_AHEAD = Table(
    "look_ahead.csv",
    {
        "method": one_of(METHODS),  # whose recovery policy acts
        "meta_seed": int,
        "body": int,
        "look_ahead": int,  # steps of it that are simulated
        "proposals": one_of(PROPOSALS),
        **dict.fromkeys(COUNTS, int),
    },
    key=("method", "meta_seed", "look_ahead"),
    advice="Delete it; it is tested anew.",
)


def of_body(system: System, episodes: int, look_ahead: int = 0) -> Callable:
    """Makes the filter test of one body.

    It takes (root, body, parameters of the filter, an unsafe policy, thresholds [K],
    how the filter reads the body anew) and returns `Filtered` [2, K, episodes]:
    proposals as in `PROPOSALS`, thresholds, episodes.
    """

    def test(
        root,
        task: Task,
        params,
        unsafe: State,
        thresholds,
        reading: Reading | None = None,
    ) -> Filtered:
        key = jax.random.fold_in(root, int(Stage.FILTER_TEST))
        given = system.domain, system.risk, system.recovery, params, task, thresholds

        def of_kind(key, learned):  # one program: what is traced twice compiles twice
            def propose(key, seen):
                sampled = system.task_policy.sample(key, unsafe, seen)
                random = system.domain.reference_policy(jax.random.clone(key), seen)
                return jnp.where(learned, sampled, random)

            hold = jnp.where(learned, 1, HOLD)
            given_too = episodes, propose, hold, reading, look_ahead
            return filter_test(key, *given, *given_too)

        keys = jax.random.split(key, len(PROPOSALS))
        return jax.vmap(of_kind)(keys, jnp.array([False, True]))

    return test


def _as_online(study: Study, method: Method) -> Callable:
    """Makes `transitions [n, ...] -> Reading` as online runs of a method read."""
    settings, system = study.configuration, study.system
    if not adaptation.reads(settings, method):
        return lambda transitions: None
    source, training = trained_source(study, method), None
    if adaptation.asks_novelty(system, method):
        training = source.novelty(system, settings.online.readapt_transitions)
    anew = adaptation.adapts_anew(system, method, training)

    def adapt(key, transitions):
        return anew(key, source.prior, transitions)

    return lambda transitions: adaptation.reading(settings, adapt, transitions)


def tested(study: Study, method: str, bodies: Bodies, kind: str) -> list[Row]:
    """Tests an adapted method's filter on bodies; returns its records.

    At the thresholds that are tried, at the method's own, and where the recovery policy
    acts on every step and on none.

    Args:
      kind: of `BODIES`.
    """
    mine = study.of(method)
    settings, system = mine.configuration, mine.system
    params = adapted(study, (method,), bodies)[method]
    own = settings.recovery.risk_threshold
    thresholds = sorted({ALWAYS, NEVER, *THRESHOLDS, own})
    test = of_body(system, settings.quality.filter_episodes)
    reading_of = _as_online(mine, METHODS[method])

    def one(root, task, params, unsafe, transitions):
        given = root, task, params, unsafe, jnp.array(thresholds)
        return test(*given, reading_of(transitions))

    given = bodies.roots, bodies.tasks, params, unsafe_policies(study, bodies)
    found = sharding.read(jax.jit(sharding.vmap(one))(*given, bodies.rows))
    about = {
        "method": method,
        "meta_seed": study.meta_seed,
        "bodies": kind,
        "transitions": bodies.rows.cost.shape[1],
        "horizon": seconds_of(settings) / (1.0 - settings.risk.discount),
        "own_threshold": own,
    }
    records = []
    for body, seed in enumerate(bodies.seeds):
        for which, proposals in enumerate(PROPOSALS):
            for i, threshold in enumerate(thresholds):
                one = jax.tree.map(lambda x: x[body, which, i], found)  # noqa: B023
                where = {"body": seed, "proposals": proposals, "threshold": threshold}
                records.append(about | where | counts(one))
    return [{name: row[name] for name in FILTER.columns} for row in records]


def looked_ahead(study: Study, method: str, bodies: Bodies, steps: int) -> list[Row]:
    """Tests a filter that simulates what an adapted recovery policy would come to.

    It knows the body and its state: the room that a risk measure for this recovery
    policy has.

    Args:
      steps: that it looks ahead, at least 1.
    """
    mine = study.of(method)
    episodes = mine.configuration.quality.filter_episodes
    params = adapted(study, (method,), bodies)[method]
    test = of_body(mine.system, episodes, steps)
    given = bodies.roots, bodies.tasks, params, unsafe_policies(study, bodies)
    halves = jnp.full((len(bodies.seeds), 1), 0.5)  # between 0, safe, and 1
    found = sharding.read(jax.jit(sharding.vmap(test))(*given, halves))
    about = {"method": method, "meta_seed": study.meta_seed, "look_ahead": steps}
    records = [
        about
        | {"body": seed, "proposals": proposals}
        | counts(jax.tree.map(lambda x: x[body, which, 0], found))  # noqa: B023
        for body, seed in enumerate(bodies.seeds)
        for which, proposals in enumerate(PROPOSALS)
    ]
    return [{name: row[name] for name in LOOK_AHEAD.columns} for row in records]


def counts(found: Filtered) -> dict[str, int]:
    """Returns the counts of some episodes of one body, fields [episodes]."""
    return {
        "episodes": found.violated.size,
        "violated": int(found.violated.sum()),
        "while_recovering": int(found.while_recovering.sum()),
        "steps": int(found.length.sum()),
        "recovered": int(found.recovered.sum()),
    }
