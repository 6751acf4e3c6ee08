"""Episodes to draw: a point in a plane, and bodies of rods."""

import numpy as np

from mesa_jax.report.scene import Film
from mesa_jax.types import Plane, Shapes

STEPS = 12
RECOVERED = np.isin(np.arange(STEPS), (3, 4, 9))
PLANE = Plane(((-5.0, 5.0, 2.0, 3.0),), (-5, 5, -3, 3), (0, 0), (4, 0), ((0, 1),))


def film(violated=True, **drawn) -> Film:
    last = np.arange(STEPS) == STEPS - 1
    words = ("a domain, seed 0, episode 3", "mesa", "Return 1.\nBody: one.")
    return Film(*words, 0.25, RECOVERED, last & violated, **drawn)


def plane(**changed) -> Film:
    points = np.stack([0.4 * np.arange(STEPS + 1), 0.1 * np.arange(STEPS + 1)], axis=1)
    return film(plane=PLANE, points=points)._replace(**changed)


def rods(ends, speed=0.3, **changed) -> Film:
    """A body of rods [G, 2, 3] that moves along x."""
    steps = speed * np.arange(STEPS + 1)[:, None, None, None] * [1.0, 0.0, 0.0]
    ends = np.asarray(ends, float) + steps
    radii = np.full(ends.shape[:2], 0.05)
    return film(shapes=Shapes(ends, radii))._replace(**changed)


def cart(**changed) -> Film:
    ends = [[[-0.1, 0, 0], [0.1, 0, 0]], [[0, 0, 0], [0.2, 0, 0.8]]]
    return rods(ends, speed=0.1, track=2.4)._replace(**changed)


def runner(**changed) -> Film:
    ends = [[[-0.5, 0, 0.6], [0.5, 0, 0.6]], [[0.5, 0, 0.6], [0.5, 0, 0.05]]]
    return rods(ends, **changed)


def walker(**changed) -> Film:
    """A ball with four legs."""
    legs = [[[0, 0, 0.5], [x, y, 0.05]] for x in (-0.6, 0.6) for y in (-0.6, 0.6)]
    return rods([[[0, 0, 0.5]] * 2, *legs], **changed)


FILMS = {"plane": plane, "cart": cart, "runner": runner, "walker": walker}
