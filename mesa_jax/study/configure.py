"""A method's configuration from names: what `mesa_jax.configure` returns."""

from mesa_jax.configuration import Configuration
from mesa_jax.filter import METHOD
from mesa_jax.methods import METHODS
from mesa_jax.settings import known
from mesa_jax.study import resolve


def configure(
    domain: str, tasks: str = "published", preset: str = "quick", method: str = METHOD
) -> Configuration:
    """Returns the configuration of a preset that a method runs under.

    Change fields of it with `Configuration.override`.

    Args:
      domain: a name in `DOMAINS`, or "module:maker" of your own ("__main__:maker" in
        a script or a notebook).
      tasks: one of the domain's distributions of bodies.
      preset: "quick", "paper" and so on: how much is trained.
      method: a row of `METHODS`; its own settings are among the configuration's.

    Raises:
      SettingError: on an unknown name, naming the nearest, or where there is no such
        module or maker.
    """
    known("method", method, METHODS)
    return resolve.resolve(domain, tasks, preset, method=method)
