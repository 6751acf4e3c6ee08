"""Faults: schedules by which any domain's body changes while a run goes on.

Ours; the paper's disabled bodies are broken from their first step. A fault lasts from
its onset, a step of the *run*, to its end, so it can strike in mid-episode. `task_at`
writes the run's step into the task, and what a step or a reset does at clock c is
faulty where onset <= c < end, and elsewhere the plain domain's: the same operations on
the same numbers and keys. (Compiled, XLA may round otherwise where a body can change.)
A command passes the faults in the order written on its way to the body, an observation
on its way back.

What the agent knows is recorded: its own command, not the one that moved the body, and
the observation that it was shown. Reward, cost and discount are the body's own. What a
fault remembers ends with the episode: in one that starts during the fault, `stuck` and
`freeze` hold the first command and the first observation.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mesa_jax.domains.fault_effects import EFFECTS, Memory
from mesa_jax.domains.fault_notation import (
    ACTION,
    BODY,
    LIMIT,
    OBSERVATION,
    Fault,
    kind_of,
    parse,
    require_faults_of,
)
from mesa_jax.types import Array, Domain, Key, State, Task

STREAM = 1_000_003  # what a key is folded with for faults; splits of it are small folds


class FaultyTask(NamedTuple):
    """Holds a body, when faults strike it and how hard, and what time it is."""

    body: Task
    onset: Array  # [F] int32, run steps
    end: Array  # [F] int32, run steps: the first that is healthy again
    severity: Array  # [F]
    clock: Array  # [] int32, run steps


class FaultyState(NamedTuple):
    """Holds a body's state, what the agent saw of it, and what faults remember."""

    state: State
    seen: Array  # [D]
    memory: tuple[Memory, ...]  # of each fault: Held, commands [MAX_DELAY, A] or ()


def afflict(faults: tuple[Fault, ...], key: Key, body: Task) -> FaultyTask:
    """Makes a body and its faults, at step 0; each fault draws its own onset.

    Args:
      faults: parsed.
      key: a run's own, so that its seed determines its onsets; consumed.
      body: a task of the plain domain, healthy.
    """
    low, high = jnp.array([f.onset for f in faults], jnp.int32).reshape(-1, 2).T
    onset = jax.random.randint(key, low.shape, low, high + 1, jnp.int32)
    durations = [LIMIT if f.duration is None else f.duration for f in faults]
    return FaultyTask(
        body=body,
        onset=onset,
        end=onset + jnp.array(durations, jnp.int32),
        severity=jnp.array([f.severity for f in faults], jnp.float32),
        clock=jnp.zeros((), jnp.int32),
    )


def onset_of(task: FaultyTask) -> Array:
    """Returns the run steps [..., F] at which the faults of tasks strike."""
    return task.onset


def _memory(domain: Domain, faults: tuple[Fault, ...]) -> tuple[Memory, ...]:
    """Of each fault, as an episode starts."""
    spec = domain.spec
    sizes = {ACTION: spec.action_size, OBSERVATION: spec.observation_size}

    def start(fault):
        on = kind_of(fault).on
        return () if on == BODY else EFFECTS[fault.kind].start(sizes[on])

    return tuple(start(fault) for fault in faults)


def _active(task: FaultyTask) -> Array:
    """Whether each fault lasts at the task's clock, [F] bool."""
    return (task.onset <= task.clock) & (task.clock < task.end)


def _through(faults, on, key, task, memory, value) -> tuple[tuple[Memory, ...], Array]:
    """Passes a signal [N] through the faults that act on it."""
    memory, active = list(memory), _active(task)
    key = jax.random.fold_in(key, STREAM)
    for i, fault in enumerate(faults):
        if kind_of(fault).on != on:
            continue
        memory[i], altered = EFFECTS[fault.kind].alter(
            jax.random.fold_in(key, i), memory[i], value, task.severity[i], active[i]
        )
        parts = fault.parts or range(value.size)  # known when it is traced
        hit = np.isin(np.arange(value.size), parts)
        value = jnp.where(active[i] & hit, altered, value)
    return tuple(memory), value


