"""Starts a launch by its name: `mesa-jax NAME --flag=value ...`, from any directory.

In a clone `python -m experiments NAME ...` does the same.
"""

import ast
import difflib
import pathlib
import runpy
import sys

import mesa_jax

from . import begin, endings

LAUNCHES = (  # as they are listed: the main job, its parts, what is measured, the rest
    "run",
    "collect",
    "meta_train",
    "online",
    "plot",
    "report",
    "render",
    "export",
    "evaluate",
    "tabulate",
    "thresholds",
    "filter_test",
    "data",
    "tune",
    "ls",
    "show",
    "compare",
    "merge",
    "rm",
    "launch.here",
    "launch.slurm",
    "launch.tpu",
    "launch.kubernetes",
    "benchmark",
    "doctor",
)
COMMAND = "python -m experiments" if __package__ == "experiments" else "mesa-jax"


def main() -> None:
    """Starts the launch that the command line names, or lists all.

    Raises:
      SystemExit: with 2 where there is no launch of that name.
    """
    name, *rest = sys.argv[1:] or ["--help"]
    if name in ("--help", "-h", "help"):
        endings.run(lambda: print(listing(), flush=True), ())
    elif name == "--version":
        print(f"mesa_jax {mesa_jax.__version__}")
    elif name in LAUNCHES:
        begin()
        sys.argv[1:] = rest
        sys.path.append("")  # --domain=module:maker, of the folder one works in
        runpy.run_module(f"{__package__}.{name}", run_name="__main__", alter_sys=True)
    else:
        print(unknown(name), file=sys.stderr)
        sys.exit(2)


def listing() -> str:
    """Returns every launch with its docstring's first line."""
    width = max(map(len, LAUNCHES))
    lines = [f"  {name:{width}}  {_first_line(name)}" for name in LAUNCHES]
    return "\n".join(
        (
            f"{COMMAND} NAME --flag=value ...   starts one of these:",
            "",
            *lines,
            "",
            f"{COMMAND} NAME --help lists the flags of one.",
        )
    )


def unknown(name: str) -> str:
    """Returns what is said where no launch has that name."""
    if name.startswith("-"):
        reason = f"{name!r} stands before the launch's name"
    else:
        reason = f"there is no launch {name!r}"
        near = difflib.get_close_matches(name, LAUNCHES, n=1)
        reason += f"; the nearest is {near[0]!r}" if near else ""
    return f"{COMMAND}: {reason}. `{COMMAND}` lists all."


def _first_line(name: str) -> str:
    """Reads the docstring's first line without importing, which takes seconds."""
    path = pathlib.Path(__file__).parent.joinpath(*name.split(".")).with_suffix(".py")
    source = path.read_text(encoding="utf-8")
    return ast.get_docstring(ast.parse(source)).split("\n")[0]


if __name__ == "__main__":
    main()
