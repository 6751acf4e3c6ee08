"""Who may import whom (WORKSPACE.md), read from the sources."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "mesa_jax"
FILES = sorted(PACKAGE.rglob("*.py"))
IMPURE = {"absl", "orbax", "os", "pathlib", "csv", "time", "logging"}
STOREYS = ("study", "report", "bridges")  # above the method; `experiments` is above all
ALLOWED = {  # of the method's parts, beside itself
    "__init__": set(),
    "types": set(),
    "errors": set(),
    "settings": {"errors"},
    "keys": {"types"},
    "sharding": set(),
    "equations": {"types"},
    "networks": {"types", "equations"},
    "replay": {"types"},
    "novelty": {"types"},
    "domains": {"types", "settings", "errors"},
    "risk": {"types", "settings", "equations", "networks"},
    "planning": {"types", "settings"},
    "agents": {"types", "settings", "equations", "networks", "planning"},
    "meta": {"sharding", "types", "settings", "equations"},
    "simulation": {"keys", "types", "equations"},
    "data": {"sharding", "types", "settings", "simulation"},
    "collector": {"sharding", "types", "equations", "replay", "data", "simulation"},
    "rounds": {"types", "settings", "equations", "simulation"},
    "run_state": {"types", "settings", "replay"},
    "run_step": {"types", "equations", "replay", "simulation", "run_state"},
    "rollout": {"types", "equations", "replay", "simulation", "run_state", "run_step"},
    "prior": {"types", "networks"},
    "training": {"sharding", "types", "replay"},
    "online": {
        "keys",
        "sharding",
        "types",
        "equations",
        "replay",
        "run_state",
        "rollout",
    },
    "evaluation": {"sharding", "types", "settings", "equations", "simulation"},
    "released": {"settings"},
    "methods": {"settings", "released"},
    "exclusions": set(),
    "configuration": {
        "exclusions",
        *("types", "settings", "domains", "risk", "agents", "meta", "data"),
        *("run_state", "evaluation", "rounds", "planning"),
    },
    "system": {
        *("types", "configuration", "domains", "risk", "agents", "meta", "networks"),
        *("keys", "prior", "replay", "training"),
    },
    "adaptation": {
        *("types", "configuration", "meta", "methods", "novelty", "system"),
        "simulation",
    },
    "checked": {"types", "settings"},
    "filter": {"types", "settings", "equations"},
    "constraints": {"types", "settings", "filter"},
    "dense": {"types", "settings", "networks", "filter"},
    "readings": {
        "keys",
        *("types", "settings", "equations", "methods", "novelty", "system"),
        *("adaptation", "filter"),
    },
    "guard": {"types", "settings", "filter", "constraints", "readings"},
    "phases": {
        "sharding",
        *("types", "settings", "configuration", "methods", "novelty", "system"),
        *("adaptation", "filter", "data", "domains", "evaluation", "online"),
        *("rollout", "training", "meta", "prior", "equations", "simulation", "rounds"),
        *("collector", "checked"),
    },
}
OF_A_STOREY = {  # of other storeys that it may import, beside the method
    "study": set(),
    "report": {"study.records"},  # record types
    "bridges": {"study"},
}


def layer_of(path: pathlib.Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


METHOD = [path for path in FILES if layer_of(path) not in STOREYS]
ABOVE = [path for path in FILES if layer_of(path) in STOREYS]


def imported(source: str) -> set[str]:
    """Full names of all that a source imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide their layer"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def ours(names: set[str]) -> set[str]:
    """The layers of mesa_jax among full names."""
    split = [name.split(".") for name in names]
    return {parts[1] for parts in split if parts[0] == "mesa_jax" and len(parts) > 1}


def roots(path: pathlib.Path) -> set[str]:
    return {name.split(".")[0] for name in imported(path.read_text())}


def name_of(path):
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", METHOD, ids=name_of)
def test_the_method_imports_nothing_impure(path):
    assert not roots(path) & IMPURE


@pytest.mark.parametrize("path", METHOD, ids=name_of)
def test_imports_of_the_method_go_one_way(path):
    layer = layer_of(path)
    assert ours(imported(path.read_text())) <= ALLOWED[layer] | {layer}


@pytest.mark.parametrize("path", ABOVE, ids=name_of)
def test_imports_between_storeys_go_one_way(path):
    storey = layer_of(path)
    names = {n.removeprefix("mesa_jax.") for n in imported(path.read_text())}
    others = {n for n in names if n.split(".")[0] in {*STOREYS} - {storey}}
    allowed = OF_A_STOREY[storey]
    assert all(any(f"{n}.".startswith(f"{a}.") for a in allowed) for n in others)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_the_package_imports_no_launch(path):
    assert not roots(path) & {"experiments", "tests"}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_flags_are_of_launches_and_drawing_of_the_report(path):
    assert "absl" not in roots(path)
    if layer_of(path) != "report":
        assert "matplotlib" not in roots(path)


FETCHED = {"launch", "study", "workdir"}  # what artifacts are fetched from


def functions(path: pathlib.Path) -> list[ast.FunctionDef]:
    tree = ast.parse(path.read_text())
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def parameters(function: ast.FunctionDef) -> set[str]:
    given = function.args
    return {one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)}


@pytest.mark.parametrize("path", METHOD, ids=name_of)
def test_the_method_takes_arrays_and_no_study(path):
    assert not {f.name for f in functions(path) if parameters(f) & FETCHED}


READERS = {  # who may read what was made; others take values
    ("checkpoints", "restore_latest"): (
        "mesa_jax/study/artifacts/",
        "mesa_jax/study/episodes.py",
    ),
    ("datasets", "load"): ("mesa_jax/study/artifacts/",),
}
LAUNCHES = sorted((ROOT / "experiments").glob("**/*.py"))


def read_by(path: pathlib.Path) -> set[tuple[str, str]]:
    """Pairs (module, function) of calls `module.function(...)` and of imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {(node.module.split(".")[-1], one.name) for one in node.names}
        call = node.func if isinstance(node, ast.Call) else None
        if isinstance(call, ast.Attribute) and isinstance(call.value, ast.Name):
            found.add((call.value.id, call.attr))
    return found


@pytest.mark.parametrize("path", [*FILES, *LAUNCHES], ids=lambda path: path.stem)
def test_only_artifacts_and_episodes_read_what_was_made(path):
    mine = path.relative_to(ROOT).as_posix()
    for call, rooms in READERS.items():
        assert mine.startswith(rooms) or call not in read_by(path)


def test_what_is_made_is_read_somewhere():
    """So that a new name of a reader does not pass unseen."""
    assert READERS.keys() <= set().union(*map(read_by, FILES))


def test_every_form_of_import_is_seen():
    source = """
import os.path, mesa_jax.study.files as files
from mesa_jax import training, types as t
def late():
    from mesa_jax.meta.maml import maml
    import time
"""
    names = imported(source)
    assert {name.split(".")[0] for name in names} == {"os", "mesa_jax", "time"}
    assert ours(names) == {"study", "training", "types", "meta"}


def test_every_layer_is_looked_at():
    assert {layer_of(path) for path in METHOD} == set(ALLOWED)
