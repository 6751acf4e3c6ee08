"""--coordinator, --processes, --process: which processes compute one launch together.

Without flags the environment says it: a Slurm step of several tasks, Open MPI's mpirun,
the hosts of a TPU slice in Kubernetes. One process imports and asks nothing more.
"""

import contextlib
import os
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import jax
from absl import flags

import mesa_jax
from mesa_jax.settings import SettingError
from mesa_jax.study import switches, together

from . import device, rollcall
from .rollcall import ProcessesError
from .whole import define_integer, integer

flags.disclaim_key_flags()  # they belong to the launch that asks for them
FLAGS = flags.FLAGS
TPU = "tpu"
COUNTS = "auto, tpu, or how many processes compute together"
MOST = 2**20
OWN = ("process",)  # the flags that differ between processes
PORTS = 2**12  # the last ones, of which a Slurm or Open MPI job has one by its number


class Processes(NamedTuple):
    """Says who computes together, and which of them this process is."""

    coordinator: str  # host:port of process 0
    count: int
    index: int


BY_JAX = Processes("", 0, 0)  # a TPU slice, of which JAX finds all by itself


def define() -> None:
    flags.DEFINE_string("processes", "auto", f"{COUNTS} (default auto)")
    define_integer("process", None, "which of them this is, from 0 on")
    flags.DEFINE_string(
        "coordinator", None, "host:port at which the others reach process 0"
    )
    define_integer("coordinator_timeout", 60, "seconds to wait for the others", 1)


def join() -> None:
    """Joins the other processes, where flags or the environment say that there are any.

    No device may have been asked for before.

    Raises:
      SettingError: if flags and environment do not say enough.
      ProcessesError: if the others are not there in time, or have other flags.
      DeviceError: if there is no device.
    """
    found = None
    if "processes" in FLAGS:
        asked = FLAGS.processes, FLAGS.coordinator, FLAGS.process
        found = described(*asked, os.environ)
    if found is not None:
        _initialize(found, FLAGS.coordinator_timeout)
    device.require_device()
    if found is not None:
        _require_same_launch()


def _initialize(found: Processes, seconds: int) -> None:
    """Makes JAX's own connections."""
    if found != BY_JAX:
        rollcall.call(*found, seconds)
    # of CPUs; GPUs and TPUs have their own
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # it would take SIGTERM from us
    jax.config.update("jax_enable_preemption_service", False)
    if found == BY_JAX:
        jax.distributed.initialize(initialization_timeout=seconds)
    else:
        jax.distributed.initialize(
            *found,
            initialization_timeout=seconds,
            cluster_detection_method="deactivate",
        )


def _require_same_launch() -> None:
    """Raises ProcessesError where processes were started with other flags."""
    given = FLAGS.flag_values_dict()
    mine = [os.path.basename(sys.argv[0]), switches.recorded()]
    mine += [mesa_jax.__version__, jax.__version__]
    mine += [f"{name}={given[name]}" for name in sorted(given) if name not in OWN]
    others = together.differing(rollcall.digest("\n".join(mine)))
    if others:
        raise ProcessesError(
            f"process {', '.join(map(str, others))} has other flags, versions or "
            "switches than process 0. Processes that compute together have the same; "
            "--processes=1 says that each is a launch of its own."
        )


