"""Recorded online episodes, moved again by the simulator so that they can be drawn.

A run's checkpoint holds the actions of every step but no states of the body. These
follow from the actions and the run's counted keys. Another compiled program rounds
otherwise, and contacts amplify that; so what is found is compared with what was seen.
"""

import pathlib
import textwrap
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mesa_jax import rollout
from mesa_jax.configuration import Settings
from mesa_jax.domains import cartpole
from mesa_jax.domains.fault_notation import describe, parse
from mesa_jax.keys import Stage, stage_key
from mesa_jax.rollout import EpisodeRecord, RunState
from mesa_jax.settings import SettingError
from mesa_jax.simulation import checked_step
from mesa_jax.study import checkpoints
from mesa_jax.study.artifacts.data import described
from mesa_jax.study.batches import Batch, Run
from mesa_jax.study.episodes import restored
from mesa_jax.study.records import Film
from mesa_jax.system import Build
from mesa_jax.types import Array, Shapes, State, Task

STRAYS = 0.05  # difference of an observation from which on a film shows another course
TRACKS = {"cartpole_length": cartpole.TRACK}  # of bodies on a rail
LETTERS = 92  # of a line of notes


class Recorded(NamedTuple):
    """An episode of L steps as its run remembers it."""

    task: Task
    number: int  # from 1 on, as in results.csv
    start: int  # steps of the run before its first
    episode_return: float
    recoveries: int
    proposed: np.ndarray | None  # [L, A]; None where the executed was put in its place
    action: np.ndarray  # [L, A] executed
    violated: np.ndarray  # [L] bool
    next_observation: np.ndarray  # [L, D]

    @property
    def recovered(self) -> np.ndarray | None:
        """[L] whether the recovery policy acted; None where that can not be known."""
        steps = len(self.action)
        if self.proposed is not None:
            return (self.proposed != self.action).any(-1)
        if self.recoveries in (0, steps):
            return np.full(steps, self.recoveries > 0)
        return None


class Replayed(NamedTuple):
    """An episode, moved again."""

    recorded: Recorded
    film: Film
    states: State  # leaves [L + 1, ...], of the body
    difference: float  # largest of an observation from the recorded one
    strays_at: int | None  # first state from which on it shows another course


def replay_episode(
    place: pathlib.Path,
    settings: Settings,
    built: Build,
    batch: Batch,
    seed: int,
    method: str,
    episode: int = -1,
) -> Replayed:
    """An online training episode of a workdir, with the states of its body.

    Args:
      batch: the batch that has the run (method, seed).
      episode: from 1 on, as in results.csv; or from -1, the last, backwards.

    Raises:
      SettingError: if the run has not finished that episode.
      CheckpointError: if there is no checkpoint, or it lacks steps of the run.
    """
    row = batch.runs().index(Run(method, seed, None))
    _, states = restored(place, settings, built, batch)
    state = jax.tree.map(lambda x: np.asarray(x[row]), states)
    recorded = _episode(state, settings, episode)
    states, observations, points, shapes = jax.tree.map(
        np.asarray, _moved_again(built, bool(settings.fault), seed, recorded)
    )
    differences = np.abs(observations - recorded.next_observation).max(-1)
    large = np.flatnonzero(~(differences <= STRAYS))  # also where it is no number
    strays_at = int(large[0]) + 1 if len(large) else None
    spec = built.domain.spec
    film = Film(
        title=f"{settings.domain}, {settings.tasks} bodies, seed {seed}, "
        f"episode {recorded.number}",
        method=method,
        notes=_notes(settings, recorded, strays_at),
        seconds=None if spec.plane else spec.seconds,
        recovered=recorded.recovered,
        violated=recorded.violated,
        plane=spec.plane,
        points=points,
        shapes=shapes,
        track=TRACKS.get(spec.name),
    )
    return Replayed(recorded, film, states, float(differences.max()), strays_at)


def _episode(state: RunState, settings: Settings, episode: int) -> Recorded:
    """Rows of an episode: they lie behind the adaptation set's, one after the other."""
    finished = int(state.episode)
    number = episode + finished + 1 if episode < 0 else episode
    if not 1 <= number <= finished:
        allowed = f"1 to {finished} (so many are finished), or -1 (the last) backwards"
        raise SettingError("episode", episode, allowed)
    if state.task_replay.added != state.env_steps:
        raise checkpoints.CheckpointError(
            f"The run took {state.env_steps} steps and remembers "
            f"{state.task_replay.added}: some were not finite, so its episodes "
            "can not be told apart."
        )
    records = EpisodeRecord(*(values[number - 1] for values in state.records))
    start = int(state.records.length[: number - 1].sum())
    online = start + np.arange(records.length)
    behind = online + settings.data.adaptation
    executed = jax.tree.map(lambda x: x[behind], state.safety_replay.rows)
    proposed = state.task_replay.rows.action[online]
    return Recorded(
        task=state.task,
        number=number,
        start=start,
        episode_return=float(records.episode_return),
        recoveries=int(records.recoveries),
        proposed=proposed if settings.online.relabel == "proposed" else None,
        action=executed.action,
        violated=executed.cost > 0.5,
        next_observation=executed.next_observation,
    )


def _moved_again(
    built: Build, faults: bool, seed: int, recorded: Recorded
) -> tuple[State, Array, Array | None, Shapes | None]:
    """States of the body [L + 1], its observations [L, D], and what is drawn of it."""
    domain, key = built.online_domain, stage_key(seed, Stage.ONLINE)
    start_key = stage_key(seed, Stage.RUN_START)
    if recorded.start:  # what ended the episode before it drew its start
        start_key = rollout.step_keys(key, recorded.start - 1).reset

    @jax.jit
    def move(key, start_key, task, start, actions):
        def advance(state, given):
            action, env_steps = given
            now = domain.task_at(task, env_steps)
            move_key = rollout.step_keys(key, env_steps).move
            state, transition, _ = checked_step(domain, move_key, state, action, now)
            return state, (state, transition.next_observation)

        first = domain.reset(start_key, domain.task_at(task, start))
        times = start + jnp.arange(len(actions))
        _, (states, observations) = jax.lax.scan(advance, first, (actions, times))
        states = jax.tree.map(lambda x, y: jnp.concatenate([x[None], y]), first, states)
        bodies = states.state if faults else states
        if domain.shapes is None:
            return bodies, observations, jax.vmap(built.domain.observe)(bodies), None
        tasks = jax.vmap(lambda t: domain.task_at(task, start + t))(
            jnp.arange(len(actions) + 1)
        )
        return bodies, observations, None, jax.vmap(domain.shapes)(states, tasks)

    return move(key, start_key, recorded.task, recorded.start, recorded.action)


def _notes(settings: Settings, recorded: Recorded, strays_at: int | None) -> str:
    """Lines: what became of the episode, and what body it is."""
    steps, body = len(recorded.action), recorded.task
    first, last = recorded.start + 1, recorded.start + steps
    said = [
        f"Steps {first:,} to {last:,} of the run: return "
        f"{recorded.episode_return:.1f}; the recovery policy acted on "
        f"{recorded.recoveries} of {steps}."
    ]
    if strays_at is not None:
        said.append(f"Simulated anew: from step {strays_at} on another course.")
    if settings.fault:
        said.append(f"Fault: {describe(parse(settings.fault))}.")
        body = body.body
    said.append(f"Body: {described(body)}.")
    return "\n".join(line for text in said for line in textwrap.wrap(text, LETTERS))
