"""Offline data by SAC that learns in every body, and by varied actions beside it.

So the published buffers were made (MESA's code: SAC without safety, whose replay is the
dataset): the agent learns its task, and falls on the way. Where data are mixed it acts
in some copies of the body only. In the others an action is held for a stretch of steps,
the same ones in all; SAC learns of these, too.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mesa_jax import equations, replay, sharding
from mesa_jax.data import CollectConfig, of_data, varied_action
from mesa_jax.simulation import checked_step, ends_data
from mesa_jax.types import Array, Domain, Key, State, Task, Transition

STRETCHES = 2**30  # what a key is folded with for them; steps are fewer


class CollectState(NamedTuple):
    """Holds one body's collector (keys are counted, not carried)."""

    task: Task
    learner: State
    bodies: State  # [E, ...]
    length: Array  # [E] of the running episodes
    replay: replay.Replay
    non_finite: Array  # steps left out, not being finite, until the replay was full
    step: Array


def init_collect(
    key: Key, domain: Domain, sac: Any, config: CollectConfig, task: Task, count: int
) -> CollectState:
    """Returns the collector of one body before its first step.

    Args:
      key: consumed.
      domain: where the body moves.
      sac: the task policy (agents.sac).
      config: how many copies of the body are stepped.
      task: one body.
      count: transitions that its replay takes, the first finite ones.
    """
    sac_key, reset_key = jax.random.split(key)
    reset_keys = jax.random.split(reset_key, config.environments)
    spec, zero = domain.spec, jnp.zeros((), jnp.int32)
    number, seen = jnp.zeros(()), jnp.zeros(spec.observation_size)
    row = Transition(seen, jnp.zeros(spec.action_size), number, number, number, seen)
    return CollectState(
        task=task,
        learner=sac.init(sac_key),
        bodies=jax.vmap(domain.reset, (0, None))(reset_keys, task),
        length=jnp.zeros(config.environments, jnp.int32),
        replay=replay.init(count, row),
        non_finite=zero,
        step=zero,
    )


def _advance(domain, key, body, length, action, task):
    """Moves one copy of a body; starts it anew where its episode has ended."""
    step_key, reset_key = jax.random.split(key)
    reached, transition, finite = checked_step(domain, step_key, body, action, task)
    length = length + 1
    out_of_time = length >= domain.spec.horizon
    ended = ends_data(domain, transition) | out_of_time
    fresh = domain.reset(reset_key, task)
    body, length = equations.select(
        ended, (fresh, jnp.zeros_like(length)), (reached, length)
    )
    return body, length, transition, finite


def collect_steps(
    domain: Domain, sac: Any, config: CollectConfig, steps: int
) -> Callable[[Key, CollectState], CollectState]:
    """Makes `chunk(key, state) -> state`: `steps` steps of one body's environments.

    Args:
      domain: where the body moves.
      sac: the task policy's `init`, `sample` and `update` (agents.sac).
      config: copies of the body, updates a step, batch size, where episodes end.
      steps: of a chunk.
    """
    count, domain = config.environments, of_data(domain, config)
    learning = config.learning_environments  # the first ones
    advance = jax.vmap(functools.partial(_advance, domain), (0, 0, 0, 0, None))

    def learn(key, learner, memory):
        def update(learner, i):
            draw_key, update_key = jax.random.split(jax.random.fold_in(key, i))
            batch = replay.sample(draw_key, memory, config.batch_size)
            return sac.update(update_key, learner, batch)[0], None

        return jax.lax.scan(update, learner, jnp.arange(config.updates))[0]

    def remember(memory, row):
        """Adds a finite row while there is room: what is kept is never overwritten."""
        transition, finite = row
        room = memory.added < replay.capacity(memory)
        return replay.add(memory, transition, finite & room), room & ~finite

    def varied(key, step):
        """Actions [E, A] of the stretch that a step belongs to."""
        key = jax.random.fold_in(
            jax.random.fold_in(key, STRETCHES), step // config.hold
        )
        draw = lambda key: varied_action(key, domain.spec.action_size, config.calm)  # noqa: E731
        return jax.vmap(draw)(jax.random.split(key, count))

    def step(key, state):
        act_key, uniform_key, move_key, learn_key = jax.random.split(
            jax.random.fold_in(key, state.step), 4
        )
        seen = jax.vmap(domain.observe)(state.bodies)
        actions = sac.sample(act_key, state.learner, seen)
        uniform = jax.random.uniform(uniform_key, actions.shape, minval=-1.0)
        first = state.step * count < config.start_steps
        actions = jnp.where(first, uniform, actions)
        if learning < count:
            theirs = jnp.arange(count)[:, None] >= learning
            actions = jnp.where(theirs, varied(key, state.step), actions)
        bodies, length, transitions, finite = advance(
            jax.random.split(move_key, count),
            state.bodies,
            state.length,
            actions,
            state.task,
        )
        rows = transitions, finite
        memory, left_out = jax.lax.scan(remember, state.replay, rows)
        ready = ~first & (replay.size(memory) > config.batch_size)
        learned = learn(learn_key, state.learner, memory)
        return state._replace(
            learner=equations.select(ready, learned, state.learner),
            bodies=bodies,
            length=length,
            replay=memory,
            non_finite=state.non_finite + jnp.sum(left_out),
            step=state.step + 1,
        )

    def chunk(key, state):
        return jax.lax.scan(lambda s, _: (step(key, s), None), state, length=steps)[0]

    return chunk


def by_learner(
    init: Callable, chunk: Callable, key: Key, tasks: Task, count: int
) -> Iterator[CollectState]:
    """Yields the collectors [T, ...] of bodies after every chunk, until all are full.

    It ends early where a chunk has added nothing to any: no step of it was finite.

    Args:
      init: (keys [T], tasks) -> collectors; `init_collect` over bodies.
      chunk: (keys [T], collectors) -> collectors; `collect_steps` over bodies.
      key: consumed.
      tasks: [T, ...] bodies.
      count: transitions that a collector takes.
    """
    bodies = jax.tree.leaves(tasks)[0].shape[0]
    init_key, key = jax.random.split(key)
    states = init(jax.random.split(init_key, bodies), tasks)
    keys = jax.random.split(key, bodies)
    held = _counts(states)
    while held.min() < count:
        states = chunk(keys, states)
        before, held = held, _counts(states)
        yield states
        if (held == before).all():
            return


def _counts(states: CollectState) -> np.ndarray:
    """Copies how many transitions each replay holds: the next chunk takes the state."""
    return np.array(sharding.read(states.replay.added))
