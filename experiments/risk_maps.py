"""Figures of risk maps: the simulator's truth beside each method's estimates.

Of the body of one online run with its episodes (`of_a_run`), and of a few test bodies
beside each other (`of_test_bodies`).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mesa_jax import sharding
from mesa_jax.configuration import Configuration
from mesa_jax.evaluation import risk_map
from mesa_jax.evaluation.risk_map import Grid
from mesa_jax.keys import Stage, stage_key
from mesa_jax.methods import METHODS
from mesa_jax.report import maps
from mesa_jax.report.maps import Figure, RiskMap, Words
from mesa_jax.report.words import described, rounded
from mesa_jax.study.artifacts.adapted import adapted
from mesa_jax.study.artifacts.data import load_test_bodies
from mesa_jax.study.artifacts.priors import finished_prior
from mesa_jax.study.episodes import Shown, shown_runs
from mesa_jax.study.records import Path
from mesa_jax.study.study import Asked, Study
from mesa_jax.system import System
from mesa_jax.types import Array, Key, Task

CELLS = (66, 13)  # in x and y
ROLLOUTS = 128  # of the truth, a cell
EPISODES = 3  # drawn of the first and of the last ones
BODIES = 3  # test bodies beside each other
Runs = dict[tuple[int, int], dict[str, Shown]]  # by (meta-seed, seed) and method
NOTES = """Above the risk threshold the recovery policy acts. Error: squared, to the
    truth without its noise, over the cells outside obstacles. Truth: mean of
    {rollouts} simulations of the command, then the reference policy; its standard
    error is at most {noise:.3f}. """
WHY = """The seed is the lowest whose body moves against the command on the left, if
    there is one, else the lowest."""


class Chosen(NamedTuple):
    """A body of online runs, with the simulator's risk on its plane."""

    meta_seed: int
    seed: int
    runs: dict[str, Shown]  # by method
    cells: Grid
    commands: Array  # [columns, A]
    truth: np.ndarray  # [2, columns, cells]
    headings: list[str]  # of the columns

    @property
    def task(self) -> Task:
        return next(iter(self.runs.values())).task

    def words(self, settings: Configuration, paths: str, notes: str) -> Words:
        """What stands around maps of this body."""
        return Words(
            title=f"Risk on a new body: {settings.domain}, {settings.tasks} bodies",
            subtitle=f"Test body of seed {self.seed}: {described(self.task)}; adapted "
            f"on {settings.data.adaptation} of its transitions",
            headings=self.headings,
            paths=paths,
            notes=_notes(notes),
        )


def chosen_body(study: Study) -> Chosen | None:
    """Chooses a body of online runs and simulates its risk.

    None for a domain without a plane or a workdir without a run.
    """
    system, plane = study.system, study.system.domain.spec.plane
    runs = shown_runs(study) if plane else {}
    if not runs:
        return None
    commands = jnp.array(plane.commands)
    move = jax.jit(lambda task: risk_map.moves(system.domain, commands, task))
    meta_seed, seed = which = choose(
        runs, lambda task: float(move(task)[0] @ commands[0])
    )
    mine = {name: runs[which][name] for name in METHODS if name in runs[which]}
    task = next(iter(mine.values())).task
    cells = risk_map.grid(plane, CELLS)
    truth = _truth(system, stage_key(seed, Stage.REPORT), task, cells, commands)
    headings = [
        f"command {_command(command)} moves this body by {rounded(moved)}"
        for command, moved in zip(plane.commands, move(task), strict=True)
    ]
    return Chosen(meta_seed, seed, mine, cells, commands, truth, headings)


def of_a_run(study: Study) -> Figure | None:
    """Draws maps of a body and its online episodes, before and after adaptation.

    None for a domain without a plane or a workdir without a run.
    """
    body = chosen_body(study)
    if body is None:
        return None
    settings, system, cells = study.configuration, study.system, body.cells
    estimate = _estimate(system, cells, body.commands)
    found = [truth_row(body)]
    for name, run in body.runs.items():
        its = study._replace(meta_seed=body.meta_seed)
        before = finished_prior(its, METHODS[name].prior)
        if before is not None:
            title = f"{name} before adaptation"
            values = estimate(before.params[0])
            found.append(compared(title, values, body.truth, cells))
        after = f"{name} after adaptation"
        after = compared(after, estimate(run.critic), body.truth, cells)
        found.append(after._replace(paths=_first_and_last(run.paths)))
    alone = [
        f"{name} has no prior. "
        for name in body.runs
        if METHODS[name].prior == "scratch"
    ]
    paths = f"online episodes (left first {EPISODES}, right last {EPISODES})"
    words = body.words(settings, paths, "".join(alone) + WHY)
    plane, threshold = system.domain.spec.plane, settings.recovery.risk_threshold
    return maps.figure(words, found, plane, threshold)


