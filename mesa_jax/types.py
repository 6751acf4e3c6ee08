"""Records, contracts and bundles shared by every layer; imports nothing of ours.

Axes, in this order: S runs (method x seed), T tasks, E environments, H time, B batch,
D features, K ensemble. Functions are written for one task and one run; `vmap` adds
axes.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax

Array = jax.Array
Key = jax.Array  # a typed key (jax.random.key); the function given one consumes it
Params = Any
State = Any
Task = Any  # pytree of whatever differs between bodies
Metrics = dict[str, Array]


class Transition(NamedTuple):
    """One step of a body; any leading axes."""

    observation: Array  # [..., D]
    action: Array  # [..., A] in [-1, 1]
    reward: Array  # [...]
    cost: Array  # [...] 1 where the state reached violates the constraint, else 0
    discount: (
        Array  # [...] 0 where the episode terminated (a time limit does not), else 1
    )
    next_observation: Array  # [..., D]


class TaskBatch(NamedTuple):
    """What one outer step sees of each sampled task."""

    support: Transition  # [T, B_support, ...] the inner loop adapts on it
    query: Transition  # [T, B_query, ...] drawn independently; the outer loss


class Statistics(NamedTuple):
    """Standardisation of network inputs; a part of the prior, never trained."""

    observation_mean: Array  # [D]
    observation_std: Array  # [D]
    action_mean: Array  # [A]
    action_std: Array  # [A]
    change_std: Array | None = None  # [D] of next_observation - observation


class Decision(NamedTuple):
    """Recovery RL's switch: what ran, what the task policy wanted, and which it was."""

    action: Array  # [A] executed
    proposed: Array  # [A]
    recovered: Array  # [] bool


class Plane(NamedTuple):
    """What a domain that lives in a plane shows on a map."""

    obstacles: tuple[tuple[float, float, float, float], ...]  # x0, x1, y0, y1
    region: tuple[float, float, float, float]  # x0, x1, y0, y1 drawn and asked for risk
    start: tuple[float, float]
    goal: tuple[float, float]
    commands: tuple[tuple[float, float], ...]  # two actions whose risk is drawn


class Shapes(NamedTuple):
    """What a body looks like: round-ended rods in the world, in its units."""

    ends: Array  # [G, 2, 3] x, y, z of both ends; equal ends are a ball
    radii: Array  # [G]


class DomainSpec(NamedTuple):
    """Static facts of a domain."""

    name: str
    observation_size: int
    action_size: int
    horizon: int  # steps; a time limit, which does not terminate
    plane: Plane | None = None
    has_success: bool = True  # False: success is not defined, returns are compared
    continues: bool = False  # physics goes on past a violation, so that data may
    seconds: float = 1.0  # of a step, in the body's world


class Parametrisation(NamedTuple):
    """The numbers [P] that tell a domain's bodies apart."""

    names: tuple[str, ...]  # P
    of: Callable[[Task], Array]  # task -> [P], true
    identify: Callable[[Transition], Array]  # rows [n, ...] -> [P], found from them


class Domain(NamedTuple):
    """A family of bodies. Every function is pure and takes its task as data.

    `step` returns the state reached and the transition that led there; neither need be
    finite, and whoever steps looks (`simulation.checked_step`). `episode` is one
    episode of the published data generator, padded to [L] with a validity mask; None
    where the published data are a learning agent's. `reference_policy` is what the
    offline risk is the risk *of* (protocol: truth). `solvable` says whether the body
    can reach success within the horizon at all. `task_at` is the body at a step of a
    run: a fault is a task that changes.
    """

    spec: DomainSpec
    train_tasks: Callable[[Key, int], Task]
    test_tasks: Callable[[Key, int], Task]
    reset: Callable[[Key, Task], State]
    observe: Callable[[State], Array]
    step: Callable[[Key, State, Array, Task], tuple[State, Transition]]
    success: Callable[[Transition, Array], Array]  # last transition, episode return
    solvable: Callable[[Task], Array]
    reference_policy: Callable[[Key, Array], Array]
    episode: Callable[[Key, Task], tuple[Transition, Array]] | None
    decision_states: Callable[[Key, int, Task], State]
    task_at: Callable[[Task, Array], Task] = lambda task, env_steps: task
    shapes: Callable[[State, Task], Shapes] | None = None  # None: a point in a plane
    changes: Mapping[str, Callable[[Task, Array], Task]] = {}
    # what of a body a fault may multiply, by name: task, factor [] -> task
    parametrisation: Parametrisation | None = None  # None: not known


