"""Launches, each `python -m experiments.NAME`: flags, compiled chunks, files.

Installed they are `mesa_jax.experiments`, and `mesa-jax NAME` starts them: they import
each other relatively, so that both are the same code.
"""

import os
import signal
import sys

begun = False  # whether this process is a launch, and nothing else


def begin() -> None:
    """Makes this process a launch, whose imports take seconds."""
    global begun
    begun = True
    os.environ["MPLBACKEND"] = "agg"  # a notebook's own can not be imported here
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)


def _end(number, _frame):
    """Ends the process: nothing is begun yet, so nothing is to be said."""
    os._exit(128 + number)


if sys.argv[:1] == ["-m"]:  # as `python -m` has it by then
    begin()
