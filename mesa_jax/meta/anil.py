"""ANIL: only the head adapts (Raghu et al., 2020).

It is MAML whose inner rates are zero, and stay so, for every tensor but those of the
last layer: what lies before it is a feature that all tasks share.
"""

import jax
import jax.numpy as jnp

from mesa_jax.meta.config import InnerLoopConfig, MAMLConfig
from mesa_jax.meta.inner import inner_gradient
from mesa_jax.meta.learner import ADAPTATION, even_rates, learner
from mesa_jax.meta.maml import outer_gradient
from mesa_jax.settings import SettingError
from mesa_jax.types import MetaLearner, Part


def anil(
    parts: tuple[Part, ...],
    config: MAMLConfig,
    adaptation: InnerLoopConfig = ADAPTATION,
) -> MetaLearner:
    """Makes meta-learning of a prior of which the head alone takes inner steps.

    The outer gradient is of second order and reaches every tensor.

    Args:
      parts: of the prior; one without a head adapts whole.
      config: of meta-training.
      adaptation: of test bodies.

    Raises:
      SettingError: where a part's weights are latent: its last layer is no tensor.
    """
    if any(part.space is not None for part in parts):
        allowed = "maml where the critic's weights are latent"
        raise SettingError("learner", "anil", allowed)
    even = even_rates(config.inner_lr)

    def of_heads(params):
        return tuple(
            rates if part.head is None else _of_head(rates, part.head(mine))
            for part, mine, rates in zip(parts, params, even(params), strict=True)
        )

    return learner(parts, config, adaptation, inner_gradient, outer_gradient, of_heads)


def _of_head(rates, head):
    """Returns rho, minus infinity (a rate of 0) outside the head."""
    return jax.tree.map(lambda rho, mine: jnp.where(mine, rho, -jnp.inf), rates, head)
