"""What bodies move by, and how finely: the settings that every domain's maker takes."""

import dataclasses

from mesa_jax.settings import SettingError, setting, validate

CLOSED_FORM = "closed_form"
BRAX = ("spring", "mjx", "positional", "generalized")


@dataclasses.dataclass(frozen=True)
class PhysicsConfig:
    """Simulation of a domain; each domain and preset has its own defaults."""

    backend: str = setting(
        CLOSED_FORM,
        "a domain's own equations, or a Brax pipeline",
        choices=(CLOSED_FORM, *BRAX),
        flag="backend",
    )
    frame_skip: int = setting(
        1,
        "basic steps of the physics that an action is held for (cart-pole 0.02 s, "
        "half-cheetah and ant 0.01 s)",
        "[1, 1_000]",
        flag="frame_skip",
    )
    horizon: int = setting(
        100, "control steps of an episode, a time limit", "[1, 100_000]", flag="horizon"
    )

    def __post_init__(self):
        validate(self)


def require_backend(physics: PhysicsConfig, known: tuple[str, ...]) -> None:
    """Raises SettingError unless a domain has the backend."""
    if physics.backend not in known:
        allowed = "one of " + ", ".join(known) + " in this domain"
        raise SettingError("backend", physics.backend, allowed)
