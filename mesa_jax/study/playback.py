"""Moves a recorded online episode again by the simulator, so that it can be drawn.

A run's checkpoint holds the actions of every step but no states of the body. These
follow from the actions and the run's counted keys. Another compiled program rounds
otherwise, and contacts amplify that; so what is found is compared with what was seen.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mesa_jax import rollout
from mesa_jax.keys import Stage, stage_key
from mesa_jax.simulation import checked_step
from mesa_jax.study.episodes import Recorded
from mesa_jax.system import System
from mesa_jax.types import Shapes, State

STRAYS = 0.05  # difference of an observation from which on it is another course


class Playback(NamedTuple):
    """Holds an episode of L steps, moved again; NumPy arrays."""

    states: State  # leaves [L + 1, ...], of the body
    points: np.ndarray | None  # [L + 1, D] observations of a body without shapes
    shapes: Shapes | None  # leaves [L + 1, ...]
    difference: float  # largest of an observation from the recorded one
    strays_at: int | None  # first state from which on it is another course


def mover(system: System) -> Callable:
    """Makes what moves bodies through episodes, compiled once for each length.

    It takes (key, start key, task, first step of the run, actions [L, A]) and returns
    states [L + 1], observations [L, D], and what is drawn of the body.
    """
    domain = system.online_domain

    @jax.jit
    def move(key, start_key, task, start, actions):
        def advance(state, given):
            action, env_steps = given
            now = domain.task_at(task, env_steps)
            move_key = rollout.step_keys(key, env_steps).move
            state, transition, _ = checked_step(domain, move_key, state, action, now)
            return state, (state, transition.next_observation)

        first = domain.reset(start_key, domain.task_at(task, start))
        times = start + jnp.arange(len(actions))
        _, (states, observations) = jax.lax.scan(advance, first, (actions, times))
        states = jax.tree.map(lambda x, y: jnp.concatenate([x[None], y]), first, states)
        bodies = states.state if system.configuration.fault else states
        if domain.shapes is None:
            return bodies, observations, jax.vmap(system.domain.observe)(bodies), None
        tasks = jax.vmap(lambda t: domain.task_at(task, start + t))(
            jnp.arange(len(actions) + 1)
        )
        return bodies, observations, None, jax.vmap(domain.shapes)(states, tasks)

    return move


def moved_again(
    move: Callable,
    seed: int,
    recorded: Recorded,
    strays: float = STRAYS,
    length: int = 0,
) -> Playback:
    """Simulates a recorded episode of a seed's run.

    Args:
      move: as `mover` makes it.
      strays: difference of an observation from which on it is another course.
      length: to which actions are filled up, so that one program moves all episodes.
    """
    states, observations, points, shapes = _moved(move, seed, recorded, length)
    differences = np.abs(observations - recorded.next_observation).max(-1)
    large = np.flatnonzero(~(differences <= strays))  # also where it is no number
    strays_at = int(large[0]) + 1 if len(large) else None
    return Playback(states, points, shapes, float(differences.max()), strays_at)


def _moved(
    move: Callable, seed: int, recorded: Recorded, length: int
) -> tuple[State, np.ndarray, np.ndarray | None, Shapes | None]:
    """Returns states [L + 1], observations [L, D], and what is drawn of the body."""
    key, steps = stage_key(seed, Stage.ONLINE), len(recorded.action)
    start_key = stage_key(seed, Stage.RUN_START)
    if recorded.start:  # what ended the episode before it drew its start
        start_key = rollout.step_keys(key, recorded.start - 1).reset
    actions = np.pad(recorded.action, ((0, max(0, length - steps)), (0, 0)))
    states, observations, points, shapes = jax.tree.map(
        np.asarray, move(key, start_key, recorded.task, recorded.start, actions)
    )

    def first(tree):
        return jax.tree.map(lambda x: x[: steps + 1], tree)

    return first(states), observations[:steps], first(points), first(shapes)
