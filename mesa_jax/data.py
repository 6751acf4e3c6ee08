"""Offline data from a learning agent: SAC in every body, all as one program.

As the published buffers were made (MESA's code: SAC without safety, whose replay is the
dataset): the agent learns its task, falls on the way, and goes on where physics allows.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mesa_jax import equations, replay
from mesa_jax.settings import setting, validate
from mesa_jax.simulation import checked_step, ends_data
from mesa_jax.types import Array, Domain, Key, State, Task, Transition


@dataclasses.dataclass(frozen=True)
class CollectConfig:
    """Who makes the offline data, and how."""

    collector: str = setting(
        "random",
        "random: the domain's generator or uniform actions; sticky: uniform actions, "
        "each held; sac: a learning agent without safety",
        choices=("random", "sticky", "sac"),
        flag="collector",
    )
    hold: int = setting(10, "steps a sticky action is held", "[1, 100_000]")
    environments: int = setting(16, "copies of a body that sac steps", "[1, 10_000]")
    updates: int = setting(8, "sac updates for each of their steps", "[0, 10_000]")
    start_steps: int = setting(
        1000, "first transitions of a body, with uniform actions", "[0, 100_000_000]"
    )
    batch_size: int = setting(256, "rows of a sac update", "[1, 1_000_000]")

    def __post_init__(self):
        validate(self)


class CollectState(NamedTuple):
    """One body's collector (keys are counted, not carried)."""

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
    """Before the first step; the replay takes the first `count` transitions."""
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


def collect_steps(
    domain: Domain, sac: Any, config: CollectConfig, steps: int
) -> Callable[[Key, CollectState], CollectState]:
    """Makes `chunk(key, state) -> state`: `steps` steps of one body's environments.

    Args:
      sac: the task policy's `init`, `sample` and `update` (agents.sac).
    """
    count = config.environments

    def advance_one(key, body, length, action, task):
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

    def step(key, state):
        act_key, uniform_key, move_key, learn_key = jax.random.split(
            jax.random.fold_in(key, state.step), 4
        )
        seen = jax.vmap(domain.observe)(state.bodies)
        actions = sac.sample(act_key, state.learner, seen)
        uniform = jax.random.uniform(uniform_key, actions.shape, minval=-1.0)
        first = state.step * count < config.start_steps
        actions = jnp.where(first, uniform, actions)
        bodies, length, transitions, finite = jax.vmap(advance_one, (0, 0, 0, 0, None))(
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
