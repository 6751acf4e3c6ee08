"""Lists the workdirs in a folder and below it: bodies, runs, version, size, age.

python -m experiments.ls DIR
"""

import datetime
import pathlib

from mesa_jax.report.tables import markdown
from mesa_jax.study import inventory
from mesa_jax.study.inventory import Workdir
from mesa_jax.study.store import WorkdirError

from . import flags

HERE = pathlib.Path()
UNITS = ("B", "kB", "MB", "GB", "TB")
HEAD = ["workdir", "bodies", "finished", "unfinished", "version", "size", "changed"]


def line(below: pathlib.Path, held: Workdir) -> list[str]:
    """Returns the cells of a workdir."""
    settings = held.settings
    bodies = f"{settings.domain} {settings.tasks}" if settings else "not readable here"
    if settings and settings.fault:
        bodies += f" {settings.fault}"
    runs = (
        "; ".join(inventory.grouped(r)) or "-" for r in (held.finished, held.unfinished)
    )
    when = datetime.datetime.fromtimestamp(held.changed).isoformat(" ", "minutes")
    place = held.place.relative_to(below).as_posix()
    return [place, bodies, *runs, held.version or "-", size(held.bytes), when]


def size(count: float) -> str:
    """Writes bytes with a unit."""
    for unit in UNITS[:-1]:
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} {UNITS[-1]}"


def listing(below: pathlib.Path) -> str:
    """Returns a table of the workdirs below a folder.

    Raises:
      WorkdirError: if it is no folder.
    """
    if not below.is_dir():
        raise WorkdirError(f"{below} is no folder.")
    lines = [line(below, inventory.look(one)) for one in inventory.workdirs(below)]
    return markdown([HEAD, *lines]) if lines else f"There is no workdir below {below}."


def main(below: pathlib.Path = HERE) -> None:
    print(listing(below))


if __name__ == "__main__":
    flags.run(main, "[DIR]")
