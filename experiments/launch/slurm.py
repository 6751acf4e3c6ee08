"""Submits one launch as a Slurm job, a process a node.

python -m experiments.launch.slurm --nodes=2 --gpus_per_node=8 -- run --workdir=DIR

The workdir lies where the first node sees it. --dry_run prints the batch script, which
`sbatch` gets otherwise. `run` finds the other nodes by Slurm's own variables.
"""

import pathlib
import re

from absl import flags as absl_flags

from mesa_jax.settings import SettingError

from .. import flags
from ..whole import define_integer
from . import commands

FLAGS = absl_flags.FLAGS
NOTICE = 120  # seconds before the time is up at which processes are asked to end
SCRIPT = """\
#!/bin/bash
{options}
set -euo pipefail
cd {directory}
{setup}exec srun {of_srun}{command}
"""


def script(words: tuple[str, ...]) -> str:
    """Returns the batch script of a launch.

    Args:
      words: the launch and its flags.

    Raises:
      SettingError: if the directory is not given, or a value has a space.
    """
    cpus = FLAGS.cpus_per_node
    values = {
        "job-name": FLAGS.job_name,
        "nodes": FLAGS.nodes,
        "ntasks-per-node": 1,
        "gpus-per-node": FLAGS.gpus_per_node or None,
        "cpus-per-task": cpus,
        "time": FLAGS.time,
        "partition": FLAGS.partition,
        "account": FLAGS.account,
        "signal": f"TERM@{NOTICE}",
        "open-mode": "append",
        "output": f"{FLAGS.job_name}-%j.log",
    }
    lines = []
    for name, value in values.items():
        if value is not None:
            if not re.fullmatch(r"[\w.,:%@/+-]+", str(value)):
                raise SettingError(name.replace("-", "_"), value, "one word")
            lines.append(f"#SBATCH --{name}={value}")
    if FLAGS.requeue:
        lines.append("#SBATCH --requeue")
    command = commands.python_command(words, FLAGS.python)
    of_srun = "--kill-on-bad-exit=1 " + (f"--cpus-per-task={cpus} " if cpus else "")
    return SCRIPT.format(
        options="\n".join(lines),
        directory=commands.directory(),
        setup=f"{FLAGS.setup}\n" if FLAGS.setup else "",
        of_srun=of_srun,
        command=commands.said(command),
    )


def main(*words: str) -> None:
    commands.start(["sbatch"], script(commands.checked(words)))


if __name__ == "__main__":
    commands.define()
    commands.define_machine(directory=str(pathlib.Path.cwd()))
    define_integer("nodes", 1, "how many nodes", 1, commands.LIMIT)
    define_integer("gpus_per_node", 0, "GPUs of a node; 0 for none", 0, 1024)
    define_integer("cpus_per_node", None, "CPU cores of a node", 1, 2**16)
    absl_flags.DEFINE_string("time", None, "its limit, as Slurm writes it (12:00:00)")
    absl_flags.DEFINE_string("partition", None, "the partition")
    absl_flags.DEFINE_string("account", None, "the account")
    absl_flags.DEFINE_string("job_name", "mesa_jax", "name of the job and its log")
    absl_flags.DEFINE_string("setup", None, "a line before, e.g. 'module load cuda'")
    absl_flags.DEFINE_bool("requeue", True, "start again after a preemption")
    flags.run(main, "LAUNCH", "...", paths=False)
