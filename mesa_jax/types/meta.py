"""Part, WeightSpace and MetaLearner: the contracts of meta-learning; no RL in them.

Every function is pure and takes its arguments by position. Losses return
`(loss [], metrics)`; metrics are flat, their keys namespaced ("risk/loss").
"""

from typing import Any, NamedTuple, Protocol

from mesa_jax.types.records import (
    Array,
    Key,
    Metrics,
    Params,
    Prior,
    State,
    TaskBatch,
    Transition,
)


class InnerLoss(Protocol):
    """Scores one group of parameters on one task's batch."""

    def __call__(
        self, key: Key, params: Params, target: Params, batch: Any, given: tuple, /
    ) -> tuple[Array, Metrics]:
        """Returns the loss [] of a part, and metrics.

        Args:
          key: consumed.
          params: weights of the part that adapts.
          target: weights of its bootstrap target.
          batch: [B, ...] of one task.
          given: weights of the other parts, held fixed.
        """


class OuterLoss(Protocol):
    """Scores a prior by what it became; meta-training minimises it."""

    def __call__(
        self,
        key: Key,
        prior: Params,
        adapted: Params,
        target: Params,
        batch: Any,
        given: tuple,
        /,
    ) -> tuple[Array, Metrics]:
        """Returns the loss [] of a part on one task's query, and metrics.

        Args:
          key: consumed.
          prior: weights of the part before its first inner step.
          adapted: its weights after the last one.
          target: the inner loop's bootstrap target after the last step.
          batch: [B, ...] the query of one task.
          given: weights of the other parts as adapted, held fixed.
        """


class BeginSpace(Protocol):
    """Starts a task's own parameters."""

    def __call__(self, params: Params, /) -> State:
        """Returns what the space keeps of a task's parameters before any step."""


class Weights(Protocol):
    """Makes the weights that a loss sees."""

    def __call__(self, params: Params, adapted: State, /) -> Params:
        """Returns the weights that the prior's `params` and `adapted` stand for."""


class InnerStep(Protocol):
    """Descends once."""

    def __call__(
        self, params: Params, adapted: State, rates: Params, gradient: Params, /
    ) -> State:
        """Returns `adapted` after one inner step.

        Args:
          params: the prior's.
          adapted: of the task, so far.
          rates: like `params`, a positive scalar a tensor.
          gradient: of the inner loss in the *weights*.
        """


class Follow(Protocol):
    """Moves a bootstrap target."""

    def __call__(
        self, params: Params, target: State, adapted: State, rate: float | Array, /
    ) -> State:
        """Returns `target` moved a share `rate` ([] in [0, 1]) towards `adapted`."""


class WeightSpace(NamedTuple):
    """Bundles how parameters stand for the weights of a loss, and descend.

    `adapted` is whatever the space keeps of a task's parameters; with the prior's it
    stands for them. A space that grows keeps every step, so its inner loop is unrolled
    and takes a number of steps that is known when it is traced.
    """

    begin: BeginSpace
    weights: Weights
    step: InnerStep
    follow: Follow
    grows: bool = False  # `adapted` has another structure after each step


class BeginPart(Protocol):
    """Makes the parameters that a task's inner loop begins from."""

    def __call__(self, params: Params, support: Any, given: tuple, /) -> Params:
        """Returns the task's own parameters, from which it descends.

        Args:
          params: the prior's of this part.
          support: [n, ...] the task's adaptation set.
          given: weights of the other parts, held fixed; those before it as adapted.
        """


class Head(Protocol):
    """Finds the last layer."""

    def __call__(self, params: Params, /) -> Params:
        """Returns bools like `params`: whether a tensor is of the part's last layer."""


class Part(NamedTuple):
    """Bundles a group of parameters that adapts after the groups before it.

    `given` holds the other groups in their order, with no gradient: the earlier ones as
    adapted so far, the later ones as they are. The losses take parameters and the
    weights that `space` makes of them alike.
    """

    inner_loss: InnerLoss
    outer_loss: OuterLoss
    space: WeightSpace | None = None  # of meta-training; None: weights are parameters
    beside: bool = False  # not meta-learned: descends beside it, against the prior
    begin: BeginPart | None = None  # None: it descends from the prior as it is
    head: Head | None = None  # None: it has no layers


class InitLearner(Protocol):
    """Starts meta-training."""

    def __call__(self, params: tuple, /) -> State:
        """Returns a state, with a field `prior`, before the first outer step.

        Args:
          params: initial parameters, one entry a `Part`.
        """


class OuterStep(Protocol):
    """Learns from sampled tasks."""

    def __call__(
        self, key: Key, state: State, batch: TaskBatch, /
    ) -> tuple[State, Metrics]:
        """Returns the state after one outer step, and metrics.

        Args:
          key: consumed.
          state: keeps its structure, shapes and dtypes.
          batch: [T, B, ...] support and query of each sampled task.
        """


class Adapt(Protocol):
    """Turns a prior into a body's own parameters."""

    def __call__(
        self, key: Key, prior: Prior, support: Transition, steps: int | Array, /
    ) -> tuple:
        """Returns adapted parameters, one entry a `Part`.

        Args:
          key: consumed.
          prior: as the state of the learner holds it.
          support: [n, ...] the body's adaptation set.
          steps: [] int32, traced or not; 0 takes no gradient step.
        """


class MetaLearner(NamedTuple):
    """Bundles how a prior is learned from many tasks, and how it adapts."""

    init: InitLearner
    update: OuterStep
    adapt: Adapt
