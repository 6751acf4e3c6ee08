"""Launches on other machines: what they would start, read as its reader does."""

import json
import shlex
import subprocess
import sys

import pytest

from tests import launching

RUN = ("--", "run", "--workdir=/runs/of mine", "--seeds=3")
WORDS = ["--workdir=/runs/of mine", "--seeds=3"]


@pytest.fixture
def printed(capsys):
    """What a launch prints with --dry_run, which is the same twice."""

    def call(name: str, *arguments: str) -> str:
        twice = []
        for _ in range(2):
            assert launching.command(f"launch.{name}", "--dry_run", *arguments) == 0
            twice.append(capsys.readouterr().out)
        assert twice[0] == twice[1]
        return twice[0]

    return call


def test_processes_of_this_machine(printed):
    first, second, last = printed("here", "--processes=2", *RUN).splitlines()
    base = [sys.executable, "-m", "experiments.run", *WORDS]
    for i, line in enumerate((first, second)):
        command = line.removesuffix(" &")
        joint = ["--coordinator=127.0.0.1:8476", "--processes=2", f"--process={i}"]
        assert shlex.split(command) == [*base, *joint]
    assert last == "wait"


def test_a_slurm_job_has_what_was_asked_for(printed, tmp_path):
    asked = ("--nodes=4", "--gpus_per_node=8", "--cpus_per_node=64", "--time=1:00:00")
    where = ("--directory=/home/me/a clone", "--setup=module load cuda")
    text = printed("slurm", *asked, *where, *RUN)
    checked = subprocess.run(["bash", "-n"], input=text, encoding="utf-8")
    assert checked.returncode == 0
    head = "#SBATCH --"
    lines = [x.removeprefix(head) for x in text.splitlines() if x.startswith(head)]
    options = dict(line.partition("=")[::2] for line in lines)
    assert options["nodes"] == "4"
    assert options["ntasks-per-node"] == "1"
    assert options["gpus-per-node"] == "8"
    assert options["cpus-per-task"] == "64"
    assert options["time"] == "1:00:00"
    assert options["signal"] == "TERM@120"
    assert "requeue" in options
    *_, where, setup, command = text.splitlines()
    assert shlex.split(where) == ["cd", "/home/me/a clone"]
    assert setup == "module load cuda"
    srun = ["exec", "srun", "--kill-on-bad-exit=1", "--cpus-per-task=64"]
    assert shlex.split(command) == [*srun, "python", "-m", "experiments.run", *WORDS]


def test_a_tpu_slice_is_asked_for_and_used(printed):
    place = ("--name=pod", "--zone=us-east5-a")
    asked = printed("tpu", *place, "--create", "--accelerator_type=v6e-64", "--spot")
    words = shlex.split(asked)
    assert words[:6] == [
        *("gcloud", "compute", "tpus"),
        *("queued-resources", "create", "pod"),
    ]
    wanted = {"--zone=us-east5-a", "--accelerator-type=v6e-64", "--spot"}
    assert wanted < set(words)
    command = shlex.split(printed("tpu", *place, "--directory=~/a clone", *RUN))
    assert command[:6] == ["gcloud", "compute", "tpus", "tpu-vm", "ssh", "pod"]
    assert "--worker=all" in command
    there = command[-1].removeprefix("--command=")
    assert there.startswith("cd ~/'a clone' && exec ")
    run = [".venv/bin/python", "-m", "experiments.run", *WORDS, "--processes=tpu"]
    assert shlex.split(there)[4:] == run


def test_a_jobset_has_what_was_asked_for(printed):
    given = ("--image=me/mesa:1", "--claim=disk", "--pods=3", "--gpus_per_pod=8")
    made = json.loads(printed("kubernetes", *given, "--name=mine", *RUN))
    assert (made["kind"], made["metadata"]["name"]) == ("JobSet", "mine")
    (job,) = made["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]
    assert (spec["parallelism"], spec["completions"]) == (3, 3)
    assert spec["completionMode"] == "Indexed"
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": 8}
    assert container["image"] == "me/mesa:1"
    # a pod is called after JobSet, job, its number and the pod's, in the subdomain
    first = f"{made['metadata']['name']}-{job['name']}-0-0"
    host = f"{first}.{made['spec']['network']['subdomain']}"
    (variable,) = container["env"]
    assert container["command"] == [
        *("mesa-jax", "run", *WORDS),
        f"--coordinator={host}:{container['ports'][0]['containerPort']}",
        *("--processes=3", f"--process=$({variable['name']})"),
    ]
    claim = pod["volumes"][0]["persistentVolumeClaim"]["claimName"]
    assert claim == "disk"
    assert pod["volumes"][0]["name"] == container["volumeMounts"][0]["name"]


def test_one_pod_needs_no_others(printed):
    given = ("--image=i", "--claim=c", "--", "run", "--workdir=/runs/$(HOME)")
    made = json.loads(printed("kubernetes", *given))
    (job,) = made["spec"]["replicatedJobs"]
    (container,) = job["template"]["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["mesa-jax", "run", "--workdir=/runs/$$(HOME)"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("slurm", "--", "run", "--seeds=3"), "--workdir must be given"),
        (("slurm", "--", "evaluate", "--workdir=a"), "must be one of run"),
        (
            ("slurm", "--", "run", "--workdir=a", "--process=1"),
            "--process must be left",
        ),
        (
            ("slurm", "--time=a b", "--", "run", "--workdir=a"),
            "--time must be one word",
        ),
        (("slurm",), "must be LAUNCH"),
        (("tpu", "--zone=z", "--", "run", "--workdir=a"), "--directory must be given"),
        (("tpu", "--name=a", "--zone=z"), "must be a launch"),
        (("kubernetes", "--claim=c", "--", "run", "--workdir=a"), "--image must be"),
    ],
)
def test_what_does_not_fit_is_said_and_nothing_starts(arguments, said, capsys):
    name, *rest = arguments
    assert launching.command(f"launch.{name}", *rest) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""
