"""RiskMeasure and Policy: the contracts of what judges actions and what descends it.

Every function is pure and takes its arguments by position. Losses return
`(loss [], metrics)`; metrics are flat, their keys namespaced ("risk/loss").
"""

from typing import NamedTuple, Protocol

from mesa_jax.types.records import (
    Array,
    Key,
    Metrics,
    Params,
    Prediction,
    Statistics,
    Transition,
)


class InitParams(Protocol):
    """Makes fresh parameters."""

    def __call__(self, key: Key, statistics: Statistics, /) -> Params:
        """Returns parameters that standardise by `statistics` ([D] and [A])."""


class Estimate(Protocol):
    """Estimates risk."""

    def __call__(self, params: Params, observation: Array, action: Array, /) -> Array:
        """Returns the risk of each action, [...] in [0, 1].

        Args:
          params: of one critic.
          observation: [..., D]
          action: [..., A] in [-1, 1]
        """


class Logit(Protocol):
    """Estimates risk on a scale without ends."""

    def __call__(self, params: Params, observation: Array, action: Array, /) -> Array:
        """Returns log(risk / (1 - risk)) of each action, [...].

        Args:
          params: of one critic.
          observation: [..., D]
          action: [..., A] in [-1, 1]
        """


class Target(Protocol):
    """Makes the targets of a risk estimate."""

    def __call__(
        self, target_params: Params, batch: Transition, next_action: Array, /
    ) -> Array:
        """Returns targets [B] in [0, 1] that no gradient passes.

        A violation's target is 1; a transition that terminated is not bootstrapped.

        Args:
          target_params: of the critic that is bootstrapped from.
          batch: [B, ...]
          next_action: [B, A] what the judged policy does at `batch.next_observation`.
        """


class RiskLoss(Protocol):
    """Scores a critic."""

    def __call__(
        self,
        params: Params,
        target_params: Params,
        batch: Transition,
        next_action: Array,
        /,
    ) -> tuple[Array, Metrics]:
        """Returns the loss [] of a critic on a batch, and metrics.

        Args:
          params: of the critic that learns.
          target_params: of the critic that is bootstrapped from.
          batch: [B, ...]
          next_action: [B, A] what the judged policy does at `batch.next_observation`.
        """


class Encode(Protocol):
    """Reads a body."""

    def __call__(self, params: Params, transitions: Transition, /) -> Params:
        """Returns `params` with the encoding [E] of transitions [n, ...] in them.

        n may be any number from 1 on, and the order of the transitions plays no part.
        """


class Predict(Protocol):
    """Tells what a step of a body leads to."""

    def __call__(
        self, params: Params, observation: Array, action: Array, /
    ) -> Prediction:
        """Returns what each of K members expects of a step from a state of its own.

        Args:
          params: of the K members.
          observation: [K, ..., D]
          action: [K, ..., A] in [-1, 1]
        """


class RiskMeasure(NamedTuple):
    """Bundles what risk means and how an estimate of it is learned."""

    init: InitParams
    estimate: Estimate
    target: Target
    loss: RiskLoss
    encode: Encode | None = None  # None: the critic reads no adaptation set
    encoding_size: int = 0  # E
    logit: Logit | None = None  # of the estimate; a policy may descend it
    of_recovery: bool = False  # offline targets take the recovery policy's next action
    predict: Predict | None = None  # None: it has no model of the body's dynamics


class Act(Protocol):
    """Chooses actions."""

    def __call__(self, params: Params, observation: Array, /) -> Array:
        """Returns actions [..., A] in [-1, 1] at observations [..., D]."""


class PolicyLoss(Protocol):
    """Scores a policy by a critic."""

    def __call__(
        self, params: Params, risk_params: Params, observation: Array, /
    ) -> tuple[Array, Metrics]:
        """Returns the loss [] of a policy, and metrics.

        Args:
          params: of the policy.
          risk_params: of the critic, held fixed.
          observation: [B, D]
        """


class Condition(Protocol):
    """Hands a critic's encoding over to a policy."""

    def __call__(self, params: Params, risk_params: Params, /) -> Params:
        """Returns `params` with the encoding [E] that `risk_params` carry."""


class Policy(NamedTuple):
    """Bundles a deterministic policy that is trained against a risk measure."""

    init: InitParams
    act: Act
    loss: PolicyLoss
    condition: Condition | None = None  # None: the risk measure encodes nothing
