"""Phase 1 of a system: offline data, meta-training, and where training bodies lie."""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from mesa_jax import collector, data, novelty, sharding, training
from mesa_jax.filter import METHOD
from mesa_jax.methods import METHODS
from mesa_jax.novelty import Novelty
from mesa_jax.phases.training import outer_steps, start
from mesa_jax.settings import SettingError, known
from mesa_jax.system import System, compiled_once
from mesa_jax.types import Key, Metrics, Prior, Task, Transition

OUTER_STEPS = 250  # of a chunk of meta-training
SAC_STEPS = 50  # of a chunk of a learning collector


def collect(
    key: Key, system: System, bodies: Task, count: int, among: int = 0
) -> Transition:
    """Collects offline transitions of bodies, as the configuration's collector does.

    Args:
      key: consumed.
      system: its domain moves the bodies.
      bodies: [T, ...] as `system.domain.train_tasks` or `test_tasks` draws them.
      count: transitions a body.
      among: where it is not 0, as many are collected, and `count` of them drawn without
        replacement: an adaptation set of independent transitions, not of an episode.

    Returns:
      [T, count, ...]

    Raises:
      SettingError: naming `count` or `among`.
      FloatingPointError: where no step of a learning collector is finite.
    """
    if count < 1:
        raise SettingError("count", count, "at least 1")
    if among and among < count:
        raise SettingError("among", among, f"0, or at least count ({count})")
    key, draw_key = jax.random.split(key)
    config, made = system.configuration.collect, among or count
    if config.learns:
        found = _by_learner(key, system, bodies, made)
    else:
        found = by_policy(key, system, bodies, made)
    found = jax.device_put(found)
    if not among:
        return found
    keys = jax.random.split(draw_key, len(found.cost))
    orders = jax.vmap(lambda k: jax.random.permutation(k, made)[:count])(keys)
    return jax.tree.map(lambda x: jax.vmap(jnp.take, (0, 0, None))(x, orders, 0), found)


def _by_learner(key: Key, system: System, bodies: Task, count: int) -> Transition:
    *_, states = collector.by_learner(*learning(system, count), key, bodies, count)
    if int(states.replay.added.min()) < count:
        raise FloatingPointError(f"no step of the last {SAC_STEPS} was finite")
    return states.replay.rows


def by_policy(key: Key, system: System, bodies: Task, count: int) -> Transition:
    """Collects `count` transitions of each body by a random policy (`data.by_policy`).

    Args:
      key: consumed.
      system: has the policy.
      bodies: [T, ...]
      count: transitions a body.
    """
    return data.by_policy(key, _acting(system, count), bodies, count)


@compiled_once
def _acting(system: System, count: int) -> Callable:
    """Compiles episodes that usually hold so many transitions."""
    return data.episodes_of(system.domain, system.configuration.collect, count)


@compiled_once
def learning(system: System, count: int) -> tuple[Callable, Callable]:
    """Compiles learning collectors of bodies, for `collector.by_learner`.

    They are `init(keys, tasks) -> states` and `chunk(keys, states) -> states`, some
    steps of each; the states are donated.

    Args:
      system: has the agent that learns.
      count: transitions that a body's collector keeps.
    """
    parts = system.domain, system.task_policy, system.configuration.collect

    def init(key, task):
        return collector.init_collect(key, *parts, task, count)

    chunk = sharding.vmap(collector.collect_steps(*parts, SAC_STEPS))
    return jax.jit(sharding.vmap(init)), jax.jit(chunk, donate_argnums=1)


@compiled_once
def _training(system: System, kind: str, steps: int) -> Callable:
    """Compiles so many outer steps of a kind of prior."""
    return jax.jit(outer_steps(system, kind, steps))


