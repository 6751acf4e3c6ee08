"""What the constrained baselines share: settings, a multiplier, acting unfiltered."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from mesa_jax import equations
from mesa_jax.settings import setting, validate
from mesa_jax.types import Agent, Array, Decision, Metrics, State

KINDS = (
    *("recovery_rl", "lagrangian", "sqrl", "rspo"),
    *("reward_penalty", "rcpo", "conservative", "carl"),
)


@dataclasses.dataclass(frozen=True)
class ConstraintConfig:
    """Configures what keeps online runs safe, besides the risk threshold."""

    kind: str = setting(
        "recovery_rl", "agent of online runs (docs/methods.md)", choices=KINDS
    )
    weight: float = setting(
        50.0,
        "lambda at the start, the price of risk; rspo begins at twice it, and "
        "reward_penalty keeps it, the price of a violation",
        "[0, inf)",
    )
    lr: float = setting(
        3e-5, "Adam on log lambda, a tenth of SAC's rate; 0 keeps lambda", "[0, inf)"
    )
    samples: int = setting(
        100, "actions that sqrl and conservative choose from", "[1, 10_000]"
    )
    conservatism: float = setting(
        0.1, "alpha, by which conservative raises the risk of its actions", "[0, inf)"
    )

    def __post_init__(self):
        validate(self)


class Multiplier(NamedTuple):
    """Bundles how lambda begins, what it is, and how it moves with each update."""

    init: Callable[[Array], State]  # of the risk threshold; inf: lambda stays 0
    value: Callable[[State], Array]
    update: Callable[[State, Array], State]  # by mean risk - threshold


class DualState(NamedTuple):
    """Holds lambda in logarithms, and its optimizer."""

    log: Array  # []
    optimizer: State


def dual_ascent(config: ConstraintConfig) -> Multiplier:
    """Makes lambda by dual ascent (`equations.multiplier_loss`), in log space.

    Args:
      config: lambda at the start, and Adam's rate.
    """
    adam = optax.adam(config.lr)

    def init(threshold):
        start = jnp.log(jnp.asarray(config.weight, jnp.float32))
        log = jnp.where(jnp.isfinite(threshold), start, -jnp.inf)
        return DualState(log, adam.init(log))

    def value(state):
        return jnp.exp(state.log)

    def update(state, excess):
        gradient = jax.grad(equations.multiplier_loss)(state.log, excess)
        step, optimizer = adam.update(gradient, state.optimizer)
        return DualState(state.log + step, optimizer)

    return Multiplier(init, value, update)


def moved(
    multiplier: Multiplier, old: State, new: State, risk: Array, learns: Array
) -> tuple[State, Metrics]:
    """Returns an agent's new state with its lambda moved where it learns, and metrics.

    Args:
      multiplier: of the agent.
      old: state of the agent before its update.
      new: after it.
      risk: [] mean Q_risk that is to stay within the threshold.
      learns: [] bool.
    """
    excess = risk - jnp.minimum(old.risk_threshold, 1.0)  # a threshold may be inf
    after = multiplier.update(old.multiplier, excess)
    kept = equations.select(learns, after, old.multiplier)
    metrics = {
        "constraint/multiplier": multiplier.value(old.multiplier),
        "constraint/risk": risk,
    }
    return new._replace(multiplier=kept), metrics


def begun(agent: Agent, multiplier: Multiplier) -> Agent:
    """Returns the agent, its states begun with a multiplier."""

    def init(key, risk_params, recovery_params, risk_threshold):
        state = agent.init(key, risk_params, recovery_params, risk_threshold)
        return state._replace(multiplier=multiplier.init(state.risk_threshold))

    return agent._replace(init=init)


def unfiltered(agent: Agent) -> Agent:
    """Returns the agent, executing whatever it proposes."""

    def decide(state, observation, proposed):
        del state, observation
        return Decision(proposed, proposed, jnp.zeros(proposed.shape[:-1], bool))

    return agent._replace(decide=decide)
