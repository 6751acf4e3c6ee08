"""Which processes compute together, and that they find each other or say why not."""

import concurrent.futures
import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from experiments import processes, rollcall
from experiments.processes import Processes, described
from mesa_jax.settings import SettingError
from mesa_jax.study import checkpoints
from tests import launching

SLURM = {
    "SLURM_JOB_ID": "4097",  # 1 above a multiple of 4096: the second of the last ports
    "SLURM_STEP_NODELIST": "gpu[007-010,12],big1",
    "SLURM_STEP_NUM_TASKS": "5",
    "SLURM_PROCID": "3",
}
OPEN_MPI = {
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_RANK": "2",
    "OMPI_MCA_orte_hnp_uri": "8192.0;tcp://10.96.0.1,10.148.0.1:34911",  # job 2
}
OPEN_MPI_6 = OPEN_MPI | {"OMPI_MCA_orte_hnp_uri": "8192.0;tcp6://[fe80::1,fe80::2]:4"}
OPEN_MPI_5 = {k: v for k, v in OPEN_MPI.items() if "orte" not in k}
KUBERNETES = {"TPU_WORKER_HOSTNAMES": "t-0.pod,t-1.pod", "TPU_WORKER_ID": "1"}


@pytest.mark.parametrize(
    ("flags", "environ", "found"),
    [
        # nothing says that there are others
        (("auto", None, None), {}, None),
        (("auto", None, None), {"TPU_WORKER_HOSTNAMES": "localhost"}, None),
        (("auto", None, None), SLURM | {"SLURM_STEP_NUM_TASKS": "1"}, None),
        (("auto", None, None), OPEN_MPI | {"OMPI_COMM_WORLD_SIZE": "1"}, None),
        # a batch script's own shell, which is no step of srun
        (("auto", None, None), {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "4"}, None),
        # --processes=1 goes before the environment
        (("1", None, None), SLURM, None),
        # flags alone, and before the environment
        (("3", "a:1", 2), {}, Processes("a:1", 3, 2)),
        (("3", "a:1", 2), SLURM, Processes("a:1", 3, 2)),
        (("auto", "a:1", None), SLURM, Processes("a:1", 5, 3)),
        # the environment alone: 61440 is 65536 - 4096
        (("auto", None, None), SLURM, Processes("gpu007:61441", 5, 3)),
        (
            ("auto", None, None),
            SLURM | {"SLURM_STEP_NODELIST": "a,b"},
            Processes("a:61441", 5, 3),
        ),
        (("auto", None, None), OPEN_MPI, Processes("10.96.0.1:61442", 4, 2)),
        (("auto", None, None), OPEN_MPI_6, Processes("fe80::1:61442", 4, 2)),
        (("auto", "a:1", None), OPEN_MPI_5, Processes("a:1", 4, 2)),
        # TPU slices: JAX finds the rest
        (("auto", None, None), KUBERNETES, processes.BY_JAX),
        (("auto", None, None), {"MEGASCALE_NUM_SLICES": "2"}, processes.BY_JAX),
        (("tpu", None, None), {}, processes.BY_JAX),
    ],
)
def test_flags_and_environment_say_who_computes_together(flags, environ, found):
    assert described(*flags, environ) == found


@pytest.mark.parametrize(
    ("flags", "environ", "said"),
    [
        (("0", None, None), {}, "processes must be auto"),
        (("many", None, None), {}, "processes must be"),
        (("auto", "a:1", 0), {}, "processes must be their number"),
        (("2", "a:1", None), {}, "process must be 0 to 1"),
        (("2", "a:1", 2), {}, "process must be 0 to 1"),
        (("2", None, 0), {}, "coordinator must be host:port"),
        (("2", "a", 0), {}, "coordinator must be host:port"),
        (("auto", None, None), OPEN_MPI_5, "coordinator must be host:port"),
    ],
)
def test_what_is_missing_is_named(flags, environ, said):
    with pytest.raises(SettingError, match=said):
        described(*flags, environ)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def called(count: int, indices, seconds: float) -> list[str]:
    """What each of some processes says at the roll call, "" where all were there."""
    address = f"127.0.0.1:{free_port()}"

    def one(index):
        try:
            rollcall.call(address, count, index, seconds)
        except rollcall.ProcessesError as error:
            return str(error)
        return ""

    with concurrent.futures.ThreadPoolExecutor() as pool:
        return list(pool.map(one, indices))


