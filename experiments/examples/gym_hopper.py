"""MuJoCo hoppers with weak joints (extra mujoco), 3 minutes on 2 cores.

python -m experiments.examples.gym_hopper

Bodies differ in the strength of their three joints. The violation is the environment's
own: it terminates an episode where the hopper is unhealthy, which is to say falling.
"""

import gymnasium
import numpy as np

from mesa_jax.bridges import gymnasium_bodies as bodies

from . import gym_pendulum


def make(strength: np.ndarray) -> gymnasium.Env:
    env = gymnasium.make("Hopper-v5")
    env.unwrapped.model.actuator_gear[:, 0] *= strength
    return env


def drawn(seed: int, count: int) -> np.ndarray:
    """One joint of each body has a fifth to the whole of its strength."""
    random = np.random.default_rng(seed)
    strength = np.ones((count, 3))
    weak = random.integers(0, 3, count)
    strength[np.arange(count), weak] = random.uniform(0.2, 1.0, count)
    return strength


FAMILY = bodies.Family(
    make=make,
    train=drawn(0, 24),
    test=drawn(1, 6),
    violates=lambda seen, action, reached, info: info["terminated"],
)
maker = bodies.maker(FAMILY, horizon=200)
SETTINGS = gym_pendulum.SETTINGS | {
    "risk": {"discount": 0.9, "violation_fraction": 0.3},
}


def main(few: int = 50, **smaller: dict) -> None:
    """Prints what the filter is worth; `smaller` are settings over those above."""
    gym_pendulum.measure(FAMILY, f"{__name__}:maker", SETTINGS, few, **smaller)


if __name__ == "__main__":
    main()
