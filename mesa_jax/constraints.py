"""Several constraints: each has its cost, a safety filter and a threshold of its own.

Ours: the papers have one constraint. A prior a constraint learns from the same
transitions, whose cost is then that constraint's alone (`by_constraint`); their filters
of a body stand together between controller and body (`joint_filter`).
"""

from collections.abc import Mapping
from typing import Any

import flax.struct
import jax.numpy as jnp

from mesa_jax.filter import FilterInfo, SafetyFilter, outcome
from mesa_jax.settings import SettingError
from mesa_jax.types import Array, Domain, Transition


def by_constraint(domain: Domain, transitions: Transition) -> dict[str, Transition]:
    """Returns transitions with the cost of each of a domain's constraints, by its name.

    Where an episode terminates is as it was: one constraint's violation ends the risk
    of violating the others.

    Args:
      domain: whose `constraints` judge a transition.
      transitions: [..., n] of any bodies.

    Raises:
      SettingError: if the domain does not tell constraints apart.
    """
    if not domain.constraints:
        allowed = "a domain that names its constraints (Domain.constraints)"
        raise SettingError("domain", domain.spec.name, allowed)
    return {
        name: transitions._replace(
            cost=jnp.asarray(violates(transitions), transitions.cost.dtype)
        )
        for name, violates in domain.constraints.items()
    }


@flax.struct.dataclass
class JointFilter:
    """Judges proposed actions of one body, or of several, by C constraints.

    A pytree, as `SafetyFilter` is. A proposal passes where no risk is above its
    constraint's threshold. Else the body does, of the C recovery policies' actions, the
    one whose risks exceed the thresholds least:

        argmin_j max_i (Q_i(s, pi_j(s)) - epsilon_i)
    """

    filters: tuple[SafetyFilter, ...]  # C, of the same bodies
    names: tuple[str, ...] = flax.struct.field(pytree_node=False)  # C

    @property
    def sizes(self) -> tuple[int, int]:
        """Returns D and A: numbers of an observation, and of an action."""
        return self.filters[0].sizes

    @property
    def bodies(self) -> tuple[int, ...]:
        """Returns the leading axes: none of one body, [S] of S."""
        return self.filters[0].bodies

    @property
    def novelty(self) -> Array:
        """Returns the largest distance from the training bodies, [...]."""
        return jnp.max(jnp.stack([one.novelty for one in self.filters]), axis=0)

    def risk(self, observation: Array, action: Array) -> Array:
        """Returns Q_risk of actions by each constraint, [..., B, C] in [0, 1].

        Args:
          observation: [..., B, D], with or without a batch axis B.
          action: [..., B, A] in [-1, 1].

        Raises:
          SettingError: naming the argument that has another shape.
        """
        risks = [one.risk(observation, action) for one in self.filters]
        return jnp.stack(risks, axis=-1)

    def decide(
        self, observation: Array, proposed: Array, spare: Array | None = None
    ) -> tuple[Array, FilterInfo]:
        """Returns what is to be executed, [..., B, A], and what it was decided by.

        It is finite as `SafetyFilter.decide`'s is. The risk in what it was decided by
        has an axis more, [..., B, C].

        Args:
          observation: [..., B, D], with or without a batch axis B.
          proposed: [..., B, A] in [-1, 1].
          spare: [..., B, A] in [-1, 1], or None.

        Raises:
          SettingError: naming the argument that has another shape.
        """
        risks = self.risk(observation, proposed)
        known = jnp.isfinite(risks)
        # 1: some risk is above its threshold, 0: none, NaN: some can not be judged
        exceeded = jnp.where(known, self._above(risks) > 0.0, jnp.nan).max(axis=-1)
        rescue = self.recover(observation)
        found = outcome(0.5, exceeded, observation, proposed, rescue, spare)
        judged = jnp.isfinite(found.pop("risk"))[..., None]
        action, risks = found.pop("action"), jnp.where(judged, risks, jnp.nan)
        between = (1,) * (exceeded.ndim - len(self.bodies))
        far = self.novelty.reshape(*self.bodies, *between)
        far = jnp.broadcast_to(far, exceeded.shape)
        return action, FilterInfo(proposed, risk=risks, novelty=far, **found)

    def recover(self, observation: Array) -> Array:
        """Returns the recovery actions that exceed the thresholds least, [..., B, A].

        Args:
          observation: [..., B, D], with or without a batch axis B.

        Raises:
          SettingError: if it has another shape.
        """
        each = [one.recover(observation) for one in self.filters]
        worst = [self._above(self.risk(observation, one)).max(axis=-1) for one in each]
        worst, each = jnp.stack(worst, axis=-1), jnp.stack(each, axis=-2)
        able = jnp.isfinite(each).all(axis=-1)  # before what can not be judged, 2
        least = jnp.argmin(jnp.where(able, jnp.nan_to_num(worst, nan=2.0), 3.0), -1)
        return jnp.take_along_axis(each, least[..., None, None], axis=-2)[..., 0, :]

    def _above(self, risks: Array) -> Array:
        """Returns how far risks [..., B, C] are above the thresholds; -1: never."""
        thresholds = jnp.stack([one.threshold for one in self.filters], axis=-1)
        between = (1,) * (risks.ndim - 1 - len(self.bodies))
        shaped = thresholds.reshape(*self.bodies, *between, len(self.filters))
        return jnp.maximum(risks - shaped, -1.0)  # a threshold may be inf


def joint_filter(filters: Mapping[str, SafetyFilter]) -> JointFilter:
    """Makes one filter of several: of the same bodies, one a constraint.

    Args:
      filters: by the constraint's name.

    Raises:
      SettingError: if there is none, or they are of other bodies, observations or
        actions.
    """

    def of(one: SafetyFilter) -> tuple[Any, ...]:
        return one.bodies, *one.sizes

    if not filters:
        raise SettingError("filters", "none", "one a constraint")
    name, first = next(iter(filters.items()))
    for other, one in filters.items():
        if of(one) != of(first):
            allowed = f"{of(first)} as of {name} (bodies, observation, action)"
            raise SettingError(f"filters[{other!r}]", f"one of {of(one)}", allowed)
    return JointFilter(tuple(filters.values()), tuple(filters))
