"""What a workdir lacks of its page, each with the command that makes it."""

import shlex
from collections.abc import Iterator

from mesa_jax.methods import METHODS
from mesa_jax.report import captions
from mesa_jax.report.page import Lacking, Workdir
from mesa_jax.study.study import Study

COMMAND = "python -m experiments." if __package__ == "experiments" else "mesa-jax "
Found = Iterator[tuple[str, Lacking]]  # the part of the page, and what it lacks


def lacking(study: Study, told: Workdir, maps: bool) -> dict[str, list[Lacking]]:
    """Returns what a page lacks by part.

    Args:
      maps: whether maps over adaptation steps were asked for.
    """
    found: dict[str, list[Lacking]] = {}
    if study.system.domain.spec.simulated:
        parts = [*_of_runs(study, told), *_of_maps(study, told, maps)]
        parts += _of_quality(study, told)
    else:
        what = Lacking("Bodies of recordings can not be run: they have no simulator.")
        parts = [(part, what) for part in ("verdict", "maps", "quality", "timelines")]
    if not told.pictures.get("folded"):
        what = "No prior was trained here, or its training is not drawn."
        parts.append(("others", _made(study, what, "meta_train", "--method=mesa")))
    if not told.launches:
        what = "There is no provenance.json: nobody noted how this was made."
        parts.append(("made", Lacking(what)))
    for part, what in parts:
        found.setdefault(part, []).append(what)
    return found


def _made(study: Study, what: str, launch: str, *flags: str) -> Lacking:
    where = f"--workdir={shlex.quote(str(study.folder))}"
    return Lacking(what, COMMAND + " ".join([launch, where, *flags]))


def _of_runs(study: Study, told: Workdir) -> Found:
    domain = study.system.domain
    if not told.tables:
        for part in ("verdict", "methods", "curves", "timelines", "films"):
            yield part, _made(study, "There is no finished online run yet.", "run")
        return
    if not told.pictures.get("curves"):
        yield "curves", _made(study, "The curves are not drawn.", "plot")
    if not told.films and not (domain.shapes or domain.spec.plane):
        yield "films", Lacking("Bodies of this domain can not be pictured.")
    elif not told.films:
        by_body = told.tables[1]  # violations, a column a seed
        method, *cells = by_body.rows[-1]
        (seed, *_) = (
            s for s, x in zip(by_body.head[1:], cells, strict=True) if x != "-"
        )
        asked = f"--method={method}", f"--seed={seed.removeprefix('seed ')}"
        yield "films", _made(study, "There is no film of an episode.", "render", *asked)


def _of_maps(study: Study, told: Workdir, maps: bool) -> Found:
    if study.system.domain.spec.plane is None:
        what = "Bodies of this domain do not move in a plane, so that there is no map."
        yield "maps", Lacking(what)
        return
    if not any(
        METHODS[m].constrained and not METHODS[m].settings for m in told.methods
    ):
        what = "There is no run of a method whose maps are drawn: one that has a risk "
        yield "maps", Lacking(what + "measure, and no settings of its own.")
        return
    if not told.stops and not maps:
        what = "The maps over adaptation steps are not drawn yet."
        yield "maps", _made(study, what, "report")
    elif not told.stops:
        yield "maps", Lacking("The priors that the runs began with are not there.")
    if not _has(told, "risk_maps.png"):
        what = "The maps before and after adaptation are not drawn."
        yield "maps", _made(study, what, "plot")


def _of_quality(study: Study, told: Workdir) -> Found:
    if not _has(told, "risk_reliability.png"):
        what = "The risk measure was not held against the simulator's truth."
        yield "quality", _made(study, what, "evaluate")
    if not any(_has(told, f"filter_test_{kind}.png") for kind in ("test", "training")):
        what = "The adapted filter was not tested without a learner."
        yield "quality", _made(study, what, "filter_test")


def _has(told: Workdir, name: str) -> bool:
    title = captions.caption_of(name).title
    return any(one.title == title for some in told.pictures.values() for one in some)
