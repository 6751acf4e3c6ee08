"""Launches, each `python -m experiments.NAME`: flags, compiled chunks, files."""

import os
import signal
import sys


def _end(number, _frame):
    """Ends the process: nothing is begun yet, so nothing is to be said."""
    os._exit(128 + number)


if sys.argv[:1] == ["-m"]:  # this process is a launch, whose imports take seconds
    os.environ["MPLBACKEND"] = "agg"  # a notebook's own can not be imported here
    for _signal in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(_signal) is not signal.SIG_IGN:
            signal.signal(_signal, _end)
