"""Recorded bodies: transitions of them are on file, and there is no simulator.

Such a domain is its spec. Whoever asks it to move a body gets a `NoSimulatorError`.
"""

import functools
import re
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from mesa_jax.domains.base import (
    CLOSED_FORM,
    PhysicsConfig,
    distribution_of,
    require_backend,
    uniform_policy,
)
from mesa_jax.errors import UserError
from mesa_jax.settings import SettingError
from mesa_jax.types import Array, Domain, DomainSpec

TASKS = "files"  # the one distribution of bodies: those that are on file
RECORDED = "recorded"  # what launches call it before the files are read
NAME = re.compile(r"recorded-([1-9]\d{0,5})x([1-9]\d{0,5})", re.ASCII)


class NoSimulatorError(UserError, ValueError):
    """Says that a simulator is asked for where there are only transitions."""


class Recorded(NamedTuple):
    """Names a body; what differs between bodies is not known."""

    body: Array  # [] int32, its number


def recorded(spec: DomainSpec, reference_policy: Callable | None = None) -> Domain:
    """Makes a domain without a simulator.

    Its bodies are numbers, counted from 0. All that takes transitions works:
    meta-training, adaptation, calibration on held-out transitions.

    Args:
      spec: name, observation size and action size at least.
      reference_policy: whose risk offline targets are; None: uniform actions.
    """

    def absent(what, *arguments):
        del arguments
        raise NoSimulatorError(
            f"{spec.name} is recorded and has no simulator: nothing can {what}. "
            "Meta-training, adaptation and calibration take its transitions; runs and "
            "the truth take a domain that steps."
        )

    def number(key, count):
        del key
        return Recorded(jnp.arange(count, dtype=jnp.int32))

    return Domain(
        spec=spec._replace(has_success=False, simulated=False),
        train_tasks=number,
        test_tasks=number,
        reset=functools.partial(absent, "start an episode"),
        observe=functools.partial(absent, "observe a state"),
        step=functools.partial(absent, "step a body"),
        success=functools.partial(absent, "judge an episode"),
        solvable=functools.partial(absent, "judge a body"),
        reference_policy=reference_policy or uniform_policy(spec.action_size),
        episode=None,
        decision_states=functools.partial(absent, "draw decision states"),
    )


def name_of(observation_size: int, action_size: int) -> str:
    """Returns the name of the recorded domain of these sizes, as "recorded-17x6"."""
    return f"recorded-{observation_size}x{action_size}"


def sizes_of(name: str) -> tuple[int, int] | None:
    """Returns the sizes that a recorded domain's name says; None: it is another's."""
    found = NAME.fullmatch(name)
    return (int(found[1]), int(found[2])) if found else None


def of_name(name: str, tasks: str, physics: PhysicsConfig) -> Domain:
    """Makes the recorded domain of a name.

    Args:
      tasks: "files".
      physics: only its horizon may differ from the default.

    Raises:
      SettingError: on another name, task distribution, backend or frame skip.
    """
    sizes = sizes_of(name)
    if sizes is None:
        raise SettingError("domain", name, "recorded-DxA, of observation and action")
    distribution_of(tasks, {TASKS: None})
    require_backend(physics, (CLOSED_FORM,))
    if physics.frame_skip != 1:
        raise SettingError("frame_skip", physics.frame_skip, "1 in this domain")
    return recorded(DomainSpec(name, *sizes, horizon=physics.horizon))
