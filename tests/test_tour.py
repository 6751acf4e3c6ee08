"""The notebook docs/tour.ipynb: as it is stored, and executed from top to bottom."""

import ast
import json
import pathlib
import re

import pytest

import mesa_jax as mesa

ROOT = pathlib.Path(__file__).parent.parent
TOUR = ROOT / "docs" / "tour.ipynb"
LIBRARIES = {"jax", "jax.numpy", "matplotlib.pyplot", "mesa_jax", "numpy"}
STANDARD = {"importlib.util", "subprocess", "sys", "time"}
ROW = re.compile(r"^(bare|stale|re-read) +([\d.]+) +([\d.]+) ", re.MULTILINE)


def stored() -> dict:
    return json.loads(TOUR.read_text(encoding="utf-8"))


def code(notebook: dict) -> list[dict]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def outputs(notebook: dict) -> list[dict]:
    return [output for cell in code(notebook) for output in cell["outputs"]]


def after_the_fault(notebook: dict) -> dict[str, float]:
    """Violations a body after the fault, by what stood between, as it prints them."""
    printed = [x for x in outputs(notebook) if x["output_type"] == "stream"]
    text = "".join("".join(one["text"]) for one in printed)
    return {name: float(after) for name, _, after in ROW.findall(text)}


def check_what_it_says(notebook: dict) -> None:
    """Asserts that no cell failed or warned, and that the text's claim holds."""
    kinds = [output["output_type"] for output in outputs(notebook)]
    assert "error" not in kinds
    names = {x["name"] for x in outputs(notebook) if x["output_type"] == "stream"}
    assert names == {"stdout"}
    pictures = [x for x in outputs(notebook) if "image/png" in x.get("data", {})]
    assert len(pictures) == 3
    found = after_the_fault(notebook)
    assert found["re-read"] < 0.25 * found["stale"]
    assert found["re-read"] < 0.25 * found["bare"]


def test_what_is_stored_is_whole_and_small():
    check_what_it_says(stored())
    assert TOUR.stat().st_size < 600_000


def test_its_cells_were_executed_in_order():
    counts = [cell["execution_count"] for cell in code(stored())]
    assert counts == list(range(1, len(counts) + 1))


def used(source: str) -> tuple[set[str], set[str]]:
    """Returns the modules that a source imports, and the names of `mesa` it uses."""
    modules, names = set(), set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "mesa":
            names.add(node.attr)
    return modules, names


def test_its_code_uses_public_names_alone():
    modules, names = used("\n".join("".join(c["source"]) for c in code(stored())))
    assert modules <= LIBRARIES | STANDARD
    assert {"adapt", "Guard", "meta_train"} <= names <= set(mesa.__all__)
    assert used("import mesa_jax.filter\nmesa.no") == ({"mesa_jax.filter"}, {"no"})


def test_its_links_lead_somewhere():
    texts = (c["source"] for c in stored()["cells"] if c["cell_type"] == "markdown")
    links = re.findall(r"\]\(([^)#\s]+)", "".join(map("".join, texts)))
    assert links and all((TOUR.parent / link).is_file() for link in links)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # the kernel's client's own
def test_it_runs_from_top_to_bottom(monkeypatch):
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient").NotebookClient
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(TOUR, as_version=4)
    for cell in code(notebook):
        cell["outputs"], cell["execution_count"] = [], None
    place = {"metadata": {"path": str(TOUR.parent)}}
    client(notebook, timeout=None, kernel_name="python3", resources=place).execute()
    check_what_it_says(notebook)
