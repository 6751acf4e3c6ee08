"""Recovery RL (Thananjeyan et al., 2021): a task policy, and one that gets it out.

Where Q_risk(s, a) of the proposed action exceeds the risk threshold, it acts.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from mesa_jax import equations
from mesa_jax.agents.sac import SAC, ActorCost, SACState
from mesa_jax.networks.mlp import INITIALIZERS
from mesa_jax.settings import setting, validate
from mesa_jax.types import (
    Agent,
    Array,
    Metrics,
    Params,
    Policy,
    RiskMeasure,
    State,
    Transition,
)


@dataclasses.dataclass(frozen=True)
class RecoveryConfig:
    """Configures the safety half of the online agent."""

    hidden: tuple[int, ...] = setting(
        (64, 64), "widths of the recovery policy's layers", "[1, 10_000]"
    )
    initializer: str = setting(
        "lecun", "of the networks' kernels", choices=tuple(INITIALIZERS)
    )
    saturation_penalty: float = setting(
        0.1, "weight of the recovery policy's squared output beyond +-2", "[0, inf)"
    )
    objective: str = setting(
        "risk", "what the recovery policy descends", choices=("risk", "logit")
    )
    risk_threshold: float = setting(0.3, "epsilon_risk", "(0, 1)")
    false_safe: float = setting(
        0.0,
        "where it is not 0, each method has a threshold of its own, calibrated on the "
        "held-out training bodies: at most this share of a body's dangerous states "
        "(true risk above risk_threshold) passes for safe",
        "[0, 1)",
    )
    false_safe_bodies: float = setting(
        0.1,
        "share of new bodies like the training ones of which more may pass; the "
        "smaller, the more held-out bodies it takes",
        "(0, 1)",
    )
    lr: float = setting(
        3e-4, "Adam, online risk critic and recovery policy", "[0, inf)"
    )
    target_rate: float = setting(0.005, "tau of the online target critic", "[0, 1]")
    target_policy: str = setting(
        "task",
        "policy whose next action online targets use: the task policy, or what the "
        "switch makes of it",
        choices=("task", "composite"),
    )

    def __post_init__(self):
        validate(self)

    @property
    def bodies_to_calibrate(self) -> int:
        """Returns how many held-out bodies a calibrated threshold takes."""
        return math.ceil(1 / self.false_safe_bodies - 1e-6) - 1

    @property
    def dangerous_to_calibrate(self) -> int:
        """Returns how many dangerous states each of those bodies must have."""
        return math.ceil(1 / self.false_safe - 1e-6) - 1


class RecoveryState(NamedTuple):
    """Holds the online agent: task policy, risk critic and target, recovery policy."""

    sac: SACState  # the task policy
    risk: Params  # the risk critic
    risk_target: Params
    recovery: Params  # the recovery policy
    optimizers: tuple[State, State]  # risk, recovery
    risk_threshold: Array  # [] traced, so that methods and sweeps are rows
    multiplier: State = ()  # what a constrained agent knows of its lambda


def _safety_update(
    state: RecoveryState,
    batch: Transition,
    next_action: Array,
    risk: RiskMeasure,
    recovery: Policy,
    optimizer: optax.GradientTransformation,
    target_rate: float,
) -> tuple[RecoveryState, Metrics]:
    """One step of the risk critic, then one of the recovery policy against it."""
    risk_state, recovery_state = state.optimizers
    gradient, risk_metrics = jax.grad(risk.loss, has_aux=True)(
        state.risk, state.risk_target, batch, next_action
    )
    updates, risk_state = optimizer.update(gradient, risk_state)
    risk_params = optax.apply_updates(state.risk, updates)
    gradient, recovery_metrics = jax.grad(recovery.loss, has_aux=True)(
        state.recovery, risk_params, batch.observation
    )
    updates, recovery_state = optimizer.update(gradient, recovery_state)
    new_state = state._replace(
        risk=risk_params,
        risk_target=equations.polyak(state.risk_target, risk_params, target_rate),
        recovery=optax.apply_updates(state.recovery, updates),
        optimizers=(risk_state, recovery_state),
    )
    return new_state, risk_metrics | recovery_metrics


def recovery_rl(
    sac: SAC,
    risk: RiskMeasure,
    recovery: Policy,
    config: RecoveryConfig,
    actor_cost: Callable[[RecoveryState], ActorCost] | None = None,
    learned_risk: Callable[..., RiskMeasure] | None = None,
) -> Agent:
    """Makes the online agent of most methods: they differ in what it starts from.

    It proposes by SAC and decides by Recovery RL's switch
    (`equations.recovery_switch`). `update` takes one step of each half; the risk
    critic's next action is the task policy's proposal (or, as `config.target_policy`
    says, what the switch makes of it).

    Args:
      sac: the task policy.
      risk: the measure that the switch asks.
      recovery: the policy that it falls back on.
      config: rates of the safety half.
      actor_cost: what the actor pays, of the state before an update; None: nothing.
      learned_risk: (key, state, safety batch) -> the measure whose loss the critic
        descends; None: `risk`.
    """
    optimizer = optax.adam(config.lr)

    def fresh(risk_params, recovery_params):
        """Returns the fields of the safety half before its first update."""
        return {
            "risk": risk_params,
            "risk_target": risk_params,
            "recovery": recovery_params,
            "optimizers": tuple(map(optimizer.init, (risk_params, recovery_params))),
        }

    def init(key, risk_params, recovery_params, risk_threshold):
        threshold = jnp.asarray(risk_threshold, jnp.float32)
        half = fresh(risk_params, recovery_params)
        return RecoveryState(sac=sac.init(key), risk_threshold=threshold, **half)

    def with_safety(state, risk_params, recovery_params):
        return state._replace(**fresh(risk_params, recovery_params))

    def safety(state):
        return state.risk, state.recovery

    def propose(key, state, observation):
        return sac.sample(key, state.sac, observation)

    def propose_mode(state, observation):
        return sac.mode(state.sac, observation)

    def decide(state, observation, proposed):
        estimate = risk.estimate(state.risk, observation, proposed)
        rescue = recovery.act(state.recovery, observation)
        return equations.recovery_switch(
            estimate, state.risk_threshold, proposed, rescue
        )

    def next_action(key, state, observation):
        proposed = sac.sample(key, state.sac, observation)
        if config.target_policy == "composite":
            return decide(state, observation, proposed).action
        return proposed

    def update(key, state, task_batch, safety_batch, learn_task, learn_risk):
        task_key, safety_key = jax.random.split(key)
        costs = () if actor_cost is None else (actor_cost(state),)
        learned_sac, task_metrics = sac.update(task_key, state.sac, task_batch, *costs)
        measure = risk
        if learned_risk is not None:
            safety_key, measure_key = jax.random.split(safety_key)
            measure = learned_risk(measure_key, state, safety_batch)
        asked = next_action(safety_key, state, safety_batch.next_observation)
        learned, safety_metrics = _safety_update(
            state, safety_batch, asked, measure, recovery, optimizer, config.target_rate
        )
        new_state = equations.select(learn_risk, learned, state)
        new_state = new_state._replace(
            sac=equations.select(learn_task, learned_sac, state.sac)
        )
        return new_state, task_metrics | safety_metrics

    return Agent(init, propose, propose_mode, decide, update, safety, with_safety)
