"""Outcomes of held-out bodies' transitions, where no simulator tells the truth."""

from typing import NamedTuple

import jax
import numpy as np

from mesa_jax import evaluation
from mesa_jax.configuration import Configuration
from mesa_jax.phases.calibration import halves
from mesa_jax.study.datasets import DatasetError
from mesa_jax.types import Transition


class Outcomes(NamedTuple):
    """Holds transitions of S bodies whose outcomes are decided; NumPy arrays."""

    observations: np.ndarray  # [S, N, D]
    actions: np.ndarray  # [S, N, A]
    risk: np.ndarray  # [S, N] the discounted violation that followed
    earlier: Transition  # [S, M, ...] those that none of them is among


def outcomes(settings: Configuration, in_order: Transition) -> Outcomes:
    """Returns outcomes of the later half of each body's transitions.

    As many are taken of each body as of the one with the fewest, evenly in time.

    Args:
      settings: the discount, the risk threshold that decides, and how many at most
        (`quality.decision_states`).
      in_order: [S, N, ...] as they were made.

    Raises:
      DatasetError: if no outcome of a body is decided.
    """
    earlier, later = halves(in_order)
    observed = lambda x: evaluation.observed_risk(x, settings.risk.discount)  # noqa: E731
    bounds = np.asarray(jax.jit(jax.vmap(observed))(later))
    threshold = settings.recovery.risk_threshold
    decided = [evaluation.dangerous_and_decided(one, threshold)[1] for one in bounds]
    known = [np.flatnonzero(one) for one in decided]
    count = min(settings.quality.decision_states, *map(len, known))
    if count == 0:
        raise DatasetError(
            f"A held-out body has no outcome that is known among its last "
            f"{later.cost.shape[1]} transitions: are they in the order in which they "
            "were made, and longer than an episode?"
        )
    at = np.stack([x[np.linspace(0, len(x) - 1, count).astype(int)] for x in known])
    each = np.arange(len(at))[:, None]
    return Outcomes(
        np.asarray(later.observation)[each, at],
        np.asarray(later.action)[each, at],
        bounds[each, 0, at],
        earlier,
    )