def meta_training(
    key: Key,
    system: System,
    transitions: Transition,
    method: str = METHOD,
    chunk: int = OUTER_STEPS,
) -> Iterator[tuple[training.MetaTrainingState, Metrics]]:
    """Yields the state and metrics of meta-training after every chunk (phase 1).

    A chunk is some outer steps in one dispatch. `state.learner.prior` is the
    prior as it is, `state.best` the one with the least Bellman error on held-out
    bodies.

    Args:
      key: consumed.
      system: of the method's configuration.
      transitions: [T, N, ...] of training bodies. Those beyond the configuration's
        `data.train_bodies` train nothing: the prior is selected on them; where there
        are no more, on all.
      method: a row of METHODS that has a prior.
      chunk: outer steps a dispatch.

    Raises:
      SettingError: naming the method, or what the bodies are too few for.
      FloatingPointError: naming the first outer step whose loss is not finite.
    """
    kind, config = METHODS[known("method", method, METHODS)].prior, system.configuration
    if kind == "scratch":
        trained = [name for name, row in METHODS.items() if row.prior != "scratch"]
        raise SettingError("method", method, "one of " + ", ".join(trained))
    trained, heldout = _split(config, kind, transitions)
    init_key, train_key, error_key = jax.random.split(key, 3)
    state, trained = start(system, kind, init_key, trained)
    done, total = 0, getattr(config, kind).steps
    while done < total:
        steps = min(chunk, total - done)
        keys = map(jax.random.clone, (train_key, error_key))  # counted by the state
        program = _training(system, kind, steps)
        state, metrics = program(*keys, state, trained, heldout)
        _require_finite(metrics, done)
        done += steps
        yield state, metrics


def _split(config, kind: str, transitions: Transition) -> tuple[Transition, Transition]:
    """Training bodies, and those that select the prior."""
    count, bodies = config.data.train_bodies, len(transitions.cost)
    trained = jax.tree.map(lambda x: jax.device_put(x[:count]), transitions)
    heldout = jax.tree.map(lambda x: jax.device_put(x[count:]), transitions)
    section = getattr(config, kind)
    mixed = kind == "pooled" and section.bodies == "mixed"
    if not mixed and len(trained.cost) < section.num_tasks:
        allowed = f"of at least {kind}_num_tasks ({section.num_tasks}) bodies"
        raise SettingError("transitions", f"{bodies} bodies", allowed)
    return trained, heldout if bodies > count else trained


def _require_finite(metrics: Metrics, done: int) -> None:
    losses = np.asarray(metrics["risk/loss"])
    broken = np.flatnonzero(~np.isfinite(losses))
    if len(broken):
        raise FloatingPointError(
            f"the risk critic's loss at outer step {done + broken[0]} is not finite"
        )


def meta_train(
    key: Key, system: System, transitions: Transition, method: str = METHOD
) -> Prior:
    """Returns the prior that meta-training selects (phase 1; `meta_training`).

    Args:
      key: consumed.
      system: of the method's configuration.
      transitions: [T, N, ...] of training bodies, held-out ones last.
      method: a row of METHODS that has a prior.

    Raises:
      SettingError: naming the method, or what the bodies are too few for.
      FloatingPointError: naming the first outer step whose loss is not finite.
    """
    *_, (state, _) = meta_training(key, system, transitions, method)
    return state.best


def training_novelty(
    key: Key, system: System, prior: Prior, transitions: Transition, count: int
) -> Novelty | None:
    """Returns where training bodies lie, as adaptation sets of `count` tell; or None.

    None: the system's critic reads no adaptation set, so nothing tells.

    Args:
      key: consumed.
      system: of the method's configuration.
      prior: of the method.
      transitions: [T, N, ...] of at least two training bodies.
      count: transitions of an adaptation set, as many as those to be judged have.
    """
    if system.encode is None:
        return None
    encoded = _encodings(system, count)(key, prior.params[0], transitions)
    return novelty.fit(encoded)


@compiled_once
def _encodings(system: System, count: int) -> Callable:
    """Compiles (key, critic, transitions) -> training encodings [B, K, E]."""

    def encodings(key, critic, transitions):
        encode = lambda key, mine: system.encode(key, critic, mine)  # noqa: E731
        return novelty.encodings(key, encode, transitions, count)

    return jax.jit(encodings)
