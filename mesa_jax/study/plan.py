"""What a launch makes, stage by stage, and what is there of it; nothing is computed."""

import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from mesa_jax.methods import METHODS
from mesa_jax.study import batches, checkpoints, inventory, metrics_log, tuning
from mesa_jax.study.artifacts import naming, rounds, truth
from mesa_jax.study.batches import Batch
from mesa_jax.study.datasets import CARD
from mesa_jax.study.study import Asked, Study


class Stage(NamedTuple):
    """Holds how far a stage of a launch is."""

    name: str
    what: str
    done: int  # of `total`
    total: int
    unit: str = ""  # of both; "" for what is there or not
    seconds: float | None = None  # that it still takes; None: nobody knows

    def __str__(self) -> str:
        state = "there" if self.done >= self.total else "missing"
        if 0 < self.done < self.total:
            state = f"{self.done:,} of {self.total:,} {self.unit}".rstrip()
            if self.seconds is not None:
                state += f", about {max(1, round(self.seconds / 60))} minutes left"
        return f"{self.name}: {self.what}: {state}"


def of_run(study: Study, asked: Asked) -> list[Stage]:
    """Lists the stages of the main job."""
    common = [name for name in asked.methods if not METHODS[name].settings]
    return [
        *_training(study, common or _learning(asked.methods)),
        *_adaptation_sets(study, asked),
        *_priors(study, asked.methods),
        *_heldout_truth(_calibrated(study, asked.methods)),
        *_online(study, asked),
    ]


def of_online(study: Study, asked: Asked) -> list[Stage]:
    """Lists the stages of online runs, with what they start from."""
    return [
        *_training(study, _learning(asked.methods)),
        *_adaptation_sets(study, asked),
        *_priors(study, asked.methods),
        *_heldout_truth(_calibrated(study, asked.methods)),
        *_online(study, asked),
    ]


def of_thresholds(study: Study, asked: Asked, values: Sequence[float]) -> list[Stage]:
    """Lists the stages of a sweep of risk thresholds."""
    batch = Batch(asked.methods, asked.seeds, study.meta_seed, tuple(values))
    each = inventory.keys_of(batch._replace(thresholds=()))
    what = f"{len(values)} thresholds x {'; '.join(inventory.grouped(each))}"
    finished = (batch, True) in batches.stored(study.folder)
    return [
        *_training(study, _learning(asked.methods)),
        *_adaptation_sets(study, asked),
        *_priors(study, asked.methods),
        Stage("online", what, finished, 1),
    ]


def of_collect(study: Study, asked: Asked) -> list[Stage]:
    """Lists the datasets."""
    common = asked._replace(methods=())  # methods of other data make theirs themselves
    return [*_training_data(study, [None]), *_adaptation_sets(study, common)]


def of_filter_test(study: Study, asked: Asked, bodies: int) -> list[Stage]:
    """Lists the stages of filter tests on new bodies."""
    return [
        *_training(study, asked.methods),
        *_priors(study, asked.methods),
        *(
            Stage("filter test", f"{n}, {bodies} new bodies", 0, 1)
            for n in asked.methods
        ),
    ]


def of_meta_train(study: Study, asked: Asked) -> list[Stage]:
    """Lists the stages of a method's prior."""
    learning = _learning(asked.methods)
    return [*_training(study, learning), *_priors(study, learning)]


def of_evaluate(study: Study, asked: Asked) -> list[Stage]:
    """Lists the stages of estimates beside the simulator's risk."""
    paths = truth.paths_of_tested(study, asked.seeds)
    return [
        *_training(study, asked.methods),
        *_adaptation_sets(study, asked),
        *_priors(study, asked.methods),
        *_heldout_truth([study.of(name) for name in asked.methods]),
        _files("truth", "of test bodies", paths),
        *(Stage("estimates", name, 0, 1) for name in asked.methods),
        Stage("filter test", f"{len(asked.seeds)} test bodies", 0, 1),
    ]


def of_tune(study: Study, asked: Asked) -> list[Stage]:
    """Lists the stages of choosing settings."""
    tried = {(r["method"], r["meta_seed"]) for r in tuning.TUNING.read(study.folder)}
    return [
        *_training(study, asked.methods),
        *(
            Stage("trials", name, (name, study.meta_seed) in tried, 1)
            for name in asked.methods
        ),
    ]


def _each(
    study: Study, methods: Iterable[str | None], name_of: Callable
) -> dict[str, Study]:
    """Returns the different artefacts of methods by name, each with a study of it."""
    studies = [study.of(method) for method in methods]
    return {name_of(one): one for one in reversed(studies)}


def _learning(methods: Iterable[str]) -> list[str]:
    """Returns the methods that learn a prior from the training bodies."""
    return [name for name in methods if METHODS[name].prior != "scratch"]


