"""Agent: the contract that every online method meets.

Every function is pure and takes its arguments by position.
"""

from typing import NamedTuple, Protocol

from mesa_jax.types.records import (
    Array,
    Decision,
    Key,
    Metrics,
    Params,
    State,
    Transition,
)


class InitAgent(Protocol):
    """Starts an agent from an adapted risk critic and recovery policy."""

    def __call__(
        self,
        key: Key,
        risk_params: Params,
        recovery_params: Params,
        risk_threshold: float | Array,
        /,
    ) -> State:
        """Returns the state of an agent before its first step.

        Args:
          key: consumed by the task policy's parameters.
          risk_params: of the risk critic.
          recovery_params: of the recovery policy.
          risk_threshold: [] epsilon_risk, traced; inf never lets the recovery policy
            act.
        """


class Propose(Protocol):
    """Proposes an action while learning."""

    def __call__(self, key: Key, state: State, observation: Array, /) -> Array:
        """Returns a sampled action [A] in [-1, 1] at an observation [D]."""


class ProposeMode(Protocol):
    """Proposes an action without noise, for evaluation."""

    def __call__(self, state: State, observation: Array, /) -> Array:
        """Returns the deterministic action [A] in [-1, 1] at an observation [D]."""


class Decide(Protocol):
    """Chooses between what is proposed and the recovery policy."""

    def __call__(
        self, state: State, observation: Array, proposed: Array, /
    ) -> Decision:
        """Returns what is executed.

        Args:
          state: of the agent.
          observation: [D]
          proposed: [A] in [-1, 1]
        """


class UpdateAgent(Protocol):
    """Learns once, after each environment step."""

    def __call__(
        self,
        key: Key,
        state: State,
        task_batch: Transition,
        safety_batch: Transition,
        learn_task: Array,
        learn_risk: Array,
        /,
    ) -> tuple[State, Metrics]:
        """Returns the state after one update of each half, and metrics.

        A half whose flag is False keeps its state; nothing branches, so that runs can
        be vmapped. The state keeps its structure, shapes and dtypes.

        Args:
          key: consumed.
          state: of the agent.
          task_batch: [B, ...] from the task replay; its action is what the task policy
            is to learn from (proposed, or executed).
          safety_batch: [B, ...] from the safety replay; its action was executed.
          learn_task: [] bool, whether the task policy learns.
          learn_risk: [] bool, whether risk critic and recovery policy learn.
        """


class Safety(Protocol):
    """Reads the safety half of an agent."""

    def __call__(self, state: State, /) -> tuple[Params, Params]:
        """Returns the agent's risk critic and recovery policy."""


class WithSafety(Protocol):
    """Replaces the safety half of an agent."""

    def __call__(
        self, state: State, risk_params: Params, recovery_params: Params, /
    ) -> State:
        """Returns the agent with another critic and policy, their optimizers fresh."""


class Progress(Protocol):
    """Tells an agent how far its run is."""

    def __call__(self, state: State, share: Array, /) -> State:
        """Returns the state, before a step's update.

        Args:
          state: of the agent.
          share: [] in [0, 1] of the run's episodes, or steps, that are done.
        """


class Agent(NamedTuple):
    """Bundles what acts and learns online. One `update` an environment step."""

    init: InitAgent
    propose: Propose
    propose_mode: ProposeMode
    decide: Decide
    update: UpdateAgent
    safety: Safety
    with_safety: WithSafety
    progress: Progress | None = None  # None: it does not ask how far its run is
