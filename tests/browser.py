"""A Chromium without a window, by the DevTools protocol over two pipes."""

import base64
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

NAMES = (
    *("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"),
    *("chrome", "microsoft-edge"),
)
ADVICE = f"install a Chromium to look at the page: one of {', '.join(NAMES)} on PATH"
FLAGS = (
    *("--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu"),
    *("--hide-scrollbars", "--no-first-run", "--disable-background-networking"),
    *("--disable-dev-shm-usage", "--disable-component-update", "--disable-sync"),
)
PLACE = """
import fcntl, os, sys
high = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 10) for fd in sys.argv[1:3]]
for fd, number in zip(high, (3, 4)):
    os.dup2(fd, number)
os.execv(sys.argv[3], sys.argv[3:])
"""  # puts two pipes where the browser looks for them


def executable() -> str | None:
    """The path of a Chromium that this machine has; None where it has none."""
    if sys.platform == "win32":  # pipes are handed over otherwise there
        return None
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Tab:
    """A tab: what it was told, what it asked for, and what it complained of."""

    def __init__(self, reads: int, writes: int):
        self._reads, self._writes = os.fdopen(reads, "rb"), os.fdopen(writes, "wb")
        self._number, self._rest, self._session = 0, b"", None
        self.complaints: list[str] = []
        self.requested: list[str] = []
        self._happened: set[str] = set()
        made = self.call("Target.createTarget", url="about:blank")
        attached = self.call(
            "Target.attachToTarget", targetId=made["targetId"], flatten=True
        )
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params) -> dict[str, Any]:
        """Asks the browser, and returns its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._writes.write(json.dumps(message).encode() + b"\0")
        self._writes.flush()
        while True:
            told = self._next()
            if told.get("id") == self._number:
                assert "error" not in told, (method, told)
                return told["result"]

    def _next(self) -> dict[str, Any]:
        """The next message; what it says of the page is kept."""
        while b"\0" not in self._rest:
            found = os.read(self._reads.fileno(), 1 << 16)
            assert found, "the browser has ended"
            self._rest += found
        message, _, self._rest = self._rest.partition(b"\0")
        told = json.loads(message)
        name, about = told.get("method", ""), told.get("params", {})
        self._happened.add(name)
        if name == "Network.requestWillBeSent":
            self.requested.append(about["request"]["url"])
        elif name in ("Runtime.exceptionThrown", "Log.entryAdded"):
            self.complaints.append(json.dumps(about))
        elif name == "Runtime.consoleAPICalled":
            self.complaints.append(json.dumps(about["args"]))
        return told

    def open(self, path: pathlib.Path, width: int, height: int = 900) -> None:
        """Shows a file in a window of some CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self._happened.clear()
        self.call("Page.navigate", url=path.as_uri())
        while "Page.loadEventFired" not in self._happened:
            self._next()

    def value(self, expression: str) -> Any:
        """What a JavaScript expression is, as JSON."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, key: str, text: str = "") -> None:
        """Presses and lets go a key, as a keyboard does."""
        codes = {"Enter": 13, "ArrowRight": 39, "Tab": 9}
        about = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key]}
        down = about | ({"text": text} if text else {})
        self.call("Input.dispatchKeyEvent", type="keyDown", **down)
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def picture(self, path: pathlib.Path) -> pathlib.Path:
        """Writes a PNG of the whole page."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(shot["data"]))
        return path

    def close(self) -> None:
        self._reads.close()
        self._writes.close()


@contextmanager
def tab(chromium: str) -> Iterator[Tab]:
    """A tab of a browser that ends with it."""
    ours, theirs = os.pipe(), os.pipe()  # the browser reads from 3 and writes to 4
    handed = ours[0], theirs[1]
    with tempfile.TemporaryDirectory() as profile:
        command = [chromium, *FLAGS, f"--user-data-dir={profile}"]
        begin = [sys.executable, "-c", PLACE, *map(str, handed)]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen([*begin, *command], pass_fds=handed, **quiet)
        for fd in handed:
            os.close(fd)
        found = Tab(theirs[0], ours[1])
        try:
            yield found
        finally:
            found.close()  # the browser ends where its pipe is closed
            process.wait(30)
