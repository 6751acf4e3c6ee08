"""A method's configuration from names: what `mesa_jax.configure` returns."""

from mesa_jax.configuration import Configuration
from mesa_jax.domains import entry_of
from mesa_jax.filter import METHOD
from mesa_jax.methods import METHODS
from mesa_jax.settings import known
from mesa_jax.study import resolve


def configure(
    domain: str,
    tasks: str | None = None,
    preset: str = "quick",
    method: str = METHOD,
) -> Configuration:
    """Returns the configuration of a preset that a method runs under.

    Change fields of it with `Configuration.override`.

    Args:
      domain: a name in `DOMAINS`; "module:maker" of your own ("__main__:maker" in a
        script or a notebook); or "recorded-DxA": transitions without a simulator, of D
        observations and A actions.
      tasks: one of the domain's distributions of bodies; None: its first.
      preset: "quick", "paper" and so on: how much is trained.
      method: a row of `METHODS`; its own settings are among the configuration's.

    Raises:
      SettingError: on an unknown name, naming the nearest, or where there is no such
        module or maker.
    """
    known("method", method, METHODS)
    tasks = tasks or entry_of(domain).task_distributions[0]
    return resolve.resolve(domain, tasks, preset, method=method)
