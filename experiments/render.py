"""A film and a strip of pictures of one recorded online training episode.

python -m experiments.render --workdir=DIR --method=mesa --seed=0 --episode=-1
python -m experiments.render --workdir=DIR --method=unconstrained,mesa

They show where the recovery policy acted and where a violation happened. Of several
methods one film plays their episodes in the same body at once; a strip, and of
half-cheetah and ant Brax's own page, whose viewer a browser loads from the network,
are of one method. Nothing is displayed or downloaded here.
"""

import pathlib
import textwrap
from collections.abc import Sequence

from absl import flags as absl_flags

from mesa_jax.configuration import Configuration
from mesa_jax.domains import cartpole, locomotion
from mesa_jax.domains.base import BRAX
from mesa_jax.domains.fault_notation import describe, parse
from mesa_jax.report import films, layout
from mesa_jax.report.scene import Film
from mesa_jax.report.words import described
from mesa_jax.settings import SettingError
from mesa_jax.study import batches, episodes, files, records, store
from mesa_jax.study.batches import Batch, Run
from mesa_jax.study.episodes import Recorded
from mesa_jax.study.playback import STRAYS, Playback, moved_again, mover
from mesa_jax.study.study import Study

from . import flags
from .whole import define_integer

TRACKS = {"cartpole_length": cartpole.TRACK}  # of bodies on a rail
LETTERS = 92  # of a line of notes


def render(
    place: pathlib.Path,
    methods: Sequence[str] = ("mesa",),
    seed: int = 0,
    episode: int = -1,
    meta_seed: int = 0,
    kind: str = "gif",
) -> list[pathlib.Path]:
    """Writes what shows an episode, says how true it is, and returns where it lies.

    Args:
      place: a workdir.
      methods: whose runs; of several, one film plays their episodes at once.
      seed: of the runs.
      episode: from 1 on, or from the last, -1, backwards; of each run.
      meta_seed: of the prior.
      kind: one of `films.WRITERS`.

    Raises:
      SettingError: if the workdir has no such run or episode, or films of that kind
        can not be made here.
      WorkdirError, ResultsError, CheckpointError: if it is no workdir, or holds
        nothing of an online run.
    """
    _require_writer(kind)
    settings = store.settings_of(place)
    if not methods:
        raise SettingError("method", "", "at least one")
    of_methods = [Study(place, settings, meta_seed).of(name) for name in methods]
    shown = [_filmed(study, seed, episode) for study in of_methods]
    numbers = list(dict.fromkeys(str(recorded.number) for _, recorded, _ in shown))
    name = f"{'-'.join(methods)}-seed{seed}-episode{'-'.join(numbers)}"
    stem = place / "report" / "films" / (name + f"-meta{meta_seed}" * bool(meta_seed))
    written = [stem.with_suffix(f".{kind}")]
    with files.replacing(written[0], f"{files.PARTIAL}.{kind}") as beside:
        films.write([film for film, *_ in shown], beside)
    if len(shown) > 1:
        return written
    ((film, _, moved),) = shown
    strip = stem.with_suffix(".png")
    written.append(files.write_atomically(strip, layout.png(films.strip(film))))
    if settings.physics.backend in BRAX:
        page = locomotion.html(settings.domain, settings.physics, moved.states)
        written.append(files.write_atomically(stem.with_suffix(".html"), page))
    return written


def _filmed(study: Study, seed: int, episode: int) -> tuple[Film, Recorded, Playback]:
    """Moves an episode of a method again, and says what it is."""
    method = study.method
    batch = batch_of(study.folder, method, seed, study.meta_seed)
    domain = study.system.domain
    if domain.shapes is None and domain.spec.plane is None:
        allowed = "one that can be seen: with `shapes`, or a plane in its spec"
        raise SettingError("domain", domain.spec.name, allowed)
    _, states = episodes.restored(study, batch)
    state = episodes.run_of(states, batch.runs().index(Run(method, seed, None)))
    recorded = episodes.episode_of(study.configuration, state, episode)
    moved = moved_again(mover(study.system), seed, recorded)
    film = film_of(study, method, seed, recorded, moved)
    _say(film, recorded, moved)
    return film, recorded, moved


