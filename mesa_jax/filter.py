"""The safety filter: an adapted risk critic and recovery policy as one value.

It stands between anyone's controller and the body. Where Q_risk of what the controller
proposes exceeds the risk threshold, the recovery policy acts (Recovery RL, section IV).
"""

from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp

from mesa_jax import adaptation, novelty
from mesa_jax.equations import recovery_switch
from mesa_jax.methods import METHODS
from mesa_jax.novelty import Novelty
from mesa_jax.settings import SettingError, known
from mesa_jax.system import System
from mesa_jax.types import (
    Array,
    Decision,
    Key,
    Params,
    Policy,
    Prior,
    RiskMeasure,
    Task,
    Transition,
)

METHOD = "mesa_context"  # unless another is asked for


@flax.struct.dataclass
class SafetyFilter:
    """Judges proposed actions of one body, or of several.

    A pytree: `jit`, `vmap` and `tree.map` apply to it, and a caller replaces fields
    with `replace`. The leading axes of a filter are those of `threshold`: none for one
    body, [S] for S bodies or runs, of which every method then maps.
    """

    critic: Params  # of Q_risk
    recovery: Params  # of the recovery policy
    threshold: Array  # [...] epsilon_risk; inf: the recovery policy never acts
    novelty: (
        Array  # [...] distance from the training bodies; beyond 1 outside; NaN: unknown
    )
    measure: RiskMeasure = flax.struct.field(pytree_node=False)
    policy: Policy = flax.struct.field(pytree_node=False)
    method: str = flax.struct.field(pytree_node=False)  # that adapted it

    def risk(self, observation: Array, action: Array) -> Array:
        """Returns Q_risk of actions, [..., B] in [0, 1]; leading axes are the filter's.

        Args:
          observation: [..., B, D], with or without a batch axis B.
          action: [..., B, A] in [-1, 1].
        """
        return self._over_bodies(_risk, observation, action)

    def decide(self, observation: Array, proposed: Array) -> Decision:
        """Returns what is to be executed, what was proposed, and whether they differ.

        Args:
          observation: [..., B, D], with or without a batch axis B.
          proposed: [..., B, A] in [-1, 1].
        """
        return self._over_bodies(_decide, observation, proposed)

    def _over_bodies(self, function: Callable, *arguments):
        for _ in range(jnp.ndim(self.threshold)):
            function = jax.vmap(function)
        return function(self, *arguments)


def _risk(one: SafetyFilter, observation: Array, action: Array) -> Array:
    return one.measure.estimate(one.critic, observation, action)


def _decide(one: SafetyFilter, observation: Array, proposed: Array) -> Decision:
    risk = _risk(one, observation, proposed)
    rescue = one.policy.act(one.recovery, observation)
    return recovery_switch(risk, one.threshold, proposed, rescue)


def adapt(
    key: Key,
    system: System,
    prior: Prior | None,
    transitions: Transition,
    method: str = METHOD,
    training: Novelty | None = None,
    bodies: Task | None = None,
) -> SafetyFilter:
    """Adapts a prior to bodies (phase 2).

    Args:
      key: consumed.
      system: of the method's configuration.
      prior: of the method; None where it starts from scratch.
      transitions: [S, n, ...] the adaptation set of each body.
      method: a row of METHODS.
      training: where the training bodies lie (`phases.offline.training_novelty`);
        None: unknown, and each body is taken for one like them.
      bodies: [S, ...]; only a method that is told its body (`oracle`) takes them.

    Returns:
      A filter of S bodies.

    Raises:
      SettingError: naming the argument that the method lacks.
    """
    row = METHODS[known("method", method, METHODS)]
    init_key, adapt_key = jax.random.split(key)
    count = len(transitions.cost)
    keys = jax.random.split(adapt_key, count)
    if row.prior == "scratch":
        init_keys = jax.random.split(init_key, count)
        start, axis = adaptation.from_scratch(system, init_keys, transitions), 0
    else:
        start, axis = prior, None
    if start is None:
        raise SettingError("prior", None, f"what meta-training gives {method}")
    if row.told and bodies is None:
        raise SettingError("bodies", None, f"given: {method} is told its body")
    steps, distance = _steps(keys, system, row, start, transitions, training)
    each = jnp.ndim(steps) > 0
    to_body = jax.vmap(
        adaptation.to_body(system, row), (0, axis, 0, 0, 0 if each else None)
    )
    program = jax.jit(to_body, static_argnums=() if each else 4)
    critic, recovery = program(keys, start, transitions, bodies, steps)
    epsilon = system.configuration.recovery.risk_threshold
    threshold = jnp.full_like(distance, epsilon if row.constrained else jnp.inf)
    return SafetyFilter(
        critic, recovery, threshold, distance, system.risk, system.recovery, method
    )


def _steps(keys, system, row, prior, transitions, training):
    """Steps to each body, [S] or one number, and the bodies' distances [S]."""
    config = adaptation.config_of(system.configuration, row)
    if training is None or system.encode is None:
        return config.steps, jnp.full(len(transitions.cost), jnp.nan)
    encode = jax.jit(jax.vmap(system.encode, (0, None, 0)))
    keys = jax.random.clone(keys)  # the encoding judged is the one adapted from
    encoded = encode(keys, prior.params[0], transitions)
    distance = novelty.distance(training, encoded)
    return adaptation.steps(config, distance), distance
