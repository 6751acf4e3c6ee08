"""Domain: the contract that a family of bodies fulfils.

Every function is pure, takes its arguments by position and is written for one body and
one step, so that `jit` and `vmap` apply to it. A state is a pytree of the domain's own.
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from mesa_jax.types.records import (
    Array,
    DomainSpec,
    Key,
    Shapes,
    State,
    Task,
    Transition,
)


class DrawTasks(Protocol):
    """Draws bodies from a distribution."""

    def __call__(self, key: Key, count: int, /) -> Task:
        """Draws `count` bodies.

        Args:
          key: consumed.
          count: static.

        Returns:
          A pytree whose leaves are [count, ...].
        """


class Reset(Protocol):
    """Starts an episode."""

    def __call__(self, key: Key, task: Task, /) -> State:
        """Returns the first state of an episode of a body.

        Args:
          key: consumed.
          task: one body.
        """


class Observe(Protocol):
    """Observes a state."""

    def __call__(self, state: State, /) -> Array:
        """Returns what agent and risk measure see of a state, [D]."""


class Step(Protocol):
    """Moves a body."""

    def __call__(
        self, key: Key, state: State, action: Array, task: Task, /
    ) -> tuple[State, Transition]:
        """Returns the state reached and the transition that led there.

        Neither need be finite; whoever steps looks (`simulation.checked_step`). At a
        violation the transition's cost is 1, and its discount is 0 where the episode
        ends; the time limit is the caller's.

        Args:
          key: consumed by the noise of the step.
          state: as `Reset` or `Step` made it.
          action: [A], clipped to [-1, 1].
          task: the body as it is at this step.
        """


class Success(Protocol):
    """Judges an episode."""

    def __call__(self, transition: Transition, episode_return: Array, /) -> Array:
        """Returns whether an episode succeeded, [] bool; violations are the caller's.

        Args:
          transition: the last one, [D], [A] and [].
          episode_return: [] sum of the rewards.
        """


class Solvable(Protocol):
    """Judges a body."""

    def __call__(self, task: Task, /) -> Array:
        """Returns whether a body can reach success within the horizon, [] bool."""


class ReferencePolicy(Protocol):
    """Acts as the policy that the offline risk is the risk *of*."""

    def __call__(self, key: Key, observation: Array, /) -> Array:
        """Returns actions [..., A] in [-1, 1] at observations [..., D]."""


class Episode(Protocol):
    """Makes an episode of the published data generator."""

    def __call__(self, key: Key, task: Task, /) -> tuple[Transition, Array]:
        """Returns transitions [L, ...], padded, and which of them are real, [L] bool.

        Args:
          key: consumed.
          task: one body.
        """


class DecisionStates(Protocol):
    """Draws the states at which a risk estimate is compared with the truth."""

    def __call__(self, key: Key, count: int, task: Task, /) -> State:
        """Returns states whose leaves are [count, ...].

        Args:
          key: consumed.
          count: static.
          task: one body.
        """


class TaskAt(Protocol):
    """Tells what a body has become; a fault is a task that changes."""

    def __call__(self, task: Task, env_steps: Array, /) -> Task:
        """Returns the body as it is at step `env_steps` ([] int32) of a run."""


class Look(Protocol):
    """Shows a body."""

    def __call__(self, state: State, task: Task, /) -> Shapes:
        """Returns the rods and balls [G, ...] of a body in a state."""


class Change(Protocol):
    """Changes one property of a body, as a fault does."""

    def __call__(self, task: Task, factor: Array, /) -> Task:
        """Returns the body with the property multiplied by `factor` ([])."""


class Violates(Protocol):
    """Judges a transition by one constraint."""

    def __call__(self, transition: Transition, /) -> Array:
        """Returns whether transitions [...] violate it, [...] bool."""


class TrueParameters(Protocol):
    """Reads a body's numbers off its task."""

    def __call__(self, task: Task, /) -> Array:
        """Returns the body's true parameters, [P]."""


class Identify(Protocol):
    """Finds a body's numbers in its transitions."""

    def __call__(self, transitions: Transition, /) -> Array:
        """Returns the parameters [P] that transitions [n, ...] of one body tell.

        The result is finite for every n from 1 on.
        """


class Parametrisation(NamedTuple):
    """Tells a domain's bodies apart by P numbers."""

    names: tuple[str, ...]  # P
    of: TrueParameters
    identify: Identify | None  # None: transitions do not tell cheaply


def _unchanged(task: Task, env_steps: Array) -> Task:
    del env_steps
    return task


class Domain(NamedTuple):
    """Bundles the functions of a family of bodies; each takes its task as data."""

    spec: DomainSpec
    train_tasks: DrawTasks
    test_tasks: DrawTasks
    reset: Reset
    observe: Observe
    step: Step
    success: Success
    solvable: Solvable
    reference_policy: ReferencePolicy
    episode: Episode | None  # None: the published data are a learning agent's
    decision_states: DecisionStates
    task_at: TaskAt = _unchanged
    shapes: Look | None = None  # None: a point in a plane
    changes: Mapping[str, Change] = {}  # by the name of what a fault may multiply
    parametrisation: Parametrisation | None = None  # None: not known
    constraints: Mapping[str, Violates] = {}  # by name; any of them is the cost
