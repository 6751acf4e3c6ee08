"""A domain of one's own: a cart that stops before a wall (no extra), minutes.

python -m experiments.run --domain=experiments.examples.my_domain:maker \
  --collector=sticky --seeds=2 --methods=unconstrained,context --maml_steps=100 \
  --risk_discount=0.9 --data_transitions=1000 --online_steps=400 --workdir=DIR
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mesa_jax import Domain, DomainSpec, PhysicsConfig, Transition
from mesa_jax.domains.base import distribution_of, reference_states, uniform_policy

WALL, GOAL = 1.0, 0.8  # m; the goal stands before the wall


class Cart(NamedTuple):
    gain: jax.Array  # m/s^2 of a full command; its sign is how the motor is wired


def maker(tasks="wiring", physics=PhysicsConfig(horizon=50)):  # noqa: B008
    distribution_of(tasks, {"wiring": Cart})

    def bodies(key, count):
        size_key, sign_key = jax.random.split(key)
        size = jax.random.uniform(size_key, (count,), minval=1.0, maxval=3.0)
        return Cart(size * jax.random.rademacher(sign_key, (count,), float))

    def reset(key, cart):
        return jnp.stack([jax.random.uniform(key, maxval=0.9), jnp.zeros(())])

    def step(key, state, action, cart):
        speed = state[1] + 0.1 * cart.gain * jnp.clip(action[0], -1.0, 1.0)
        reached = jnp.stack([state[0] + 0.1 * speed, speed])
        reward = -jnp.abs(reached[0] - GOAL)
        cost = (reached[0] > WALL).astype(float)
        return reached, Transition(state, action, reward, cost, 1.0 - cost, reached)

    policy, observe = uniform_policy(1), lambda state: state
    return Domain(
        spec=DomainSpec("cart", 2, 1, horizon=physics.horizon),
        train_tasks=bodies,
        test_tasks=bodies,
        reset=reset,
        observe=observe,
        step=step,
        success=lambda last, episode_return: last.reward > -0.1,
        solvable=lambda cart: jnp.ones((), bool),
        reference_policy=policy,
        episode=None,
        decision_states=reference_states(reset, step, observe, policy, physics.horizon),
    )
