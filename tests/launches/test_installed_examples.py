"""Each example from an installed wheel, in an empty environment with its own extras."""

import ast
import os
import re
import shlex
import subprocess
import sys

import pytest

from tests.launches.test_packaging import ROOT, tree, wheel  # noqa: F401

EXAMPLES = ROOT / "experiments" / "examples"
HERE = "mesa_jax.experiments."  # what the launches are called in a wheel
NAMES = sorted(path.stem for path in EXAMPLES.glob("[a-z]*.py"))


def said_of(name: str) -> tuple[list[str], str]:
    """Returns the extras that an example's first line names, and its command."""
    source = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    text = ast.get_docstring(ast.parse(source))
    needs = re.search(r"(no extra|extras?) ?([\w ,]*)", text.splitlines()[0])
    extras = [] if needs[1] == "no extra" else re.split(r",| and ", needs[2])
    command = re.search(r"^python -m experiments\.(.+(?:\\\n.+)*)", text, re.M)
    return [extra for extra in map(str.strip, extras) if " " not in extra], command[1]


@pytest.mark.parametrize("name", NAMES)
def test_the_first_line_names_extras_and_a_command_follows(name):
    extras, command = said_of(name)
    known = (ROOT / "setup.py").read_text(encoding="utf-8")
    assert all(f'"{extra}": [' in known for extra in extras)
    assert name in command


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_an_example_runs_from_a_wheel_in_an_empty_environment(name, wheel, tmp_path):  # noqa: F811
    extras, command = said_of(name)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    asked = f"{wheel}[{','.join(extras)}]" if extras else str(wheel)
    pip = [python, "-m", "pip", "install", "--quiet", asked]
    installed = subprocess.run(pip, capture_output=True, text=True, check=False)
    if installed.returncode and "No matching distribution" in installed.stderr:
        pytest.skip(f"packages can not be fetched: {installed.stderr[-300:]}")
    assert installed.returncode == 0, installed.stderr[-2000:]
    work = tmp_path / "elsewhere"
    work.mkdir()
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    words = shlex.split(command.replace("\\\n", " ").replace("experiments.", HERE))
    done = subprocess.run(
        [python, "-m", f"{HERE}{words[0]}", *words[1:]],
        cwd=work,
        env=environment | {"XLA_FLAGS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "violations" in done.stdout
