"""The page: what is given is shown as it is, whole, and nothing else."""

import ast
import fnmatch
import pathlib

import numpy as np
import pytest

from mesa_jax.report import captions, page, side_by_side, timeline, verdict
from mesa_jax.report.page import Compared, Lacking, Launch, Picture, Stop, Table
from mesa_jax.study.records import Timeline
from tests.report.pages import PNG, Page, require_whole, table_of

ROOT = pathlib.Path(__file__).parents[2]
HOSTILE = '<b id="x">&amp;\'"</b><script>alert(1)</script>{{ 7 * 7 }}{% raw %}'


def _run(violated, recovered, steps=10, **changes) -> Timeline:
    flags = [np.isin(np.arange(steps), at) for at in (violated, recovered)]
    return Timeline("mesa", 0, 3, *flags)._replace(**changes)


def test_a_timeline_has_a_bar_a_stretch_and_a_mark_a_violation():
    line = timeline.line_of(_run([4, 9], [2, 3, 7]), 10)
    top, base = timeline.BASE - timeline.LANE, timeline.BASE
    assert f"M2 {base}v-{top}h2V{base}zM7 {base}v-{top}h1V{base}z" in line.svg
    assert f"M4.5 0v{timeline.LANE}M9.5 0v{timeline.LANE}" in line.svg
    assert (line.violations, line.recovered, line.struck) == (2, 0.3, False)
    told = "mesa, seed 3: 2 violations in 10 steps, recovery policy on 30.0 % of them"
    assert f'aria-label="{told}"' in line.svg


def test_a_run_shorter_than_the_axis_ends_where_it_ended():
    line = timeline.line_of(_run([9], [9]), 40)
    assert f"M0 {timeline.BASE}H10" in line.svg and 'viewBox="0 0 40 ' in line.svg
    assert "M9.5 0v" in line.svg


def test_columns_of_several_steps_have_bars_as_high_as_their_share():
    steps = 4 * timeline.COLUMNS
    line = timeline.line_of(_run([], [0, 4, 5, 6], steps), steps)
    full, base = timeline.BASE - timeline.LANE, timeline.BASE
    first, second = f"{full / 4:.3g}", f"{3 * full / 4:.3g}"
    assert f'"M0 {base}v-{first}h1V{base}zM1 {base}v-{second}h1V{base}z"' in line.svg


def test_a_run_whose_recoveries_are_not_known_has_no_bar():
    line = timeline.line_of(_run([1], [])._replace(recovered=None, onset=5), 10)
    assert line.recovered is None and line.struck
    assert "v-" not in line.svg and timeline.FAULT in line.svg


def _picture(title: str = "") -> Picture:
    return Picture(title, PNG + b"pixels", "a picture of it", "What is seen.")


def _workdir(word: str) -> page.Workdir:
    """A workdir of which every text is a word."""
    settings = [(word, word, word)]
    launch = Launch(*[word] * 5, {word: word}, {word: word})
    picture = _picture(word)._replace(alt=word, says=word)
    line = timeline.line_of(_run([1], [2])._replace(method=word), 10)
    table = Table(word, ["method", word], [[word, word]], {word: word}, [word])
    return page.Workdir(
        word,
        word,
        word,
        [(word, word)],
        [word],
        [table, table],
        {word: word},
        {part: [picture] for part in ("curves", "others", "folded", "maps", "quality")},
        [Stop(word, picture), Stop(word, picture)],
        {word: [line]},
        10,
        [picture, picture._replace(kind=".mp4")],
        settings,
        settings,
        settings,
        [launch],
        word,
        {"verdict": [Lacking(word, word)]},
    )


def test_every_text_is_escaped_and_none_is_lost():
    tables = [Table(HOSTILE, ["method", HOSTILE], [[HOSTILE, HOSTILE]])]
    compared = Compared(HOSTILE, [HOSTILE], tables, [(HOSTILE, HOSTILE, HOSTILE)])
    told = [_workdir(HOSTILE)] * 2
    written = page.html(told, [compared])
    found = Page(written)
    require_whole(Page(page.html([_workdir("some plain words")] * 2)))
    assert not found.of("b") and len(found.of("script")) == 1
    assert "alert(1)</script>" not in written and "49" not in written
    assert set(found.texts("figcaption")) == {HOSTILE}
    assert found.texts("title") == [HOSTILE]
    assert {one.attributes["alt"] for one in found.of("img")} == {HOSTILE}
    assert table_of(found)[1] == [HOSTILE, HOSTILE]


def test_a_page_of_nothing_is_a_page():
    found = Page(page.html([page.Workdir("", "w", "title", [])]))
    assert found.texts("h1") == ["title"] and not found.of("img")


def _measures(violations: list[float], successes: list[float]) -> side_by_side.Measures:
    of = {"violations": violations, "successes": successes}
    by = {name: dict(zip("01234567", x, strict=True)) for name, x in of.items()}
    return {"mesa": by}


def test_words_of_a_difference_follow_its_numbers():
    ours = _measures([20, 30, 25, 40, 22, 31, 28, 44], [5] * 8)
    theirs = _measures([1, 0, 1, 2, 1, 0, 1, 2], [5] * 8)
    for first, second, word, size in (
        (ours, theirs, "fewer", "29.0 ["),
        (theirs, ours, "more", "29.0 ["),
    ):
        found = side_by_side.differences(first, second, [("mesa", "mesa")])
        said = verdict.between(found, "A", "C")
        assert said.startswith(f"C has {word} violations than A with mesa (by {size}")
        assert said.endswith("No method is told apart between A and C in successes.")
    found = side_by_side.differences(ours, theirs, [("mesa", "mesa")])
    lines = side_by_side.lines(ours, theirs, found, ("A", "C"))["violations"]
    assert lines[0][2:5] == ["A", "C", "C - A"]
    assert lines[1][:4] == ["mesa", "8", "30.0", "1.0"]
    assert lines[1][4].startswith("-29.0 [")


def _drawn() -> set[str]:
    """The names of the figures that launches draw, "*" for what varies."""
    found = set()
    for path in (ROOT / "experiments").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            texts = [getattr(part, "value", None) for part in parts]
            name = "".join(x if isinstance(x, str) else "*" for x in texts)
            if fnmatch.fnmatch(name, "[a-z]*?.png") and "/" not in name:
                found.add(name)
    return found


def test_every_figure_that_a_launch_draws_has_a_caption():
    drawn = _drawn()
    assert {"ratio.png", "training_*.png", "filter_test_*.png"} <= drawn
    missing = [
        name
        for name in drawn
        if not any(
            fnmatch.fnmatchcase(pattern, name) or fnmatch.fnmatchcase(name, pattern)
            for pattern in captions.CAPTIONS
        )
    ]
    assert missing == []
    assert captions.caption_of("mine.png").says.startswith("mine.png, which no launch")


@pytest.mark.parametrize("name", captions.CAPTIONS)
def test_a_caption_is_one_sentence(name):
    says = captions.CAPTIONS[name].says
    assert says.endswith(".") and ". " not in says
    assert says[0] == says[0].upper()
