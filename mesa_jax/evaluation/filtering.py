"""Filter test: does an adapted filter keep a body safe from hard proposals?

There is no learner in it, so that all bodies, thresholds and episodes are one program;
it ranks settings as the online runs do (protocol: filter test).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mesa_jax import simulation
from mesa_jax.equations import recovery_switch
from mesa_jax.simulation import Filtered, Reading
from mesa_jax.types import Array, Domain, Key, Params, Policy, RiskMeasure, Task

ALWAYS, NEVER = 0.0, 1.0  # thresholds: the recovery policy acts on every step, on none
THRESHOLDS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7)  # that are tried
PRICE = 0.1  # of a recovered step, in violating episodes
HOLD = 10  # steps that a random proposal is held for


def filter_test(
    key: Key,
    domain: Domain,
    risk: RiskMeasure,
    recovery: Policy,
    params: tuple[Params, Params],
    task: Task,
    threshold: Array,
    episodes: int,
    propose: Callable[[Key, Array], Array] | None = None,
    hold: int | Array = HOLD,
    reading: Reading | None = None,
    look_ahead: int = 0,
) -> Filtered:
    """Plays episodes of one body at each threshold, fields [..., episodes].

    Every threshold meets the same starts and proposals.

    Args:
      key: consumed.
      domain: in which the body moves.
      risk: what the filter asks.
      recovery: what acts where the risk exceeds the threshold.
      params: (critic, recovery policy) of the body.
      task: one body.
      threshold: [...] epsilon_risk.
      episodes: static.
      propose: (key, observation [D]) -> action [A]; None: the reference policy.
      hold: [] steps for which a proposal's key, and so a random proposal, is held.
      reading: how (critic, recovery policy) adapt anew in an episode; None: they stay.
      look_ahead: steps of the recovery policy after the proposed action that are
        simulated, and whether they violate, 0 or 1, is asked in place of the risk; 0:
        the risk is asked. What no filter can know, to see what one could gain.
    """
    propose = propose or domain.reference_policy

    def play(threshold, key):
        play_key, look_key = (key, None)
        if look_ahead:
            play_key, look_key = jax.random.split(key)

        def decide(params, state, proposed):
            critic, policy = params
            act = lambda seen: recovery.act(policy, seen)  # noqa: E731
            observation = domain.observe(state)
            if look_ahead:
                ahead = domain, task, state, proposed, act, look_ahead
                estimate = simulation.falls(look_key, *ahead).astype(proposed.dtype)
            else:
                estimate = risk.estimate(critic, observation, proposed)
            return recovery_switch(estimate, threshold, proposed, act(observation))

        given = domain, task, params, decide, propose, hold, reading
        return simulation.filtered_episode(play_key, *given)

    keys = jax.random.split(key, episodes)
    program = jax.vmap(play, (None, 0))
    for _ in jnp.shape(threshold):
        program = jax.vmap(program, (0, None))
    return program(threshold, keys)


class Best(NamedTuple):
    """Says what a filter is worth at the best of its thresholds."""

    price: Array  # [] share of episodes that violate + PRICE x of steps recovered
    violated: Array  # [] share of episodes
    recovered: Array  # [] share of steps
    threshold: Array  # []


def best_threshold(found: Filtered, thresholds: Array) -> Best:
    """Returns what filter tests [K, episodes] give at the best of K thresholds."""
    violated = found.violated.mean(-1)
    recovered = found.recovered.sum(-1) / found.length.sum(-1)
    price = violated + PRICE * recovered
    at = jnp.argmin(price)
    return Best(price[at], violated[at], recovered[at], thresholds[at])
