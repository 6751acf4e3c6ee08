"""Transitions that nobody here made: of files, of dataset folders, of a study without a
simulator."""

import collections
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mesa_jax.checked import from_episodes
from mesa_jax.domains.recorded import Recorded, name_of
from mesa_jax.keys import Stage, stage_key
from mesa_jax.phases.calibration import calibrate_on
from mesa_jax.study import arrays, columns, datasets, files
from mesa_jax.study.artifacts.data import training_folder
from mesa_jax.study.artifacts.heldout import heldout_sets
from mesa_jax.study.datasets import Dataset, DatasetError
from mesa_jax.study.study import Study
from mesa_jax.system import System
from mesa_jax.types import DomainSpec, Prior, Transition


def read_npz(path: pathlib.Path) -> columns.Columns:
    """Returns the columns of a file in the layout of `columns`; never unpickles.

    Raises:
      DamagedFileError: naming the file, if it is no whole .npz, or pickled.
      FileNotFoundError: if there is none.
    """
    return arrays.read(path, lambda forms: None)


def save_npz(path: pathlib.Path, transitions: Transition) -> None:
    """Writes transitions [n, ...]; the file is either the old one or the new one."""
    files.write_arrays(path, columns.from_transitions(transitions))


def read_folder(folder: pathlib.Path) -> Dataset:
    """Reads a dataset folder of whatever domain, as `--save_replay` writes them.

    Raises:
      DatasetError: as `datasets.load` does.
    """
    card, path = datasets.read_card(folder), folder / datasets.ARRAYS
    try:
        forms = arrays.forms(path)
    except FileNotFoundError:
        raise DatasetError(f"{path} is missing.") from None
    entries = [
        forms[name].shape[-1] if name in forms and len(forms[name].shape) == 3 else 0
        for name in ("observation", "action")
    ]
    bodies = {
        name.removeprefix(datasets.TASK): np.empty((1, *form.shape[1:]), form.dtype)
        for name, form in forms.items()
        if name.startswith(datasets.TASK)
    }
    try:
        like = collections.namedtuple("Bodies", bodies)(**bodies)
    except ValueError as error:  # no names of fields
        raise DatasetError(f"{path} has bodies of no domain: {error}.") from None
    spec = DomainSpec(card["domain"], *entries, horizon=0)
    return datasets.load(folder, spec, like)


def transitions_of(source: Any, cost: str | None = None) -> Transition:
    """Returns transitions, whatever holds them; `adapt` and `guard` take it too.

    Args:
      source: a `Transition`, which is returned; episodes of one body, as Minari keeps
        them; or the path of a dataset's folder, as `--save_replay` writes them.
      cost: the entry of the episodes' `infos` that is the cost; None: "cost", "costs".

    Returns:
      [n, ...] of one body; [S, n, ...] where a folder holds S of them.

    Raises:
      SettingError: naming what episodes lack.
      DatasetError: if there is no dataset in the folder, or it is damaged.
    """
    if isinstance(source, Transition):
        return source
    if not isinstance(source, str | os.PathLike):
        return from_episodes(source, cost)
    rows = read_folder(pathlib.Path(source).expanduser()).rows
    return Transition(*(x[0] for x in rows)) if len(rows.cost) == 1 else rows


def save_bodies(
    folder: pathlib.Path,
    bodies: Sequence[Transition],
    about: Mapping[str, object],
) -> Dataset:
    """Writes recorded bodies, as many first transitions of each as the shortest has.

    Args:
      folder: of the dataset.
      bodies: [n, ...] of each body, whose numbers n may differ.
      about: what else the card says.

    Raises:
      DatasetError: if their sizes differ, or there is a dataset in the folder.
    """
    if (folder / datasets.CARD).exists():
        raise DatasetError(f"{folder} holds a dataset already; take another place.")
    return datasets.save(folder, *stacked(bodies), dict(about) | card_of(bodies))


def adopt(study: Study, bodies: Sequence[Transition], sources: Sequence[str]) -> None:
    """Makes recorded bodies the training data of a study, the last ones held out.

    Args:
      study: whose domain has their sizes, and whose configuration their numbers.
      bodies: [n, ...] of each body; the first `data.transitions` of each are taken.
      sources: their files, for the card.

    Raises:
      DatasetError: if the study has other training data already.
    """
    folder, config = training_folder(study), study.configuration.data
    cut = [Transition(*(x[: config.transitions] for x in one)) for one in bodies]
    made = stacked(cut)
    if (folder / datasets.CARD).exists():
        ours = arrays.content_hash(datasets.held_arrays(*made))
        if datasets.read_card(folder)["content_sha256"] != ours:
            raise DatasetError(
                f"{folder} holds other transitions than {', '.join(sources)}; use a "
                "new --workdir, or leave --data out to go on with those."
            )
        return
    about = {"sources": list(sources), "heldout_bodies": config.heldout_bodies}
    saved = datasets.save(folder, *made, about | card_of(bodies))
    shares = saved.card["violation_share_per_body"]
    print(
        f"[data] {len(bodies)} bodies x {config.transitions} transitions, the last "
        f"{config.heldout_bodies} held out, {100 * min(shares):.1f} to "
        f"{100 * max(shares):.1f} % violating, in {folder}"
    )


def calibrated(study: Study, system: System, prior: Prior) -> float:
    """Calibrates a risk threshold on the held-out bodies, and prints it.

    Args:
      study: as it is for the method, of recorded bodies.
      system: of its configuration, with the levels that are asked.
      prior: of the method.

    Raises:
      SettingError: where there are too few dangerous transitions or bodies.
    """
    asked, method = system.configuration.recovery, study.method
    rows = heldout_sets(study).in_order
    key = stage_key(study.meta_seed, Stage.HELDOUT)
    found = calibrate_on(key, system, prior, rows, method)
    threshold, dangerous = float(found.threshold), np.asarray(found.dangerous).tolist()
    print(
        f"[threshold] {method}: risk threshold {threshold:.3f}, calibrated on "
        f"{len(dangerous)} held-out bodies with {min(dangerous)} to {max(dangerous)} "
        "transitions that turned out dangerous: of a new body like them, at most "
        f"{100 * asked.false_safe:g} % of such transitions in data made alike pass "
        f"for safe, but for {100 * asked.false_safe_bodies:g} % of such bodies; "
        "nothing is said of states that the data avoid"
    )
    return threshold


def stacked(bodies: Sequence[Transition]) -> tuple[Transition, Recorded]:
    """Returns transitions [T, N, ...], N those of the shortest, and the T bodies.

    Raises:
      DatasetError: if their sizes differ.
    """
    sizes = {_sizes(one) for one in bodies}
    if len(sizes) > 1:
        told = " and ".join(f"{d} observations, {a} actions" for d, a in sorted(sizes))
        raise DatasetError(f"The bodies are of different sizes: {told}.")
    count = min(len(one.cost) for one in bodies)
    rows = Transition(*(np.stack([x[:count] for x in xs]) for xs in zip(*bodies)))  # noqa: B905
    return rows, Recorded(np.arange(len(bodies), dtype=np.int32))


def card_of(bodies: Sequence[Transition]) -> dict[str, object]:
    """Returns the card's entries that recorded bodies have in every dataset."""
    return {
        "domain": name_of(*_sizes(bodies[0])),
        "left_out_per_body": [
            len(one.cost) - min(len(x.cost) for x in bodies) for one in bodies
        ],
    }


def _sizes(transitions: Transition) -> tuple[int, int]:
    return transitions.observation.shape[-1], transitions.action.shape[-1]
