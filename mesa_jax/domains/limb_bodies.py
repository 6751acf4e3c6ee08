"""Bodies with limbs: what differs between them, and how impaired ones are drawn.

Actuators are weak, dead or reversed, mass and friction others. The distributions are
ours: all bodies differ, so that there is something to tell apart.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mesa_jax.types import Array, Key, Parametrisation

Range = tuple[float, float]


class LimbTask(NamedTuple):
    """Describes one body."""

    strength: Array  # [A] in [-1, 1]: factor on each action; 0 is dead, < 0 reversed
    mass: Array  # [] factor on every link's mass and inertia
    friction: Array  # [] factor


DrawBodies = Callable[[Key, int], LimbTask]  # leaves [n, ...]


class Distribution(NamedTuple):
    """Says where bodies come from."""

    train: DrawBodies
    test: DrawBodies


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


def parametrisation(action_size: int) -> Parametrisation:
    """Returns what bodies differ in; simulating them is too slow for least squares."""
    strengths = tuple(f"strength {i}" for i in range(action_size))
    return Parametrisation(
        names=(*strengths, "mass", "friction"),
        of=lambda task: jnp.concatenate(
            [task.strength, task.mass[None], task.friction[None]]
        ),
        identify=None,
    )
