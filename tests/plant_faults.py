"""Plants faults in a copy of the package, one at a time: do the quick tests catch them?

python -m tests.plant_faults [--only=TEXT] [--list]

Each fault of `planted_faults` is run against the test files that it names. Exits 1 if
one is missed, or if a row is stale: its old text does not occur exactly once.
"""

import argparse
import contextlib
import multiprocessing
import os
import pathlib
import shutil
import sys
import tempfile
from typing import NamedTuple

import pytest

from tests.planted_faults import FAULTS, Fault

ROOT = pathlib.Path(__file__).parent.parent
COPIED = ("mesa_jax", "experiments", "tests")
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(  # what takes long to import, and is not ours
    ["pytest", "optax", "flax.linen", "orbax.checkpoint", "scipy.stats", "chex"]
)
TEST_FAILED = 1  # pytest's exit code; another one says that no test could run


class Outcome(NamedTuple):
    """What became of a fault."""

    verdict: str  # caught, missed, stale or broken: no test could run
    by: str  # the test that caught it, or what the matter is

    @property
    def fine(self) -> bool:
        return self.verdict == "caught"


def copied_to(place: pathlib.Path) -> pathlib.Path:
    """Copies what the tests run on; compiled programs stay where they are."""
    for name in COPIED:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, place / name, ignore=ignored)
    shutil.copy(ROOT / ".pytest.ini", place)
    cache = ROOT / ".cache"
    cache.mkdir(exist_ok=True)
    (place / ".cache").symlink_to(cache.resolve())
    return place


def stale(fault: Fault, root: pathlib.Path = ROOT) -> str:
    """Says why a row does not fit the source; empty where it does."""
    path = root / fault.file
    if not path.exists():
        return f"there is no {fault.file}"
    count = path.read_text().count(fault.old)
    return "" if count == 1 else f"its old text occurs {count} times in {fault.file}"


def quick_tests(place: pathlib.Path, files: tuple[str, ...]) -> tuple[int, str]:
    """Runs test files of a copy up to the first failure: exit code, and who failed."""
    receive, send = FORKS.Pipe(duplex=False)
    process = FORKS.Process(target=_run_pytest, args=(place, files, send))
    process.start()
    send.close()
    try:
        return receive.recv()
    except EOFError:
        return -1, "it ended without a result"
    finally:
        process.join()


class _First:
    """A plugin that notes the first test that fails, or file that can not be read."""

    name = ""

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.name = self.name or report.nodeid

    def pytest_collectreport(self, report):
        if report.failed:
            self.name = self.name or f"{report.nodeid} can not be collected"


def _run_pytest(place: pathlib.Path, files: tuple[str, ...], send) -> None:
    """In a process of its own, which has none of our modules yet but this one."""
    os.chdir(place)
    sys.path[:0] = [str(place)]
    for name in [name for name in sys.modules if name.split(".")[0] == "tests"]:
        del sys.modules[name]
    first = _First()
    options = ("-x", "-q", "--tb=no", "-m", "not slow", "-p", "no:cacheprovider")
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        code = pytest.main([*options, *files], plugins=[first])
    send.send((int(code), first.name))


def plant(fault: Fault, place: pathlib.Path) -> Outcome:
    """Runs a fault's tests against a copy that has it, and takes it out again."""
    if why := stale(fault, place):
        return Outcome("stale", why)
    path = place / fault.file
    healthy = path.read_text()
    path.write_text(healthy.replace(fault.old, fault.new))
    try:
        code, by = quick_tests(place, tuple(f"tests/{name}" for name in fault.tests))
    finally:
        path.write_text(healthy)
    if code == 0:
        return Outcome("missed", f"by {', '.join(fault.tests)}")
    return Outcome("caught" if code == TEST_FAILED else "broken", by)


def require_healthy(place: pathlib.Path, faults: list[Fault]) -> None:
    """Raises RuntimeError if a test fails without any fault: it catches everything."""
    files = sorted({f"tests/{name}" for fault in faults for name in fault.tests})
    code, by = quick_tests(place, tuple(files))
    if code:
        raise RuntimeError(f"without a fault the tests fail: {by}")


def plant_all(
    faults: list[Fault], say=print, check=True
) -> list[tuple[Fault, Outcome]]:
    """Plants faults one after the other; `check` asks for tests that pass without."""
    with tempfile.TemporaryDirectory() as folder:
        place = copied_to(pathlib.Path(folder))
        if check:
            require_healthy(place, faults)
        found = []
        for fault in faults:
            outcome = plant(fault, place)
            found.append((fault, outcome))
            say(f"{outcome.verdict:7} {fault.why} ({fault.file}): {outcome.by}")
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", help="in the file, or in what is wrong")
    parser.add_argument("--list", action="store_true", help="plant nothing")
    parser.add_argument(
        "--nocheck", action="store_true", help="the tests are known to pass without"
    )
    given = parser.parse_args()
    asked = [f for f in FAULTS if given.only in f.file or given.only in f.why]
    if given.list:
        for fault in asked:
            print(f"{fault.why} ({fault.file})")
        return
    say = lambda line: print(line, flush=True)  # noqa: E731
    found = plant_all(asked, say, not given.nocheck)
    good = sum(outcome.fine for _, outcome in found)
    print(f"{good} of {len(found)} faults are caught by the quick tests.")
    sys.exit(good < len(found))


if __name__ == "__main__":
    main()