def _body_at(domain: Domain, faults: tuple[Fault, ...], task: FaultyTask) -> Task:
    """The body as its faults have changed it at the task's clock."""
    body, active = task.body, _active(task)
    for i, fault in enumerate(faults):
        if kind_of(fault).on == BODY:
            changed = domain.changes[fault.kind](body, task.severity[i])
            body = jax.tree.map(functools.partial(jnp.where, active[i]), changed, body)
    return body


def _draw(faults, draw, key, count) -> FaultyTask:
    """Bodies [count] of a plain domain, each with its faults."""
    keys = jax.random.split(jax.random.fold_in(key, STREAM), count)
    return jax.vmap(functools.partial(afflict, faults))(keys, draw(key, count))


def _change(change, task: FaultyTask, factor: Array) -> FaultyTask:
    return task._replace(body=change(task.body, factor))


def faulty(domain: Domain, faults: str | tuple[Fault, ...]) -> Domain:
    """Returns a domain that faults strike; its tasks are `FaultyTask`s.

    Its states are `FaultyState`s. A key draws the same bodies as in the plain domain,
    and the same noise. Data episodes, decision states and solvability are the healthy
    body's; success judges the transition that the agent knows.

    Args:
      domain: as it is without faults.
      faults: in words (`fault_notation.parse`), e.g. "dead:part=1,onset=60", or parsed.

    Raises:
      SettingError: on a kind or a part that the domain does not have.
    """
    if isinstance(faults, str):
        faults = parse(faults, domain.changes)
    require_faults_of(domain, faults)
    body_at = functools.partial(_body_at, domain, faults)
    through = functools.partial(_through, faults)

    def begin(key, task, state):
        memory, seen = _memory(domain, faults), domain.observe(state)
        memory, seen = through(OBSERVATION, key, task, memory, seen)
        return FaultyState(state, seen, memory)

    def reset(key, task):
        return begin(key, task, domain.reset(key, body_at(task)))

    def step(key, state, action, task):
        command = jnp.clip(action, -1.0, 1.0)
        memory, executed = through(ACTION, key, task, state.memory, command)
        reached, transition = domain.step(key, state.state, executed, body_at(task))
        true = transition.next_observation
        memory, seen = through(OBSERVATION, key, task, memory, true)
        seen = jnp.where(jnp.isfinite(true).all(), seen, true)  # no fault hides that
        transition = transition._replace(
            observation=state.seen, action=command, next_observation=seen
        )
        return FaultyState(reached, seen, memory), transition

    def decision_states(key, count, task):
        states = domain.decision_states(key, count, task.body)
        keys = jax.random.split(jax.random.fold_in(key, STREAM), count)
        return jax.vmap(begin, (0, None, 0))(keys, task, states)

    def task_at(task, env_steps):
        body = domain.task_at(task.body, env_steps)
        return task._replace(body=body, clock=jnp.asarray(env_steps, jnp.int32))

    def episode(key, task):
        return domain.episode(key, task.body)

    def shapes(state, task):
        return domain.shapes(state.state, body_at(task))

    def parameters(task):
        return domain.parametrisation.of(body_at(task))

    known = domain.parametrisation
    return domain._replace(
        train_tasks=functools.partial(_draw, faults, domain.train_tasks),
        test_tasks=functools.partial(_draw, faults, domain.test_tasks),
        reset=reset,
        observe=lambda state: state.seen,
        step=step,
        solvable=lambda task: domain.solvable(task.body),
        episode=None if domain.episode is None else episode,
        decision_states=decision_states,
        task_at=task_at,
        shapes=None if domain.shapes is None else shapes,
        changes={k: functools.partial(_change, v) for k, v in domain.changes.items()},
        parametrisation=None if known is None else known._replace(of=parameters),
    )