def _datasets(study: Study) -> pathlib.Path:
    return study.folder / "datasets" / naming.domain_folder(study.common)


def _adaptation_sets(study: Study, asked: Asked) -> list[Stage]:
    place, settings = _datasets(study), study.common.data
    names = [
        name
        for seed in asked.seeds
        for name in _each(
            study,
            asked.methods or [None],
            lambda one, seed=seed: naming.adaptation_data_name(one.configuration, seed),
        )
    ]
    what = f"{len(asked.seeds)} test bodies x {settings.adaptation:,} transitions"
    return [_files("adaptation sets", what, [place / n / CARD for n in names])]


def _training(study: Study, methods: Iterable[str]) -> list[Stage]:
    """The training bodies' data, and the rounds of methods that learn from them."""
    learn = _learning(methods)
    found, place = _training_data(study, learn), _datasets(study)
    with_rounds = [n for n in learn if study.of(n).configuration.rounds.count]
    named = lambda one: naming.rounds_name(one.configuration, one.meta_seed)  # noqa: E731
    for name, one in _each(study, with_rounds, named).items():
        count = one.configuration.rounds.count
        played = len(list((place / name).glob(f"round*/{CARD}")))
        done = count + 1 if (place / name / rounds.TESTS).exists() else played
        found.append(Stage("rounds", f"{count} and a test", done, count + 1, "rounds"))
    return found


def _training_data(study: Study, methods: Iterable[str | None]) -> list[Stage]:
    """The training bodies' data of methods, or of none."""
    place, found = _datasets(study), []
    named = lambda one: naming.training_data_name(one.configuration, one.meta_seed)  # noqa: E731
    for name, one in _each(study, methods, named).items():
        data, there = one.configuration.data, (place / name / CARD).exists()
        what = f"{data.train_bodies} + {data.heldout_bodies} bodies x "
        what += f"{data.transitions:,} transitions"
        found.append(Stage("training data", what, there, 1))
    return found


def _priors(study: Study, methods: Iterable[str]) -> list[Stage]:
    """The priors, and the truth of the bodies that they are watched on."""
    found: dict[str, Stage] = {}
    watched = []
    for method in _learning(methods):
        kind, mine = METHODS[method].prior, study.of(method)
        name = naming.prior_name(mine.configuration, kind, study.meta_seed)
        folder = study.folder / "checkpoints" / name
        total = getattr(mine.configuration, kind).steps
        done = (checkpoints.steps(folder) or [0])[-1]
        pace = (
            metrics_log.seconds_a_step(study.folder, name) if 0 < done < total else None
        )
        left = None if pace is None else pace * (total - done)
        found.setdefault(
            name,
            Stage(f"prior {kind}", f"for {method}", done, total, "outer steps", left),
        )
        watched.append(truth.watched(mine))
    return [*_heldout_truth(watched, ", to watch priors by"), *found.values()]


def _calibrated(study: Study, methods: Iterable[str]) -> list[Study]:
    """Returns studies of the methods whose threshold is calibrated."""
    constrained = [study.of(name) for name in methods if METHODS[name].constrained]
    return [one for one in constrained if one.configuration.recovery.false_safe]


def _heldout_truth(studies: Iterable[Study], why: str = "") -> list[Stage]:
    """The truth of held-out training bodies, each file of them once."""
    paths = dict.fromkeys(p for one in studies for p in truth.paths_of_heldout(one))
    if not paths:
        return []
    return [_files("truth", f"of held-out training bodies{why}", [*paths])]


def _files(name: str, what: str, paths: list[pathlib.Path]) -> Stage:
    return Stage(name, what, sum(p.exists() for p in paths), len(paths))


def _online(study: Study, asked: Asked) -> list[Stage]:
    """The programs of online runs: those at their end, begun, and missing."""
    place, settings = study.folder, study.common.online
    runs = Batch(asked.methods, asked.seeds, study.meta_seed).runs()
    todo = batches.to_run(place, asked.methods, asked.seeds, study.meta_seed)
    waiting = {run for batch in todo for run in batch.runs()}
    found, there = [], [run for run in runs if run not in waiting]
    if there:
        keys = [(run.method, study.meta_seed, run.seed) for run in there]
        found.append(Stage("online", "; ".join(inventory.grouped(keys)), 1, 1))
    for batch in todo:
        what = "; ".join(inventory.grouped(inventory.keys_of(batch)))
        done, left = (checkpoints.steps(batch.checkpoints(place)) or [0])[-1], None
        if settings.steps:
            pace = metrics_log.seconds_a_step(place, batch.name)
            left = None if pace is None else pace * max(0, settings.steps - done)
            found.append(Stage("online", what, done, settings.steps, "steps", left))
        else:
            what += f", {done:,} steps done" * bool(done)
            found.append(Stage("online", what, 0, 1))
    return found
