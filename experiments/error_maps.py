"""Risk maps of a few test bodies, each method adapted, beside the simulator's truth."""

import textwrap

import jax
import jax.numpy as jnp
import numpy as np

from mesa_jax.keys import Stage
from mesa_jax.report import maps as report_maps
from mesa_jax.report.maps import Figure, RiskMap, Words
from mesa_jax.report.words import described, rounded
from mesa_jax.study.artifacts.adapted import adapted
from mesa_jax.study.artifacts.data import test_bodies
from mesa_jax.study.study import Study

from .risk_maps import (
    ROLLOUTS,
    command_name,
    errors_on_grid,
    estimates,
    grid,
    image,
    moves,
    truth_on_grid,
)

SHOWN = 3  # bodies, side by side


def _estimated(study: Study, method: str, seeds, states, command) -> np.ndarray:
    """[bodies, cells] what an adapted method says of a command."""
    system, bodies = study.system, test_bodies(study, seeds)
    critics = adapted(study, (method,), bodies)[method][0]
    one = jax.vmap(lambda critic: estimates(system, critic, states, command)[0])
    return np.asarray(jax.jit(one)(critics))


def risk_maps(study: Study, methods: tuple[str, ...], seeds) -> Figure | None:
    """The figure, or None for a domain without a plane."""
    settings, built, seeds = study.configuration, study.system, seeds[:SHOWN]
    plane = built.domain.spec.plane
    if plane is None:
        return None
    bodies = test_bodies(study, seeds)
    command = jnp.array(plane.commands[:1])
    states, free = grid(plane)
    keys = bodies.keys(Stage.REPORT)
    tasks = [
        jax.tree.map(lambda x: x[i], bodies.tasks)  # noqa: B023
        for i in range(len(bodies.seeds))
    ]
    truth = np.concatenate(
        [
            truth_on_grid(built, settings, key, task, states, command)
            for key, task in zip(keys, tasks, strict=True)
        ],
        axis=1,
    )
    maps = [RiskMap("truth", image(truth.mean(0)))]
    for method in methods:
        values = _estimated(study.of(method), method, seeds, states, command)
        errors = errors_on_grid(values, truth, free)
        maps.append(RiskMap(method, image(values), errors))
    described_tasks = "; ".join(
        f"seed {seed}: {described(task)}"
        for seed, task in zip(bodies.seeds, tasks, strict=True)
    )
    name = command_name(plane.commands[0])
    notes = f"""Above the risk threshold the recovery policy acts. Error: squared, to
        the truth without its noise, over the cells outside obstacles. Truth: mean of
        {ROLLOUTS} simulations of the command, then the reference policy; its standard
        error is at most {0.5 / ROLLOUTS**0.5:.3f}. Bodies of {described_tasks}."""
    words = Words(
        title=f"Risk on new bodies: {settings.domain}, {settings.tasks} bodies",
        subtitle=f"Risk of the command {name}, each method adapted on "
        f"{settings.data.adaptation} transitions",
        headings=[
            f"seed {seed}: it moves by {rounded(moves(built, command, task)[0])}"
            for seed, task in zip(bodies.seeds, tasks, strict=True)
        ],
        paths="",
        notes=textwrap.fill(" ".join(notes.split()), 115),
    )
    threshold = settings.recovery.risk_threshold
    return report_maps.risk_maps(words, maps, plane, threshold)
