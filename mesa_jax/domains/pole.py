"""A pole on a cart: masses, equations of motion and their integration.

A state is (x [m], theta [rad], their rates [m/s, rad/s]); theta is 0 upright.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from mesa_jax.types import Array

TIME_STEP = 0.02  # s, of the integration
GRAVITY = 9.81  # m/s^2
DENSITY = 1000.0  # kg/m^3
CART_RADIUS, CART_LENGTH = 0.1, 0.2  # m, of a rod with round ends beyond it
POLE_RADIUS = 0.049  # m
POLE_OFFSET = 0.001  # m, by which the pole's tip leans at theta = 0


class Pole(NamedTuple):
    """Holds what the equations of motion need of a body's pole."""

    mass: Array  # [] kg
    moment: Array  # [] kg m, mass times the distance from hinge to centre
    inertia: Array  # [] kg m^2, about the hinge
    lean: Array  # [] rad, of its axis at theta = 0


def _masses(radius: float, length: float | Array) -> tuple:
    """Masses of a rod and of both its round ends, kg."""
    ends = DENSITY * 4.0 / 3.0 * jnp.pi * radius**3
    return DENSITY * jnp.pi * radius**2 * length, ends


CART_MASS = sum(_masses(CART_RADIUS, CART_LENGTH))  # 10.472 kg


def pole_of(length: Array) -> Pole:
    """Returns the pole of a body: a round-ended rod whose tip leans a little.

    Args:
      length: [] m, from the hinge to the tip.
    """
    radius, span = POLE_RADIUS, jnp.sqrt(length**2 + POLE_OFFSET**2)
    rod, ends = _masses(radius, span)
    about_center = rod * (span**2 / 12.0 + radius**2 / 4.0) + ends * (
        0.4 * radius**2 + span**2 / 4.0 + 3.0 * span * radius / 8.0
    )
    mass, distance = rod + ends, span / 2.0
    inertia = about_center + mass * distance**2
    return Pole(mass, mass * distance, inertia, jnp.arctan(POLE_OFFSET / length))


def slope(state: Array, force: Array, pole: Pole, friction: Array) -> Array:
    """Returns the time derivative [4] of a state: the equations of motion, solved.

    (M + m) x'' + m l cos(th) th'' = F - c x' + m l sin(th) th'^2
    m l cos(th) x'' + (I + m l^2) th'' = m g l sin(th) - c th'

    Args:
      state: [4] x, theta and their rates.
      force: [] F, N.
      pole: of the body.
      friction: [] c.
    """
    _, theta, speed, spin = state
    angle = theta + pole.lean
    mass, inertia = CART_MASS + pole.mass, pole.inertia
    coupling = pole.moment * jnp.cos(angle)
    push = force - friction * speed + pole.moment * jnp.sin(angle) * spin**2
    torque = GRAVITY * pole.moment * jnp.sin(angle) - friction * spin
    determinant = mass * inertia - coupling**2
    cart = (inertia * push - coupling * torque) / determinant
    hinge = (mass * torque - coupling * push) / determinant
    return jnp.stack([speed, spin, cart, hinge])


def integrate(slope_of: Callable[[Array], Array], state: Array) -> Array:
    """Takes one step of the classical Runge-Kutta method.

    Args:
      slope_of: state [4] -> its time derivative [4].
      state: [4]
    """
    first = slope_of(state)
    second = slope_of(state + TIME_STEP / 2.0 * first)
    third = slope_of(state + TIME_STEP / 2.0 * second)
    fourth = slope_of(state + TIME_STEP * third)
    return state + TIME_STEP / 6.0 * (first + 2.0 * second + 2.0 * third + fourth)
