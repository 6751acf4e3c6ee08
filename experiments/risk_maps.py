"""Risk maps of one test body: the simulator's truth, and each method's estimate."""

import textwrap
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from mesa_jax import evaluation
from mesa_jax.configuration import Configuration
from mesa_jax.keys import Stage, stage_key
from mesa_jax.methods import METHODS
from mesa_jax.report import maps as report_maps
from mesa_jax.report.maps import Figure, Path, RiskMap, Words
from mesa_jax.report.words import described, rounded
from mesa_jax.study.artifacts.priors import finished_prior
from mesa_jax.study.episodes import Shown, shown_runs
from mesa_jax.study.study import Study
from mesa_jax.system import System
from mesa_jax.types import Array, Params, Plane, Task

CELLS = (66, 13)  # in x and y
ROLLOUTS = 128  # of the truth, a cell
MOVES = 64  # simulated to say which way a command moves a body
EPISODES = 3  # drawn of the first and of the last ones

Runs = dict[tuple[int, int], dict[str, Shown]]  # by (meta-seed, seed) and method


def risk_maps(study: Study) -> Figure | None:
    """The figure, or None for a domain without a plane or a study without a run."""
    settings, built = study.configuration, study.system
    plane = built.domain.spec.plane
    runs = shown_runs(study) if plane else {}
    if not runs:
        return None
    commands = jnp.array(plane.commands)
    move = jax.jit(lambda task: moves(built, commands, task))
    meta_seed, seed = chosen = choose(
        runs, lambda task: float(move(task)[0] @ commands[0])
    )
    mine = {name: runs[chosen][name] for name in METHODS if name in runs[chosen]}
    task = next(iter(mine.values())).task

    states, free = grid(plane)
    truth = truth_on_grid(
        built, settings, stage_key(seed, Stage.REPORT), task, states, commands
    )
    estimate = jax.jit(lambda critic: estimates(built, critic, states, commands))

    def compared(title, critic):
        values = np.asarray(estimate(critic))
        return RiskMap(title, image(values), errors_on_grid(values, truth, free))

    maps = [RiskMap(f"truth (mean of {ROLLOUTS} simulations)", image(truth.mean(0)))]
    for name, run in mine.items():
        before = finished_prior(study._replace(meta_seed=meta_seed), _kind(name))
        if before is not None:
            critic = before.params[0]
            maps.append(compared(f"{name} before adaptation", critic))
        after = compared(f"{name} after adaptation", run.critic)
        maps.append(after._replace(paths=_first_and_last(run.paths)))
    words = _words(built, settings, seed, task, move(task), list(mine))
    threshold = settings.recovery.risk_threshold
    return report_maps.risk_maps(words, maps, plane, threshold)


def choose(runs: Runs, along: Callable[[Task], float]) -> tuple[int, int]:
    """The lowest seed whose body moves against the first command, else the lowest.

    What was learned on other bodies misleads most there. Seeds that fewer methods ran
    are left out.

    Args:
      along: (task) -> mean move along the first command.
    """
    most = max(map(len, runs.values()))
    complete = sorted(key for key in runs if len(runs[key]) == most)
    task = {key: next(iter(runs[key].values())).task for key in complete}
    return next((key for key in complete if along(task[key]) < 0), complete[0])


def _first_and_last(paths: Sequence[Path]) -> tuple[Sequence[Path], Sequence[Path]]:
    """The first and the last few, none of them twice."""
    count = min(EPISODES, (len(paths) + 1) // 2)
    return paths[:count], paths[max(count, len(paths) - EPISODES) :]


def grid(plane: Plane) -> tuple[Array, np.ndarray]:
    """Centres [cells, 2] of the region, and which of them lie outside obstacles."""
    x0, x1, y0, y1 = plane.region
    axes = (
        low + (high - low) * (np.arange(count) + 0.5) / count
        for (low, high), count in zip(((x0, x1), (y0, y1)), CELLS, strict=True)
    )
    x, y = (values.ravel() for values in np.meshgrid(*axes))
    hits = [(a <= x) & (x <= b) & (c <= y) & (y <= d) for a, b, c, d in plane.obstacles]
    return jnp.asarray(np.stack([x, y], 1), jnp.float32), ~np.any(hits, axis=0)


def truth_on_grid(
    built: System, settings: Configuration, key, task, states, commands
) -> np.ndarray:
    """Two independent halves [2, commands, cells] by simulation."""

    def one(key, command):
        actions = jnp.broadcast_to(command, (len(states), len(command)))
        asked = evaluation.DecisionSet(states, actions)
        discount = settings.risk.discount
        return evaluation.true_risk(key, built.domain, task, asked, discount, ROLLOUTS)

    keys = jax.random.split(key, len(commands))
    return np.asarray(jax.jit(jax.vmap(one, out_axes=1))(keys, commands))


def errors_on_grid(values: np.ndarray, halves: np.ndarray, free) -> np.ndarray:
    """Squared errors [K] of [K, cells] over free cells, without the truth's noise."""
    over = jax.vmap(evaluation.squared_error, (0, 1))
    return np.asarray(over(jnp.asarray(values[:, free]), halves[:, :, free]))


def estimates(built: System, critic: Params, states: Array, commands: Array) -> Array:
    """[commands, cells] of a critic."""
    observations = jax.vmap(built.domain.observe)(states)

    def of_command(command):
        actions = jnp.broadcast_to(command, (len(states), len(command)))
        return built.risk.estimate(critic, observations, actions)

    return jax.vmap(of_command)(commands)


def moves(built: System, commands: Array, task: Task) -> Array:
    """Mean move [commands, 2] of a body at its start."""
    start = jnp.array(built.domain.spec.plane.start)

    def one(key, command):
        transition = built.domain.step(key, start, command, task)[1]
        return transition.next_observation - transition.observation

    keys = jax.random.split(jax.random.key(0), MOVES)
    every = jax.vmap(jax.vmap(one, (0, None)), (None, 0))
    return every(keys, commands).mean(1)


def image(values: np.ndarray) -> np.ndarray:
    return values.reshape(-1, *CELLS[::-1])


def command_name(command: tuple[float, float]) -> str:
    """ "+y" for (0, 1) and so on."""
    axis = int(np.argmax(np.abs(command)))
    return ("-" if command[axis] < 0 else "+") + "xy"[axis]


def _words(
    built: System,
    settings: Configuration,
    seed: int,
    task: Task,
    moves: Array,
    methods: Sequence[str],
) -> Words:
    alone = (f"{name} has no prior." for name in methods if _kind(name) == "scratch")
    notes = f"""Above the risk threshold the recovery policy acts. Error: squared, to
        the truth without its noise, over the cells outside obstacles. Truth: the
        command, then the reference policy; its standard error is at most
        {0.5 / ROLLOUTS**0.5:.3f}. {" ".join(alone)} The seed is the lowest whose body
        moves against the command on the left, if there is one, else the lowest."""
    commands = built.domain.spec.plane.commands
    return Words(
        title=f"Risk on a new body: {settings.domain}, {settings.tasks} bodies",
        subtitle=f"Test body of seed {seed}: {described(task)}; adapted on "
        f"{settings.data.adaptation} of its transitions",
        headings=[
            f"command {command_name(command)} moves this body by {rounded(move)}"
            for command, move in zip(commands, moves, strict=True)
        ],
        paths=f"online episodes (left first {EPISODES}, right last {EPISODES})",
        notes=textwrap.fill(" ".join(notes.split()), 115),
    )


def _kind(method: str) -> str:
    return METHODS[method].prior
