"""The safety filter: an adapted risk critic and recovery policy as one value.

It stands between anyone's controller and the body. Where Q_risk of what the controller
proposes exceeds the risk threshold, the recovery policy acts (Recovery RL, section IV).
"""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from mesa_jax import adaptation, novelty, sharding
from mesa_jax.checked import checked_transitions
from mesa_jax.equations import recovery_switch
from mesa_jax.methods import METHODS
from mesa_jax.novelty import Novelty
from mesa_jax.settings import SettingError, known
from mesa_jax.system import System, compiled_once
from mesa_jax.types import (
    Array,
    Key,
    Params,
    Policy,
    Prior,
    RiskMeasure,
    Task,
    Transition,
)

METHOD = "mesa_context"  # unless another is asked for


class OutsideTrainingWarning(UserWarning):
    """Says that a body lies outside what a prior was trained on."""


class FilterInfo(NamedTuple):
    """Says of each decision what it was made of; [...] are the proposal's axes."""

    proposed: Array  # [..., A]
    risk: Array  # [...] Q_risk of what was proposed; NaN: it can not be judged
    recovered: Array  # [...] bool: the recovery policy acts
    fell_back: Array  # [...] bool: something is not finite, so that risk did not decide
    novelty: Array  # [...] the body's distance from the training bodies; NaN: unknown


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

    @property
    def sizes(self) -> tuple[int, int]:
        """Returns D and A: numbers of an observation, and of an action."""
        statistics = self.recovery["statistics"]
        seen, done = statistics.observation_mean, statistics.action_mean
        return seen.shape[-1], done.shape[-1]

    def risk(self, observation: Array, action: Array) -> Array:
        """Returns Q_risk of actions, [..., B] in [0, 1]; leading axes are the filter's.

        Args:
          observation: [..., B, D], with or without a batch axis B.
          action: [..., B, A] in [-1, 1].

        Raises:
          SettingError: naming the argument that has another shape.
        """
        self._require(observation=observation, action=action)
        return self._over_bodies(_risk, observation, action)

    def decide(
        self, observation: Array, proposed: Array, spare: Array | None = None
    ) -> tuple[Array, FilterInfo]:
        """Returns what is to be executed, [..., B, A], and what it was decided by.

        It is always finite. What can not be judged, since observation, proposal or risk
        is not finite, does not pass: the recovery policy acts. Where its action is not
        finite either, the first that is of `spare`, the proposal and zeros does.

        Args:
          observation: [..., B, D], with or without a batch axis B.
          proposed: [..., B, A] in [-1, 1].
          spare: [..., B, A] in [-1, 1], e.g. what the recovery policy last did; None:
            there is none.

        Raises:
          SettingError: naming the argument that has another shape.
        """
        self._require(observation=observation, action=proposed)
        return self._over_bodies(_decide, observation, proposed, spare)

    def recover(self, observation: Array) -> Array:
        """Returns the recovery policy's actions, [..., B, A] in [-1, 1].

        Args:
          observation: [..., B, D], with or without a batch axis B.

        Raises:
          SettingError: if it has another shape.
        """
        self._require(observation=observation)
        return self._over_bodies(_recover, observation)

    def _require(self, **given) -> None:
        """Raises SettingError unless arrays have the filter's axes and sizes."""
        lead = jnp.shape(self.threshold)
        for size, (name, values) in zip(self.sizes, given.items(), strict=False):
            shape = jnp.shape(values)
            if shape[: len(lead)] != lead or shape[len(lead) :][-1:] != (size,):
                axes = ", ".join([*map(str, lead), "...", str(size)])
                raise SettingError(name, f"one of shape {shape}", f"[{axes}]")

    def _over_bodies(self, function: Callable, *arguments):
        for _ in range(jnp.ndim(self.threshold)):
            function = jax.vmap(function)
        return function(self, *arguments)


def _risk(one: SafetyFilter, observation: Array, action: Array) -> Array:
    return one.measure.estimate(one.critic, observation, action)


def _recover(one: SafetyFilter, observation: Array) -> Array:
    return one.policy.act(one.recovery, observation)


def _decide(one: SafetyFilter, observation, proposed, spare):
    risk, rescue = _risk(one, observation, proposed), _recover(one, observation)
    found = outcome(one.threshold, risk, observation, proposed, rescue, spare)
    action, novelty = found.pop("action"), jnp.broadcast_to(one.novelty, risk.shape)
    return action, FilterInfo(proposed, novelty=novelty, **found)


