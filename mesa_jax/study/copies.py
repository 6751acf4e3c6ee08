"""One workdir of several processes: the first works in it, the others in copies.

Every process computes the same program, so each must see the same files, also where one
is looked for to say what is missing. A copy is filled at a launch's begin through the
first process, which alone needs to see the workdir, and is thrown away at its end.
"""

import contextlib
import json
import pathlib
import tempfile
from collections.abc import Iterator

from mesa_jax.study import files, store, together
from mesa_jax.study.locks import HOLDER, WorkdirError

LEFT_OUT = ("tb", "report", "wandb", "lock", HOLDER)  # no launch goes on from them


@contextlib.contextmanager
def own(workdir: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields the folder that stands for the workdir in this process.

    Raises:
      WorkdirError: in every process, if the first one may not use the workdir.
    """
    if not together.several():
        yield workdir
        return
    listed, refused = "", ""
    if together.is_first():
        try:
            store.require_ours(workdir)
            listed = json.dumps(_listed(workdir))
        except (WorkdirError, OSError) as error:
            refused = str(error)
    if said := together.from_first(refused.encode()).decode():
        raise WorkdirError(said)
    names = json.loads(together.from_first(listed.encode()))
    if together.is_first():
        for name in names:
            together.from_first((workdir / name).read_bytes())
        yield workdir
        return
    with tempfile.TemporaryDirectory(
        prefix="mesa_jax-", ignore_cleanup_errors=True
    ) as place:
        copy = pathlib.Path(place)
        for name in names:
            files.write_atomically(copy / name, together.from_first(b""))
        yield copy


def _listed(workdir: pathlib.Path) -> list[str]:
    """Returns the paths below a workdir of the files that a launch goes on from."""
    found = (p.relative_to(workdir) for p in workdir.rglob("*") if p.is_file())
    return sorted(
        path.as_posix()
        for path in found
        if path.parts[0] not in LEFT_OUT and files.PARTIAL not in path.name
    )
