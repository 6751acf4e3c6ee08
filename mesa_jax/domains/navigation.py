"""Navigation: a point robot among obstacles, whose actuators differ between bodies.

MESA's simplepointbot 0 and 1, after Recovery RL's Navigation 1 and 2 (supplement):
s' = s + B a + w + 0.05 N(0, I). A body is the gain matrix B and the drift w. The reward
is the distance to the goal *before* the step, so an episode ends one step after the
goal is reached.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mesa_jax.domains.base import (
    CLOSED_FORM,
    PhysicsConfig,
    distribution_of,
    require_backend,
)
from mesa_jax.domains.point_bodies import (
    DISTRIBUTIONS,
    NOISE_STD,
    PARAMETRISATION,
    TURNING,
    legs_through,
    solvable,
)
from mesa_jax.domains.rectangles import inside, uniform_in
from mesa_jax.settings import SettingError
from mesa_jax.types import Array, Domain, DomainSpec, Key, Plane, Transition

PHYSICS = PhysicsConfig()
GOAL_RADIUS = 1.0  # ends the episode
SUCCESS_RADIUS = 4.0  # counts as a success
START, GOAL = (-50.0, 0.0), (0.0, 0.0)
DATA_EPISODE_LENGTH = 11  # transitions, of the published generators

# Rectangles x0, x1, y0, y1.
WALLS = (  # navigation 1: a corridor |y| < 5 with a wall behind
    (-100.0, 150.0, 5.0, 10.0),
    (-100.0, -80.0, -10.0, 10.0),
    (-100.0, 150.0, -10.0, -5.0),
)
CORRIDOR = (-80.0, 50.0, -5.0, 5.0)  # as far as the generator starts episodes
SIDEWAYS = ((0.0, 1.0), (0.0, -1.0))  # commands whose risk is drawn
AHEAD = ((1.0, 0.0), (0.0, 1.0))
OBSTACLE = ((-30.0, -20.0, -7.5, 7.5),)  # navigation 2: a block on the way
BAND = (  # four units round it, in pieces
    (-34.0, -30.0, -11.5, 11.5),
    (-20.0, -16.0, -11.5, 11.5),
    (-30.0, -20.0, 7.5, 11.5),
    (-30.0, -20.0, -11.5, -7.5),
)


class Segment(NamedTuple):
    """Describes a part of navigation 2's data: episodes that head for the obstacle."""

    start: tuple[float, float, float, float]  # x0, x1, y0, y1
    aim: tuple[float, float]  # sign of an action of size U(0.5, 1); 0: clip(N(0, 1))
    length: int  # transitions, at most


SEGMENTS = (
    Segment((-35.0, -30.0, -12.0, 12.0), (1.0, 0.0), 11),
    Segment((-20.0, -15.0, -12.0, 12.0), (-1.0, 0.0), 11),
    Segment((-30.0, -20.0, 10.0, 15.0), (0.0, -1.0), 10),
    Segment((-30.0, -20.0, -15.0, -10.0), (0.0, 1.0), 10),
)


class Plan(NamedTuple):
    """Describes an episode of the data generator before it runs."""

    start: Array  # [2]
    policy: Callable[[Key, Array], Array]
    length: Array | int  # transitions, at most DATA_EPISODE_LENGTH


def _reference_policy(key: Key, observation: Array) -> Array:
    return jnp.clip(jax.random.normal(key, (*observation.shape[:-1], 2)), -1.0, 1.0)


def _route(*corners: tuple[float, float]) -> np.ndarray:
    """Makes straight legs [L, 2] from the start round corners to the success radius."""
    return legs_through((START, *corners, GOAL), SUCCESS_RADIUS)


def _step(obstacles, key, state, action, task) -> tuple[Array, Transition]:
    """s' = s + B a + w + noise; a state inside an obstacle stays where it is."""
    action = jnp.clip(action, -1.0, 1.0)
    noise = NOISE_STD * jax.random.normal(key, (2,))
    moved = state + task.gain @ action + task.drift + noise
    reached = jnp.where(inside(state, obstacles), state, moved)
    violation = inside(reached, obstacles)
    distance = jnp.linalg.norm(state)
    terminated = violation | (distance < GOAL_RADIUS)
    dtype = state.dtype
    return reached, Transition(
        observation=state,
        action=action,
        reward=-distance,
        cost=violation.astype(dtype),
        discount=1.0 - terminated.astype(dtype),
        next_observation=reached,
    )


def _data_episode(key, task, step, plan: Plan) -> tuple[Transition, Array]:
    """One padded episode of the generator, and which of its transitions are real."""

    def advance(carry, i):
        state, alive = carry
        act_key, noise_key = jax.random.split(jax.random.fold_in(key, i))
        action = plan.policy(act_key, state)
        state, transition = step(noise_key, state, action, task)
        real = alive & (i < plan.length)
        return (state, real & (transition.discount > 0.0)), (transition, real)

    carry = (plan.start, jnp.ones((), bool))
    return jax.lax.scan(advance, carry, jnp.arange(DATA_EPISODE_LENGTH))[1]


