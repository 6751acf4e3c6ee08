"""Phase 3 as a pure program: all methods and seeds learn online side by side."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mesa_jax import equations, replay, rollout, sharding
from mesa_jax.keys import reading_key
from mesa_jax.run_state import write_record
from mesa_jax.types import (
    Agent,
    Array,
    Domain,
    Key,
    Prior,
    State,
)

Readapt = Callable[[Key, rollout.RunState, Prior, Array], State]
# key, run, prior, due [] bool -> the state of the agent: adapted anew where it is due


def readaptation(
    agent: Agent, config: rollout.OnlineConfig, adapt: Callable
) -> Readapt:
    """Makes one run's adaptation online.

    It adapts from the prior, or from what critic and policy have become, on the run's
    most recent transitions. With no inner steps it reads the body anew.

    Args:
      agent: whose safety half is replaced.
      config: from what, and on how many transitions.
      adapt: (key, prior, support [n, ...]) -> (critic, recovery policy).
    """

    def one(key, run, prior, due):
        if config.readapt_from == "current":
            prior = prior._replace(params=agent.safety(run.agent))
        support = replay.latest(run.safety_replay, config.readapt_transitions)
        renewed = agent.with_safety(run.agent, *adapt(key, prior, support))
        return equations.select(due, renewed, run.agent)

    return one


def readapted(
    config: rollout.OnlineConfig,
    renew: Readapt,
    keys: Array,
    states: rollout.RunState,
    prior: Prior,
) -> State:
    """Returns the runs' agents; where it is a run's turn, what they have become.

    Args:
      config: of the runs.
      renew: adapts one run anew.
      keys: [S] of the runs' steps.
      states: [S, ...]
      prior: that all share.
    """
    turn, rest = jnp.divmod(states.env_steps, config.readapt_every)
    due = states.readapts & config.active(states) & (rest == 0) & (turn > 0)
    keys = jax.vmap(reading_key)(keys, turn)
    return jax.lax.cond(
        jnp.any(due),
        lambda: sharding.vmap(renew, (0, 0, None, 0))(keys, states, prior, due),
        lambda: states.agent,
    )


def online_program(
    domain: Domain,
    agent: Agent,
    config: rollout.OnlineConfig,
    renew: Readapt | None = None,
) -> Callable:
    """Makes `chunk(keys, evaluate_keys, states, prior) -> (states, metrics)`, [S, ...].

    One program: physics, learning, acting, memory and evaluation episodes of every run,
    for `config.chunk_steps` environment steps. Where an evaluation is due for one run,
    all play an episode (behind a scalar condition, so nothing is computed otherwise)
    and only that run's is recorded. Metrics are means over the chunk, [S].

    Args:
      domain: in which the runs live, its faults included.
      agent: of every run.
      config: of the runs.
      renew: adapts one run anew (`readaptation`), every `config.readapt_every` steps,
        from the one `prior` that all share; None: no run does, and `prior` is not used.
    """
    step = sharding.vmap(rollout.run_step(domain, agent, config))
    play = sharding.vmap(
        lambda key, run: rollout.evaluation_episode(key, domain, agent, run)
    )

    def evaluate(keys, states, due):
        keys = jax.vmap(jax.random.fold_in)(keys, states.episode)
        at = jnp.where(
            due, states.episode // config.evaluate_every - 1, config.evaluation_slots
        )
        return jax.vmap(write_record)(states.evaluations, at, play(keys, states))

    def chunk(keys, evaluate_keys, states, prior=()):
        def advance(states, _):
            if renew is not None:
                states = states._replace(
                    agent=readapted(config, renew, keys, states, prior)
                )
            states, due, metrics = step(keys, states)
            evaluations = jax.lax.cond(
                jnp.any(due),
                lambda: evaluate(evaluate_keys, states, due),
                lambda: states.evaluations,
            )
            return states._replace(evaluations=evaluations), metrics

        states, metrics = jax.lax.scan(advance, states, length=config.chunk_steps)
        states = sharding.placed(states)  # as they came, so that the next chunk fits
        return states, jax.tree.map(lambda x: jnp.mean(x, axis=0), metrics)

    return chunk