def outcome(
    threshold: Array,
    risk: Array,
    observation: Array,
    proposed: Array,
    rescue: Array,
    spare: Array | None = None,
) -> dict[str, Array]:
    """Returns what is executed, always finite.

    Recovery RL's switch. What can not be judged, since observation, proposal or risk is
    not finite, does not pass either. Where the recovery policy's action is not finite,
    the first that is of `spare`, the proposal and zeros stands in its place.

    Args:
      threshold: [] epsilon_risk; inf: the recovery policy never acts.
      risk: [...] of the proposals.
      observation: [..., D]
      proposed: [..., A]
      rescue: [..., A] of the recovery policy.
      spare: [..., A], or None.

    Returns:
      By name action [..., A]; risk [...], NaN where nothing is judged; recovered [...],
      that the recovery policy acts; fell_back [...], that something is not finite.
    """
    seen, asked = _finite(observation), _finite(proposed)
    judged, able = seen & asked & jnp.isfinite(risk), seen & _finite(rescue)
    feared = jnp.where(judged, risk, jnp.inf)
    switch = recovery_switch(feared, threshold, proposed, rescue)
    lost = jnp.where(switch.recovered, ~able, ~asked)
    last = jnp.where(asked[..., None], proposed, 0.0)
    if spare is not None:
        last = jnp.where(_finite(spare)[..., None], spare, last)
    return {
        "action": jnp.where(lost[..., None], last, switch.action),
        "risk": jnp.where(judged, risk, jnp.nan),
        "recovered": switch.recovered & able,
        "fell_back": ~judged | lost,
    }


def _finite(vectors: Array) -> Array:
    """Tells which vectors [..., N] are finite, [...]."""
    return jnp.isfinite(vectors).all(axis=-1)


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
      transitions: [n, ...] the adaptation set of one body, or [S, n, ...] of S; or
        episodes of one body (`checked.from_episodes`).
      method: a row of METHODS.
      training: where the training bodies lie (`phases.offline.training_novelty`);
        None: unknown, and each body is taken for one like them.
      bodies: [...] or [S, ...]; only a method that is told its body (`oracle`) takes
        them.

    Returns:
      A filter of one body, without axes, or of S bodies.

    Warns:
      OutsideTrainingWarning: naming how many bodies lie outside the training bodies.

    Raises:
      SettingError: naming the argument that the method lacks, or the field of
        `transitions` that is wrong.
    """
    row = METHODS[known("method", method, METHODS)]
    transitions = checked_transitions(system.domain.spec, transitions)
    if prior is None and row.prior != "scratch":
        raise SettingError("prior", None, f"what meta-training gives {method}")
    if row.told and bodies is None:
        raise SettingError("bodies", None, f"given: {method} is told its body")
    alone = transitions.cost.ndim == 1
    if alone:
        transitions, bodies = jax.tree.map(lambda x: x[None], (transitions, bodies))
    found = _adapted(key, system, prior, transitions, method, training, bodies)
    _warn(method, found.novelty)
    return jax.tree.map(lambda x: x[0], found) if alone else found


def _adapted(
    key, system: System, prior, transitions, method: str, training, bodies
) -> SafetyFilter:
    """Adapts a prior to S bodies; arguments as in `adapt`, [S, ...]."""
    row, count = METHODS[method], len(transitions.cost)
    init_key, adapt_key = jax.random.split(key)
    keys = jax.random.split(adapt_key, count)
    if row.prior == "scratch":
        init_keys = jax.random.split(init_key, count)
        start, axis = adaptation.from_scratch(system, init_keys, transitions), 0
    else:
        start, axis = prior, None
    steps, distance = _steps(keys, system, row, start, transitions, training)
    each = jnp.ndim(steps) > 0
    critic, recovery = adapting(system, method, axis, each)(
        keys, start, transitions, bodies, steps
    )
    epsilon = system.configuration.recovery.risk_threshold
    threshold = jnp.full_like(distance, epsilon if row.constrained else jnp.inf)
    return SafetyFilter(
        critic, recovery, threshold, distance, system.risk, system.recovery, method
    )


@compiled_once
def adapting(
    system: System, method: str, axis: int | None, each: bool
) -> Callable[..., tuple]:
    """Compiles `adaptation.to_body` over bodies, [S, ...].

    Args:
      system: of the method's configuration.
      method: a row of METHODS.
      axis: of the bodies in what they begin from; None: they share one.
      each: whether each body takes a number of steps of its own.
    """
    to_body = adaptation.to_body(system, METHODS[method])
    over = sharding.vmap(to_body, (0, axis, 0, 0, 0 if each else None))
    return jax.jit(over, static_argnums=() if each else 4)


@compiled_once
def encoding(system: System) -> Callable[..., Array]:
    """Compiles the encodings [S, E] of adaptation sets [S, n, ...]."""
    return jax.jit(jax.vmap(system.encode, (0, None, 0)))


def _warn(method: str, distance: Array) -> None:
    """Warns of bodies that lie outside; not where it is compiled."""
    if isinstance(distance, jax.core.Tracer):
        return
    if said := novelty.warning(method, np.asarray(distance)):
        said = said.removeprefix("Warning: ")
        warnings.warn(said, OutsideTrainingWarning, stacklevel=3)


def _steps(keys, system, row, prior, transitions, training):
    """Steps to each body, [S] or one number, and the bodies' distances [S]."""
    config = adaptation.config_of(system.configuration, row)
    if training is None or system.encode is None:
        return config.steps, jnp.full(len(transitions.cost), jnp.nan)
    keys = jax.random.clone(keys)  # the encoding judged is the one adapted from
    encoded = encoding(system)(keys, prior.params[0], transitions)
    distance = novelty.distance(training, encoded)
    return adaptation.steps(config, distance), distance
