"""What launches on other machines share: the launch that they start, and --dry_run."""

import shlex
import subprocess
import sys

from absl import flags as absl_flags

from mesa_jax.settings import SettingError, known

absl_flags.disclaim_key_flags()  # they belong to the launch that asks for them
FLAGS = absl_flags.FLAGS
TOGETHER = ("run", "collect", "meta_train", "online")  # on several processes
OWN = ("coordinator", "processes", "process")  # flags that say who computes together
LIMIT = 2**20  # of processes
PACKAGE = __package__.rpartition(".")[0]


def define() -> None:
    absl_flags.DEFINE_bool("dry_run", False, "only print what would be started")


def define_machine(directory: str | None = None, python: str = "python") -> None:
    """Defines where the launch is started on the other machines."""
    absl_flags.DEFINE_string(
        "directory", directory, "folder of the clone on those machines (required)"
    )
    absl_flags.DEFINE_string("python", python, "the environment's Python there")


def checked(words: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the launch and its flags, as given behind `--`.

    Raises:
      SettingError: if it is no launch of several processes, without a workdir, or says
        itself which process it is.
    """
    name, *given = words
    known("arguments", name, TOGETHER)
    names = [word.lstrip("-").split("=")[0] for word in given if word[:1] == "-"]
    if "workdir" not in names:
        raise SettingError("workdir", "", "given among the launch's flags, behind --")
    if taken := [word for word in names if word in OWN]:
        allowed = f"left out behind --, where {', '.join(OWN)} are added"
        raise SettingError(taken[0], "given", allowed)
    return words


def needed(name: str) -> str:
    """Returns the value of a flag that has no default.

    Raises:
      SettingError: if it was not given.
    """
    value = FLAGS[name].value
    if not value:
        raise SettingError(name, value or "", "given")
    return value


def directory() -> str:
    """Returns --directory as a shell reads it; `~/` is the home there."""
    place = needed("directory")
    home = "~/" * place.startswith("~/")
    return home + shlex.quote(place.removeprefix("~/") or ".")


def python_command(words: tuple[str, ...], python: str) -> list[str]:
    """Returns the command that starts a launch with its flags."""
    name, *given = words
    return [python, "-m", f"{PACKAGE}.{name}", *given]


def said(command: list[str]) -> str:
    """Returns a command as a shell reads it."""
    return shlex.join(command)


def start(command: list[str], text: str = "") -> None:
    """Starts a command with a text as its input, or prints both (--dry_run).

    Raises:
      SystemExit: with the command's exit code, if that is not 0.
    """
    if FLAGS.dry_run:
        print(text or said(command), end="" if text.endswith("\n") else "\n")
        return
    sys.stdout.flush()
    ended = subprocess.run(command, input=text or None, encoding="utf-8")
    if ended.returncode:
        sys.exit(ended.returncode)
