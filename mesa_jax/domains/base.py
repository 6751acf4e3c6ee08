"""Parts that domains share: physics settings, reference policy and its states."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from mesa_jax.settings import SettingError, setting, validate
from mesa_jax.types import Array, Key, State, Task

CLOSED_FORM = "closed_form"


BRAX = ("spring", "mjx", "positional", "generalized")


@dataclasses.dataclass(frozen=True)
class PhysicsConfig:
    """Configures the simulation; each domain and preset has its own defaults."""

    backend: str = setting(
        CLOSED_FORM,
        "a domain's own equations, or a Brax pipeline",
        choices=(CLOSED_FORM, *BRAX),
        flag="backend",
    )
    frame_skip: int = setting(
        1,
        "basic steps of the physics that an action is held for (cart-pole 0.02 s, "
        "half-cheetah and ant 0.01 s)",
        "[1, 1_000]",
        flag="frame_skip",
    )
    horizon: int = setting(
        100, "control steps of an episode, a time limit", "[1, 100_000]", flag="horizon"
    )

    lost_after: float = setting(
        0.0,
        "seconds for which a half-cheetah's or ant's torso may lie upside down before "
        "that is a violation, too; 0: for ever",
        "[0, 1_000]",
    )

    def __post_init__(self):
        validate(self)


def distribution_of(tasks: str, distributions: Mapping[str, Any]) -> Any:
    """Returns the distribution of bodies of a name.

    Raises:
      SettingError: naming the known ones.
    """
    if tasks not in distributions:
        raise SettingError("tasks", tasks, "one of " + ", ".join(distributions))
    return distributions[tasks]


def require_backend(physics: PhysicsConfig, known: tuple[str, ...]) -> None:
    """Raises SettingError unless a domain has the backend, and a torso to lie on."""
    if physics.backend not in known:
        allowed = "one of " + ", ".join(known) + " in this domain"
        raise SettingError("backend", physics.backend, allowed)
    if physics.backend == CLOSED_FORM and physics.lost_after:
        raise SettingError("physics_lost_after", physics.lost_after, "0 in this domain")


ROLLOUTS = 32


def uniform_policy(action_size: int) -> Callable[[Key, Array], Array]:
    """Makes the uniform policy over [-1, 1]^A (protocol: reference policy)."""

    def act(key, observation):
        shape = (*observation.shape[:-1], action_size)
        return jax.random.uniform(key, shape, minval=-1.0, maxval=1.0)

    return act


def reference_states(
    reset: Callable, step: Callable, observe: Callable, policy: Callable, horizon: int
) -> Callable[[Key, int, Task], State]:
    """Makes `decision_states(key, count, task)`: states of reference rollouts.

    `count` states [count, ...] are drawn with replacement from `ROLLOUTS` rollouts of
    the reference policy, each up to the step before its first violation (or before it
    is not finite), start states among them.

    Args:
      reset: of the domain.
      step: of the domain.
      observe: of the domain.
      policy: its reference policy.
      horizon: steps of a rollout.
    """

    def rollout(key, task):
        reset_key, key = jax.random.split(key)
        start = reset(reset_key, task)

        def advance(carry, i):
            state, alive = carry
            act_key, step_key = jax.random.split(jax.random.fold_in(key, i))
            action = policy(act_key, observe(state))
            reached, transition = step(step_key, state, action, task)
            finite = jnp.isfinite(transition.next_observation).all()
            alive_next = alive & finite & (transition.discount > 0.0)
            reached = jax.tree.map(
                lambda new, old: jnp.where(alive_next, new, old), reached, state
            )
            return (reached, alive_next), (state, alive)

        carry = (start, jnp.ones((), bool))
        return jax.lax.scan(advance, carry, jnp.arange(horizon))[1]

    def decision_states(key, count, task):
        roll_key, draw_key = jax.random.split(key)
        keys = jax.random.split(roll_key, ROLLOUTS)
        states, alive = jax.vmap(rollout, (0, None))(keys, task)
        weight = alive.reshape(-1) / alive.sum()
        drawn = jax.random.choice(draw_key, alive.size, (count,), p=weight)
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[drawn], states)

    return decision_states
