"""Minari datasets of one body (extra `minari`): episodes of T + 1 observations.

Costs are `infos/cost`, of which Minari keeps one more than steps: the reset's. Nothing
is downloaded, no environment is made, nothing is unpickled.
"""

import pathlib
import warnings
from collections.abc import Iterator

import numpy as np

from mesa_jax.bridges import needed
from mesa_jax.checked import steps_of
from mesa_jax.settings import SettingError
from mesa_jax.study import columns, imports
from mesa_jax.study.columns import Columns, Cost
from mesa_jax.study.datasets import DatasetError
from mesa_jax.study.files import DamagedFileError
from mesa_jax.study.imports import Imported
from mesa_jax.types import Transition

EXTRA = "minari"
SPACES = ("observation_space", "action_space")


def load(
    name: str,
    cost: Cost = None,
    action_range: tuple[float, float] | None = None,
) -> Imported:
    """Returns the transitions of a dataset.

    Args:
      name: as in `read`.
      cost, action_range: as in `study.imports.to_transitions`.

    Raises:
      DatasetError, DamagedFileError, MissingExtraError: as `read` does, or naming the
        column that is no transition's.
    """
    return imports.to_transitions(f"minari:{name}", read(name), cost, action_range)


def save(name: str, transitions: Transition) -> None:
    """Writes transitions as a new dataset of Minari's folder.

    Args:
      name: that Minari gives it, as "bodies/weak-v0".
      transitions: [n, ...] in the order they were made.

    Raises:
      DatasetError: if it is no name, or there is one.
      MissingExtraError: where Minari is not installed.
    """
    minari = needed("minari", EXTRA)
    box = needed("gymnasium", EXTRA).spaces.Box
    episodes = [
        minari.data_collector.EpisodeBuffer(**one, infos={"cost": cost})
        for one, cost in _episodes(columns.from_transitions(transitions))
    ]
    sizes = transitions.observation.shape[1:], transitions.action.shape[1:]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # on authors and the like
            minari.create_dataset_from_buffers(
                name,
                episodes,
                observation_space=box(-np.inf, np.inf, sizes[0], np.float32),
                action_space=box(-1.0, 1.0, sizes[1], np.float32),
            )
    except ValueError as error:
        raise DatasetError(f"minari:{name} is not written: {error}") from None


def read(name: str) -> Columns:
    """Returns the columns of a dataset; entries of a dictionary are joined.

    Args:
      name: of a dataset in Minari's folder, or the path of another's.

    Raises:
      DatasetError: if there is none, or it would take its environment to read it.
      DamagedFileError: naming it, if it can not be read.
      MissingExtraError: where Minari is not installed.
    """
    minari = needed("minari", EXTRA)
    folder = pathlib.Path(name)
    if not (folder / "data").is_dir():
        folder = needed("minari.storage", EXTRA).get_dataset_path(name)
    if not (folder / "data").is_dir():
        raise DatasetError(
            f"There is no Minari dataset {name} in {folder}: minari download {name}"
        )
    try:
        dataset = minari.MinariDataset(_with_spaces(minari, folder / "data"))
        parts = [
            steps_of(f"episode {episode.id} of {folder}", episode)
            for episode in dataset.iterate_episodes()
        ]
    except DatasetError:
        raise
    except SettingError as error:
        raise DatasetError(str(error)) from None
    except (OSError, RuntimeError, ValueError, KeyError, AssertionError) as error:
        raise DamagedFileError(f"{folder} is damaged: {error}.") from None
    if not parts:
        raise DatasetError(f"{folder} holds no episode.")
    names = [name for name in parts[0] if all(name in part for part in parts)]
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def _with_spaces(minari, place: pathlib.Path) -> pathlib.Path:
    """Returns the place of a dataset that says its spaces: others make environments."""
    storage = minari.dataset.minari_storage.MinariStorage
    lacks = [name for name in SPACES if name not in storage.read_raw_metadata(place)]
    if lacks:
        raise DatasetError(
            f"{place} lacks {' and '.join(lacks)}; Minari would run the environment's "
            "code to find them. Save the dataset anew with them."
        )
    return place


def _episodes(held: Columns) -> Iterator[tuple[dict, np.ndarray]]:
    """Yields what Minari keeps of an episode of T steps, and costs [T + 1]."""
    ends = np.flatnonzero(held["terminals"] | held["timeouts"]) + 1
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        rows = {name: values[start:end] for name, values in held.items()}
        last = rows["next_observations"][-1:]
        one = {
            "observations": np.concatenate([rows["observations"], last]),
            "actions": rows["actions"],
            "rewards": rows["rewards"],
            "terminations": rows["terminals"],
            "truncations": rows["timeouts"],
        }
        yield one, np.concatenate([np.zeros(1, np.float32), rows["costs"]])