def test_processes_find_each_other():
    assert called(4, (0, 2, 1, 3), 60.0) == [""] * 4


def test_who_did_not_come_is_named_to_all():
    first, other = called(4, (0, 2), 1.0)
    assert first.startswith("process 1, 3 of 4 did not come to 127.0.0.1:")
    assert "waited 1 s for process 1,3" in other


def test_a_taken_port_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(rollcall.ProcessesError, match=f"listen at port {port}"):
            rollcall._gather("", port, 2, 0.0, 1.0)


@pytest.mark.parametrize("index", [0, 1])
def test_a_launch_whose_coordinator_is_out_of_reach_ends(index, capsys, tmp_path):
    code = launching.command(
        "meta_train",
        f"--coordinator=127.0.0.1:{free_port()}",
        "--processes=2",
        f"--process={index}",
        "--coordinator_timeout=1",
        f"--workdir={tmp_path / 'w'}",
    )
    said = capsys.readouterr().err
    assert code == 2
    assert ["did not come to", "did not reach process 0 at"][index] in said
    assert "--coordinator_timeout waits longer" in said
    assert "Traceback" not in said
    assert not (tmp_path / "w").exists()


# Two processes, whole launches


def same_launch(place, *before: str) -> None:
    """Meta-trains a prior and runs it online, very small."""
    values = [
        f"--{section}_{field}={','.join(map(str, given))}"
        if isinstance(given, tuple)
        else f"--{section}_{field}={given}"
        for section, fields in launching.TINY.items()
        for field, given in fields.items()
    ]
    asked = ("--methods=unconstrained,mesa", "--seeds=3", f"--workdir={place}")
    command = [sys.executable, "-m", *before, *asked, *values]
    ended = subprocess.run(
        command,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        encoding="utf-8",
    )
    assert ended.returncode == 0, ended.stderr[-3000:]


@pytest.mark.slow
def test_two_processes_agree_with_one(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    same_launch(one, "experiments.online")
    same_launch(two, "experiments.launch.here", "--processes=2", "--", "online")
    assert launching.csv_of(one) == launching.csv_of(two)
    folders = sorted(path.name for path in (one / "checkpoints").iterdir())
    assert [name.split("-")[0] for name in folders] == ["adapted", "maml", "online"]
    for name in folders:
        theirs = two / "checkpoints" / name
        step = checkpoints.steps(theirs)[-1]
        found = checkpoints.read(theirs, step)
        for leaf, alone in checkpoints.read(one / "checkpoints" / name, step).items():
            finite = np.isfinite(alone)
            largest = max(1.0, np.abs(alone[finite].astype(float)).max(initial=0))
            np.testing.assert_allclose(
                found[leaf], alone, rtol=0, atol=1e-6 * largest, err_msg=leaf
            )


@pytest.mark.slow
def test_other_flags_are_refused_by_all(tmp_path):
    address = f"127.0.0.1:{free_port()}"
    base = [sys.executable, "-m", "experiments.collect", f"--coordinator={address}"]
    base += ["--processes=2", f"--workdir={tmp_path / 'w'}"]
    started = [
        subprocess.Popen(
            [*base, f"--process={i}", f"--seeds={i + 1}"],
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        for i in range(2)
    ]
    for process in started:
        _, said = process.communicate()
        assert process.returncode == 2
        assert "process 1 has other flags" in said
        assert "Traceback" not in said
    assert not (tmp_path / "w").exists()
