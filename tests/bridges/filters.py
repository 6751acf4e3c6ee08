"""Filters of tiny networks that nothing has trained, with a threshold half-way."""

import jax
import jax.numpy as jnp

import mesa_jax as mesa
from mesa_jax import adaptation
from mesa_jax.methods import METHODS
from mesa_jax.study.fitted import Fitted
from mesa_jax.types import Prior, Transition

SMALL = {"hidden": (8, 8)}
COUNT = 20  # transitions of an adaptation set


def transitions(seed: int = 0, count: int = COUNT) -> Transition:
    """Draws transitions [count, ...] of a point; a third violates."""
    keys = jax.random.split(jax.random.key(seed), 4)
    observation = jnp.array([-30.0, 5.0]) + 20.0 * jax.random.normal(
        keys[0], (count, 2)
    )
    action = jax.random.uniform(keys[1], (count, 2), minval=-1.0)
    cost = (jax.random.uniform(keys[2], (count,)) < 0.3).astype(jnp.float32)
    moved = observation + action + 0.1 * jax.random.normal(keys[3], (count, 2))
    return Transition(observation, action, -cost, cost, 1.0 - cost, moved)


def fitted_of(method: str, **sections) -> Fitted:
    """A filter of a body that was adapted without a step, and its adaptation."""
    few = {"finetune_scratch": {"steps": 3}, "finetune": {"steps": 3}}
    settings = mesa.configure("navigation1", tasks="wind", method=method)
    small = {"risk": SMALL, "recovery": SMALL, "inner_loop": {"steps": 2}} | few
    if METHODS[method].prior == "maml":
        small["maml"] = {"inner_steps": 2, "support_size": 16}
    settings = settings.override(**small).override(**sections)
    system, rows = mesa.build(settings), transitions()
    critic, recovery = system.init(jax.random.key(1), rows)
    if system.encode is not None:
        critic = system.risk.encode(critic, rows)
        recovery = system.recovery.condition(recovery, critic)
    risks = system.risk.estimate(critic, rows.observation, rows.action)
    guard = mesa.SafetyFilter(
        critic=critic,
        recovery=recovery,
        threshold=jnp.median(risks),
        novelty=jnp.float32(jnp.nan),
        measure=system.risk,
        policy=system.recovery,
        method=method,
    )
    root = jax.random.key_data(jax.random.key(2))
    return Fitted(guard, rows, root, _adapts(system, METHODS[method]))


def _adapts(system, row):
    anew = adaptation.adapts_anew(system, row)

    def adapt(root, rows):
        key = jax.random.wrap_key_data(root)
        if row.prior == "scratch":
            prior = Prior(system.init(key, rows), ())
        else:
            params = system.init(jax.random.key(3), transitions(3))
            prior = system.learners[row.prior].init(params).prior
        return anew(key, prior, rows)

    return adapt
