"""Kills launches at random moments of every stage; they must end as unbroken ones do.

python -m tests.kill_launches [--kills=50] [--seed=0] [--stages=online,tune]

Each stage is a launch in a process of its own, very small. It runs once unbroken; then
it is killed (SIGKILL) at moments drawn uniformly from the time in which it changed its
workdir, started again each time, and let finish. What both leave is compared: records,
datasets, arrays, and the leaves of the newest checkpoints, bit for bit. Exits 1 if
anything differs.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from mesa_jax.study import checkpoints
from tests.launching import TINY

ROOT = pathlib.Path(__file__).parent.parent
KILLS = 50
TRIES = 20  # of a stage; it may be done before its moment comes
LONG = {"maml": {"steps": 520}, "pooled": {"steps": 520}}  # three checkpoints each


class Stage(NamedTuple):
    """A launch and its own flags."""

    name: str
    launch: str
    flags: tuple[str, ...] = ("--seeds=2",)


STAGES = (
    Stage("collect", "collect"),
    Stage("pooled", "meta_train", ("--method=multi_task",)),
    Stage("maml", "meta_train", ("--method=mesa",)),
    Stage("context", "meta_train", ("--method=context",)),
    Stage("online", "online", ("--seeds=2", "--methods=multi_task,mesa")),
    Stage("reading", "online", ("--seeds=2", "--methods=context")),
    Stage("evaluate", "evaluate", ("--seeds=2", "--methods=recovery_rl,mesa,context")),
    Stage(
        "thresholds",
        "thresholds",
        ("--seeds=2", "--methods=mesa", "--thresholds=0.1,0.5"),
    ),
    Stage("tune", "tune", ("--methods=recovery_rl,multi_task",)),
)


class Unbroken(NamedTuple):
    """A stage that ran to its end."""

    before: pathlib.Path  # the workdir, copied
    after: pathlib.Path
    begins: float  # seconds after its start, when it first changed the workdir
    ends: float


class LaunchError(RuntimeError):
    """A launch that ended by itself, and not well; holds what it said."""


# Launches


def started(stage: Stage, place: pathlib.Path) -> subprocess.Popen:
    flags = [f"--workdir={place}", *stage.flags]
    for section in TINY:
        for name, value in (TINY[section] | LONG.get(section, {})).items():
            text = ",".join(map(str, value)) if isinstance(value, tuple) else value
            flags.append(f"--{section}_{name}={text}")
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "kills"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # compiles fast, runs slowly
    }
    return subprocess.Popen(
        [sys.executable, "-m", f"experiments.{stage.launch}", *flags],
        cwd=ROOT,
        env=os.environ | cache,
        stdout=subprocess.DEVNULL,
        stderr=open(place.with_suffix(".err"), "wb"),  # no pipe that fills up
    )


def stamps(place: pathlib.Path) -> dict[pathlib.Path, int]:
    """When each file of a folder was changed last."""
    found = {}
    for path in place.rglob("*"):
        try:
            found[path] = path.stat().st_mtime_ns
        except FileNotFoundError:  # renamed in between
            continue
    return found


def until_changed(process: subprocess.Popen, place: pathlib.Path) -> None:
    """Waits for the first change of a workdir, or for the end."""
    before = stamps(place)
    while process.poll() is None and stamps(place) == before:
        time.sleep(0.02)


def finish(process: subprocess.Popen, stage: Stage, place: pathlib.Path) -> None:
    if process.wait():
        said = place.with_suffix(".err").read_text(errors="replace")[-2000:]
        raise LaunchError(f"{stage.name} ended with {process.returncode}:\n{said}")


def run_unbroken(stage: Stage, place: pathlib.Path, folder: pathlib.Path) -> Unbroken:
    """Runs a stage twice: the first time may compile, the second is timed."""
    before, after = folder / f"{stage.name}-before", folder / f"{stage.name}-after"
    place.mkdir(exist_ok=True)
    shutil.copytree(place, before)
    finish(started(stage, place), stage, place)
    shutil.copytree(place, after)
    back_to(before, place)
    began = time.monotonic()
    process = started(stage, place)
    until_changed(process, place)
    begins = time.monotonic() - began
    finish(process, stage, place)
    unbroken = Unbroken(before, after, begins, time.monotonic() - began)
    require_equal(stage, place, after)
    return unbroken


def back_to(before: pathlib.Path, place: pathlib.Path) -> None:
    shutil.rmtree(place)
    shutil.copytree(before, place)


def kill_at(stage: Stage, place: pathlib.Path, seconds: float) -> bool:
    """Kills a stage so long after its first change; False if it was done before."""
    process = started(stage, place)
    until_changed(process, place)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    finish(process, stage, place)
    return False


def killed_often(
    stage: Stage,
    place: pathlib.Path,
    unbroken: Unbroken,
    kills: int,
    draw: random.Random,
    say: Callable[[str], None],
) -> int:
    """Kills a stage, going on each time, and compares it whenever it is done.

    Returns how many kills there were: as many as asked for, or a few less where the
    stage is done too soon time after time.
    """
    done = 0
    for _ in range(TRIES * kills):
        if done == kills:
            break
        moment = draw.uniform(0.0, unbroken.ends - unbroken.begins)
        if kill_at(stage, place, moment):
            done += 1
            say(f"{stage.name}: killed {moment:.2f} s after its first change")
        else:
            require_equal(stage, place, unbroken.after)
            back_to(unbroken.before, place)
    finish(started(stage, place), stage, place)
    require_equal(stage, place, unbroken.after)
    return done


# What a workdir holds


def contents(place: pathlib.Path) -> dict[str, Any]:
    """All that must not depend on kills, by file and name."""
    found: dict[str, Any] = {}
    for path in sorted(place.rglob("*")):
        name = str(path.relative_to(place))
        if "checkpoints" in path.parts[:-1] or not path.is_file():
            continue
        if name == "metrics.jsonl":
            found |= _metrics(path)
        elif path.suffix == ".npz":
            with np.load(path) as arrays:
                found |= {f"{name}: {key}": _bits(arrays[key]) for key in arrays.files}
        elif path.suffix == ".csv" or path.name in ("summary.json", "tuning.json"):
            found[name] = path.read_bytes()
    for folder in sorted((place / "checkpoints").glob("*")):
        found |= _newest(folder)
    return found


def _bits(array: np.ndarray) -> tuple:
    return str(array.dtype), array.shape, array.tobytes()


def _metrics(path: pathlib.Path) -> dict[str, Any]:
    """Records in the file's order, times left out."""
    found = {}
    for i, line in enumerate(path.read_text().splitlines()):
        record = json.loads(line)
        values = record["values"].items()
        record["values"] = {k: v for k, v in values if "second" not in k}
        record.pop("time", None)
        found[f"metrics.jsonl: {i}"] = json.dumps(record, sort_keys=True)
    return found