def batch_of(place: pathlib.Path, method: str, seed: int, meta_seed: int) -> Batch:
    """The batch of a workdir that has a run.

    Raises:
      ResultsError: if there is no online run at all.
      SettingError: if there is none of this meta-seed, method and seed.
    """
    plain = [batch for batch, _ in batches.stored(place) if not batch.thresholds]
    if not plain:
        raise records.ResultsError(f"{place} has no online run yet; start one.")
    plain = _those("meta_seed", meta_seed, plain, lambda batch: {batch.meta_seed})
    plain = _those("method", method, plain, lambda batch: batch.methods)
    return _those("seed", seed, plain, lambda batch: batch.seeds)[0]


def _those(name: str, value, found: list[Batch], values_of) -> list[Batch]:
    """The batches that have a value; a SettingError names the values there are."""
    there = sorted({value for batch in found for value in values_of(batch)})
    if value not in there:
        raise SettingError(name, value, "one of " + ", ".join(map(str, there)))
    return [batch for batch in found if value in values_of(batch)]


def _require_writer(kind: str) -> None:
    if kind not in films.WRITERS:
        raise SettingError("format", kind, "one of " + ", ".join(films.WRITERS))
    if not films.WRITERS[kind].isAvailable():
        raise SettingError("format", kind, "gif where ffmpeg is not installed")


def film_of(
    study: Study, method: str, seed: int, recorded: Recorded, moved: Playback
) -> Film:
    """Returns the film of an episode that was moved again."""
    settings, spec = study.configuration, study.system.domain.spec
    return Film(
        title=f"{settings.domain}, {settings.tasks} bodies, seed {seed}, "
        f"episode {recorded.number}",
        method=method,
        notes=_notes(settings, recorded, moved.strays_at),
        seconds=None if spec.plane else spec.seconds,
        recovered=recorded.recovered,
        violated=recorded.violated,
        plane=spec.plane,
        points=moved.points,
        shapes=moved.shapes,
        track=TRACKS.get(spec.name),
    )


def _notes(settings: Configuration, recorded: Recorded, strays_at: int | None) -> str:
    """Lines: what became of the episode, and what body it is."""
    steps, body = len(recorded.action), recorded.task
    first, last = recorded.start + 1, recorded.start + steps
    said = [
        f"Steps {first:,} to {last:,} of the run: return "
        f"{recorded.episode_return:.1f}; the recovery policy acted on "
        f"{recorded.recoveries} of {steps}."
    ]
    if strays_at is not None:
        said.append(f"Simulated anew: from step {strays_at} on another course.")
    if settings.fault:
        said.append(f"Fault: {describe(parse(settings.fault))}.")
        body = body.body
    said.append(f"Body: {described(body)}.")
    return "\n".join(line for text in said for line in textwrap.wrap(text, LETTERS))


def _say(film: Film, recorded: Recorded, moved: Playback) -> None:
    """The episode, and how its simulation compares with what was recorded."""
    print(f"[render] {film.title}, {film.method}")
    for line in film.notes.splitlines():
        print(f"[render] {line}")
    print(
        "[render] simulated anew, observations differ from the recorded ones by at "
        f"most {moved.difference:.2g}"
    )
    if moved.strays_at is not None:
        print(
            f"Warning: from step {moved.strays_at} on by more than {STRAYS}. From "
            "there another course of the same actions is shown: rounding differs "
            "between programs, and contacts amplify it. Recoveries and violations are "
            "the recorded ones."
        )
    if film.recovered is None:
        print(
            "Warning: on which steps the recovery policy acted is not known, since the "
            "task policy learned from executed actions (online_relabel)."
        )
    elif film.recovered.sum() < recorded.recoveries:
        print(
            f"[render] {recorded.recoveries - film.recovered.sum()} recovered steps "
            "are not marked: both policies wanted the same action"
        )


def main() -> None:
    given = absl_flags.FLAGS
    asked = given.method, given.seed, given.episode, given.meta_seed, given.format
    for path in render(flags.workdir(), *asked):
        print(f"[render] {path}")


if __name__ == "__main__":
    flags.define_workdir()
    absl_flags.DEFINE_list("method", ["mesa"], "whose run; of several, in one film")
    define_integer("seed", 0, "of the run")
    define_integer("meta_seed", 0, "of the prior that the run started from")
    define_integer(
        "episode", -1, "as in results.csv, from 1 on; -1 is the last, -2 the one before"
    )
    absl_flags.DEFINE_string("format", "gif", f"one of {', '.join(films.WRITERS)}")
    flags.run(main)
