"""DOMAINS: every domain by name. A new one is one file and one line here.

One from outside the package has the name "module:maker" (`outside`).
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

from mesa_jax.domains import ant, cartpole, half_cheetah, navigation, outside
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


def full_name(domain: str) -> str:
    """Returns the name that says what a domain is: a module's with its source's hash.

    Raises:
      SettingError: where no domain has the name.
    """
    if outside.is_outside(domain):
        return outside.find(domain).name
    return known("domain", domain, (*DOMAINS, outside.FORM))


def default_physics(domain: str) -> PhysicsConfig:
    """Returns the physics that a domain has where nothing and no rule asks."""
    if outside.is_outside(domain):
        return outside.find(domain).physics
    return PhysicsConfig()


def require_tasks(domain: str, tasks: str) -> None:
    """Raises SettingError unless a domain of ours has the distribution of bodies.

    One from outside refuses what it does not know when it is made.
    """
    if domain in DOMAINS:
        known("tasks", tasks, DOMAINS[domain].task_distributions)


def make(domain: str, tasks: str, physics: PhysicsConfig) -> Domain:
    """Makes a domain by its name.

    Raises:
      SettingError: on what it does not have, or if one from outside does not keep the
        contract.
    """
    if outside.is_outside(domain):
        return _from_outside(full_name(domain), tasks, physics)
    return DOMAINS[domain].make(tasks, physics)


@functools.lru_cache(maxsize=32)
def _from_outside(domain: str, tasks: str, physics: PhysicsConfig) -> Domain:
    made = require_contract(domain, outside.find(domain).make(tasks, physics))
    if made.spec.horizon != physics.horizon:
        allowed = (
            f"{made.spec.horizon}, the horizon of the spec that {domain} makes; or let "
            "its maker take physics.horizon"
        )
        raise SettingError("horizon", physics.horizon, allowed)
    return made._replace(spec=made.spec._replace(name=domain))


def seconds_of_step(domain: str, tasks: str, physics: PhysicsConfig) -> float:
    """Returns how long a control step of a domain takes, in s."""
    if domain in DOMAINS:
        return DOMAINS[domain].seconds * physics.frame_skip
    return make(domain, tasks, physics).spec.seconds
