"""What a launch works on: a folder, a configuration, methods and seeds."""

import pathlib
from typing import NamedTuple

from mesa_jax.configuration import Configuration
from mesa_jax.study import resolve


class Launch(NamedTuple):
    """A checked command line."""

    workdir: pathlib.Path
    settings: Configuration
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    meta_seed: int
    save_replay: bool = False  # of online runs, as datasets

    def of(self, method: str) -> "Launch":
        """The launch as it is for a method, with its own settings."""
        return self._replace(settings=resolve.of_method(self.settings, method))
