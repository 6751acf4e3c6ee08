"""DOMAINS: every domain by name. A new one is one file and one line here.

One from outside the package has the name "module:maker" (`outside`), and one of which
there are only transitions that of its sizes (`recorded`).
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

from mesa_jax.domains import (
    ant,
    cartpole,
    half_cheetah,
    navigation,
    outside,
    recorded,
)
from mesa_jax.domains.base import PhysicsConfig
from mesa_jax.domains.brax_engine import BASIC_STEP
from mesa_jax.domains.contract import require_contract
from mesa_jax.domains.point_bodies import DISTRIBUTIONS
from mesa_jax.domains.pole import TIME_STEP
from mesa_jax.settings import SettingError, known
from mesa_jax.types import Domain


class DomainEntry(NamedTuple):
    """Says how to make a domain, and by which distributions bodies are drawn."""

    make: Callable[[str, PhysicsConfig], Domain]
    task_distributions: tuple[str, ...]
    seconds: float | None = 1.0  # of a basic step of the physics; navigation counts in
    # steps; None: the spec says it of a control step
    physics: PhysicsConfig = PhysicsConfig()  # where nobody and no rule asks


DOMAINS = {
    "navigation1": DomainEntry(navigation.navigation1, tuple(DISTRIBUTIONS)),
    "navigation2": DomainEntry(navigation.navigation2, tuple(DISTRIBUTIONS)),
    "cartpole_length": DomainEntry(
        cartpole.cartpole, tuple(cartpole.DISTRIBUTIONS), TIME_STEP
    ),
    "halfcheetah_disabled": DomainEntry(
        half_cheetah.half_cheetah, tuple(half_cheetah.DISTRIBUTIONS), BASIC_STEP
    ),
    "ant_disabled": DomainEntry(ant.ant, tuple(ant.DISTRIBUTIONS), BASIC_STEP),
}


def entry_of(name: str) -> DomainEntry:
    """Returns the entry of a domain: of DOMAINS, of a module, or of recorded bodies.

    The last one's name has their sizes, as in "recorded-17x6": 17 observations, 6
    actions.

    Raises:
      SettingError: naming the known ones, or what a module lacks.
    """
    if recorded.sizes_of(name):
        return DomainEntry(functools.partial(recorded.of_name, name), (recorded.TASKS,))
    if outside.is_outside(name):
        found = outside.find(name)
        make = functools.partial(_from_outside, found)
        return DomainEntry(make, (found.tasks,), None, found.physics)
    return DOMAINS[known("domain", name, (*DOMAINS, outside.FORM))]


def full_name(name: str) -> str:
    """Returns the name that says what a domain is: a module's has its source's hash."""
    return outside.find(name).name if outside.is_outside(name) else name


def require_tasks(name: str, tasks: str) -> None:
    """Raises SettingError unless a domain has the distribution of bodies.

    A maker from outside refuses what it does not know by itself.
    """
    if not outside.is_outside(name):
        known("tasks", tasks, entry_of(name).task_distributions)


@functools.lru_cache(maxsize=32)
def _from_outside(found: outside.Outside, tasks: str, physics: PhysicsConfig) -> Domain:
    made = require_contract(found.name, found.make(tasks, physics))
    if made.spec.horizon != physics.horizon:
        allowed = f"{made.spec.horizon}, or the maker's spec to take physics.horizon"
        raise SettingError("horizon", physics.horizon, allowed)
    return made._replace(spec=made.spec._replace(name=found.name))
