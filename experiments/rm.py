"""Removes runs or artefacts from a workdir: without --yes it only says what would go.

python -m experiments.rm WORKDIR --methods=mesa --seeds=0:3 --yes
python -m experiments.rm WORKDIR --kinds=priors,datasets --meta_seed=1 --yes
python -m experiments.rm WORKDIR --kinds=all --yes

What goes agrees with all that is named, and the same launch makes it anew. Runs that
stay keep their numbers. A workdir that a launch uses is left alone.
"""

import contextlib
import pathlib

from absl import flags as absl_flags

from mesa_jax.methods import METHODS
from mesa_jax.settings import SettingError, known
from mesa_jax.study import inventory, removal
from mesa_jax.study.filtering import FILTER, LOOK_AHEAD
from mesa_jax.study.inventory import KINDS
from mesa_jax.study.locks import locked
from mesa_jax.study.records import QUALITY, RESULTS
from mesa_jax.study.removal import Named
from mesa_jax.study.resolve import known_methods
from mesa_jax.study.store import CONFIG, read_settings
from mesa_jax.study.tuning import TUNING

from . import flags, thresholds
from .ls import size
from .whole import define_integer, parse_seeds

OF_RUNS, OF_ESTIMATES = (RESULTS, thresholds.TABLE), (QUALITY, FILTER, LOOK_AHEAD)
ALL = "all"


def named() -> Named | None:
    """Returns what the flags name; None for the whole workdir.

    Raises:
      SettingError: if they name nothing, or name what is not known.
    """
    given = absl_flags.FLAGS
    kinds = tuple(known("kinds", kind, (*KINDS, ALL)) for kind in given.kinds or ())
    methods = known_methods(given.methods) if given.methods else None
    seeds = parse_seeds(given.seeds) if given.seeds else None
    some = methods is not None or seeds is not None or given.meta_seed is not None
    if ALL in kinds:
        if some or len(kinds) > 1:
            raise SettingError("kinds", ",".join(kinds), "all alone, or other kinds")
        return None
    if not (some or kinds):
        kinds_ = ", ".join((*KINDS, ALL))
        allowed = f"given ({kinds_}), or --methods, --seeds or --meta_seed"
        raise SettingError("kinds", "", allowed)
    return Named(kinds or ("runs",), methods, seeds, given.meta_seed)


def listed(place: pathlib.Path, what: Named | None) -> str:
    """Returns what goes, a line each; "" where nothing is named."""
    if what is None:
        return f"  all that launches wrote in {place}, {size(inventory.size(place))}"
    runs = []
    for batch, mine in removal.gone(place, what).items():
        keys = {(run.method, batch.meta_seed, run.seed) for run in mine}
        runs += [f"  {text}" for text in inventory.grouped(sorted(keys))]
    return "\n".join(
        runs
        + [f"  {one.path.relative_to(place)}" for one in removal.artefacts(place, what)]
    )


def remove(place: pathlib.Path, what: Named | None) -> None:
    """Removes what is named; says what is not a launch's and stays."""
    if what is not None:
        removal.remove(place, read_settings(place), what, OF_RUNS, OF_ESTIMATES)
        return
    others = removal.remove_all(place, [*OF_RUNS, *OF_ESTIMATES, TUNING])
    (place / CONFIG).unlink()
    if others:
        print(
            f"[rm] {place} stays: it holds {', '.join(others)}, which no launch wrote"
        )


def main(place: pathlib.Path) -> None:
    what = named()
    inventory.require_workdir(place)
    with locked(place):
        text, yes = listed(place, what), absl_flags.FLAGS.yes
        print(
            f"[rm] {'goes' if yes else 'would go; add --yes'}:\n{text}"
            if text
            else "[rm] nothing of that is here"
        )
        if text and yes:
            remove(place, what)
    if what is None and yes:
        (place / "lock").unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # it is not empty
            place.rmdir()


if __name__ == "__main__":
    absl_flags.DEFINE_list("methods", None, f"whose, of {', '.join(METHODS)}")
    absl_flags.DEFINE_string("seeds", None, "a count (3 is 0, 1, 2), or as 0:3,7")
    define_integer("meta_seed", None, "of the prior")
    absl_flags.DEFINE_list(
        "kinds", None, f"of {', '.join(KINDS)} (default runs), or {ALL}"
    )
    absl_flags.DEFINE_bool("yes", False, "remove it; without, only say what would go")
    flags.run(main, "WORKDIR")
