"""DOMAINS: every domain by name. A new one is one file and one line here."""

import functools
from collections.abc import Callable
from typing import NamedTuple

from mesa_jax.domains import ant, cartpole, half_cheetah, navigation, recorded
from mesa_jax.domains.base import PhysicsConfig
from mesa_jax.domains.brax_engine import BASIC_STEP
from mesa_jax.domains.point_bodies import DISTRIBUTIONS
from mesa_jax.domains.pole import TIME_STEP
from mesa_jax.settings import known
from mesa_jax.types import Domain


class DomainEntry(NamedTuple):
    """Says how to make a domain, and by which distributions bodies are drawn."""

    make: Callable[[str, PhysicsConfig], Domain]
    task_distributions: tuple[str, ...]
    seconds: float = 1.0  # of a basic step of the physics; navigation counts in steps


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
    """Returns the entry of a domain: one of DOMAINS, or that of recorded bodies.

    The latter's name has their sizes, as in "recorded-17x6": 17 observations, 6
    actions.

    Raises:
      SettingError: naming the known ones.
    """
    if recorded.sizes_of(name):
        return DomainEntry(functools.partial(recorded.of_name, name), (recorded.TASKS,))
    return DOMAINS[known("domain", name, DOMAINS)]
