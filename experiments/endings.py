"""How a launch ends: what stops it becomes one message and an exit code.

2 for a mistake of the user and for want of room, rights or memory; 128 and the signal's
number where it was asked to end (130 for Ctrl-C, 143 for SIGTERM).
"""

import contextlib
import io
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from mesa_jax.settings import SettingError

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")  # not every system has each
LIBRARY_OS_ERROR = re.compile(r"(?:local file \"(.*?)\".*)?\[os_error_code='(\d+)'\]")
AGAIN = b"\nAsked to end once more: ended at once.\n"


class Stopped(KeyboardInterrupt):
    """A signal asked the launch to end."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


def run(call: Callable[[], None], mistakes: tuple[type[Exception], ...]) -> None:
    """Calls, and ends the process with one message where that is stopped.

    An error of ours is left as it is. A context that was passed adds to the message by
    `add_note`.

    Args:
      mistakes: errors that are the user's.
    """
    _encode_everything()
    if sys.unraisablehook is sys.__unraisablehook__:  # not pytest's
        sys.unraisablehook = _hook
    with _signals():
        try:
            try:
                call()
            except SystemExit:  # its end; or that of --help
                if sys.stdout is not None:
                    sys.stdout.flush()  # so that a closed pipe is told
                raise
        except SystemExit:
            raise
        except BaseException as error:
            ending = message(error, mistakes)
            if ending is None:
                raise
            _say(ending[0])
            sys.exit(ending[1])
        finally:
            _let_go()


def message(
    error: BaseException, mistakes: tuple[type[Exception], ...]
) -> tuple[str, int] | None:
    """What is said of an error, and the exit code; None for an error of ours."""
    notes = "".join(f"\n{note}" for note in getattr(error, "__notes__", ()))
    if isinstance(error, mistakes):
        return f"\nError: {'--' * isinstance(error, SettingError)}{error}", 2
    if isinstance(error, KeyboardInterrupt):
        number = getattr(error, "number", signal.SIGINT)
        name = signal.Signals(number).name
        said = "Interrupted" if number == signal.SIGINT else f"Ended by {name}"
        return f"\n{said}.{notes}", 128 + number
    lack = _lack(error)
    return None if lack is None else (f"\nError: {lack}{notes}", 2)


def _lack(error: BaseException) -> str | None:
    """The room, right or memory that was wanting; None where it was none of these."""
    if isinstance(error, BrokenPipeError):
        return "what read the output is gone (closed pipe)."
    if isinstance(error, OSError) and error.errno:
        place = "" if error.filename is None else f"{error.filename}: "
        return f"{place}{error.strerror}."
    if found := LIBRARY_OS_ERROR.search(str(error)):  # orbax's, a ValueError
        return f"{found[1] or 'a file'}: {os.strerror(int(found[2]))}."
    out = isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)
    if not out:
        return None
    return f"out of memory ({str(error).splitlines()[0] if str(error) else 'no room'})."


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """Raises `Stopped` at the first signal to end; at a second the process ends.

    A signal that is ignored (by nohup, or in the background of a shell) stays so.
    """
    asked = []

    def stop(number, _frame):
        if asked:
            with contextlib.suppress(OSError):
                os.write(2, AGAIN)
            os._exit(128 + number)
        asked.append(number)
        raise Stopped(number)

    numbers = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    if threading.current_thread() is not threading.main_thread():
        before = {}  # Python hears them in the main thread alone
    heard = {n: old for n, old in before.items() if old not in (signal.SIG_IGN, None)}
    for number in heard:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, old in heard.items():
            signal.signal(number, old)


def _encode_everything() -> None:
    """Makes the output write what its encoding lacks as \\xb1, in place of dying."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _hook(lost: Any) -> None:
    """Shows a lost error as Python does, but those of writers whose launch has ended.

    tensorstore's threads call back into a loop that the first of them stopped.
    """
    if str(lost.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(lost)


def _say(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # nobody hears it
        print(text, file=sys.stderr, flush=True)


def _let_go() -> None:
    """Drops what can not be written any more, which Python would try at its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                number, nowhere = stream.fileno(), os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, number)
                os.close(nowhere)
