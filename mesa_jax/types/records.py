"""Records that every layer shares, and aliases of what they are made of.

Axes, in this order: S runs (method x seed), T tasks, E environments, H time, B batch,
D features, K ensemble. Functions are written for one task and one run; `vmap` adds
axes.
"""

from typing import Any, NamedTuple

import jax

Array = jax.Array
Key = jax.Array  # a typed key (jax.random.key); the function given one consumes it
Params = Any
State = Any
Task = Any  # pytree of whatever differs between bodies
Metrics = dict[str, Array]


class Transition(NamedTuple):
    """Holds one step of a body; any leading axes."""

    observation: Array  # [..., D]
    action: Array  # [..., A] in [-1, 1]
    reward: Array  # [...]
    cost: Array  # [...] 1 where the state reached violates the constraint, else 0
    discount: (
        Array  # [...] 0 where the episode terminated (a time limit does not), else 1
    )
    next_observation: Array  # [..., D]


class TaskBatch(NamedTuple):
    """Holds the transitions of each task that one outer step samples."""

    support: Transition  # [T, B_support, ...] the inner loop adapts on it
    query: Transition  # [T, B_query, ...] drawn independently; the outer loss


class Statistics(NamedTuple):
    """Standardises network inputs; a part of the prior, never trained."""

    observation_mean: Array  # [D]
    observation_std: Array  # [D]
    action_mean: Array  # [A]
    action_std: Array  # [A]
    change_std: Array | None = None  # [D] of next_observation - observation
    reward_mean: Array | None = None  # []
    reward_std: Array | None = None  # []


class Decision(NamedTuple):
    """Holds Recovery RL's switch: what ran, what was proposed, and which it was."""

    action: Array  # [..., A] executed
    proposed: Array  # [..., A]
    recovered: Array  # [...] bool; the recovery policy acted


class Prediction(NamedTuple):
    """Holds what the K members of a model expect of one step, each of its own state."""

    mean: Array  # [K, ..., D + 1] next observation, then reward
    std: Array  # [K, ..., D + 1] of their Gaussian noise
    violation: Array  # [K, ...] probability in [0, 1] that the state reached violates


class Plane(NamedTuple):
    """Describes the map of a domain that lives in a plane."""

    obstacles: tuple[tuple[float, float, float, float], ...]  # x0, x1, y0, y1
    region: tuple[float, float, float, float]  # x0, x1, y0, y1 drawn and asked for risk
    start: tuple[float, float]
    goal: tuple[float, float]
    commands: tuple[tuple[float, float], ...]  # two actions whose risk is drawn


class Shapes(NamedTuple):
    """Describes a body's looks: round-ended rods in the world, in its units."""

    ends: Array  # [G, 2, 3] x, y, z of both ends; equal ends are a ball
    radii: Array  # [G]


class DomainSpec(NamedTuple):
    """Holds the static facts of a domain."""

    name: str
    observation_size: int
    action_size: int
    horizon: int  # steps; a time limit, which does not terminate
    plane: Plane | None = None
    has_success: bool = True  # False: success is not defined, returns are compared
    continues: bool = False  # physics goes on past a violation, so that data may
    seconds: float = 1.0  # of a step, in the body's world
    simulated: bool = True  # False: transitions are recorded, and nothing steps


class Prior(NamedTuple):
    """Hands on to adaptation what meta-training has learned."""

    params: tuple  # one entry a `Part`
    rates: tuple  # learned inner rates before softplus, like params; () where none
