"""The page in a browser: nothing asked for, no complaint, sorted and slid by keys."""

import pathlib

import pytest

from experiments import render, report
from mesa_jax.methods import COMPARED
from tests import browser, launching

SHOTS = pathlib.Path(__file__).parents[2] / ".cache" / "screenshots"
WIDTHS = (1280, 390)


@pytest.fixture(scope="module")
def pages(finished_workdir, tmp_path_factory):
    """The page of a workdir with a film, and one of two workdirs."""
    place = launching.copied(finished_workdir, tmp_path_factory.mktemp("p") / "<b>")
    render.render(place, ["mesa"])
    with launching.coarse_figures():
        one = report.report([place])
    both = report.report([place, finished_workdir.place], place / "b.html", maps=False)
    return one, both


@pytest.fixture(scope="module")
def tab():
    chromium = browser.executable()
    if chromium is None:
        pytest.skip(browser.ADVICE)
    with browser.tab(chromium) as found:
        yield found


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("which", [0, 1])
def test_a_page_asks_for_nothing_and_fits_the_window(tab, pages, which, width):
    tab.requested.clear()
    tab.open(pages[which], width)
    tab.picture(SHOTS / f"{('one', 'two')[which]}-{width}.png")
    asked = {url for url in tab.requested if not url.startswith("data:")}
    assert asked == {pages[which].as_uri()}
    assert tab.complaints == []
    assert tab.value("document.documentElement.scrollWidth") <= width
    shown = "[...document.images].every((i) => i.complete && i.naturalWidth > 0)"
    assert tab.value(shown)


@pytest.mark.slow
def test_a_table_is_sorted_by_keys(tab, pages):
    tab.open(pages[0], WIDTHS[0])
    row = "document.querySelector('table.sorted tbody').rows"
    names = f"[...{row}].map((r) => r.cells[0].textContent.trim())"
    counts = f"[...{row}].map((r) => parseFloat(r.cells[3].textContent))"
    assert tab.value(names) == list(COMPARED)
    before = tab.value(counts)
    tab.value("document.querySelectorAll('table.sorted th button')[3].focus()")
    tab.press("Enter", "\r")
    assert tab.value(counts) == sorted(before)
    tab.press("Enter", "\r")
    assert tab.value(counts) == sorted(before, reverse=True)
    head = "document.querySelectorAll('table.sorted th')[3]"
    assert tab.value(f"{head}.getAttribute('aria-sort')") == "descending"
    tab.value("document.querySelectorAll('table.sorted th button')[0].focus()")
    tab.press("Enter", "\r")
    assert tab.value(names) == sorted(COMPARED)


@pytest.mark.slow
def test_the_slider_shows_one_map_at_a_time(tab, pages):
    tab.open(pages[0], WIDTHS[0])
    seen = "[...document.querySelectorAll('.stop')].map((s) => s.offsetHeight > 0)"
    output = "document.querySelector('.slider output').textContent"
    assert tab.value(seen)[:2] == [True, False]
    assert tab.value(output) == "0 (before adaptation)"
    tab.value("document.querySelector('.slider input').focus()")
    tab.press("ArrowRight")
    assert tab.value(seen)[:2] == [False, True] and sum(tab.value(seen)) == 1
    assert tab.value(output) == "1"


@pytest.mark.slow
def test_on_paper_nothing_is_folded(tab, pages):
    tab.open(pages[0], WIDTHS[0])
    folded = "document.querySelectorAll('details:not([open])').length"
    assert tab.value(folded) > 0
    tab.value("dispatchEvent(new Event('beforeprint'))")
    assert tab.value(folded) == 0
    tab.value("dispatchEvent(new Event('afterprint'))")
    assert tab.value(folded) > 0