def described(
    processes: str, coordinator: str | None, process: int | None, environ: Mapping
) -> Processes | None:
    """Returns who computes together; None where this process does so alone.

    Args:
      processes, coordinator, process: of the flags; they go before the environment.
      environ: its variables by name.

    Raises:
      SettingError: naming the flag that is missing or wrong.
    """
    count = integer(processes)
    if processes not in ("auto", TPU) and not 1 <= (count or 0) <= MOST:
        raise SettingError("processes", processes, COUNTS)
    if count == 1:
        return None
    around = by_slurm(environ) or by_open_mpi(environ)
    if (count, coordinator, process) == (None, None, None):
        if processes == TPU or (around is None and in_tpu_pod(environ)):
            return BY_JAX
        if around is None:
            return None
    around = around or Processes("", 0, -1)
    count = count or around.count
    index = around.index if process is None else process
    address = around.coordinator if coordinator is None else coordinator
    if not count:
        allowed = "their number where --coordinator or --process is given"
        raise SettingError("processes", processes, allowed)
    if not 0 <= index < count:
        allowed = f"0 to {count - 1}, another one in each process"
        raise SettingError("process", process, allowed)
    if not re.fullmatch(r"\S+:\d{1,5}", address):
        allowed = "host:port of process 0, as the other processes reach it"
        raise SettingError("coordinator", coordinator, allowed)
    return Processes(address, count, index)


def by_slurm(environ: Mapping) -> Processes | None:
    """Returns what a Slurm step (srun) of several tasks says; None of another."""
    nodes, job = environ.get("SLURM_STEP_NODELIST"), environ.get("SLURM_JOB_ID", "")
    count = environ.get("SLURM_STEP_NUM_TASKS", environ.get("SLURM_NTASKS", ""))
    index = environ.get("SLURM_PROCID", "")
    if not (nodes and job.isdecimal() and count.isdecimal() and index.isdecimal()):
        return None
    if int(count) < 2:
        return None
    host = re.match(r"([^,\[]+)(?:\[(\w+))?", nodes)  # node[001-004,7],other: node001
    return Processes(
        f"{host[1]}{host[2] or ''}:{_port(int(job))}", int(count), int(index)
    )


def by_open_mpi(environ: Mapping) -> Processes | None:
    """Returns what mpirun of several ranks says; None of another.

    Process 0 is taken to be where mpirun is; of Open MPI 5, which does not say, the
    coordinator is "".
    """
    count = environ.get("OMPI_COMM_WORLD_SIZE", "")
    index = environ.get("OMPI_COMM_WORLD_RANK", "")
    if not (count.isdecimal() and index.isdecimal()) or int(count) < 2:
        return None
    said = environ.get("OMPI_MCA_orte_hnp_uri", "")  # 1531576320.0;tcp://10.0.0.1,..:3
    where = re.match(r"(\d+)\..*?tcp6?://\[?([^,\]]+?)(?:[,\]]|:\d+$)", said)
    address = f"{where[2]}:{_port(int(where[1]) // PORTS)}" if where else ""
    return Processes(address, int(count), int(index))


def in_tpu_pod(environ: Mapping) -> bool:
    """Tells whether this host is one of several of a TPU slice, as Kubernetes says."""
    hosts = environ.get("TPU_PROCESS_ADDRESSES", environ.get("TPU_WORKER_HOSTNAMES"))
    slices = environ.get("MEGASCALE_NUM_SLICES", "1")
    return "," in (hosts or "") or slices not in ("", "1")


def _port(number: int) -> int:
    return 2**16 - PORTS + number % PORTS


@contextlib.contextmanager
def heard() -> Iterator[None]:
    """Lets only the first process print; an error leaves it, and each says its own."""
    if together.is_first():
        yield
        return
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield


def is_launch() -> bool:
    """Returns whether this process is a launch's own, not one that calls a launch."""
    return sys.modules[__package__].begun


@contextlib.contextmanager
def ending() -> Iterator[None]:
    """Ends a process at once that failed beside others, or that a signal ended.

    JAX ends those who compute with it; a process that is done waits for the others, as
    JAX has it. What a signal left computing would meet an interpreter that is half
    taken down: a segmentation fault in place of the exit code.
    """
    try:
        yield
    except BaseException as error:
        code = error.code if isinstance(error, SystemExit) else 1
        signalled = is_launch() and isinstance(code, int) and code > 128
        if not (signalled or (code and together.joined())):
            raise
        if not isinstance(error, SystemExit):
            traceback.print_exc()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        os._exit(code if isinstance(code, int) else 1)
