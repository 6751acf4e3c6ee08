"""Impaired bodies: actuators weak, dead or reversed, another mass, another friction.

Ours, of half-cheetah and ant: all bodies differ, so that there is something to tell
apart, and those of training are many.
"""

import jax
import jax.numpy as jnp

from mesa_jax.domains.locomotion import Distribution, DrawBodies, LimbTask
from mesa_jax.types import Key

Range = tuple[float, float]


def bodies(
    actions: int, impaired: tuple[int, ...], mass: Range, friction: Range
) -> DrawBodies:
    """Makes a sampler of bodies, (key, n) -> leaves [n, ...].

    Args:
      actions: actuators of a body.
      impaired: how many of them have a strength U(-1, 1), each as often; others have 1.
      mass: ends of the uniform distribution of the factor.
      friction: the same.
    """

    def body(key: Key) -> LimbTask:
        order_key, count_key, strength_key, *keys = jax.random.split(key, 5)
        rank = jax.random.permutation(order_key, actions)
        count = jax.random.choice(count_key, jnp.array(impaired))
        strength = jax.random.uniform(strength_key, (actions,), minval=-1.0)
        factors = (
            jax.random.uniform(key, minval=low, maxval=high)
            for key, (low, high) in zip(keys, (mass, friction), strict=True)
        )
        return LimbTask(jnp.where(rank < count, strength, 1.0), *factors)

    return lambda key, n: jax.vmap(body)(jax.random.split(key, n))


def whole(actions: int) -> DrawBodies:
    """Makes a sampler of bodies that nothing impairs."""
    return bodies(actions, (0,), (1.0, 1.0), (1.0, 1.0))


def distributions(actions: int) -> dict[str, Distribution]:
    """Returns the distributions of impaired bodies, by name.

    Training bodies are the same in all: one or two actuators, mass U(0.7, 1.5),
    friction U(0.5, 1.5). Test bodies of `impaired` are alike; those of
    `impaired_outside` have three actuators, mass U(1.5, 2) and friction U(0.25, 0.5);
    and those of `impaired_intact` are whole until a fault strikes.

    Args:
      actions: actuators of a body.
    """
    trained = bodies(actions, (1, 2), (0.7, 1.5), (0.5, 1.5))
    outside = bodies(actions, (3,), (1.5, 2.0), (0.25, 0.5))
    return {
        "impaired": Distribution(trained, trained),
        "impaired_outside": Distribution(trained, outside),
        "impaired_intact": Distribution(trained, whole(actions)),
    }
