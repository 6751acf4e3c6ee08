"""Risk maps after several numbers of adaptation steps, for a page's slider."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from mesa_jax import adaptation
from mesa_jax.keys import root_key
from mesa_jax.methods import METHODS
from mesa_jax.report import maps
from mesa_jax.study.artifacts.data import Bodies
from mesa_jax.study.artifacts.priors import Source, finished_prior
from mesa_jax.study.artifacts.truth import Truth
from mesa_jax.study.evaluation import estimates
from mesa_jax.study.study import Study

from .risk_maps import Chosen, chosen_body, compared, truth_row

SHOWN = (0, 1, 2, 3, 5, 10, 30, 100, 300, 1000, 3000, 10_000)  # steps, up to the most
NOTES = "Each method stops at its own number of steps."


class Steps(NamedTuple):
    """Holds risks of one method by number of steps."""

    own: int  # with which its online runs began
    risks: dict[int, np.ndarray]  # [columns, cells]


def over_steps(study: Study) -> dict[int, Figure]:
    """Draws maps of a body by number of adaptation steps; none without a plane or run.

    The body is that of `risk_maps.of_a_run`, and what it is adapted on is what its runs
    hold. A method whose prior is not there has no row.
    """
    body = chosen_body(study)
    found = methods_of(study, body) if body else {}
    if not found:
        return {}
    settings, plane = study.configuration, study.system.domain.spec.plane
    words = body.words(settings, "", NOTES)
    figures = {}
    for count in positions(max(one.own for one in found.values())):
        rows = [truth_row(body)]
        for name, one in found.items():
            taken = min(count, one.own)
            title = f"{name}, {taken} of {one.own} steps"
            rows.append(compared(title, one.risks[taken], body.truth, body.cells))
        threshold = settings.recovery.risk_threshold
        figures[count] = maps.figure(words, rows, plane, threshold)
    return figures


def positions(most: int) -> list[int]:
    """Returns the numbers of steps that a slider stops at."""
    return sorted({count for count in SHOWN if count < most} | {most})


def methods_of(study: Study, body: Chosen) -> dict[str, Steps]:
    """Adapts each method to a body, with the steps that are shown of it."""
    found = {}
    for name, run in body.runs.items():
        mine, row = study.of(name)._replace(meta_seed=body.meta_seed), METHODS[name]
        prior = finished_prior(mine, row.prior)
        if prior is None and row.prior != "scratch":
            continue
        own = int(adaptation.steps(adaptation.config_of(mine.configuration, row)))
        one = lambda tree: jax.tree.map(lambda x: jnp.asarray(x)[None], tree)  # noqa: E731
        roots = root_key(body.seed)[None]
        bodies = Bodies((body.seed,), roots, one(run.task), one(run.adaptation))
        observations, actions = _asked(study, body)
        asked = Truth(observations, actions, np.zeros((1, 2, actions.shape[1])))
        steps, source = positions(own), Source(prior, None, body.meta_seed)
        values = estimates(mine.system, name, source, bodies, asked, tuple(steps))
        values = values.reshape(len(steps), *body.truth.shape[1:])
        found[name] = Steps(own, dict(zip(steps, values, strict=True)))
    return found


def _asked(study: Study, body: Chosen) -> tuple[np.ndarray, np.ndarray]:
    """Every command in every cell: observations [1, N, D] and actions [1, N, A]."""
    seen = np.asarray(jax.vmap(study.system.domain.observe)(body.cells.states))
    columns = len(body.commands)
    observations = np.tile(seen, (columns, 1))[None]
    actions = np.repeat(np.asarray(body.commands), len(seen), axis=0)[None]
    return observations, actions
