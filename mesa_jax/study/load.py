"""Priors that a workdir holds, for `import mesa_jax`: read, never made."""

import functools
import pathlib
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mesa_jax.checked import checked_transitions
from mesa_jax.filter import METHOD, SafetyFilter
from mesa_jax.guard import Guard
from mesa_jax.keys import SEED_LIMIT
from mesa_jax.methods import METHODS, filters
from mesa_jax.novelty import Novelty
from mesa_jax.phases import adapting
from mesa_jax.readings import rereading
from mesa_jax.settings import SettingError, known
from mesa_jax.study import checkpoints
from mesa_jax.study.artifacts import naming, recorded
from mesa_jax.study.artifacts.data import has_training_data
from mesa_jax.study.artifacts.priors import finished_prior, trained_source
from mesa_jax.study.evaluation import calibrated_threshold
from mesa_jax.study.locks import WorkdirError
from mesa_jax.study.runs import risk_thresholds
from mesa_jax.study.store import stored_settings
from mesa_jax.study.study import Study
from mesa_jax.system import System, build
from mesa_jax.types import Key, Prior, Transition

SEED = 0  # of a filter's key, where none is given
CHECKPOINT = re.compile(r"([a-z_]+)-meta(\d+)-[0-9a-f]+")  # of a prior


class TrainedPrior(NamedTuple):
    """Holds a method's prior, what it computes with, and where training bodies lie."""

    system: System
    method: str
    prior: Prior
    threshold: float  # epsilon_risk of its filters; inf: the recovery policy never acts
    novelty: Callable[[int], Novelty | None]  # by adaptation sets of so many
    study: Study  # where it is from

    def adapt(self, transitions: Any, key: Key | None = None) -> SafetyFilter:
        """Returns the filter of a body, adapted from transitions of it (phase 2).

        Warns (`OutsideTrainingWarning`) where a body lies outside the training bodies,
        and (`FewTransitionsWarning`) where there is but one transition.

        Args:
          transitions: [n, ...] of one body, or [S, n, ...] of S: then the filter has a
            leading axis of bodies. Or what `transitions_of` takes: episodes of one
            body as Minari keeps them, or a replay's folder.
          key: consumed; None: that of seed 0.

        Raises:
          SettingError: naming the field of `transitions` that is wrong.
          DatasetError: if there is no replay in the folder.
        """
        transitions = self._checked(transitions)
        found = adapting.adapt(
            jax.random.key(SEED) if key is None else key,
            self.system,
            self.prior,
            transitions,
            self.method,
            self.novelty(transitions.cost.shape[-1]),
        )
        return found.replace(threshold=jnp.full_like(found.threshold, self.threshold))

    def guard(
        self,
        transitions: Any,
        key: Key | None = None,
        copies: int | None = None,
        fallback: str = "recovery",
    ) -> Guard:
        """Returns a `Guard`: the adapted filter, which reads the body again online.

        Args:
          transitions: [n, ...] of one body, or [S, n, ...] of S; or as `adapt` takes
            them.
          key: consumed; None: that of seed 0.
          copies: of one body, side by side as in a vector environment; None: the
            transitions say how many bodies there are.
          fallback: as `Guard` takes it.

        Raises:
          SettingError: naming the argument that is wrong.
          DatasetError: if there is no replay in the folder.
        """
        transitions = self._checked(transitions)
        if copies is not None:
            if copies < 1 or transitions.cost.ndim != 1:
                allowed = "at least 1, and left out where transitions are of S bodies"
                raise SettingError("copies", copies, allowed)
            repeat = lambda x: jnp.broadcast_to(x, (copies, *x.shape))  # noqa: E731
            transitions = jax.tree.map(repeat, transitions)
        root = jax.random.key(SEED) if key is None else key
        adapt_key, read_key = jax.random.split(root)
        read = self.system.configuration.online.readapt_transitions
        training = self.novelty(read) if METHODS[self.method].readapts else None
        again = rereading(
            read_key, self.system, self.prior, transitions, self.method, training
        )
        return Guard(self.adapt(transitions, adapt_key), again, fallback)

    def _checked(self, transitions: Any) -> Transition:
        given = recorded.transitions_of(transitions)
        return checked_transitions(self.system.domain.spec, given)

    def calibrated(self, false_safe: float, failing: float = 0.1) -> "TrainedPrior":
        """Returns the prior with a calibrated risk threshold, and prints its worth.

        Of a new body like the training ones a share `false_safe` of the dangerous
        states passes for safe at most, but for a share `failing` of such bodies. The
        workdir's held-out training bodies tell: what the simulator says of them is
        read, or simulated (a minute) and kept; of recorded bodies what followed.

        Raises:
          SettingError: if held-out bodies or their dangerous states are too few: how
            many there are, and how many it takes.
        """
        asked = {"false_safe": false_safe, "false_safe_bodies": failing}
        settings = self.system.configuration.override(recovery=asked)
        if not (METHODS[self.method].constrained and settings.recovery.false_safe):
            raise SettingError("false_safe", false_safe, "above 0, of a filter")
        found = calibrated_threshold(self.study, build(settings))
        return self._replace(threshold=found)


