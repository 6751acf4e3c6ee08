"""Who may import whom (WORKSPACE.md), read from the sources."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parent.parent / "mesa_jax"
FILES = sorted(PACKAGE.rglob("*.py"))
IMPURE = {"absl", "orbax", "os", "pathlib", "json", "csv", "time", "logging"}
ALLOWED = {  # of our own layers, beside itself
    "__init__": set(),
    "types": set(),
    "settings": set(),
    "equations": {"types"},
    "networks": {"types"},
    "latent": {"types", "equations"},
    "context": {"types", "networks"},
    "replay": {"types"},
    "support": {"types"},
    "domains": {"types", "settings"},
    "risk": {"types", "settings", "equations", "networks", "latent", "context"},
    "agents": {"types", "settings", "equations", "networks", "context"},
    "meta": {"types", "settings", "equations"},
    "simulation": {"types", "equations"},
    "collection": {"types", "settings", "equations", "replay", "simulation"},
    "rollout": {"types", "settings", "equations", "replay", "simulation"},
    "safety": {"types"},
    "pipeline": {"types", "settings", "equations", "replay", "rollout"},
    "quality": {"types", "settings", "simulation"},
}


def layer_of(path: pathlib.Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


PURE = [path for path in FILES if layer_of(path) != "runtime"]


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


def name_of(path):
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", PURE, ids=name_of)
def test_the_pure_layers_import_nothing_impure(path):
    roots = {name.split(".")[0] for name in imported(path.read_text())}
    assert not roots & IMPURE


@pytest.mark.parametrize("path", PURE, ids=name_of)
def test_imports_go_one_way(path):
    layer = layer_of(path)
    assert ours(imported(path.read_text())) <= ALLOWED[layer] | {layer}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_the_package_imports_no_launch(path):
    roots = {name.split(".")[0] for name in imported(path.read_text())}
    assert not roots & {"experiments", "tests"}


def test_every_form_of_import_is_seen():
    source = """
import os.path, mesa_jax.runtime.files as files
from mesa_jax import pipeline, types as t
def late():
    from mesa_jax.meta.maml import maml
    import time
"""
    names = imported(source)
    assert {name.split(".")[0] for name in names} == {"os", "mesa_jax", "time"}
    assert ours(names) == {"runtime", "pipeline", "types", "meta"}


def test_every_layer_is_looked_at():
    assert {layer_of(path) for path in PURE} == set(ALLOWED)
