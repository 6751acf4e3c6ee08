"""Phase 3 of a system: runs of all methods and bodies, side by side in one program."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from mesa_jax import adaptation, online, rollout
from mesa_jax.domains.fault_notation import parse
from mesa_jax.domains.faults import afflict
from mesa_jax.filter import METHOD, SafetyFilter
from mesa_jax.methods import METHODS
from mesa_jax.novelty import Novelty
from mesa_jax.settings import known
from mesa_jax.system import System, compiled_once
from mesa_jax.types import Array, Key, Metrics, Prior, Task, Transition


def init_runs(
    key: Key,
    system: System,
    guards: SafetyFilter | Sequence[SafetyFilter],
    bodies: Task,
    transitions: Transition,
) -> rollout.RunState:
    """Returns online runs before their first step (phase 3), [R, ...].

    R runs are the methods, in order, times the S bodies. On one body they start from
    the same task policy, state and onset of a fault, whatever their method.

    Args:
      key: consumed.
      system: with the faults of its configuration.
      guards: a filter of S bodies, or one for each method. Runs adapt anew as the row
        of the filter's method says.
      bodies: [S, ...]
      transitions: [S, n, ...] adaptation sets, with which safety replays begin.

    Raises:
      SettingError: naming a method that is not known.
    """
    if isinstance(guards, SafetyFilter):
        guards = (guards,)
    over_bodies = _starting(system)
    keys = jax.random.split(key, len(transitions.cost))

    def of_method(guard):
        readapts = METHODS[known("method", guard.method, METHODS)].readapts
        same = jax.random.clone(keys)  # for each method
        params = guard.critic, guard.recovery, guard.threshold
        return over_bodies(same, params, jnp.asarray(readapts), bodies, transitions)

    runs = [of_method(guard) for guard in guards]
    return jax.tree.map(lambda *x: jnp.concatenate(x), *runs)


@compiled_once
def _starting(system: System) -> Callable:
    """Compiles the states before the first step of a method's runs, [S, ...]."""
    faults = parse(system.configuration.fault)

    def one(key, params, readapts, task, adaptation_set):
        agent_key, start_key, fault_key = jax.random.split(key, 3)
        return rollout.init_run(
            start_key,
            system.online_domain,
            system.configuration.online,
            afflict(faults, fault_key, task) if faults else task,
            system.agent.init(agent_key, *params),
            adaptation_set,
            readapts,
        )

    return jax.jit(jax.vmap(one, (0, 0, None, 0, 0)))


def renewal(
    system: System,
    prior: Prior | None = None,
    method: str = METHOD,
    training: Novelty | None = None,
) -> online.Readapt | None:
    """Returns how one run adapts anew, or None; arguments as in `online_program`."""
    config = system.configuration.online
    row = METHODS[known("method", method, METHODS)]
    if prior is None or not config.readapt_every:
        return None
    anew = adaptation.adapts_anew(system, row, training)
    return online.readaptation(system.agent, config, anew)


def online_program(
    system: System,
    prior: Prior | None = None,
    method: str = METHOD,
    training: Novelty | None = None,
) -> Callable[[Array, rollout.RunState], tuple[rollout.RunState, Metrics]]:
    """Makes `chunk(keys, runs) -> (runs, metrics)`, [R, ...], to be compiled.

    A chunk is `online.chunk_steps` environment steps of every run. Its draws are
    counted by the runs, so it takes the same `keys` [R] every time.

    Args:
      system: with the faults of its configuration.
      prior: what runs that adapt anew go back to; None: no run does.
      method: whose row says how they adapt.
      training: where the training bodies lie (`training_novelty`, of as many
        transitions as a run adapts on); None: each body is taken for one like them.
    """
    config = system.configuration.online
    renew = renewal(system, prior, method, training)
    program = online.online_program(system.online_domain, system.agent, config, renew)

    def chunk(keys, runs):
        fold = jax.vmap(jax.random.fold_in, (0, None))
        return program(fold(keys, 0), fold(keys, 1), runs, prior)

    return chunk