class RiskMeasure(NamedTuple):
    """What risk means, and how an estimate of it is learned."""

    init: Callable[[Key, Statistics], Params]
    estimate: Callable[[Params, Array, Array], Array]  # params, observation, action
    target: Callable[[Params, Transition, Array], Array]
    # target_params, batch, next_action -> [B], no gradient
    loss: Callable[[Params, Params, Transition, Array], tuple[Array, Metrics]]
    # params, target_params, batch, next_action -> loss, metrics
    encode: Callable[[Params, Transition], Params] | None = None
    # params, rows [n, ...] -> params that carry the rows' encoding
    encoding_size: int = 0


class Policy(NamedTuple):
    """A deterministic policy that is trained against a risk measure."""

    init: Callable[[Key, Statistics], Params]
    act: Callable[[Params, Array], Array]
    loss: Callable[[Params, Params, Array], tuple[Array, Metrics]]
    # params, risk_params (held fixed), observation -> loss, metrics
    condition: Callable[[Params, Params], Params] | None = None
    # params, risk_params -> params that carry the risk measure's encoding


class InnerLoss(Protocol):
    """Loss of one group of parameters on one task's batch."""

    def __call__(
        self, key: Key, params: Params, target: Params, batch: Any, given: tuple
    ) -> tuple[Array, Metrics]: ...


class OuterLoss(Protocol):
    """What meta-training minimises: a function of the prior and of what it became.

    `target` is the inner loop's bootstrap target after its last step.
    """

    def __call__(
        self,
        key: Key,
        prior: Params,
        adapted: Params,
        target: Params,
        batch: Any,
        given: tuple,
    ) -> tuple[Array, Metrics]: ...


class WeightSpace(NamedTuple):
    """How parameters stand for the weights that a loss sees, and descend.

    `adapted` is whatever the space keeps of a task's parameters; with the prior's it
    stands for them.
    """

    begin: Callable[[Params], State]  # params -> adapted, no step taken
    weights: Callable[[Params, State], Params]  # params, adapted -> weights
    step: Callable[[Params, State, Params, Params], State]
    # params, adapted, rates, gradient in the weights -> adapted
    follow: Callable[[Params, State, State, float | Array], State]
    # params, target, adapted, rate -> target
    grows: bool = False  # `adapted` has another structure after each step


class Part(NamedTuple):
    """A group of parameters that adapts after the groups before it.

    `given` holds the earlier groups as adapted so far, with no gradient. The losses
    take parameters and the weights that `space` makes of them alike.
    """

    inner_loss: InnerLoss
    outer_loss: OuterLoss
    space: WeightSpace | None = None  # of meta-training; None: weights are parameters
    beside: bool = False  # not meta-learned: descends beside it, against the prior
    begin: Callable[[Params, Any, tuple], Params] | None = None
    # params, support, given -> the task's own, from which it descends


class Prior(NamedTuple):
    """What pre-training hands to adaptation."""

    params: tuple  # one entry a `Part`
    rates: tuple  # learned inner rates before softplus, like params; () where none


class MetaLearner(NamedTuple):
    """Learns a prior from many tasks; every state has it as its field `prior`."""

    init: Callable[[tuple], State]  # from initial parameters, one entry a `Part`
    update: Callable[[Key, State, TaskBatch], tuple[State, Metrics]]
    adapt: Callable[[Key, Prior, Transition, int | Array], tuple]
    # key, prior, support, steps (traced or not) -> adapted params


class Agent(NamedTuple):
    """Acts and learns online. One `update` an environment step."""

    init: Callable[..., State]
    propose: Callable[[Key, State, Array], Array]
    propose_mode: Callable[[State, Array], Array]  # deterministic, for evaluation
    decide: Callable[[State, Array, Array], Decision]  # state, observation, proposed
    update: Callable[..., tuple[State, Metrics]]
    safety: Callable[[State], tuple]  # its (risk critic, recovery policy)
    with_safety: Callable[[State, Params, Params], State]  # others in their place
