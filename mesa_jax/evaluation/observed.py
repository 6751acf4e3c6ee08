"""Outcomes in place of the truth: which violations followed, where nothing simulates.

The outcome of a transition is what Q_risk is the mean of, seen once and under the
policy that made the data: not a probability, and not the reference policy's.
"""

import jax
import jax.numpy as jnp

from mesa_jax.equations import risk_backup
from mesa_jax.types import Array, Transition


def observed_risk(transitions: Transition, discount: float) -> Array:
    """Returns bounds on the discounted violation that followed each transition, [2, N].

        G_t = c_t + (1 - c_t) discount d_t G_(t+1)

    within an episode, so discount^k where the first violation comes k steps later, and
    0 where the episode terminates without one. Where the data cut an episode (s' of a
    transition is not s of the next, or it is the last), nobody knows what would have
    followed: the bounds are those of G = 0 and G = 1 there.

    Args:
      transitions: [N, ...] of one body in the order they were made.
      discount: gamma_risk.
    """
    follows = jnp.all(
        transitions.observation[1:] == transitions.next_observation[:-1], axis=-1
    )
    follows = jnp.append(follows, False)
    unknown = jnp.array([0.0, 1.0])

    def back(later, row):
        cost, continues, follows = row
        later = jnp.where(follows, later, unknown)
        found = jax.vmap(risk_backup, (None, None, 0))(
            cost, discount * continues, later
        )
        return found, found

    rows = transitions.cost, transitions.discount, follows
    return jax.lax.scan(back, unknown, rows, reverse=True)[1].T


def dangerous_and_decided(bounds: Array, threshold: float) -> tuple[Array, Array]:
    """Returns which outcomes exceed a threshold, and which are known to or not to.

    Args:
      bounds: [2, N] as `observed_risk` gives them.
      threshold: epsilon_risk.

    Returns:
      Two arrays [N] bool; a dangerous outcome is decided.
    """
    low, high = bounds
    return low > threshold, (low > threshold) | (high <= threshold)
