"""The simulator's own risk at decision states (protocol: truth)."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mesa_jax import sharding, simulation
from mesa_jax.settings import setting, validate
from mesa_jax.types import Array, Domain, Key, State, Task


@dataclasses.dataclass(frozen=True)
class QualityConfig:
    """Says where and how finely the simulator is asked for the true risk."""

    decision_states: int = setting(1000, "states and actions a body", "[10, 1_000_000]")
    rollouts: int = setting(256, "simulations a state and action", "[2, 1_000_000]")
    precision: float = setting(
        1e-4, "weight of the last step that a simulation takes", "(0, 1)"
    )
    transitions: tuple[int, ...] = setting(
        (50, 200, 1000), "adaptation transitions that are compared", "[1, 1000]"
    )
    steps: tuple[int, ...] = setting(
        (0, 1, 5, 10, 100), "adaptation steps that are compared", "[0, 100_000]"
    )

    filter_episodes: int = setting(
        16, "episodes a body and threshold of the filter test", "[1, 10_000]"
    )
    proposal_transitions: int = setting(
        4000,
        "transitions from which the filter test's unsafe policy learns, in each body",
        "[1, 100_000_000]",
    )
    false_safe: float = setting(
        0.05,
        "share of the held-out training bodies' dangerous states that the calibrated "
        "threshold lets through",
        "(0, 1)",
    )

    def __post_init__(self):
        validate(self)


class DecisionSet(NamedTuple):
    """Holds decision states of one body and a uniform action in each."""

    states: State  # [N, ...]
    actions: Array  # [N, A] in [-1, 1]


def decision_set(key: Key, domain: Domain, task: Task, count: int) -> DecisionSet:
    """Draws decision states, and a uniform action in each (protocol: decision states).

    Args:
      key: consumed.
      domain: says which states.
      task: one body.
      count: N.
    """
    state_key, action_key = jax.random.split(key)
    shape = (count, domain.spec.action_size)
    return DecisionSet(
        domain.decision_states(state_key, count, task),
        jax.random.uniform(action_key, shape, minval=-1.0, maxval=1.0),
    )


def true_risk(
    key: Key,
    domain: Domain,
    task: Task,
    asked: DecisionSet,
    discount: float,
    rollouts: int,
    precision: float = 1e-4,
) -> Array:
    """Simulates two independent halves [2, N] of the truth of Q_risk (protocol: truth).

    Their mean is the truth; half of their difference tells its noise.

    Args:
      key: consumed.
      domain: that is simulated.
      task: one body.
      asked: [N, ...] states and actions.
      discount: gamma_risk.
      rollouts: simulations a state and action, both halves together.
      precision: weight of the last step that a simulation takes.
    """
    half, count = rollouts // 2, len(asked.actions)

    def one(key, state, action):
        return simulation.risk_truth(
            key, domain, task, state, action, discount, half, precision
        )

    keys = jax.random.split(key, (2, count))
    keys = jax.vmap(lambda half: sharding.padded(half, count))(keys)
    asked = sharding.placed(sharding.padded(asked, count))
    halves = jax.vmap(jax.vmap(one), (0, None, None))(keys, *asked)
    return halves[:, :count]


def policy_risk(
    key: Key,
    domain: Domain,
    task: Task,
    states: State,
    act: Callable[[Array], Array],
    discount: float,
    rollouts: int,
    precision: float = 1e-4,
) -> Array:
    """Returns the mean true risk of what a policy does at states of one body, [].

    Args:
      key: consumed.
      domain: that is simulated.
      task: one body.
      states: [N, ...]
      act: observations [N, D] -> actions [N, A].
      discount: gamma_risk.
      rollouts: simulations a state.
      precision: weight of the last step that a simulation takes.
    """
    asked = DecisionSet(states, act(jax.vmap(domain.observe)(states)))
    found = true_risk(key, domain, task, asked, discount, rollouts, precision)
    return jnp.mean(found)


def true_risk_without_adaptation(
    key: Key,
    domain: Domain,
    tasks: Task,
    asked: DecisionSet,
    discount: float,
    rollouts: int,
    precision: float = 1e-4,
) -> Array:
    """Returns the mean truth [N] over bodies: the best predictor that does not adapt.

    The rollouts are shared out among the bodies, so that the mean is as precise as one
    body's own truth (protocol: no adaptation).

    Args:
      key: consumed.
      domain: that is simulated.
      tasks: [T, ...] bodies.
      asked: [N, ...] states and actions.
      discount: gamma_risk.
      rollouts: simulations a state and action, over all bodies.
      precision: weight of the last step that a simulation takes.
    """
    bodies = jax.tree.leaves(tasks)[0].shape[0]
    each = 2 * -(-rollouts // (2 * bodies))

    def add(total, i):
        task = jax.tree.map(lambda x: x[i], tasks)
        one_key = jax.random.fold_in(key, i)
        halves = true_risk(one_key, domain, task, asked, discount, each, precision)
        return total + halves.mean(0) / bodies, None

    zero = jnp.zeros(len(asked.actions))
    return jax.lax.scan(add, zero, jnp.arange(bodies))[0]
