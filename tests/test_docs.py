"""Documents: the snippet runs, commands parse, links and names hold, the map fits."""

import ast
import csv
import functools
import math
import os
import pathlib
import re
import subprocess
from unittest import mock

import numpy as np
import pytest
from absl import flags as absl_flags

import mesa_jax
from experiments import flags
from mesa_jax.report import measures, statistics

ROOT = pathlib.Path(__file__).parent.parent
README, WORKSPACE = ROOT / "README.md", ROOT / "WORKSPACE.md"
PAGES = sorted(
    [
        README,
        WORKSPACE,
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "experiments" / "results").glob("*.md"),
    ]
)
COMMAND = re.compile(  # a launch; examples take no flags
    r"^(?:python -m experiments\.(?!examples\.)|mesa-jax )([\w.]+)(.*)$"
)
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")
PATH = re.compile(r"`((?:mesa_jax|experiments|tests|docs)/[\w./-]*)`")
NO_LAUNCHES = {"__init__", "__main__", "flags", "endings", "device", "helping"}
LAUNCHES = sorted(
    ".".join(path.relative_to(ROOT / "experiments").with_suffix("").parts)
    for pattern in ("*.py", "launch/*.py")
    for path in (ROOT / "experiments").glob(pattern)
    if path.stem not in NO_LAUNCHES and "__main__" in path.read_text(encoding="utf-8")
)


def name_of(path: pathlib.Path) -> str:
    return str(path.relative_to(ROOT))


def file_of(launch: str) -> pathlib.Path:
    return (ROOT / "experiments").joinpath(*launch.split(".")).with_suffix(".py")


def text_of(path: pathlib.Path) -> str:
    return path.read_text(encoding="utf-8")


def commands(text: str) -> list[tuple[str, list[str]]]:
    """Returns the launches in a page's sh blocks, each with its arguments."""
    found = []
    for language, body in BLOCK.findall(text):
        if language != "sh":
            continue  # text: of a revision that is named beside it
        for line in body.replace("\\\n", " ").splitlines():
            if match := COMMAND.match(line.split("  #")[0].strip()):
                found.append((match[1], match[2].split()))
    return found


@functools.cache
def values_of(launch: str) -> absl_flags.FlagValues:
    """Returns the flags that a launch defines; it does not run."""
    defined, path = absl_flags.FlagValues(), file_of(launch)
    if not re.search(r"flags\.run(_with_arguments)?\(", text_of(path)):
        return defined  # it takes none
    before = set(absl_flags.FLAGS)

    def stop(*arguments, **options):
        pass

    program = compile(text_of(path), path, "exec")
    names = {
        "__name__": "__main__",
        "__package__": ".".join(["experiments", *launch.split(".")[:-1]]),
        "__file__": str(path),
    }
    with mock.patch.object(flags, "run", stop):
        exec(program, names)
    for name in set(absl_flags.FLAGS) - before:
        defined[name] = absl_flags.FLAGS[name]
        delattr(absl_flags.FLAGS, name)
    return defined


def parse(launch: str, arguments: list[str]) -> None:
    """Parses a launch's arguments.

    Raises:
      absl.flags.Error: if a flag is unknown or its value of another type.
    """
    assert launch in LAUNCHES, f"there is no launch {launch!r}"
    given = [word for word in arguments if word != "--help"]
    positional = values_of(launch)([launch, *given])[1:]
    source = text_of(file_of(launch))
    words = re.findall(
        r'"(\S+)"', (re.findall(r"flags\.run\(main(.*)\)", source) or [""])[0]
    )
    needed = sum(word[0] not in "[." for word in words)
    most = math.inf if "..." in words else len(words)
    assert needed <= len(positional) <= most, positional


