"""Shows a workdir: what was asked for, what is made, and its results.

python -m experiments.show WORKDIR
"""

import pathlib

from mesa_jax.configuration import Configuration, asked_values, flag_of
from mesa_jax.report import side_by_side
from mesa_jax.study import inventory
from mesa_jax.study.inventory import KINDS

from . import flags
from .ls import size


def shown(place: pathlib.Path) -> str:
    """Returns what is said of a workdir.

    Raises:
      WorkdirError: if it is none.
    """
    inventory.require_workdir(place)
    held = inventory.look(place)
    parts = [
        f"{place}: mesa_jax {held.version or '(version not noted)'}, {size(held.bytes)}"
    ]
    parts.append(f"  {held.why}" if held.settings is None else asked(held.settings))
    for title, runs in (("finished", held.finished), ("unfinished", held.unfinished)):
        if runs:
            parts.append(f"\n{title}\n  " + "\n  ".join(inventory.grouped(runs)))
    parts += made(place)
    if held.settings is not None:
        rows = inventory.finished_rows(place)
        if measures := side_by_side.measured(rows):
            parts.append(
                f"\nresults of finished runs\n\n{side_by_side.brief(measures)}"
            )
    return "\n".join(parts)


def asked(settings: Configuration) -> str:
    """Returns the flags that ask for a configuration."""
    names = ("domain", "tasks", "preset", "fault")
    given = {name: getattr(settings, name) for name in names if getattr(settings, name)}
    for section, fields in asked_values(settings).items():
        given |= {flag_of(section, name): value for name, value in fields.items()}
    words = (
        f"--{flag}={','.join(map(str, x)) if isinstance(x, list | tuple) else x}"
        for flag, x in given.items()
    )
    return "  " + " ".join(words)


def made(place: pathlib.Path) -> list[str]:
    """Returns a paragraph a kind of artefact; of truths their number alone."""
    found, parts = inventory.artefacts(place), []
    for kind in KINDS:
        mine = [one for one in found if one.kind == kind]
        lines = [
            f"  {one.path.name}  {one.state}".rstrip()
            + f"  {size(inventory.size(one.path))}"
            for one in mine
        ]
        if kind == "truths" and lines:
            lines = [f"  of {len(mine)} bodies"]
        if lines:
            parts.append(f"\n{kind}\n" + "\n".join(lines))
    return parts


def main(place: pathlib.Path) -> None:
    print(shown(place))


if __name__ == "__main__":
    flags.run(main, "WORKDIR")