def _newest(folder: pathlib.Path) -> dict[str, Any]:
    steps = checkpoints.steps(folder)
    if not steps:
        return {folder.name: "no checkpoint"}
    leaves = checkpoints.read(folder, steps[-1])
    return {
        f"{folder.name}/{steps[-1]}: {name}": _bits(leaf)
        for name, leaf in leaves.items()
    }


def differences(place: pathlib.Path, expected: pathlib.Path) -> list[str]:
    """Names of what a workdir has otherwise than another."""
    ours, theirs = contents(place), contents(expected)
    names = sorted(ours.keys() | theirs.keys())
    return [name for name in names if ours.get(name) != theirs.get(name)]


def require_equal(stage: Stage, place: pathlib.Path, expected: pathlib.Path) -> None:
    """Raises AssertionError, naming what differs."""
    found = differences(place, expected)
    if found:
        some = "\n".join(found[:20])
        raise AssertionError(f"{stage.name}: {len(found)} values differ:\n{some}")


def shares(kills: int, stages: int, draw: random.Random) -> list[int]:
    """Shares kills out among stages, as evenly as can be."""
    each = [kills // stages + (i < kills % stages) for i in range(stages)]
    draw.shuffle(each)
    return each


def kill_launches(
    kills: int, seed: int = 0, stages=STAGES, say: Callable[[str], None] = print
) -> int:
    """Runs all stages, of which each is killed its share; the number of kills."""
    draw, total = random.Random(seed), 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        whole, torn = folder / "whole", folder / "torn"
        torn.mkdir()
        for stage, share in zip(stages, shares(kills, len(stages), draw), strict=True):
            unbroken = run_unbroken(stage, whole, folder)
            say(f"{stage.name}: {unbroken.begins:.1f} to {unbroken.ends:.1f} s")
            total += killed_often(stage, torn, unbroken, share, draw, say)
            back_to(unbroken.after, torn)
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--stages", default="", help="only these, comma-separated")
    given = parser.parse_args()
    names = given.stages.split(",") if given.stages else [s.name for s in STAGES]
    stages = [stage for stage in STAGES if stage.name in names]
    try:
        total = kill_launches(given.kills, given.seed, stages)
    except (AssertionError, LaunchError) as error:
        sys.exit(f"Error: {error}")
    print(f"{total} kills, and nothing differs.")


if __name__ == "__main__":
    main()
