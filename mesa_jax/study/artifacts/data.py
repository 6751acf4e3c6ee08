"""Datasets of a study: loads them, or collects what is missing."""

import dataclasses
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from mesa_jax import configuration, sharding
from mesa_jax.collector import by_learner
from mesa_jax.data import begins_in_violation, of_data
from mesa_jax.keys import Stage, root_key, stage_key
from mesa_jax.phases.offline import SAC_STEPS, by_policy, learning
from mesa_jax.study import datasets
from mesa_jax.study.artifacts import naming
from mesa_jax.study.artifacts.kept import Kept
from mesa_jax.study.errors import NotFiniteError
from mesa_jax.study.study import Study
from mesa_jax.study.traces import say_compiling
from mesa_jax.system import System
from mesa_jax.types import Array, Domain, Task, Transition

FEW, MANY = 0.01, 0.6  # shares of violating transitions; outside, a launch warns
TRAINING = Kept(most=1)  # training data is large


class Bodies(NamedTuple):
    """Holds some bodies and their adaptation sets."""

    seeds: tuple[int, ...]  # of test bodies; of held-out training bodies, their numbers
    roots: Array  # a key each, [S]
    tasks: Task  # leaves [S, ...]
    rows: Transition  # [S, n, ...]

    def keys(self, stage: Stage) -> Array:
        """Returns one key a body, [S]."""
        return jax.vmap(lambda root: jax.random.fold_in(root, int(stage)))(self.roots)

    def first(self, count: int) -> "Bodies":
        """Returns the bodies with the first `count` of their transitions."""
        return self._replace(rows=jax.tree.map(lambda x: x[:, :count], self.rows))


def stage_keys(seeds, stage: Stage) -> Array:
    """Returns one key a seed, [S]."""
    return jax.vmap(lambda seed: stage_key(seed, stage))(jnp.asarray(seeds))


def load_test_bodies(
    study: Study, seeds: tuple[int, ...], count: int | None = None
) -> Bodies:
    """Loads (or collects) the test bodies of seeds, `count` transitions of each."""
    sets = [adaptation_data(study, seed, count) for seed in seeds]
    tasks, rows = ((s.tasks for s in sets), (s.rows for s in sets))
    join = lambda *x: jnp.concatenate(x)  # noqa: E731
    roots = jax.vmap(root_key)(jnp.asarray(seeds))
    return Bodies(seeds, roots, jax.tree.map(join, *tasks), jax.tree.map(join, *rows))


def _by_sac(system: System, key, tasks: Task, count: int):
    """Collects [T, count, ...] of T bodies by a learning agent in each.

    Returns the transitions, and their number of steps that were not finite.
    """
    bodies = jax.tree.leaves(tasks)[0].shape[0]
    with tqdm(total=count * bodies, desc="[collect] sac", unit="row") as bar:
        say_compiling(bar)
        for states in by_learner(*learning(system, count), key, tasks, count):
            bar.set_postfix_str("", refresh=False)
            bar.update(int(np.sum(states.replay.added)) - bar.n)
    if int(np.min(states.replay.added)) < count:
        raise NotFiniteError(
            f"collect: no step of the last {SAC_STEPS} was finite; the learner broke "
            "(lower --sac_lr) or the physics did (another --backend, a smaller "
            "--frame_skip)."
        )
    rows, broken = sharding.read((states.replay.rows, states.non_finite))
    if broken.any():
        print(f"[collect] {broken.sum()} steps were not finite and are left out")
    return rows, {"steps_not_finite_per_body": broken.tolist()}


def collected(system: System, key, tasks: Task, count: int):
    """Collects [T, count, ...] of T bodies; also what the card says of their making."""
    made = {}
    if system.configuration.collect.learns:
        rows, made = _by_sac(system, key, tasks, count)
    else:
        rows = by_policy(key, system, tasks, count)
    begins = begins_in_violation(rows)
    enters = (np.asarray(rows.cost) > 0.5) & ~begins
    shares = {"entering": enters, "beginning_in": begins}
    return rows, made | {
        f"share_{name}_violation": round(float(hit.mean()), 6)
        for name, hit in shares.items()
    }


def _about(domain: Domain, settings: configuration.Configuration, seed: int) -> dict:
    goes_on = of_data(domain, settings.collect).spec.continues
    ends = "at its length" if goes_on else "at a violation or its length"
    made = settings.collect
    learner = (
        "soft actor-critic without safety, learning in each body; its first finite "
        f"steps in {made.environments} copies of the body, in order"
    )
    generators = {
        "random": "the domain's random policy",
        "sticky": f"uniform actions, each held for {made.hold} steps",
        "sac": learner,
        "mixed": f"{learner}; it acts in the first {made.learning_environments}, in "
        f"the others uniform directions of any size, each held for {made.hold} steps, "
        f"a share {made.calm:g} of them zero",
    }
    return {
        "domain": domain.spec.name,
        "task_distribution": settings.tasks,
        "generator": generators[made.collector],
        "collect": dataclasses.asdict(made),
        "physics": dataclasses.asdict(settings.physics),
        "switches": settings.switches,
        "seed": seed,
        "horizon": domain.spec.horizon,
        "termination": f"an episode ends at the goal, {ends}",
    }


