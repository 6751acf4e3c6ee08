"""The simulator's own risk of a system's bodies."""

from collections.abc import Callable

import jax

from mesa_jax import evaluation
from mesa_jax.evaluation import DecisionSet
from mesa_jax.system import System, compiled_once
from mesa_jax.types import Array, Key, Task


def decision_set(key: Key, system: System, bodies: Task, count: int) -> DecisionSet:
    """Draws states, and a uniform action in each, where risk is judged: [S, N, ...].

    Args:
      key: consumed.
      system: its domain says which states.
      bodies: [S, ...]
      count: N, states a body.
    """
    keys = jax.random.split(key, jax.tree.leaves(bodies)[0].shape[0])
    return jax.vmap(
        lambda key, task: evaluation.decision_set(key, system.domain, task, count)
    )(keys, bodies)


def true_risk(key: Key, system: System, bodies: Task, asked: DecisionSet) -> Array:
    """Returns the simulator's own risk of each action in each state, [S, N] in [0, 1].

    The Monte-Carlo truth of Q_risk: `quality.rollouts` simulations a state.

    Args:
      key: consumed.
      system: its domain is simulated, as the configuration's `quality` says.
      bodies: [S, ...]
      asked: [S, N, ...] as `decision_set` draws them.
    """
    keys = jax.random.split(key, len(asked.actions))
    return _simulating(system)(keys, bodies, asked)


@compiled_once
def _simulating(system: System) -> Callable:
    config, discount = system.configuration.quality, system.configuration.risk.discount

    def one(key, task, asked):
        sampling = discount, config.rollouts, config.precision
        return evaluation.true_risk(key, system.domain, task, asked, *sampling).mean(0)

    return jax.jit(jax.vmap(one))
