"""Online runs of Gymnasium bodies: they step in Python, all else is compiled.

A turn is one dispatch for all runs: it remembers what the environments gave, reads
bodies anew, learns, proposes and decides. Its equations are those of the compiled path
(`run_step`, `online`). Extra `gymnasium`.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mesa_jax import equations, run_step
from mesa_jax.bridges.gymnasium_bodies import Body, Family, Stepped, bodies_of, seed_of
from mesa_jax.filter import METHOD, SafetyFilter
from mesa_jax.novelty import Novelty
from mesa_jax.online import readapted
from mesa_jax.phases.online import init_runs as init_states
from mesa_jax.phases.online import renewal
from mesa_jax.run_state import RunState, step_keys
from mesa_jax.run_step import Planned
from mesa_jax.simulation import all_finite, on_the_spot
from mesa_jax.system import System
from mesa_jax.types import Array, Key, Metrics, Prior, Transition


class Runs(NamedTuple):
    """Holds R runs: what is compiled, and the environments."""

    state: RunState  # [R, ...]
    bodies: list[Body]  # R


def init_runs(
    key: Key,
    system: System,
    guards: SafetyFilter | Sequence[SafetyFilter],
    family: Family,
    bodies: Any,
    transitions: Transition,
) -> Runs:
    """Returns online runs before their first step, as `mesa.init_runs` does.

    R runs are the methods, in order, times the S bodies.

    Args:
      key: consumed.
      system: of the family's domain.
      guards: a filter of S bodies, or one for each method.
      family: of the bodies.
      bodies: S of them.
      transitions: [S, n, ...] adaptation sets, with which safety replays begin.
    """
    guards = (guards,) if isinstance(guards, SafetyFilter) else tuple(guards)
    listed, horizon = bodies_of(bodies), system.domain.spec.horizon
    state_key, *keys = jax.random.split(key, len(listed) + 1)
    seeds = [seed_of(one) for one in keys]

    def environments():
        pairs = zip(listed, seeds, strict=True)
        return [Body(family, body, horizon, seed) for body, seed in pairs]

    moving = [one for _ in guards for one in environments()]
    first = jnp.stack([one.observation for one in moving[: len(listed)]])
    state = init_states(state_key, system, guards, first, transitions)
    return Runs(state, moving)


def online_program(
    system: System,
    prior: Prior | None = None,
    method: str = METHOD,
    training: Novelty | None = None,
) -> Callable[[Array, Runs], tuple[Runs, Metrics]]:
    """Makes `chunk(keys, runs) -> (runs, metrics)`, as `mesa.online_program` does.

    A chunk is `online.chunk_steps` steps of every run, or as many as are left. It takes
    the same `keys` [R] every time. There are no evaluation episodes, and metrics are
    those of the last step. The runs that entered are not to be used any more: their
    environments have moved on.

    Args:
      system: of the family's domain.
      prior: what runs that adapt anew go back to; None: no run does.
      method: whose row says how they adapt.
      training: where the training bodies lie; None: each body is taken for one like
        them.
    """
    config, agent = system.configuration.online, system.agent
    renew = renewal(system, prior, method, training)

    def plan(key, state):
        keys = step_keys(key, state.env_steps)
        return run_step.plan(keys, agent, config, state, state.progress.state)

    def turn(keys, states, plans, gave, took):
        remember = jax.vmap(lambda *one: _remembered(system, *one), (0, 0, 0, None))
        states = ready = remember(states, plans, gave, took)
        if renew is not None:
            agents = readapted(config, renew, keys, states, prior)
            ready = states._replace(agent=agents)  # it is the plan's learner from here
        return states, jax.vmap(plan)(keys, ready), config.active(states)

    program = jax.jit(turn, donate_argnums=(1, 2))

    def chunk(keys, runs):
        keys = jax.vmap(jax.random.fold_in, (0, None))(keys, 0)
        states = jax.tree.map(jnp.copy, runs.state)  # which the program takes over
        blank = jax.eval_shape(jax.vmap(plan), keys, states)
        plans = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), blank)
        plans = plans._replace(learner=jax.tree.map(jnp.copy, runs.state.agent))
        gave, took, bodies = _stacked(map(_nothing, runs.bodies)), False, runs.bodies
        for left in range(config.chunk_steps, -1, -1):
            states, plans, active = program(keys, states, plans, gave, took)
            going, actions = np.asarray(active), np.asarray(plans.decision.action)
            if not (left and going.any()):
                break
            acting = zip(bodies, actions, going, strict=True)
            gave = _stacked(b.step(a) if on else _nothing(b) for b, a, on in acting)
            took = True
        return runs._replace(state=states), plans.metrics

    return chunk


def _stacked(gave: Iterable[Stepped]) -> Stepped:
    return jax.tree.map(lambda *x: np.stack(x), *gave)


def _nothing(body: Body) -> Stepped:
    """What a body gives that is not moved."""
    zero, seen = np.float32(0.0), body.observation
    return Stepped(zero, zero, zero, seen, np.bool_(False), seen)


def _remembered(
    system: System, state: RunState, plan: Planned, gave: Stepped, took: Array
) -> RunState:
    """A run after what its environment gave."""
    seen, action = state.progress.state, plan.decision.action
    given = Transition(seen, action, *gave[:4])
    finite = all_finite(given)
    transition = equations.select(finite, given, on_the_spot(seen, action))
    reached = transition.next_observation
    step = plan.decision, reached, transition, finite, gave.out_of_time
    moved = run_step.moved(system.domain, state.progress, *step)
    config = system.configuration.online
    active, restarted = config.active(state) & took, run_step.start(gave.start)
    return run_step.remember(config, state, plan, moved, restarted, active)
