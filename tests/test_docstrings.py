"""Docstrings say what is returned, and give the shapes of arrays."""

import ast
import pathlib
import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "mesa_jax"
STOREYS = ("study", "report")  # above the method
WORDS = """
    Acts Adapts Adds Appends Applies Asks Begins Bundles Calibrates Calls Changes
    Checks Chooses Clears Collects Compares Compiles Computes Configures Copies
    Counts Creates Deletes Descends Describes Draws Encodes Ends Estimates Evaluates
    Exports Fetches Fills Finds Fits Formats Gives Goes Groups Hands Hashes Holds
    Identifies Ignores Joins Judges Keeps Learns Limits Lists Loads Locks Logs Makes
    Maps Marks Measures Mends Merges Meta-trains Moves Names Notes Observes Opens
    Parses Passes Plays Plots Prints Proposes Puts Raises Ranks Reads Records
    Refuses Removes Renders Replaces Requires Resolves Restores Returns Runs Samples
    Saves Says Scores Sets Shares Shows Shuffles Simulates Splits Standardises
    Starts States Stops Stores Summarises Takes Tells Tests Trains Turns Verifies
    Waits Warns Whitens Wraps Writes Yields
"""
VERBS = set(WORDS.split())  # that a docstring may begin with; new ones go here


class Public(NamedTuple):
    """A public function or class of a module."""

    path: pathlib.Path
    name: str
    node: ast.FunctionDef | ast.ClassDef

    @property
    def doc(self) -> str:
        return ast.get_docstring(self.node) or ""

    def __str__(self) -> str:
        return f"{self.path.relative_to(PACKAGE)}:{self.name}"


def public(path: pathlib.Path, body: list, prefix: str = "") -> Iterator[Public]:
    for node in body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        if node.name.startswith("_"):
            continue
        yield Public(path, prefix + node.name, node)
        if isinstance(node, ast.ClassDef):
            yield from public(path, node.body, f"{prefix}{node.name}.")


def found_in(path: pathlib.Path) -> list[Public]:
    return list(public(path, ast.parse(path.read_text()).body))


def array_arguments(node: ast.FunctionDef) -> list[str]:
    """Arguments annotated as arrays, alone or beside other types."""
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    named = [(a.arg, ast.unparse(a.annotation)) for a in arguments if a.annotation]
    array = re.compile(r"(?:^|\| )(?:Array|Transition)\b")
    return [name for name, annotation in named if array.search(annotation)]


def shaped(public: Public) -> bool:
    """Whether a docstring has a shape in brackets for every array argument."""
    names = array_arguments(public.node)
    _, section, listed = public.doc.partition("Args:\n")
    if not section:
        return public.doc.count("[") >= len(names)
    entries = re.split(r"\n  (?=\w)", "\n" + listed)
    by_name = {entry.split(":")[0]: entry for entry in entries}
    return all("[" in by_name.get(name, "") for name in names)


EVERYTHING = [one for path in sorted(PACKAGE.rglob("*.py")) for one in found_in(path)]
METHOD = [
    one
    for one in EVERYTHING
    if one.path.relative_to(PACKAGE).parts[0] not in STOREYS
    and isinstance(one.node, ast.FunctionDef)
]


@pytest.mark.parametrize("one", EVERYTHING, ids=str)
def test_a_docstring_begins_with_a_verb(one):
    first = one.doc.split()[0] if one.doc else ""
    assert first in VERBS, f"{one} begins with {first!r}"


@pytest.mark.parametrize("one", METHOD, ids=str)
def test_array_arguments_have_shapes(one):
    assert shaped(one), f"{one}: no shape for one of {array_arguments(one.node)}"


def test_contracts_say_what_every_function_takes():
    """Each function of a bundle is a Protocol, whose `__call__` has a docstring."""
    for path in sorted((PACKAGE / "types").glob("*.py")):
        for one in found_in(path):
            bases = [ast.unparse(base) for base in getattr(one.node, "bases", [])]
            if "Protocol" not in bases:
                continue
            (call,) = [n for n in one.node.body if isinstance(n, ast.FunctionDef)]
            doc = ast.get_docstring(call) or ""
            assert doc.split()[0] in VERBS, one.name
            assert shaped(Public(path, one.name, call)), one.name


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('def f(x: Array):\n  """Returns x.\n\n  Args:\n    x: [N]\n  """', True),
        ('def f(x: Array):\n  """Returns x.\n\n  Args:\n    x: a number\n  """', False),
        ('def f(x: int | Array, y: Transition):\n  """Returns [] of [N]."""', True),
        ('def f(x: float | Array, y: Array):\n  """Returns [N]."""', False),
        ('def f(x: ArrayLike):\n  """Returns x."""', True),
    ],
)
def test_a_missing_shape_is_seen(source, expected):
    (one,) = public(PACKAGE, ast.parse(source).body)
    assert shaped(one) is expected