def _point_robot(
    name: str,
    tasks: str,
    physics: PhysicsConfig,
    plane: Plane,
    routes: np.ndarray,
    plan_episode: Callable[[Key], Plan],
    decision_states: Callable[[Key, int], Array],
) -> Domain:
    """A navigation domain from its plane, the ways to its goal and its data."""
    bodies = distribution_of(tasks, DISTRIBUTIONS)
    require_backend(physics, (CLOSED_FORM,))
    if physics.frame_skip != 1:
        raise SettingError("frame_skip", physics.frame_skip, "1 in this domain")
    spec = DomainSpec(
        name=name,
        observation_size=2,
        action_size=2,
        horizon=physics.horizon,
        plane=plane,
    )

    def reset(key, task):
        del task
        return jnp.array(START) + jax.random.normal(key, (2,))

    step = functools.partial(_step, plane.obstacles)

    def episode(key, task):
        plan_key, step_key = jax.random.split(key)
        return _data_episode(step_key, task, step, plan_episode(plan_key))

    return Domain(
        spec=spec,
        train_tasks=lambda key, n: jax.vmap(bodies.train)(jax.random.split(key, n)),
        test_tasks=lambda key, n: jax.vmap(bodies.test)(jax.random.split(key, n)),
        reset=reset,
        observe=lambda state: state,
        step=step,
        success=lambda transition, episode_return: transition.reward > -SUCCESS_RADIUS,
        solvable=functools.partial(solvable, routes, physics.horizon),
        reference_policy=_reference_policy,
        episode=episode,
        decision_states=lambda key, count, task: decision_states(key, count),
        parametrisation=PARAMETRISATION,
    )


def navigation1(tasks: str = "published", physics: PhysicsConfig = PHYSICS) -> Domain:
    """Makes navigation 1: a corridor |y| < 5 from (-50, 0) to the origin.

    Args:
      tasks: a name in `point_bodies.DISTRIBUTIONS`.
      physics: only its horizon may differ from the default.

    Raises:
      ValueError: on another task distribution, backend or frame skip.
    """

    def plan_episode(key):
        x_key, y_key, side_key = jax.random.split(key, 3)
        x = jax.random.uniform(x_key, minval=CORRIDOR[0], maxval=CORRIDOR[1])
        y = jax.random.uniform(y_key, minval=2.0, maxval=5.0)
        start = jnp.array([x, y * jax.random.rademacher(side_key, (), float)])
        return Plan(start, _reference_policy, DATA_EPISODE_LENGTH)

    def decision_states(key, count):
        return uniform_in(key, jnp.tile(jnp.array(CORRIDOR), (count, 1)))

    plane = Plane(WALLS, (-84.0, 54.0, -6.0, 6.0), START, GOAL, SIDEWAYS)
    routes = np.stack([_route()])
    return _point_robot(
        "navigation1", tasks, physics, plane, routes, plan_episode, decision_states
    )


def navigation2(tasks: str = "published", physics: PhysicsConfig = PHYSICS) -> Domain:
    """Makes navigation 2: round an obstacle between (-50, 0) and the origin.

    The published generator makes its four segments one after the other, with as many
    transitions each. Here every episode draws its segment, so that data episodes are
    independent and no adaptation set, a shuffle of all, sees one side only. Its actions
    aim at the obstacle; a body that they drive away from it would have no violation on
    file. So where bodies may be turned around, an episode aims at the obstacle or away
    from it, at random.

    Args:
      tasks: a name in `point_bodies.DISTRIBUTIONS`.
      physics: only its horizon may differ from the default.

    Raises:
      ValueError: on another task distribution, backend or frame skip.
    """

    def plan_episode(key):
        segment_key, start_key, side_key = jax.random.split(key, 3)
        chosen = jax.random.randint(segment_key, (), 0, len(SEGMENTS))
        columns = zip(*SEGMENTS, strict=True)
        rectangle, aim, length = (jnp.asarray(column)[chosen] for column in columns)

        if tasks in TURNING:
            aim = aim * jax.random.rademacher(side_key, (), float)

        def policy(key, state):
            size_key, free_key = jax.random.split(key)
            size = jax.random.uniform(size_key, (2,), minval=0.5, maxval=1.0)
            return jnp.where(aim == 0.0, _reference_policy(free_key, state), aim * size)

        return Plan(uniform_in(start_key, rectangle), policy, length)

    def decision_states(key, count):
        piece_key, point_key = jax.random.split(key)
        pieces = jnp.array(BAND)
        areas = (pieces[:, 1] - pieces[:, 0]) * (pieces[:, 3] - pieces[:, 2])
        share = areas / areas.sum()
        chosen = jax.random.choice(piece_key, len(BAND), (count,), p=share)
        return uniform_in(point_key, pieces[chosen])

    plane = Plane(OBSTACLE, (-58.0, 8.0, -13.0, 13.0), START, GOAL, AHEAD)
    above, below = (_route((-30.0, y), (-20.0, y)) for y in (7.5, -7.5))
    routes = np.stack([above, below])
    return _point_robot(
        "navigation2", tasks, physics, plane, routes, plan_episode, decision_states
    )
