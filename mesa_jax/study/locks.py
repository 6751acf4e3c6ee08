"""A workdir's lock: one launch at a time, on every system and file system."""

import contextlib
import errno
import os
import pathlib
import socket
import sys
from collections.abc import Iterator

import filelock

from mesa_jax.errors import UserError
from mesa_jax.study import files

HOLDER = "lock.holder"
NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}


class WorkdirError(UserError, ValueError):
    """Says that this launch may not use a workdir."""


@contextlib.contextmanager
def locked(workdir: pathlib.Path) -> Iterator[None]:
    """Holds the workdir's lock; a file beside it says who does.

    Raises:
      WorkdirError: naming the launch that holds it.
    """
    lock, holder = _acquired(workdir), workdir / HOLDER
    try:
        who = f"process {os.getpid()} on {socket.gethostname()}"
        files.write_atomically(holder, who + "\n")
        yield
    finally:
        with contextlib.suppress(OSError):
            holder.unlink()
        lock.release()


def _acquired(workdir: pathlib.Path) -> filelock.BaseFileLock:
    """The system's lock; where the file system has none, a file that stands for it."""
    lock = filelock.FileLock(workdir / "lock", fallback_to_soft=False)
    try:
        return _at_once(lock, workdir)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    lock = filelock.SoftFileLock(workdir / "lock.file")
    print(
        f"Warning: the file system of {workdir} has no locks; {lock.lock_file} stands "
        "for one while a launch runs.",
        file=sys.stderr,
    )
    return _at_once(lock, workdir, f" If it has ended, delete {lock.lock_file}.")


def _at_once(
    lock: filelock.BaseFileLock, workdir: pathlib.Path, advice: str = ""
) -> filelock.BaseFileLock:
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        holder = "another launch"
        with contextlib.suppress(OSError):
            said = (workdir / HOLDER).read_text(encoding="utf-8", errors="replace")
            holder = said.strip() or holder
        raise WorkdirError(f"{workdir} is in use by {holder}.{advice}") from None
    return lock
