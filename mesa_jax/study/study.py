"""A study: a folder, the configuration that its numbers come from, and a meta-seed."""

import pathlib
from typing import NamedTuple

from mesa_jax.configuration import Configuration
from mesa_jax.study import resolve
from mesa_jax.system import System, build


class Study(NamedTuple):
    """Says what artifacts are fetched from, and what they are made by."""

    folder: pathlib.Path
    common: Configuration  # what no method has otherwise
    meta_seed: int = 0  # of training bodies, datasets and priors
    method: str | None = None  # whose own settings hold; None: nobody's

    @property
    def configuration(self) -> Configuration:
        """Returns what numbers come from."""
        if self.method is None:
            return self.common
        return resolve.of_method(self.common, self.method)

    @property
    def system(self) -> System:
        """Returns the functions of the configuration; built once."""
        return build(self.configuration)

    def of(self, method: str) -> "Study":
        """Returns the study as it is for a method, with its own settings."""
        return self._replace(method=method)


class Asked(NamedTuple):
    """Says what a launch was asked for."""

    methods: tuple[str, ...]
    seeds: tuple[int, ...]  # of test bodies
    save_replay: bool = False  # of online runs, as datasets
    plan: bool = False  # only what would be made
