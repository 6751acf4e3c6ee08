"""Processes that compute one program together: which is the first, what it tells all.

Nothing here waits where there is one process. Where there are several, every one calls
`from_first` as often and in the same order.
"""

import jax
import numpy as np
from jax.experimental import multihost_utils

LARGEST = 2**25  # bytes of one broadcast


def joined() -> bool:
    """Tells whether this process has joined others; touches no device."""
    return jax.distributed.is_initialized()


def several() -> bool:
    """Tells whether other processes compute beside this one."""
    return joined() and jax.process_count() > 1


def is_first() -> bool:
    """Tells whether this process is the one that prints and writes the workdir."""
    return not several() or jax.process_index() == 0


def from_first(content: bytes) -> bytes:
    """Returns in every process what the first one gave.

    Args:
      content: of the first process; what others give is not looked at.
    """
    if not several():
        return content
    size = np.array([len(content)], np.int64).view(np.uint8)
    (length,) = _broadcast(size).view(np.int64)
    given = np.frombuffer(content, np.uint8) if is_first() else np.zeros(length, "u1")
    parts = [given[at : at + LARGEST] for at in range(0, length, LARGEST)]
    return b"".join(_padded_broadcast(part).tobytes() for part in parts)


def differing(mine: bytes) -> list[int]:
    """Returns the processes that give something else than the first one."""
    if not several():
        return []
    every = np.asarray(multihost_utils.process_allgather(np.frombuffer(mine, "u1")))
    return np.flatnonzero((every != every[0]).any(-1)).tolist()


def _padded_broadcast(part: np.ndarray) -> np.ndarray:
    """Broadcasts bytes in one of few sizes, each of which is a compiled program."""
    padded = np.zeros(1 << max(10, (len(part) - 1).bit_length()), np.uint8)
    padded[: len(part)] = part
    return _broadcast(padded)[: len(part)]


def _broadcast(values: np.ndarray) -> np.ndarray:
    return np.asarray(multihost_utils.broadcast_one_to_all(values)).astype(np.uint8)
