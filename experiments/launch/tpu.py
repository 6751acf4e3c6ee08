"""Starts one launch on all hosts of a TPU slice, by gcloud.

python -m experiments.launch.tpu --name=pod --zone=us-east5-a --create --accelerator_type=v5litepod-64
python -m experiments.launch.tpu --name=pod --zone=us-east5-a --directory=mesa_jax -- run --workdir=DIR

The first asks for the slice (a queued resource), the second starts the launch there. A
host needs the clone with its environment; the first one alone needs the workdir.
"""  # noqa: E501, a command is one line

from absl import flags as absl_flags

from mesa_jax.settings import SettingError

from .. import flags
from . import commands

FLAGS = absl_flags.FLAGS
TPUS = ["gcloud", "compute", "tpus"]


def queued() -> list[str]:
    """Returns the command that asks for the slice.

    Raises:
      SettingError: if what it takes is not given.
    """
    name = commands.needed("name")
    asked = [
        *(*TPUS, "queued-resources", "create", name, f"--node-id={name}"),
        *_where(),
        f"--accelerator-type={commands.needed('accelerator_type')}",
        f"--runtime-version={FLAGS.runtime_version}",
    ]
    return [*asked, *["--spot"] * FLAGS.spot]


def on_every_host(words: tuple[str, ...]) -> list[str]:
    """Returns the command that starts a launch on all hosts.

    Args:
      words: the launch and its flags.

    Raises:
      SettingError: if what it takes is not given.
    """
    command = commands.python_command((*words, "--processes=tpu"), FLAGS.python)
    there = f"cd {commands.directory()}"
    return [
        *(*TPUS, "tpu-vm", "ssh", commands.needed("name"), *_where()),
        "--worker=all",
        f"--command={there} && exec {commands.said(command)}",
    ]


def _where() -> list[str]:
    project = [f"--project={FLAGS.project}"] if FLAGS.project else []
    return [f"--zone={commands.needed('zone')}", *project]


def main(*words: str) -> None:
    if FLAGS.create and words:
        raise SettingError("create", "true", "without a launch: the slice comes first")
    if not FLAGS.create and not words:
        raise SettingError("arguments", "", "a launch and its flags behind --")
    made = queued() if FLAGS.create else on_every_host(commands.checked(words))
    commands.start(made)


if __name__ == "__main__":
    commands.define()
    commands.define_machine(python=".venv/bin/python")
    absl_flags.DEFINE_string("name", None, "of the slice (required)")
    absl_flags.DEFINE_string("zone", None, "of the slice (required)")
    absl_flags.DEFINE_string("project", None, "of the slice, if not gcloud's own")
    absl_flags.DEFINE_bool("create", False, "ask for the slice, as a queued resource")
    absl_flags.DEFINE_string("accelerator_type", None, "e.g. v5litepod-64 (--create)")
    absl_flags.DEFINE_string(
        "runtime_version", "v2-alpha-tpuv5-lite", "software of its hosts (--create)"
    )
    absl_flags.DEFINE_bool("spot", False, "preemptible, and cheaper (--create)")
    flags.run(main, "[LAUNCH]", "...", paths=False)
