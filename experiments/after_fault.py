"""What a workdir's runs did after a fault, on one body, as a strip of pictures."""

import textwrap
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mesa_jax.domains.fault_notation import describe, parse
from mesa_jax.methods import METHODS
from mesa_jax.report import after_fault
from mesa_jax.report.after_fault import Struck
from mesa_jax.report.words import described
from mesa_jax.rollout import RunState
from mesa_jax.study import batches, checkpoints, episodes
from mesa_jax.study.artifacts.reference import onset
from mesa_jax.study.batches import Run
from mesa_jax.study.playback import moved_again, mover
from mesa_jax.study.study import Study
from mesa_jax.study.timelines import ends_of, timeline_of

from .render import film_of

LETTERS = 112  # of a line of notes
FIRST = ("mesa_context", "context")  # rows above the others


def strip_of(study: Study, summary: Mapping[str, Any]) -> Figure | None:
    """Draws the strip of the first body that all methods ran; None where there is none.

    There is none without a fault, a step after it, such a body, or its checkpoint.
    """
    settings = study.configuration
    seeds = [set(by["violations"]) for by in summary["by_seed"].values()]
    common = sorted(map(int, set.intersection(*seeds)))
    if not settings.fault or not common:
        return None
    seed, found = common[0], {}
    for method in _ordered(summary["methods"]):
        try:
            found[method] = _state(study, method, seed)
        except checkpoints.CheckpointError as error:
            print(f"Warning: {method} is not in the strip after the fault: {error}")
    struck_at = onset(study.system, seed)
    ended = [int(ends_of(state)[-1]) for state in found.values()]
    last = min(ended, default=0) - struck_at
    if last < 1:
        return None
    steps = after_fault.moments(last)
    move = mover(study.system)  # a body is the same for every method
    runs = [
        _struck(study.of(method), state, method, seed, struck_at, steps, move)
        for method, state in found.items()
    ]
    body = episodes.body_of(settings, next(iter(found.values())))
    notes = (
        f"{settings.domain}, seed {seed} (the lowest that all methods ran): "
        f"{describe(parse(settings.fault))}. Body: {described(body)}. Steps and "
        "violations are counted from the fault."
    )
    notes = textwrap.fill(notes, LETTERS)
    return after_fault.strip("After the fault", notes, runs, steps)


def _ordered(methods) -> list[str]:
    order = list(METHODS)
    return sorted(methods, key=lambda m: (m not in FIRST, -order.index(m)))


def _state(study: Study, method: str, seed: int) -> RunState:
    """Returns a run at its end, of the lowest meta-seed.

    Raises:
      CheckpointError: if there is no checkpoint of it, or it lacks steps.
    """
    stored = [
        batch
        for batch, _ in batches.stored(study.folder)
        if not batch.thresholds and method in batch.methods and seed in batch.seeds
    ]
    if not stored:
        raise checkpoints.NoCheckpointError(f"{study.folder} has no list of its runs.")
    batch = min(stored, key=lambda batch: batch.meta_seed)
    _, states = episodes.restored(study.of(method), batch)
    state = episodes.run_of(states, batch.runs().index(Run(method, seed, None)))
    episodes.require_every_step(state)
    return state


def _struck(
    study: Study,
    state: RunState,
    method: str,
    seed: int,
    struck_at: int,
    steps: list[int],
    move: Callable,
) -> Struck:
    """Returns a run as it is drawn, with its body at some steps after the fault."""
    settings, ends = study.configuration, ends_of(state)
    horizon = study.system.domain.spec.horizon
    line = timeline_of(study, Run(method, seed, None), state, struck_at)
    pictures = []
    for step in steps:
        episode = int(np.searchsorted(ends, struck_at + step))
        recorded = episodes.episode_of(settings, state, episode + 1)
        moved = moved_again(move, seed, recorded, length=horizon)
        film = film_of(study, method, seed, recorded, moved)
        start = int(ends[episode]) - film.steps
        pictures.append((film, struck_at + step - start))
    return Struck(method, struck_at, line.violated, line.recovered, tuple(pictures))
