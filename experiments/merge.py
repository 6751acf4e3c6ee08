"""Merges workdirs of one configuration: other seeds, methods or meta-seeds of each.

python -m experiments.merge A B --workdir=NEW

The new workdir is as if all launches had been made in it. What both hold must be the
same, and other configurations are refused; nothing is written then. Summary and figures
are drawn by the next launch (plot).
"""

import contextlib
import pathlib

from mesa_jax.settings import SettingError
from mesa_jax.study import clashes, inventory, merging, removal, store, tuning
from mesa_jax.study.filtering import FILTER, LOOK_AHEAD
from mesa_jax.study.locks import locked
from mesa_jax.study.records import QUALITY, RESULTS

from . import flags, thresholds

TABLES = (RESULTS, thresholds.TABLE, QUALITY, FILTER, LOOK_AHEAD, tuning.TUNING)


def merge(places: tuple[pathlib.Path, ...], target: pathlib.Path) -> None:
    """Merges workdirs into a new one.

    Raises:
      SettingError: if that is not new, or one is named twice.
      WorkdirError: if one is no workdir or in use, they are of other configurations, or
        they hold the same with other contents.
    """
    if len({place.resolve() for place in places}) < len(places):
        raise SettingError("arguments", " ".join(map(str, places)), "several workdirs")
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise SettingError("workdir", str(target), "a new folder")
    settings = clashes.require_alike(places)
    with contextlib.ExitStack() as held:
        for place in places:
            held.enter_context(locked(place))
        clashes.require_no_clash(places, TABLES)
        beside = target.with_name(f"{target.name}.merging")  # a kill leaves half of it
        removal.discard(beside)
        with store.opened(beside, settings):
            merging.merge(places, beside, TABLES)
            if tuning.TUNING.read(beside):
                tuning.choose(beside)
        if target.exists():
            target.rmdir()
        beside.rename(target)
    runs = inventory.look(target).finished
    print(f"[merge] {target}: {'; '.join(inventory.grouped(runs)) or 'no run yet'}")


def main(*places: pathlib.Path) -> None:
    merge(places, flags.workdir())


if __name__ == "__main__":
    flags.define_workdir()
    flags.run(main, "A", "B", "...")
