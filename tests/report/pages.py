"""Reads a page as a browser does: tags that fit, and what they hold."""

import base64
import html.parser
from typing import NamedTuple

VOID = {"meta", "link", "img", "br", "input", "path"}  # elements without an end
PNG = b"\x89PNG\r\n\x1a\n"


class Element(NamedTuple):
    """An element with its attributes and all its text."""

    tag: str
    attributes: dict[str, str | None]
    text: list[str]


class Page(html.parser.HTMLParser):
    """A page's elements in their order; what does not fit is refused."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.elements: list[Element] = []
        self._open: list[Element] = []
        self.feed(text)
        self.close()
        assert not self._open, [one.tag for one in self._open]

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), (tag, names)
        one = Element(tag, dict(attrs), [])
        self.elements.append(one)
        if tag not in VOID:
            self._open.append(one)

    def handle_startendtag(self, tag, attrs):
        assert tag in VOID, tag
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag):
        assert self._open and self._open[-1].tag == tag, (tag, self._open[-1:])
        self._open.pop()

    def handle_data(self, data):
        for one in self._open:
            one.text.append(data)

    def of(self, tag: str, **attributes: str) -> list[Element]:
        """The elements of a tag that have some attributes; `class_` is the class."""
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        return [
            one
            for one in self.elements
            if one.tag == tag and wanted.items() <= one.attributes.items()
        ]

    def texts(self, tag: str, **attributes: str) -> list[str]:
        return [_plain(one) for one in self.of(tag, **attributes)]


def table_of(page: Page, number: int = 0) -> list[list[str]]:
    """The cells of a page's sorted table, line by line."""
    at = [i for i, one in enumerate(page.elements) if _sorted(one)][number]
    lines: list[list[str]] = []
    for one in page.elements[at + 1 :]:
        if one.tag == "table":
            break
        if one.tag == "tr":
            lines.append([])
        elif one.tag in ("th", "td"):
            lines[-1].append(_plain(one))
    return lines


def _plain(one: Element) -> str:
    """An element's text on one line."""
    return " ".join("".join(one.text).split())


def _sorted(one: Element) -> bool:
    return one.tag == "table" and one.attributes.get("class") == "sorted"


def require_whole(page: Page) -> None:
    """Checks that a page needs nothing else, and that its pictures have words."""
    ids = [one.attributes["id"] for one in page.elements if "id" in one.attributes]
    assert len(ids) == len(set(ids))
    for one in page.elements:
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            place = one.attributes.get(name)
            inside = place is None or place.startswith(("data:", "#"))
            assert inside, (one.tag, name, place)
            if place and place.startswith("#"):
                assert place[1:] in ids, place
    assert not page.of("script", type="module") and not page.of("iframe")
    pictures = page.of("img")
    assert pictures
    for one in pictures:
        kind, _, content = one.attributes["src"].partition(";base64,")
        start = {"data:image/png": PNG, "data:image/gif": b"GIF8"}[kind]
        assert base64.b64decode(content, validate=True).startswith(start)
        assert len(one.attributes["alt"]) > 10
    figures = page.of("figure")
    assert len(figures) == len(page.of("figcaption"))
    assert all(page.texts("figcaption"))
