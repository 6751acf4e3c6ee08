"""Estimates that `evaluate` keeps: a sealed file a method and meta-seed."""

import functools
import pathlib
from typing import NamedTuple

import numpy as np

from mesa_jax.keys import SEED_LIMIT
from mesa_jax.methods import METHODS
from mesa_jax.settings import whole
from mesa_jax.study import arrays
from mesa_jax.study.artifacts import naming
from mesa_jax.study.files import DamagedFileError
from mesa_jax.study.records import WITHOUT_ADAPTATION
from mesa_jax.study.study import Study

AXES = {  # of what is saved: as many along a letter in all arrays
    "rows": "R",
    "steps": "P",
    "seeds": "S",
    "estimates": "RPSN",
    "held_out": "RPHN",
    "distance": "RS",
    "held_out_distance": "RH",
    "recovery_risk": "RS",
}
NEEDED = {"rows", "steps", "seeds", "estimates"}


class Saved(NamedTuple):
    """Estimates of one method and meta-seed; NumPy arrays."""

    method: str
    meta_seed: int
    rows: np.ndarray  # [R]
    steps: np.ndarray  # [P]
    seeds: np.ndarray  # [S]
    estimates: np.ndarray  # [R, P, S, N]
    held_out: np.ndarray | None = None  # [R, P, H, N] of held-out training bodies
    distance: np.ndarray | None = None  # [R, S] from what the prior was trained on
    held_out_distance: np.ndarray | None = None  # [R, H]
    recovery_risk: np.ndarray | None = None  # [R, S] true, after the method's own steps

    def at(self, rows: int, steps: int) -> np.ndarray | None:
        """Returns estimates [S, N], or None if it was not asked."""
        row, step = (
            np.flatnonzero(have == want)
            for have, want in ((self.rows, rows), (self.steps, steps))
        )
        if not (len(row) and len(step)):
            return None
        return self.estimates[row[0], step[0]]


def stored(study: Study, method: str, meta_seed: int) -> pathlib.Path:
    """Returns the file of a method and meta-seed, by the hash of what made it."""
    key = naming.fingerprint(study.configuration)
    return study.folder / "quality" / f"{method}-meta{meta_seed}-{key}.npz"


def save(study: Study, saved: Saved) -> None:
    """Writes what there is of a method's estimates."""
    held = {name: x for name, x in saved._asdict().items() if name in AXES}
    path = stored(study, saved.method, saved.meta_seed)
    arrays.write_sealed(path, {k: x for k, x in held.items() if x is not None})


def read(study: Study, seeds: tuple[int, ...]) -> list[Saved]:
    """Reads what a study holds on just these test bodies, in the table's order.

    Raises:
      DamagedFileError: naming a file that is another than was written, and what to do.
    """
    found, order = [], [WITHOUT_ADAPTATION, *METHODS]
    settings = study.configuration
    lengths = {
        "N": settings.quality.decision_states,
        "H": settings.data.heldout_bodies,
    }
    key = naming.fingerprint(settings)
    for path in sorted((study.folder / "quality").glob("*-meta*.npz")):
        method, _, rest = path.stem.rpartition("-meta")
        number, _, made = rest.partition("-")
        meta_seed = whole(number, SEED_LIMIT)
        if method not in order or meta_seed is None:
            print(f"[evaluate] {path} is left out: it is of no method. Move it away.")
            continue
        if made != key:
            print(f"[evaluate] {path} is left out: other settings made it.")
            continue
        try:
            check = functools.partial(_require_form, path, lengths)
            saved = Saved(method, meta_seed, **arrays.read_sealed(path, check))
        except DamagedFileError as error:
            again = f"evaluate {method} with --meta_seed={meta_seed} again"
            raise DamagedFileError(f"{error} Delete it and {again}.") from None
        if tuple(saved.seeds.tolist()) == seeds:
            found.append(saved)
        else:
            print(f"[evaluate] {path.name} is left out: it is of other test bodies.")
    return sorted(found, key=lambda one: (order.index(one.method), one.meta_seed))


def _require_form(
    path: pathlib.Path, lengths: dict[str, int], forms: dict[str, arrays.Form]
) -> None:
    """Checks that arrays are the fields of `Saved`, each axis of one length.

    Args:
      lengths: those known of the axes.
    """
    if wrong := (forms.keys() - AXES.keys()) | (NEEDED - forms.keys()):
        names = ", ".join(sorted(wrong))
        raise DamagedFileError(f"{path} lacks {names}, or should not have it.")
    lengths = dict(lengths)
    for name in sorted(forms, key=list(AXES).index):
        form, axes = forms[name], AXES[name]
        whole_numbers = len(axes) == 1
        if len(form.shape) == len(axes):
            wanted = tuple(map(lengths.setdefault, axes, form.shape))
        else:
            wanted = tuple(lengths.get(axis, -1) for axis in axes)
        if form.shape != wanted or form.dtype.kind != ("i" if whole_numbers else "f"):
            kind = "integers" if whole_numbers else "floats"
            raise DamagedFileError(
                f"{path}: {name} is {arrays.told(form)}, expected {kind} of {wanted}."
            )
