"""Starts one launch as several processes of this machine.

python -m experiments.launch.here --processes=2 -- run --workdir=DIR

One process takes all GPUs or TPUs of a machine by itself (`--mesh`); this is for CPUs,
and to try what a cluster will do.
"""

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

from .. import flags
from ..whole import define_integer
from . import commands

PAUSE = 0.2  # seconds between two looks at the processes
GRACE = 30.0  # seconds that the others have to end, once one has failed


def here(words: tuple[str, ...], count: int, port: int) -> list[list[str]]:
    """Returns the command of each process.

    Args:
      words: a launch and its flags.
      count: of processes.
      port: at which the first one waits for the others.
    """
    base = commands.python_command(words, sys.executable)
    joint = [f"--coordinator=127.0.0.1:{port}", f"--processes={count}"]
    return [[*base, *joint, f"--process={i}"] for i in range(count)]


def main(*words: str) -> None:
    given = commands.checked(words)
    port = commands.FLAGS.port
    if not port and not commands.FLAGS.dry_run:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
    all_commands = here(given, commands.FLAGS.processes, port or 8476)
    if commands.FLAGS.dry_run:
        print("\n".join(f"{commands.said(one)} &" for one in all_commands))
        print("wait")
        return
    with _started(all_commands) as started:
        while (codes := [one.poll() for one in started]).count(0) < len(codes):
            if failed := [code for code in codes if code]:  # below 0: a signal's
                sys.exit(failed[0] if failed[0] > 0 else 128 - failed[0])
            time.sleep(PAUSE)


@contextlib.contextmanager
def _started(all_commands: list[list[str]]) -> Iterator[list[subprocess.Popen]]:
    """Starts commands; those that still run at the end are asked to end."""
    with contextlib.ExitStack() as ends:
        yield [_one(ends, command) for command in all_commands]


def _one(ends: contextlib.ExitStack, command: list[str]) -> subprocess.Popen:
    started = subprocess.Popen(command)
    ends.callback(_end, started)
    return started


def _end(started: subprocess.Popen) -> None:
    if started.poll() is None:
        started.terminate()
        try:
            started.wait(GRACE)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


if __name__ == "__main__":
    commands.define()
    define_integer("processes", 2, "how many processes", 2, commands.LIMIT)
    define_integer("port", None, "of process 0 (default a free one)", 1, 2**16 - 1)
    flags.run(main, "LAUNCH", "...", paths=False)
