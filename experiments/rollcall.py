"""Processes find each other before JAX starts, which ends a process that waits in vain.

Process 0 listens at the coordinator's address. Each other one connects and says its
number; once all are there they are told to go, and JAX takes over the port.
"""

import contextlib
import hashlib
import socket
import time

from .device import DeviceError

PAUSE = 0.2  # seconds between two tries
LINE = 4096  # bytes of what is said, at most


class ProcessesError(DeviceError):
    """Says that processes did not find each other, or do not fit together."""


def digest(text: str) -> bytes:
    """Returns the SHA-256 of a text."""
    return hashlib.sha256(text.encode()).digest()


def call(coordinator: str, count: int, index: int, seconds: float) -> None:
    """Waits until all processes are there.

    Args:
      coordinator: host:port of process 0.
      count: of processes.
      index: of this one.
      seconds: to wait for the others, at most.

    Raises:
      ProcessesError: if they are not there in time: which, and what to check.
    """
    host, _, port = coordinator.rpartition(":")
    end = time.monotonic() + seconds
    if index == 0:
        _gather(coordinator, int(port), count, end, seconds)
    else:
        _appear(host.strip("[]"), int(port), index, end, seconds)


def _gather(
    coordinator: str, port: int, count: int, end: float, seconds: float
) -> None:
    """Listens until every other process has said its number."""
    there: dict[int, socket.socket] = {}
    with contextlib.ExitStack() as opened:
        try:
            server = opened.enter_context(_server(port))
        except (OSError, OverflowError) as error:
            raise ProcessesError(
                f"process 0 can not listen at port {port} ({error}): choose another "
                "one for --coordinator."
            ) from None
        while len(there) < count - 1 and (left := end - time.monotonic()) > 0:
            server.settimeout(left)
            with contextlib.suppress(OSError, ValueError, LookupError):
                peer = opened.enter_context(server.accept()[0])
                peer.settimeout(1.0)  # a stranger says nothing
                said = peer.recv(LINE).decode("ascii", "replace").split()
                if said[:1] == ["process"]:
                    there[int(said[1])] = peer
        missing = [str(i) for i in range(1, count) if i not in there]
        for peer in there.values():
            with contextlib.suppress(OSError):
                peer.sendall(f"missing {','.join(missing)}\n".encode())
                peer.recv(1)  # it closes first, so that the port is free at once
    if missing:
        raise ProcessesError(
            f"process {', '.join(missing)} of {count} did not come to {coordinator} "
            f"within {seconds:g} s. Check that all were started with these "
            "--coordinator and --processes, each with its own --process, and that the "
            "port is open between the machines; --coordinator_timeout waits longer."
        )


def _server(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        with contextlib.suppress(OSError):  # a kernel without it
            return socket.create_server(
                ("", port), family=socket.AF_INET6, dualstack_ipv6=True
            )
    return socket.create_server(("", port))


def _appear(host: str, port: int, index: int, end: float, seconds: float) -> None:
    """Connects until process 0 has said that all are there."""
    reason = "no answer"
    while (left := end - time.monotonic()) > 0:
        try:
            with socket.create_connection((host, port), timeout=left) as peer:
                peer.sendall(f"process {index}\n".encode())
                peer.settimeout(max(left, 0) + 2.0)  # process 0 began to wait later
                said = peer.recv(LINE).decode("ascii", "replace").split()
        except (OSError, OverflowError, UnicodeError) as error:
            reason = str(error)
        else:
            if said == ["missing"]:
                return
            if said[:1] == ["missing"]:
                raise ProcessesError(
                    f"process {index} waited {seconds:g} s for process {said[1]}, "
                    "which process 0 has not heard of either; what process 0 says "
                    "tells what to check."
                )
            reason = "something else answers there"
        time.sleep(PAUSE)
    raise ProcessesError(
        f"process {index} did not reach process 0 at {host}:{port} within {seconds:g} "
        f"s ({reason}). Check that process 0 runs, that --coordinator is its address "
        "as this machine sees it, and that the port is open; --coordinator_timeout "
        "waits longer."
    )