def load(
    workdir: str | pathlib.Path, method: str = METHOD, meta_seed: int = 0
) -> TrainedPrior:
    """Returns a method's prior from a workdir; trains nothing.

    Its threshold is the workdir's. One that launches calibrate there
    (`recovery.false_safe`) is calibrated here too.

    Args:
      workdir: as `python -m experiments.run` makes it.
      method: a row of `METHODS` whose prior is meta-trained, and which filters.
      meta_seed: of the training bodies.

    Raises:
      SettingError: naming the argument.
      WorkdirError: if the workdir lacks that prior or its data: what there is, and the
        command that makes the rest. Also if another version made it.
    """
    row = METHODS[known("method", method, METHODS)]
    able = [
        name
        for name, other in METHODS.items()
        if other.prior != "scratch" and not other.told and filters(name)
    ]
    if method not in able:
        raise SettingError("method", method, "one of " + ", ".join(able))
    if not 0 <= meta_seed < SEED_LIMIT:
        raise SettingError("meta_seed", meta_seed, f"at least 0, below {SEED_LIMIT}")
    place = pathlib.Path(workdir).expanduser()
    settings = stored_settings(place) if place.is_dir() else None
    if settings is None:
        raise WorkdirError(
            f"{place} is no workdir: it has no config.json. `python -m experiments.run "
            f"--methods={method} --workdir={place}` makes one."
        )
    study = Study(place, settings, meta_seed).of(method)
    system = study.system
    prior = finished_prior(study, row.prior)
    if prior is None:
        raise WorkdirError(_missing(study, "finished prior"))
    if system.encode is not None and not has_training_data(study):
        raise WorkdirError(_missing(study, "data of the training bodies"))
    source = trained_source(study, row)
    threshold = risk_thresholds(study, (method,))[method]
    novelty = functools.cache(functools.partial(source.novelty, system))
    return TrainedPrior(system, method, prior, threshold, novelty, study)


def _missing(study: Study, what: str) -> str:
    """Says what a workdir lacks, what there is, and the command that makes the rest."""
    place, method, seed = study.folder, study.method, study.meta_seed
    return (
        f"{place} has no {what} of {method}, meta-seed {seed}. There: "
        f"{_priors_there(study) or 'no prior'}. `python -m experiments.meta_train "
        f"--method={method} --meta_seed={seed} --workdir={place}` makes it."
    )


def _priors_there(study: Study) -> str:
    """Names the methods and meta-seeds whose priors a workdir has, and how far."""
    folders = (study.folder / "checkpoints").glob("*-meta*-*")
    found = {f.name: (checkpoints.steps(f) or [0])[-1] for f in folders}
    seeds = {int(m[2]) for name in found if (m := CHECKPOINT.fullmatch(name))}
    said = []
    for method, row in METHODS.items():
        for seed in sorted(seeds) if row.prior != "scratch" else ():
            settings = study.of(method).configuration
            name = naming.prior_name(settings, row.prior, seed)
            if name in found:
                total = getattr(settings, row.prior).steps
                far = f", outer step {found[name]} of {total}"
                short = far * (found[name] < total)
                said.append(f"{method} (meta-seed {seed}{short})")
    return ", ".join(said)