def slug(heading: str) -> str:
    """Returns the anchor that hosts give to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def headings(text: str) -> list[str]:
    outside = BLOCK.sub("", text)
    return re.findall(r"^#+ (.+)$", outside, re.MULTILINE)


def tracked() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [name for name in listed.stdout.splitlines() if (ROOT / name).exists()]


def test_the_snippet_runs(capsys):
    (snippet,) = [
        body for kind, body in BLOCK.findall(text_of(README)) if kind == "python"
    ]
    assert len([line for line in snippet.splitlines() if line.strip()]) <= 25
    exec(compile(snippet, "README.md", "exec"), {"__name__": "snippet"})
    assert re.search(r"\d+ violations in \d+ episodes", capsys.readouterr().out)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_of_a_page_parses(page):
    for launch, arguments in commands(text_of(page)):
        parse(launch, arguments)


def test_commands_are_found_and_wrong_ones_are_refused():
    text = "```sh\npython -m experiments.run --seeds=3 \\\n  --workdir=a  # why\n```\n"
    assert commands(text) == [("run", ["--seeds=3", "--workdir=a"])]
    assert commands(text.replace("sh", "text", 1)) == []
    with pytest.raises(absl_flags.Error, match="mesa_no_such_flag"):
        parse("run", ["--mesa_no_such_flag=3"])
    with pytest.raises(absl_flags.Error):
        parse("run", ["--meta_seed=many"])
    parse("merge", ["a", "b", "c", "--workdir=d"])
    for launch, words in (("run", ["a"]), ("show", []), ("ls", ["a", "b"])):
        with pytest.raises(AssertionError):
            parse(launch, words)


def test_every_command_of_the_script_parses(tmp_path):
    python, said = tmp_path / "python", tmp_path / "said"
    python.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >> "{said}"\n', encoding="utf-8")
    python.chmod(0o755)
    run = functools.partial(
        subprocess.run, check=True, timeout=60, env=os.environ | {"PYTHON": str(python)}
    )
    script = "bash", ROOT / "experiments" / "commands.sh"
    listed = run(script, capture_output=True, text=True).stdout.splitlines()
    pages = [line.partition(": ")[0] for line in listed]
    results = {path.stem for path in (ROOT / "experiments/results").glob("*.md")}
    assert set(pages) == results - {"README", "novelty_scores"}  # whose launch is gone
    run([*script, *(page for page in pages if page != "quickstart")])
    lines = sorted(set(said.read_text(encoding="utf-8").splitlines()))
    assert len(lines) > 50
    for line in lines:
        if line.startswith("-m experiments.examples."):
            continue
        module, *arguments = line.removeprefix("-m ").split()
        parse(module.removeprefix("experiments."), arguments)


def test_flags_that_pages_mention_exist():
    known = {name for launch in LAUNCHES for name in values_of(launch)}
    for page in PAGES:
        prose = re.sub(r"^```text\n.*?^```$", "", text_of(page), flags=re.M | re.S)
        mentioned = set(re.findall(r"(?<![\w-])--([a-z]\w*)", prose)) - {"help"}
        assert mentioned <= known, f"{name_of(page)}: {sorted(mentioned - known)}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    for link in (one or other for one, other in LINK.findall(text_of(page))):
        if re.match(r"[a-z]+:", link):
            continue
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        assert target.is_file(), f"{name_of(page)}: {link}"
        if anchor:
            anchors = [slug(heading) for heading in headings(text_of(target))]
            assert anchors.count(anchor) == 1, f"{name_of(page)}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_cited_files_exist(page):
    for path in PATH.findall(text_of(page)):
        assert (ROOT / path).exists(), f"{name_of(page)}: {path}"


@functools.cache
def definitions(module: pathlib.Path) -> set[str]:
    """Returns the dotted names that a module defines, nested ones too."""
    found = set()

    def visit(node, prefix):
        for child in ast.iter_child_nodes(node):
            named = (ast.FunctionDef, ast.ClassDef)
            name = f"{prefix}{child.name}" if isinstance(child, named) else None
            found.update({name} - {None})
            visit(child, f"{name}." if name else prefix)

    visit(ast.parse(text_of(module)), "")
    return found


def is_defined(name: str) -> bool:
    """Whether `package.module.function.inner` of mesa_jax is defined."""
    parts = name.split(".")
    for i in range(1, len(parts)):
        module = ROOT / "mesa_jax" / pathlib.Path(*parts[:i]).with_suffix(".py")
        if module.is_file() and ".".join(parts[i:]) in definitions(module):
            return True
    return False


def equations() -> list[tuple[str, str]]:
    section = text_of(ROOT / "docs" / "method.md").split("## Equation, function, test")[
        1
    ]
    rows = re.findall(r"^\|.*\| `([\w.]+)` \| `(test_\w+)` \|$", section, re.MULTILINE)
    assert len(rows) >= 40
    return rows


def test_every_equation_has_its_function_and_its_test():
    functions, tests = zip(*equations(), strict=True)
    known = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in definitions(path)
    }
    assert [name for name in functions if not is_defined(name)] == []
    assert [name for name in tests if name not in known] == []


def test_the_protocol_has_what_the_sources_cite():
    known = {
        heading.lower() for heading in headings(text_of(ROOT / "docs/protocol.md"))
    }
    for path in (name for name in tracked() if name.endswith((".py", ".sh"))):
        if path == "tests/test_docs.py":
            continue
        source = text_of(ROOT / path)
        cites = re.findall(r"\(protocol: ([^)]+)\)", " ".join(source.split()))
        cites += re.findall(r"# protocol: (.+)$", source, re.MULTILINE)
        for cited in cites:
            assert cited.lower().strip() in known, f"{path}: (protocol: {cited})"


def test_no_source_cites_a_document_that_is_not_here():
    for path in tracked():
        if (
            path.endswith((".py", ".md", ".sh", ".rst"))
            and path != "tests/test_docs.py"
        ):
            for cited in re.findall(r"[\w./-]*\b\w+\.md\b", text_of(ROOT / path)):
                places = (ROOT, (ROOT / path).parent, ROOT / "experiments")
                assert any((p / cited).exists() for p in places), f"{path}: {cited}"


def test_readme_and_workspace_are_short():
    for path in (README, WORKSPACE):
        assert len(text_of(path).splitlines()) < 200, name_of(path)


def mapped() -> set[str]:
    """Returns the paths of WORKSPACE's map."""
    body = text_of(WORKSPACE).split("## Map")[1].split("```")[1]
    paths = [line.split()[0] for line in body.splitlines() if line.strip()]
    assert len(paths) == len(set(paths))
    return set(paths)


