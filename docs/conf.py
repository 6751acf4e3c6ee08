"""Sphinx: builds the documents where they lie, so that links hold on any host too.

make docs   (sphinx-build -W -c docs . .cache/docs)
"""

import importlib
import inspect
import re

import mesa_jax

project = "mesa_jax"
author = "mesa_jax contributors"
copyright = author
release = mesa_jax.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/index"
include_patterns = [
    "README.md",
    "WORKSPACE.md",
    "docs/*.md",
    "docs/*.rst",
    "experiments/results/*.md",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
nitpicky = False  # types of bundles are aliases, which have no page

myst_heading_anchors = 3
myst_enable_extensions = ["html_image"]

toc_object_entries_show_parents = "hide"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "special-members": "__call__"}
napoleon_google_docstring = True
napoleon_numpy_docstring = False

CODE = re.compile(r"(``[^`]+``|(?<!`)`[^`]+`(?!`))")
SPECIAL = re.compile(r"([*|])|(?<=\w)(_)(?!\w)")


def _plain(app, what, name, obj, options, lines):
    """Turns Markdown in docstrings into reStructuredText: `x` becomes ``x``."""
    if lines and lines[0].startswith("Alias for field number"):
        lines[:] = [_comment(name)]
    for i, line in enumerate(lines):
        if line.lstrip().startswith((":", "..")):
            head, colon, rest = line.partition(": ")
            lines[i] = head + colon + _escaped(rest)
        else:
            lines[i] = _escaped(line)


def _comment(name: str) -> str:
    """Returns the comment behind a record's field, or ''."""
    module, record, field = name.rsplit(".", 2)
    source = inspect.getsource(getattr(importlib.import_module(module), record))
    found = re.search(rf"^ +{field}:[^#\n]*# (.+)$", source, re.MULTILINE)
    return found[1] if found else ""


def _escaped(text: str) -> str:
    out = ""
    for piece in CODE.split(text):
        if CODE.fullmatch(piece):
            out += f"``{piece.strip('`')}``"
        else:
            glued = out.endswith("``") and piece[:1].isalnum()  # `Part`s
            out += glued * "\\ " + SPECIAL.sub(r"\\\1\2", piece)
    return out


def setup(app):
    app.connect("autodoc-process-docstring", _plain, priority=900)  # after napoleon
