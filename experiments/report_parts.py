"""Parts of a workdir's page: what its files and records say, in words and pictures."""

import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mesa_jax.configuration import Configuration
from mesa_jax.domains.fault_notation import describe, parse
from mesa_jax.methods import METHODS
from mesa_jax.report import captions, layout, tables, verdict
from mesa_jax.report.page import Launch, Picture, Stop, Table
from mesa_jax.report.timeline import Line, line_of
from mesa_jax.study import inventory
from mesa_jax.study.records import Timeline
from mesa_jax.study.study import Study

FOLDED = "training_"  # figures that are long, and beside the point
FILM = re.compile(r"(\w+)-seed(\d+)-episode(\d+)(?:-meta(\d+))?")
STEPS_SAY = (
    "Risk of two commands in each place of the plane after so many adaptation steps, "
    "the simulator's truth on top: where adaptation works, a method's map comes to "
    "have the truth's colours, and its error falls."
)
FILM_SAYS = (
    "One online training episode, moved again: who acted at each moment stands above "
    "the picture, and a violation is marked."
)
CAPTION = "Means a run, with 95 % bootstrap intervals over test bodies"
DATA = "Every episode is a line of results.csv; summary.json has these numbers."
PRIORS = {
    "scratch": "nothing that other bodies taught it",
    "pooled": "networks trained on the transitions of all training bodies together",
    "maml": "a prior that was meta-trained over the training bodies (MAML)",
}


def facts(study: Study) -> Iterator[tuple[str, str]]:
    """Yields what stands at the top of the page."""
    settings, held = study.configuration, inventory.look(study.folder)
    online = settings.online
    yield "Bodies", f"{settings.domain}, {settings.tasks}; preset {settings.preset}"
    if settings.fault:
        yield "Fault", describe(parse(settings.fault))
    yield "Finished runs", "; ".join(inventory.grouped(held.finished)) or "none"
    if held.unfinished:
        yield "Unfinished runs", "; ".join(inventory.grouped(held.unfinished))
    length = f"{online.episodes:,} episodes"
    yield "A run", f"{online.steps:,} environment steps" if online.steps else length
    yield "Adapted on", f"{settings.data.adaptation:,} transitions of each test body"
    yield "Risk threshold", f"{settings.recovery.risk_threshold:g}"
    yield "Workdir", str(study.folder)


def said(settings: Configuration, summary: Mapping[str, Any]) -> list[str]:
    """Returns the paragraphs of the verdict."""
    fault = describe(parse(settings.fault)) if settings.fault else ""
    return verdict.verdict(summary, fault).split("\n\n")


def tables_of(summary: Mapping[str, Any]) -> list[Table]:
    """Returns the table of methods, and one a measure with a column a test body."""
    names = tables.measures(summary)
    meanings = {tables.HEADERS[name]: tables.MEANINGS[name] for name in names}
    if summary["has_success"]:
        meanings[tables.SHARE] = "share of the episodes, on bodies that can succeed"
    head, *rows = tables.lines(summary)
    notes = [*tables.notes(summary), DATA]
    first = Table(CAPTION, head, rows, meanings, notes)
    return [first, *_by_body(summary)]


def methods_of(names: Iterable[str]) -> dict[str, str]:
    """Returns what each method is, in a sentence."""
    found = {}
    for name in names:
        row = METHODS[name]
        said = f"Begins with {PRIORS.get(row.prior, row.prior)}"
        said += "; is told the body's parameters" * row.told
        said += "; reads its body again while it runs" * row.readapts
        if kind := row.settings.get("constraint", {}).get("kind"):
            said += f"; its agent is {kind.replace('_', ' ')}"
        elif not row.constrained:
            said += "; no recovery policy acts"
        found[name] = f"{said}."
    return found


def _by_body(summary: Mapping[str, Any]) -> Iterator[Table]:
    outcome = "successes" if summary["has_success"] else "return_last_tenth"
    by_seed = summary["by_seed"]
    seeds = sorted({s for by in by_seed.values() for s in by["violations"]}, key=int)
    for name in ("violations", outcome):
        rows = [
            [method, *(_number(by[name].get(seed)) for seed in seeds)]
            for method, by in by_seed.items()
        ]
        caption = f"{tables.BRIEF[name].capitalize()} on each test body"
        yield Table(caption, ["method", *(f"seed {seed}" for seed in seeds)], rows)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{round(value, 2):g}"


def pictures_of(
    figures: Mapping[str, bytes], summary: Mapping[str, Any] | None
) -> dict[str, list[Picture]]:
    """Returns a report's figures by the part of the page that they belong to."""
    found: dict[str, list[Picture]] = {}
    for name in sorted(figures, key=captions.order_of):
        about = captions.caption_of(name)
        part = "folded" if name.startswith(FOLDED) else about.part
        alt = about.alt + _ends(name, summary)
        one = Picture(about.title, figures[name], f"{alt}.", about.says)
        found.setdefault(part, []).append(one)
    return found


def _ends(name: str, summary: Mapping[str, Any] | None) -> str:
    """Where the curves of violations end, for those who do not see them."""
    if summary is None or not name.startswith("violations_and_"):
        return ""
    ends = (
        f"{method} {values['violations']['mean']:.1f}"
        for method, values in summary["methods"].items()
    )
    return f". Violations at the end: {', '.join(ends)}"


def stops_of(figures: Mapping[int, Any]) -> list[Stop]:
    """Returns a slider's stops of figures by number of steps."""
    found = []
    for count, figure in figures.items():
        label = "0 (before adaptation)" if count == 0 else f"{count:,}"
        alt = f"Maps of risk after {count} adaptation steps: the truth and each method."
        found.append(Stop(label, Picture("", layout.png(figure), alt, STEPS_SAY)))
    return found


def lines_of(runs: Sequence[Timeline]) -> tuple[dict[str, list[Line]], int]:
    """Returns timelines by method, and the steps of their common axis."""
    longest = max((len(run.violated) for run in runs), default=0)
    found: dict[str, list[Line]] = {}
    for run in runs:
        found.setdefault(run.method, []).append(line_of(run, longest))
    return found, longest


def films_of(films: Mapping[str, bytes]) -> Iterator[Picture]:
    """Yields the films that `render` made."""
    for name, content in films.items():
        stem, title = pathlib.PurePath(name), pathlib.PurePath(name).stem
        if match := FILM.fullmatch(title):
            method, seed, episode, meta = match.groups()
            title = f"{method}, seed {seed}, episode {episode}"
            title += f", meta-seed {meta}" * bool(meta)
        alt = f"Film of {title}"
        yield Picture(title, content, alt, FILM_SAYS, stem.suffix)


def launches_of(noted: Sequence[Mapping[str, Any]]) -> list[Launch]:
    """Returns launches as provenance.json has them; "" for what was not noted."""

    def texts(value) -> dict[str, str]:
        pairs = value.items() if isinstance(value, dict) else ()
        return {str(k): str(x) for k, x in pairs if x is not None}

    found = []
    for one in noted:
        devices = [str(x) for x in one.get("devices") or ()]
        kinds = ", ".join(map(str, one.get("device_kinds") or ()))
        command = str(one.get("command") or "")
        versions = {"Python": one.get("python")} | texts(one.get("versions"))
        found.append(
            Launch(
                str(one.get("time") or ""),
                "python " * command.startswith("-") + command,
                str(one.get("git_revision") or ""),
                ", ".join(devices) + f" ({kinds})" * bool(kinds),
                str(one.get("machine") or ""),
                texts(versions),
                texts(one.get("switches")),
            )
        )
    return found