def test_the_map_shows_what_there_is():
    paths = mapped()
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []
    leaves = [
        path
        for path in paths
        if path.endswith("/")
        and not any(p != path and p.startswith(path) for p in paths)
    ]
    missing = [
        name
        for name in tracked()
        if name not in paths
        and not any(name.startswith(leaf) for leaf in leaves)
        and f"{pathlib.PurePosixPath(name).parent}/" not in paths
    ]
    assert missing == []


def test_a_launch_has_a_line_in_the_launches_page():
    text = text_of(ROOT / "docs" / "launches.md")
    assert [name for name in LAUNCHES if f"| `{name}" not in text] == []


def test_every_result_is_in_the_index():
    index = text_of(ROOT / "experiments" / "results" / "README.md")
    pages = (ROOT / "experiments" / "results").glob("*.md")
    names = {page.name for page in pages} - {"README.md"}
    assert sorted(name for name in names if f"({name})" not in index) == []


@pytest.mark.parametrize(
    "page",
    [p for p in PAGES if p.parent.name == "results" and p.name != "README.md"],
    ids=name_of,
)
def test_a_result_has_its_revision_and_its_command(page):
    text = text_of(page)
    assert re.search(r"[Rr]evisions?:? .*?\b[0-9a-f]{7}\b", text, re.DOTALL)
    assert re.search(r"^```(sh|text)$", text, re.MULTILINE)


def test_the_version_is_the_same_everywhere():
    changelog = text_of(WORKSPACE).split("## Changelog")[1]
    newest = re.search(r"^- ([\d.]+):", changelog, re.MULTILINE)[1]
    cited = re.search(r"^version: (.+)$", text_of(ROOT / "CITATION.cff"), re.MULTILINE)[
        1
    ]
    assert (newest, cited) == (mesa_jax.__version__, mesa_jax.__version__)


def test_a_version_has_at_most_two_lines_in_the_changelog():
    changelog = text_of(WORKSPACE).split("## Changelog")[1].strip()
    entries = re.split(r"^(?=- \d)", changelog, flags=re.MULTILINE)
    assert [entry for entry in entries if len(entry.strip().splitlines()) > 2] == []


NUMBER = r"(\d[\d,]*(?:\.\d+)?)"
INTERVAL = re.compile(rf"{NUMBER}(?:<br>| )\[{NUMBER}, {NUMBER}\]")


def test_the_numbers_of_the_readme_stand_in_their_results():
    table = text_of(README).split("## Results")[1].split("## Launches")[0]
    rows = [
        line for line in table.splitlines() if line.startswith("| ") and "](" in line
    ]
    assert len(rows) >= 9
    for row in rows:
        page = text_of(ROOT / LINK.search(row)[1])
        measured = [tuple(map(_digits, found)) for found in INTERVAL.findall(page)]
        tables = _of_tables(page)
        cells = INTERVAL.findall(row)
        assert len(cells) >= 3
        for cell in cells:
            assert any(_rounds(numbers, cell) for numbers in measured), (row, cell)
            in_tables = any(_rounds(numbers, cell) for numbers in tables)
            assert in_tables or not tables, (row, cell)


def _of_tables(page: str) -> list[tuple[float, ...]]:
    """Means and intervals of every method and measure in the tables of a page."""
    found = []
    for name in sorted(set(re.findall(r"\((\w+\.csv)\)", page))):
        with open(ROOT / "experiments/results" / name, encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
        columns = lines[0].keys() - {"method", "seed", "meta_seed"}
        if not columns <= set(measures.LISTED):
            continue  # no table of runs
        for measure in columns:
            by_body: dict[str, dict[str, list[float]]] = {}
            for line in lines:
                of_method = by_body.setdefault(line["method"], {})
                of_method.setdefault(line["seed"], []).append(float(line[measure]))
            for bodies in by_body.values():
                means = np.array([np.mean(values) for values in bodies.values()])
                found.append(tuple(statistics.interval(means)))
    return found


def _digits(text: str) -> float:
    return float(text.replace(",", ""))


def _rounds(numbers: tuple[float, ...], cell: tuple[str, ...]) -> bool:
    """Whether measured numbers are those of a cell, at the cell's decimals."""
    places = [len(text.partition(".")[2]) for text in cell]
    shown = zip(numbers, cell, places, strict=True)
    return all(abs(x - _digits(text)) <= 0.5001 * 10.0**-n for x, text, n in shown)
