"""Batches: which online runs of a workdir are one compiled program."""

import hashlib
import itertools
import json
import pathlib
from typing import Any, NamedTuple

from mesa_jax import configuration
from mesa_jax.methods import METHODS, program_of
from mesa_jax.study import files, resolve


class Run(NamedTuple):
    """Describes one row of a batch."""

    method: str
    seed: int
    threshold: float | None  # epsilon_risk, or None for the configuration's


class Batch(NamedTuple):
    """Runs that are one compiled program: methods x seeds x thresholds, in this order.

    The methods have the same settings (`program_of`) but for the risk's horizon and
    threshold, which are data. Without thresholds every method has its own.
    """

    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    meta_seed: int
    thresholds: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        """Names the batch."""
        text = json.dumps(self, sort_keys=True)
        return "online-" + hashlib.sha256(text.encode()).hexdigest()[:8]

    def manifest(self, workdir: pathlib.Path) -> pathlib.Path:
        """Returns the file that says what the batch is."""
        return workdir / "online" / f"{self.name}.json"

    def write(self, workdir: pathlib.Path, finished: bool) -> None:
        """Notes in the workdir that the batch is begun, or finished."""
        files.write_json(
            self.manifest(workdir), self._asdict() | {"finished": finished}
        )

    def checkpoints(self, workdir: pathlib.Path) -> pathlib.Path:
        """Returns the folder of the runs' states."""
        return workdir / "checkpoints" / self.name

    def adapted(self, workdir: pathlib.Path) -> pathlib.Path:
        """Returns the folder of what the runs start from."""
        return workdir / "checkpoints" / f"adapted-{self.name}"

    def made_by(self, settings: configuration.Configuration) -> dict[str, Any]:
        """Returns all that its checkpoints depend on: runs, and settings by flag.

        Args:
          settings: what no method has otherwise.
        """
        first, *others = (resolve.of_method(settings, name) for name in self.methods)
        mine = configuration.to_json(first)
        found = {
            f"--{name}": mine[name]
            for name in mine
            if name not in configuration.SECTIONS
        }
        for section in configuration.SECTIONS:
            for name, value in mine[section].items():
                found[f"--{configuration.flag_of(section, name)}"] = value
        for name, other in zip(self.methods[1:], others, strict=True):
            for flag, _, value in configuration.differences(first, other):
                found[f"--{flag} of {name}"] = value
        return found | {f"--{name}": value for name, value in self._asdict().items()}

    def runs(self) -> list[Run]:
        """Lists the runs of the batch."""
        thresholds = self.thresholds or (None,)
        return [
            Run(*row) for row in itertools.product(self.methods, self.seeds, thresholds)
        ]


def stored(workdir: pathlib.Path) -> list[tuple[Batch, bool]]:
    """Lists every batch that a workdir holds, and whether it is finished."""
    return [_read(path) for path in sorted((workdir / "online").glob("online-*.json"))]


def _read(path: pathlib.Path) -> tuple[Batch, bool]:
    why = "it is no list of runs"
    try:
        record = files.read_json(path)
        fields = {k: tuple(v) if isinstance(v, list) else v for k, v in record.items()}
        finished, batch = fields.pop("finished"), Batch(**fields)
        if unknown := [name for name in batch.methods if name not in METHODS]:
            why = f"there is no method {unknown[0]!r}"
        elif batch.name == path.stem and isinstance(finished, bool):
            return batch, finished
        else:
            why = "its runs are not those of its name"
    except files.DamagedFileError:
        why = "it is no JSON"
    except (AttributeError, KeyError, TypeError):
        pass
    raise files.DamagedFileError(
        f"{path} is damaged: {why}. Delete it: the command that began its runs goes on "
        "from their checkpoints."
    )


def to_run(
    workdir: pathlib.Path,
    methods: tuple[str, ...],
    seeds: tuple[int, ...],
    meta_seed: int,
) -> list[Batch]:
    """Lists what is still to be run: begun batches first, then missing runs."""
    asked = set(Batch(methods, seeds, meta_seed).runs())
    mine = [
        (batch, done)
        for batch, done in stored(workdir)
        if batch.meta_seed == meta_seed and not batch.thresholds
    ]
    begun = [b for b, done in mine if not done and asked & set(b.runs())]
    taken = {run for batch, _ in mine for run in batch.runs()}
    missing: dict[tuple, list[str]] = {}  # by seeds and program
    for method in methods:
        absent = tuple(seed for seed in seeds if Run(method, seed, None) not in taken)
        if absent:
            missing.setdefault((absent, program_of(method)), []).append(method)
    return begun + [
        Batch(tuple(those), absent, meta_seed) for (absent, _), those in missing.items()
    ]
