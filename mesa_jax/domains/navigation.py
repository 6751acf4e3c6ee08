"""Navigation: a point robot between walls whose actuators differ from body to body.

MESA's simplepointbot, after Recovery RL's Navigation 1 (supplement): s' = s + B a + w +
0.05 N(0, I). A body is the gain matrix B and the drift w. The reward is the distance to
the goal *before* the step, so an episode ends one step after the goal is reached.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mesa_jax.types import Array, Domain, DomainSpec, Key, Plane, Transition

NOISE_STD = 0.05
GOAL_RADIUS = 1.0  # ends the episode
SUCCESS_RADIUS = 4.0  # counts as a success
HORIZON = 100
DATA_EPISODE_LENGTH = 11  # transitions, of the published generator

WALLS = (  # closed rectangles x0, x1, y0, y1: a corridor |y| < 5 with a wall behind
    (-100.0, 150.0, 5.0, 10.0),
    (-100.0, -80.0, -10.0, 10.0),
    (-100.0, 150.0, -10.0, -5.0),
)
START, GOAL = (-50.0, 0.0), (0.0, 0.0)
DATA_X = (-80.0, 50.0)  # where the published generator starts


class PointTask(NamedTuple):
    """One body."""

    gain: Array  # [2, 2] B
    drift: Array  # [2] w, units a step


def _published_gains(key: Key) -> Array:
    return jnp.diag(jax.random.uniform(key, (2,), minval=0.5, maxval=1.5))


def _flipped_gains(key: Key) -> Array:
    gain_key, sign_key = jax.random.split(key)
    return _published_gains(gain_key) * jax.random.rademacher(sign_key, (2,), float)


GAINS = {"published": _published_gains, "flip": _flipped_gains}


def _inside(point: Array, rectangles: tuple) -> Array:
    """Whether a point [2] lies in any closed rectangle."""
    x0, x1, y0, y1 = jnp.asarray(rectangles).T
    x, y = point
    return jnp.any((x0 <= x) & (x <= x1) & (y0 <= y) & (y <= y1))


def _forward_speed(task: PointTask) -> Array:
    """Largest mean speed along x that keeps y level, units a step.

    Mean velocities the body can hold are the parallelogram B [-1, 1]^2 + w; the fastest
    level one lies where an edge crosses zero in y. Zero where none does.
    """
    corners = jnp.array([[-1.0, -1.0], [-1.0, 1.0], [1.0, 1.0], [1.0, -1.0]])
    velocity = corners @ task.gain.T + task.drift
    after = jnp.roll(velocity, -1, axis=0)
    rise = after[:, 1] - velocity[:, 1]
    level = jnp.abs(rise) < 1e-9
    share = -velocity[:, 1] / jnp.where(level, 1.0, rise)
    crossing = velocity[:, 0] + share * (after[:, 0] - velocity[:, 0])
    crosses = ~level & (share >= 0.0) & (share <= 1.0)
    return jnp.maximum(jnp.max(jnp.where(crosses, crossing, -jnp.inf)), 0.0)


def _step(walls, key, state, action, task) -> tuple[Array, Transition]:
    """s' = s + B a + w + noise; a state inside an obstacle stays where it is."""
    action = jnp.clip(action, -1.0, 1.0)
    noise = NOISE_STD * jax.random.normal(key, (2,))
    moved = state + task.gain @ action + task.drift + noise
    reached = jnp.where(_inside(state, walls), state, moved)
    violation = _inside(reached, walls)
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


def _data_episode(key, start, task, step, policy) -> tuple[Transition, Array]:
    """One padded episode of the generator, and which of its transitions are real."""

    def advance(carry, i):
        state, alive = carry
        act_key, noise_key = jax.random.split(jax.random.fold_in(key, i))
        state, transition = step(noise_key, state, policy(act_key, state), task)
        return (state, alive & (transition.discount > 0.0)), (transition, alive)

    carry = (start, jnp.ones((), bool))
    return jax.lax.scan(advance, carry, jnp.arange(DATA_EPISODE_LENGTH))[1]


def _point_robot(name: str, tasks: str, walls: tuple, region: tuple, episode_start):
    """A navigation domain from its walls and where its data episodes start."""
    if tasks not in GAINS:
        raise ValueError(f"tasks must be one of {', '.join(GAINS)}, got {tasks!r}.")
    spec = DomainSpec(
        name=name,
        observation_size=2,
        action_size=2,
        horizon=HORIZON,
        plane=Plane(walls, region, START, GOAL),
    )

    def draw_tasks(key, count):
        keys = jax.random.split(key, count)
        return PointTask(jax.vmap(GAINS[tasks])(keys), jnp.zeros((count, 2)))

    def reset(key, task):
        del task
        return jnp.array(START) + jax.random.normal(key, (2,))

    step = functools.partial(_step, walls)

    def reference_policy(key, observation):
        return jnp.clip(jax.random.normal(key, (*observation.shape[:-1], 2)), -1.0, 1.0)

    def episode(key, task):
        start_key, step_key = jax.random.split(key)
        start = episode_start(start_key)
        return _data_episode(step_key, start, task, step, reference_policy)

    def decision_states(key, count, task):
        del task
        low, high = jnp.array([DATA_X[0], -5.0]), jnp.array([DATA_X[1], 5.0])
        return jax.random.uniform(key, (count, 2), minval=low, maxval=high)

    return Domain(
        spec=spec,
        train_tasks=draw_tasks,
        test_tasks=draw_tasks,
        reset=reset,
        observe=lambda state: state,
        step=step,
        success=lambda transition, episode_return: transition.reward > -SUCCESS_RADIUS,
        # the state before the last step must lie within the success radius
        solvable=lambda task: (
            _forward_speed(task) * (HORIZON - 1)
            >= jnp.linalg.norm(jnp.array(START)) - SUCCESS_RADIUS
        ),
        reference_policy=reference_policy,
        episode=episode,
        decision_states=decision_states,
    )


def navigation1(tasks: str = "published") -> Domain:
    """Navigation 1: a corridor |y| < 5 from (-50, 0) to the origin.

    Args:
      tasks: "published" gains U(0.5, 1.5) on each axis; "flip" with random signs.

    Raises:
      ValueError: on another task distribution.
    """

    def episode_start(key):
        x_key, y_key, side_key = jax.random.split(key, 3)
        x = jax.random.uniform(x_key, minval=DATA_X[0], maxval=DATA_X[1])
        y = jax.random.uniform(y_key, minval=2.0, maxval=5.0)
        return jnp.array([x, y * jax.random.rademacher(side_key, (), float)])

    return _point_robot(
        "navigation1", tasks, WALLS, (-84.0, 54.0, -6.0, 6.0), episode_start
    )
