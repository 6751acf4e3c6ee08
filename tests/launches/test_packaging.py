"""What a wheel holds, and that the launches in it work from any directory."""

import ast
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile

import pytest

from experiments import __main__ as command
from experiments import findings

ROOT = pathlib.Path(__file__).parents[2]
FILES = ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE")
FOLDERS = ("mesa_jax", "experiments", "tests")
TEMPLATES = {f"mesa_jax/report/templates/page.{x}" for x in ("html", "css", "js")}
OF_DEVELOPERS = {"__main__", "probe_sac", "selftest"}  # started, and not listed


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> pathlib.Path:
    """A copy of the sources, so that no build is left in them."""
    place = tmp_path_factory.mktemp("tree")
    for name in FILES:
        shutil.copy(ROOT / name, place)
    for name in FOLDERS:
        without = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, place / name, ignore=without)
    return place


def built(tree: pathlib.Path, kind: str) -> pathlib.Path:
    """Builds a wheel or an sdist by pip's hook, without its isolation and network."""
    source = f"from setuptools import build_meta as b; b.build_{kind}('dist')"
    call = [sys.executable, "-c", source]
    subprocess.run(call, cwd=tree, check=True, capture_output=True)
    (found,) = (tree / "dist").glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return found


@pytest.fixture(scope="module")
def wheel(tree) -> pathlib.Path:
    return built(tree, "wheel")


def test_the_wheel_holds_the_package_its_presets_and_the_launches(wheel):
    ours, data = ROOT / "mesa_jax", ("*.json", "templates/page.*")
    package = [*ours.rglob("*.py"), *(path for d in data for path in ours.rglob(d))]
    wanted = {path.relative_to(ROOT).as_posix() for path in package}
    examples = (ROOT / "experiments" / "examples").glob("*.py")
    launches = (path.relative_to(ROOT) for path in (*LAUNCH_FILES, *examples))
    wanted |= {f"mesa_jax/{path.as_posix()}" for path in launches}
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert {"mesa_jax/study/chosen.json", *TEMPLATES} <= wanted
    assert names == wanted


def test_the_wheel_says_which_pythons_and_which_command(wheel):
    with zipfile.ZipFile(wheel) as archive:
        told = {
            name.rpartition("/")[2]: archive.read(name).decode()
            for name in archive.namelist()
            if ".dist-info/" in name
        }
    least = ".".join(map(str, findings.PYTHON))
    lines = told["METADATA"].splitlines()
    assert f"Requires-Python: >={least}" in lines
    assert f"Classifier: Programming Language :: Python :: {least}" in lines
    assert "mesa-jax = mesa_jax.experiments.__main__:main" in told["entry_points.txt"]
    assert told["top_level.txt"].split() == ["mesa_jax"]


def test_the_sdist_holds_what_the_wheel_is_built_of_and_no_tests(tree, wheel):
    with tarfile.open(built(tree, "sdist")) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert set(FILES) <= names
    with zipfile.ZipFile(wheel) as archive:
        modules = {name for name in archive.namelist() if ".dist-info/" not in name}
    moved = {name.replace("mesa_jax/experiments/", "experiments/") for name in modules}
    assert moved <= names
    assert not [name for name in names if name.startswith("tests")]


# Launches, here and in the wheel

LAUNCH_FILES = sorted(
    path
    for pattern in ("*.py", "launch/*.py")
    for path in (ROOT / "experiments").glob(pattern)
)


@pytest.mark.parametrize("path", LAUNCH_FILES, ids=lambda path: path.name)
def test_a_launch_imports_others_relatively(path):
    roots = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            roots |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            roots.add(node.module.split(".")[0])
    assert "experiments" not in roots  # in the wheel there is none


def test_every_launch_is_listed():
    started = {
        ".".join(path.relative_to(ROOT / "experiments").with_suffix("").parts)
        for path in LAUNCH_FILES
        if '__name__ == "__main__"' in path.read_text(encoding="utf-8")
    }
    assert started == set(command.LAUNCHES) | OF_DEVELOPERS


@pytest.fixture
def call(monkeypatch, capsys):
    """Calls the command in this process: exit code, output, errors."""

    def called(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mesa-jax", *arguments])
        code = 0
        try:
            command.main()
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return called


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",), ("help",)])
def test_the_command_lists_the_launches_with_a_line_each(call, arguments):
    code, out, err = call(*arguments)
    assert (code, err) == (0, "")
    words = [line.split() for line in out.splitlines()]
    assert ["collect", "Collects", "the", "offline"] in [line[:4] for line in words]
    assert [line.split()[0] for line in out.splitlines() if line.startswith("  ")] == [
        *command.LAUNCHES
    ]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("rnu", "no launch 'rnu'; the nearest is 'run'."),
        ("meta-train", "no launch 'meta-train'; the nearest is 'meta_train'."),
        ("xyzzy", "no launch 'xyzzy'. "),
        ("flags", "no launch 'flags'"),  # a module, and none
        ("--seeds=3", "'--seeds=3' stands before the launch's name"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(call, name, said):
    code, out, err = call(name)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 1


def test_the_command_in_a_clone_hands_over_flags_and_exit_code(tmp_path):
    started = [sys.executable, "-m", "experiments", "plot", f"--workdir={tmp_path}"]
    done = subprocess.run(
        started, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert f"{tmp_path} is no workdir" in done.stderr


@pytest.mark.slow
def test_the_installed_command_works_from_another_directory(wheel, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    bin_ = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    work = tmp_path / "elsewhere"
    work.mkdir()

    def said(program: str, *arguments) -> str:
        done = subprocess.run(
            [bin_ / program, *arguments],
            cwd=work,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    asked = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = pathlib.Path(said("python", "-c", asked).strip())
    installed = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel)
    said("python", *installed)
    # the other packages are this environment's; its own .pth files are not heard there
    (site / "others.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")

    assert not (site / "experiments").exists()
    where = "import mesa_jax.experiments.flags as f; print(f.__file__)"
    assert site in pathlib.Path(said("python", "-c", where).strip()).parents
    assert len(said("mesa-jax").splitlines()) > len(command.LAUNCHES)
    helped = said("mesa-jax", "plot", "--help")
    assert "mesa-jax plot --workdir=DIR" in helped and "python -m" not in helped
    small = (
        "--data_train_bodies=5",
        "--data_transitions=500",
        "--seeds=1",
        "--data_adaptation=20",
        "--workdir=w",
    )
    assert "1 test bodies x 20 adaptation" in said("mesa-jax", "collect", *small)
    assert (work / "w" / "config.json").exists()