def training_folder(study: Study) -> pathlib.Path:
    """Returns where the training bodies' dataset is, or will be."""
    name = naming.training_data_name(study.configuration, study.meta_seed)
    return _folder(study, name)


def has_training_data(study: Study) -> bool:
    """Tells whether the training bodies' dataset is there."""
    return (training_folder(study) / datasets.CARD).exists()


def training_data(study: Study) -> datasets.Dataset:
    """Loads the training bodies, the held-out ones last; collects what is missing."""
    settings, domain = study.configuration, study.system.domain
    folder = training_folder(study)
    count = settings.data.train_bodies + settings.data.heldout_bodies
    if not (folder / datasets.CARD).exists():
        if not domain.spec.simulated:
            raise datasets.DatasetError(
                f"{folder} is missing, and {domain.spec.name} has no simulator to "
                "collect it: give the bodies' files to meta_train, --data=FILE,FILE..."
            )
        seed = study.meta_seed
        tasks = domain.train_tasks(stage_key(seed, Stage.TRAIN_TASKS), count)
        key = stage_key(seed, Stage.TRAIN_DATA)
        rows, made = collected(study.system, key, tasks, settings.data.transitions)
        about = _about(domain, settings, seed) | made
        about["heldout_bodies"] = settings.data.heldout_bodies
        _say(datasets.save(folder, rows, tasks, about), folder)
    asked = count, settings.data.transitions
    dataset = TRAINING.read(
        folder, lambda: datasets.load(folder, domain.spec, bodies_like(domain), asked)
    )
    datasets.require_violations(dataset, folder, settings.risk.violation_fraction)
    return dataset


def trained_and_heldout(
    data: datasets.Dataset, settings: configuration.Configuration
) -> tuple[Transition, Transition]:
    """Splits training data [T, N, ...]: bodies that train, and those held out."""
    rows, count = jax.device_put(data.rows), settings.data.train_bodies
    return (
        jax.tree.map(lambda x: x[:count], rows),
        jax.tree.map(lambda x: x[count:], rows),
    )


def adaptation_data(
    study: Study, seed: int, count: int | None = None
) -> datasets.Dataset:
    """Loads (or collects) one test body, and n transitions of a shuffle [1, n, ...].

    n is `count`, at most as many as are kept, or what the configuration asks for.
    """
    settings, domain = study.configuration, study.system.domain
    folder = _folder(study, naming.adaptation_data_name(settings, seed))
    pool, least = settings.data.test_transitions, settings.data.adaptation
    held = min(pool, max(configuration.KEPT, least))
    if not (folder / datasets.CARD).exists():
        tasks = domain.test_tasks(stage_key(seed, Stage.TEST_TASK), 1)
        theirs = tasks
        if settings.data.adaptation_body == "another":
            other_key = jax.random.fold_in(stage_key(seed, Stage.TEST_TASK), 1)
            theirs = domain.test_tasks(other_key, 1)
        key, shuffle_key = jax.random.split(stage_key(seed, Stage.ADAPTATION_DATA))
        rows, made = collected(study.system, key, theirs, pool)
        order = jax.random.permutation(shuffle_key, pool)
        kept = np.asarray(order[:held])
        rows = jax.tree.map(lambda x: x[:, kept], rows)
        sizes = sorted({50, 200, held, least})
        violating = {str(n): int(rows.cost[:, :n].sum()) for n in sizes}
        about = _about(domain, settings, seed) | made
        about["violating_of_first"] = violating
        about["adaptation_body"] = settings.data.adaptation_body
        datasets.save(folder, rows, tasks, about)
    dataset = datasets.load(folder, domain.spec, bodies_like(domain), (1, held))
    count = count or least
    rows = jax.tree.map(lambda x: x[:, :count], dataset.rows)
    if rows.cost.sum() == 0:
        print(f"Warning: the {count} adaptation rows of seed {seed} hold no violation.")
    return dataset._replace(rows=rows)


def _folder(study: Study, name: str) -> pathlib.Path:
    return study.folder / "datasets" / naming.domain_folder(study.configuration) / name


def bodies_like(domain: Domain) -> Task:
    """Returns shapes and types of a domain's bodies, [1, ...]."""
    return jax.eval_shape(lambda: domain.test_tasks(jax.random.key(0), 1))


def _say(dataset: datasets.Dataset, folder: pathlib.Path) -> None:
    shares = dataset.card["violation_share_per_body"]
    print(
        f"[collect] {dataset.card['bodies']} bodies x "
        f"{dataset.card['transitions_per_body']} transitions, "
        f"{100 * min(shares):.1f} to {100 * max(shares):.1f} % violating, in {folder}"
    )
    share = dataset.card["violation_share"]
    if not FEW <= share <= MANY:
        print(
            f"Warning: {100 * share:.2f} % of the transitions violate; a risk measure "
            f"learns best from {100 * FEW:.0f} to {100 * MANY:.0f} %."
        )
