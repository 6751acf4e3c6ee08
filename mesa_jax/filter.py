"""The safety filter: an adapted risk critic and recovery policy as one value.

It stands between anyone's controller and the body. Where Q_risk of what the controller
proposes exceeds the risk threshold, the recovery policy acts (Recovery RL, section IV).
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from mesa_jax.equations import recovery_switch
from mesa_jax.settings import SettingError
from mesa_jax.types import Array, Params, Policy, RiskMeasure

METHOD = "mesa_context"  # unless another is asked for


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

    @property
    def bodies(self) -> tuple[int, ...]:
        """Returns the leading axes: none of one body, [S] of S."""
        return jnp.shape(self.threshold)

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
        lead = self.bodies
        for size, (name, values) in zip(self.sizes, given.items(), strict=False):
            shape = jnp.shape(values)
            if shape[: len(lead)] != lead or shape[len(lead) :][-1:] != (size,):
                axes = ", ".join([*map(str, lead), "...", str(size)])
                raise SettingError(name, f"one of shape {shape}", f"[{axes}]")

    def _over_bodies(self, function: Callable, *arguments):
        for _ in self.bodies:
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
