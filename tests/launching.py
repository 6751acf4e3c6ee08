"""Launches very small, in this process."""

import contextlib
import dataclasses
import io
import json
import os
import pathlib
import shutil
import struct
import sys
from typing import NamedTuple
from unittest import mock

import filelock
import pytest
from tensorboardX.proto import event_pb2

from experiments import flags, risk_maps, run
from mesa_jax import configuration
from mesa_jax.methods import COMPARED
from mesa_jax.report import layout
from mesa_jax.study import checkpoints, resolve
from mesa_jax.study.study import Asked, Study

EPISODES, EVERY, CHUNK, ADAPTATION = 3, 2, 60, 60
SEEDS = (0, 1)
NETWORK = {"hidden": (8,)}
TINY = {
    "data": {
        "train_bodies": 3,
        "heldout_bodies": 1,
        "transitions": 300,
        "adaptation": ADAPTATION,
    },
    "maml": {
        "steps": 4,
        "num_tasks": 2,
        "inner_steps": 2,
        "support_size": 16,
        "query_size": 16,
    },
    "pooled": {"steps": 4, "query_size": 16},
    "finetune_scratch": {"steps": 5},
    "finetune": {"steps": 5},
    "finetune_few": {"steps": 2},
    "inner_loop": {"steps": 3},
    "risk": NETWORK,
    "recovery": NETWORK | {"false_safe_bodies": 0.5},  # one body is held out
    "sac": NETWORK,
    "quality": {
        "decision_states": 20,
        "rollouts": 4,
        "filter_episodes": 2,
        "proposal_transitions": 100,
        "transitions": (ADAPTATION,),
        "steps": (0, 5),
        "false_safe": 0.4,
    },
    "online": {
        "episodes": EPISODES,
        "batch_size": 16,
        "chunk_steps": CHUNK,
        "evaluate_every": EVERY,
    },
}


# of these a method's own value holds, as if they had not been asked for
UNASKED = {("maml", "inner_steps")}


class Launch(NamedTuple):
    """What a command line resolves to."""

    study: Study
    asked: Asked

    def of(self, method: str) -> Study:
        return self.study.of(method)

    def with_meta_seed(self, seed: int) -> "Launch":
        return self._replace(study=self.study._replace(meta_seed=seed))

    def saving_replays(self) -> "Launch":
        return self._replace(asked=self.asked._replace(save_replay=True))


def launch(
    place,
    methods=COMPARED,
    seeds=SEEDS,
    domain="navigation1",
    tasks="published",
    fault="",
    **sections,
) -> Launch:
    """What the command line of a tiny launch resolves to."""
    settings = resolve.resolve(domain, tasks, "quick")
    settings = dataclasses.replace(settings, fault=fault)
    settings = configuration.override(configuration.override(settings, TINY), sections)
    settings = dataclasses.replace(settings, asked=settings.asked - UNASKED)
    return Launch(Study(place, settings), Asked(methods, seeds))


def run_here(launch: Launch, main) -> str:
    """Runs a launch in this process, without its command line; what it printed."""
    output = io.StringIO()
    with (
        mock.patch.object(flags, "launch", return_value=launch),
        contextlib.redirect_stdout(output),
        coarse_figures(),
    ):
        main()
    return output.getvalue()


@contextlib.contextmanager
def coarse_figures():
    """Figures of few pixels, and risk maps of few cells and simulations."""
    with (
        mock.patch.dict(layout.FONT, {"figure.dpi": 50}),
        mock.patch.object(risk_maps, "CELLS", (14, 10)),
        mock.patch.object(risk_maps, "ROLLOUTS", 4),
    ):
        yield


# Workdirs


class Made(NamedTuple):
    """A workdir, and what the launch that made it printed."""

    place: pathlib.Path
    output: str


def finished(temporary: pytest.TempPathFactory) -> Made:
    """Returns the workdir of a whole tiny launch; the first of the workers makes it.

    Nobody changes it: `copied` is one's own.
    """
    root = temporary.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # what all workers of a test run see
    place, printed = root / "finished" / "w", root / "finished" / "output.txt"
    with filelock.FileLock(root / "finished.lock"):
        if not printed.exists():
            output = run_here(launch(place), run.main)
            printed.write_text(output)
    return Made(place, printed.read_text())


def copied(made: Made, place: pathlib.Path) -> pathlib.Path:
    """Returns a workdir like one that was made."""
    shutil.copytree(made.place, place)
    return place


ONLINE = ("online", "online-*", "adapted-*", "tb", "*.csv", "*.jsonl", "report")


def before_online(finished: pathlib.Path, place: pathlib.Path) -> None:
    """A workdir like a finished one before its online stage."""
    shutil.copytree(finished, place, ignore=shutil.ignore_patterns(*ONLINE))


def online_folder(place: pathlib.Path) -> pathlib.Path:
    (folder,) = (place / "checkpoints").glob("online-*")
    return folder


@contextlib.contextmanager
def interrupted(when: str, at_step: int, folder: str):
    """Ctrl-C just before or just after the checkpoint of a step of a stage."""
    save = checkpoints.save

    def interrupting(place, step, tree, made_by):
        due = step == at_step and place.name.startswith(folder)
        if due and when == "before":
            raise KeyboardInterrupt
        save(place, step, tree, made_by)
        if due:
            raise KeyboardInterrupt

    with (
        mock.patch.object(checkpoints, "save", interrupting),
        pytest.raises(KeyboardInterrupt),
    ):
        yield


def metrics_of(place: pathlib.Path) -> list[dict]:
    lines = (place / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def online_metrics(place: pathlib.Path) -> list[dict]:
    records = [r for r in metrics_of(place) if r["stage"].startswith("online-")]
    return sorted(records, key=lambda r: (r["step"], r["run"]))


def csv_of(place: pathlib.Path) -> bytes:
    return (place / "results.csv").read_bytes()


def scalars(folder) -> list[tuple[str, int, float]]:
    """(name, step, value) in the event files of a folder, in the order written."""
    scalars = []
    for path in sorted(folder.glob("events.*")):
        content, at = path.read_bytes(), 0
        while at < len(content):  # length, its checksum, event, its checksum
            (length,) = struct.unpack_from("<Q", content, at)
            event = event_pb2.Event.FromString(content[at + 12 : at + 12 + length])
            at += 12 + length + 4
            for value in event.summary.value:
                scalars.append((value.tag, event.step, value.simple_value))
    return scalars


# Commands


def command(name: str, *arguments) -> int:
    """Runs a launch by its command line in this process; returns the exit code."""
    *folders, last = name.split(".")
    path = pathlib.Path(flags.__file__).parent.joinpath(*folders, f"{last}.py")
    source, package = (
        path.read_text(encoding="utf-8"),
        ".".join(["experiments", *folders]),
    )
    names = {"__name__": "__main__", "__package__": package, "__file__": path}
    before = set(flags.FLAGS)
    try:
        with (
            mock.patch.object(sys, "argv", [name, *map(str, arguments)]),
            pytest.raises(SystemExit) as ended,
        ):
            exec(compile(source, path, "exec"), names)
    finally:
        for flag in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, flag)
        flags.FLAGS.unparse_flags()
    return ended.value.code or 0