def of_test_bodies(study: Study, asked: Asked) -> Figure | None:
    """Draws maps of a few test bodies to which each method is adapted.

    None for a domain without a plane.
    """
    settings, system = study.configuration, study.system
    plane = system.domain.spec.plane
    if plane is None:
        return None
    bodies = load_test_bodies(study, asked.seeds[:BODIES])
    command, cells = jnp.array(plane.commands[:1]), risk_map.grid(plane, CELLS)
    tasks = [
        jax.tree.map(lambda x: x[i], bodies.tasks)  # noqa: B023
        for i in range(len(bodies.seeds))
    ]
    truths = [
        _truth(system, key, task, cells, command)
        for key, task in zip(bodies.keys(Stage.REPORT), tasks, strict=True)
    ]
    truth = np.concatenate(truths, axis=1)
    found = [RiskMap("truth", cells.image(truth.mean(0)))]
    for method in asked.methods:
        mine = study.of(method)
        critics = adapted(mine, (method,), load_test_bodies(mine, bodies.seeds))[
            method
        ][0]
        one = _estimate(mine.system, cells, command)
        values = jax.jit(jax.vmap(lambda critic: one(critic)[0]))(critics)  # noqa: B023
        found.append(compared(method, values, truth, cells))
    told = "; ".join(
        f"seed {seed}: {described(task)}"
        for seed, task in zip(bodies.seeds, tasks, strict=True)
    )
    words = Words(
        title=f"Risk on new bodies: {settings.domain}, {settings.tasks} bodies",
        subtitle=f"Risk of the command {_command(plane.commands[0])}, each method "
        f"adapted on {settings.data.adaptation} transitions",
        headings=[
            f"seed {seed}: it moves by "
            + rounded(risk_map.moves(system.domain, command, task)[0])
            for seed, task in zip(bodies.seeds, tasks, strict=True)
        ],
        paths="",
        notes=_notes(f"Bodies of {told}."),
    )
    return maps.figure(words, found, plane, settings.recovery.risk_threshold)


def choose(runs: Runs, along: Callable[[Task], float]) -> tuple[int, int]:
    """Returns the lowest seed whose body moves against the command, or the lowest.

    What was learned on other bodies misleads most there. Seeds that fewer methods ran
    are left out.

    Args:
      along: (task) -> mean move along the first command.
    """
    most = max(map(len, runs.values()))
    complete = sorted(key for key in runs if len(runs[key]) == most)
    task = {key: next(iter(runs[key].values())).task for key in complete}
    return next((key for key in complete if along(task[key]) < 0), complete[0])


def _truth(
    system: System, key: Key, task: Task, cells: Grid, commands: Array
) -> np.ndarray:
    """Simulates two independent halves [2, commands, cells]."""

    @jax.jit
    def simulate(key, task):
        given = cells.states, commands, system.configuration.risk.discount, ROLLOUTS
        return risk_map.truth(key, system.domain, task, *given)

    return sharding.read(simulate(key, task))


def _estimate(system: System, cells: Grid, commands: Array) -> Callable:
    """Makes a compiled function of a critic: its risk [commands, cells]."""
    observations = jax.vmap(system.domain.observe)(cells.states)

    @jax.jit
    def estimate(critic):
        risk = lambda *asked: system.risk.estimate(critic, *asked)  # noqa: E731
        return risk_map.estimates(risk, observations, commands)

    return estimate


def truth_row(body: Chosen) -> RiskMap:
    """Returns the row of the simulator's risk."""
    return RiskMap("truth", body.cells.image(body.truth.mean(0)))


def compared(title: str, values, truth: np.ndarray, cells: Grid) -> RiskMap:
    """Returns a row of estimates [columns, cells] with their errors."""
    values = sharding.read(values)
    errors = np.asarray(risk_map.errors(values, truth, cells.free))
    return RiskMap(title, cells.image(values), errors)


def _first_and_last(paths: Sequence[Path]) -> tuple[Sequence[Path], Sequence[Path]]:
    """Returns the first and the last few, none of them twice."""
    count = min(EPISODES, (len(paths) + 1) // 2)
    return paths[:count], paths[max(count, len(paths) - EPISODES) :]


def _command(command: tuple[float, float]) -> str:
    """Returns "+y" for (0, 1) and so on."""
    axis = int(np.argmax(np.abs(command)))
    return ("-" if command[axis] < 0 else "+") + "xy"[axis]


def _notes(more: str) -> str:
    about = NOTES.format(rollouts=ROLLOUTS, noise=0.5 / ROLLOUTS**0.5)
    return " ".join((about + more).split())
