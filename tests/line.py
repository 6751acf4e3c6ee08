"""A line where all is known by hand.

A body at x moves by its action, x' = x + a, from 0. It violates where x' is beyond its
limit, reaches its goal where x' is at most -2, and has 4 steps. The reward is x before
the step.
"""

from typing import NamedTuple

import jax.numpy as jnp

from mesa_jax.types import Array, Domain, DomainSpec, Transition

HORIZON, GOAL = 4, -2.0


class Body(NamedTuple):
    limit: Array  # violates beyond it
    broken: Array  # the reward is no number from here on


def line_step(key, state, action, task):
    del key
    reached = state + action[0]
    violation = reached > task.limit
    terminated = violation | (reached <= GOAL)
    return reached, Transition(
        observation=state[None],
        action=action,
        reward=jnp.where(state >= task.broken, jnp.nan, state),
        cost=violation.astype(jnp.float32),
        discount=1.0 - terminated.astype(jnp.float32),
        next_observation=reached[None],
    )


LINE = Domain(
    spec=DomainSpec("line", observation_size=1, action_size=1, horizon=HORIZON),
    train_tasks=None,
    test_tasks=None,
    reset=lambda key, task: jnp.zeros(()),
    observe=lambda state: state[None],
    step=line_step,
    success=lambda transition, episode_return: transition.discount == 0.0,
    solvable=None,
    reference_policy=lambda key, observation: jnp.ones_like(observation),
    episode=None,
    decision_states=None,
)
