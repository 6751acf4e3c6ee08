"""A page about workdirs: one HTML file that loads nothing, from words and pictures.

The template escapes all that it is given. Pictures and films are in the page, as
base64; a policy in its head forbids the browser to ask for anything else.
"""

import base64
import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jinja2

from mesa_jax.report import layout
from mesa_jax.report.timeline import Line

KINDS = {".png": "image/png", ".gif": "image/gif", ".mp4": "video/mp4"}
TEMPLATE = "page.html"
Settings = Sequence[tuple[str, str, str]]  # flag, value, what is said of it


class Picture(NamedTuple):
    """Holds a figure or a film with its words."""

    title: str
    content: bytes
    alt: str
    says: str
    kind: str = ".png"


class Stop(NamedTuple):
    """Holds what a slider shows at one of its stops."""

    label: str
    picture: Picture


class Table(NamedTuple):
    """Holds a table that can be sorted; a method's name is the first cell of a row."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    meanings: Mapping[str, str] = {}  # of columns
    notes: Sequence[str] = ()


class Lacking(NamedTuple):
    """Says what a workdir lacks, and the command that makes it."""

    what: str
    command: str = ""  # "": no command does


class Launch(NamedTuple):
    """Says what a launch was and what computed it; "" for what was not noted."""

    time: str
    command: str
    revision: str
    devices: str
    machine: str
    versions: Mapping[str, str]
    switches: Mapping[str, str]


class Workdir(NamedTuple):
    """Holds what is told of a workdir; what it lacks is said by part."""

    name: str  # what the page calls it, or "" where it is the only one
    place: str
    title: str
    facts: Sequence[tuple[str, str]]  # name and value, at the top
    verdict: Sequence[str] = ()  # paragraphs
    tables: Sequence[Table] = ()
    methods: Mapping[str, str] = {}  # what each is
    pictures: Mapping[str, Sequence[Picture]] = {}  # by part
    stops: Sequence[Stop] = ()  # of the slider
    lines: Mapping[str, Sequence[Line]] = {}  # timelines by method
    longest: int = 0  # steps of the timelines' axis
    films: Sequence[Picture] = ()
    changed: Settings = ()  # beside the preset's value
    own: Settings = ()  # beside the methods that have it
    settings: Settings = ()  # all, beside their meaning
    launches: Sequence[Launch] = ()
    flags: str = ""  # of the last launch
    lacking: Mapping[str, Sequence[Lacking]] = {}  # by part


class Compared(NamedTuple):
    """Holds the difference of two workdirs."""

    title: str
    says: Sequence[str]
    tables: Sequence[Table]
    settings: Settings  # flag, the first's value, the other's


def html(workdirs: Sequence[Workdir], compared: Sequence[Compared] = ()) -> str:
    """Returns the page of some workdirs, the first compared with each other one."""
    given = {"workdirs": workdirs, "compared": compared, "styles": _colours(workdirs)}
    return _environment().get_template(TEMPLATE).render(given).lstrip()


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mesa_jax.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["embedded"] = _embedded
    return environment


def _embedded(picture: Picture) -> str:
    content = base64.b64encode(picture.content).decode("ascii")
    return f"data:{KINDS[picture.kind]};base64,{content}"


def _colours(workdirs: Sequence[Workdir]) -> dict[str, str]:
    """The methods' colours, by name."""
    names = [row[0] for one in workdirs for table in one.tables for row in table.rows]
    names += [method for one in workdirs for method in one.lines]
    found = layout.styles([*dict.fromkeys(names)])
    return {name: colour for name, (colour, _) in found.items()}
