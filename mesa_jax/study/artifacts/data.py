"""Datasets of a study: loads them, or collects what is missing."""

import dataclasses
import functools
import json
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from mesa_jax import configuration, simulation
from mesa_jax.data import collect_steps, init_collect
from mesa_jax.keys import Stage, root_key, stage_key
from mesa_jax.study import datasets
from mesa_jax.study.artifacts import naming
from mesa_jax.study.errors import NotFiniteError
from mesa_jax.study.study import Launch
from mesa_jax.system import Build, build
from mesa_jax.types import Array, Domain, Task, Transition


class Bodies(NamedTuple):
    """Some bodies and their adaptation sets."""

    seeds: tuple[int, ...]  # of test bodies; of held-out training bodies, their numbers
    roots: Array  # a key each, [S]
    tasks: Task  # leaves [S, ...]
    rows: Transition  # [S, n, ...]

    def keys(self, stage: Stage) -> Array:
        """One key a body, [S]."""
        return jax.vmap(lambda root: jax.random.fold_in(root, int(stage)))(self.roots)

    def first(self, count: int) -> "Bodies":
        """The bodies with the first `count` of their rows."""
        return self._replace(rows=jax.tree.map(lambda x: x[:, :count], self.rows))


def stage_keys(seeds, stage: Stage) -> Array:
    """One key a seed, [S]."""
    return jax.vmap(lambda seed: stage_key(seed, stage))(jnp.asarray(seeds))


def test_bodies(
    launch: Launch, seeds: tuple[int, ...], count: int | None = None
) -> Bodies:
    """Loads (or collects) the test body of each seed with `count` rows to adapt on."""
    sets = [adaptation_data(launch, seed, count) for seed in seeds]
    tasks, rows = ((s.tasks for s in sets), (s.rows for s in sets))
    join = lambda *x: jnp.concatenate(x)  # noqa: E731
    roots = jax.vmap(root_key)(jnp.asarray(seeds))
    return Bodies(seeds, roots, jax.tree.map(join, *tasks), jax.tree.map(join, *rows))


FEW, MANY = 0.01, 0.6  # shares of violating transitions; outside, a launch warns


CHUNK = 50  # sac steps a dispatch


def by_policy(
    built: Build, settings: configuration.Configuration, key, tasks: Task, count: int
):
    """Rows [T, count, ...] of T bodies by a random policy, episode after episode."""
    domain, bodies = built.domain, jax.tree.leaves(tasks)[0].shape[0]
    sticky = settings.collect.collector == "sticky"
    hold = settings.collect.hold if sticky else 1
    length = 4 if domain.episode and not sticky else min(15, domain.spec.horizon)
    episodes = -(-count // length)
    make = jax.jit(
        jax.vmap(
            lambda k, task: simulation.data_episodes(k, domain, task, episodes, hold)
        )
    )
    padded, valid = make(jax.random.split(key, bodies), tasks)
    while (short := int(valid.sum(axis=(1, 2)).min())) < count:
        key = jax.random.fold_in(key, short)
        more, more_valid = make(jax.random.split(key, bodies), tasks)
        join = lambda a, b: jnp.concatenate([a, b], axis=1)  # noqa: E731
        padded, valid = jax.tree.map(join, padded, more), join(valid, more_valid)
    rows = [
        datasets.take_rows(jax.tree.map(lambda x: x[i], padded), valid[i], count)  # noqa: B023
        for i in range(bodies)
    ]
    return jax.tree.map(lambda *x: np.stack(x), *rows), {}


@functools.cache
def _sac_programs(settings: configuration.Configuration, count: int):
    """Compiled `init(keys, tasks)` and `chunk(keys, states)` over bodies."""
    built = build(settings)
    parts = built.domain, built.task_policy, settings.collect
    init = jax.vmap(lambda key, task: init_collect(key, *parts, task, count))
    chunk = jax.vmap(collect_steps(*parts, CHUNK))
    return jax.jit(init), jax.jit(chunk, donate_argnums=1)


def _by_sac(settings: configuration.Configuration, key, tasks: Task, count: int):
    """Rows [T, count, ...] of T bodies by a learning agent in each; and their number
    of steps that were not finite.
    """
    bodies = jax.tree.leaves(tasks)[0].shape[0]
    init, chunk = _sac_programs(settings, count)
    init_key, key = jax.random.split(key)
    states = init(jax.random.split(init_key, bodies), tasks)
    keys = jax.random.split(key, bodies)
    with tqdm(total=count * bodies, desc="[collect] sac", unit="row") as bar:
        while (held := np.array(states.replay.added)).min() < count:
            states = chunk(keys, states)
            now = np.array(states.replay.added)
            if (now == held).all():
                raise NotFiniteError(
                    f"collect: no step of the last {CHUNK} was finite; the learner "
                    "broke (lower --sac_lr) or the physics did (another --backend, a "
                    "smaller --frame_skip)."
                )
            bar.update(int(now.sum() - held.sum()))
    rows = jax.tree.map(np.asarray, states.replay.rows)
    broken = np.asarray(states.non_finite)
    if broken.any():
        print(f"[collect] {broken.sum()} steps were not finite and are left out")
    return rows, {"steps_not_finite_per_body": broken.tolist()}


def _generate(settings: configuration.Configuration, key, tasks: Task, count: int):
    """Rows [T, count, ...] of T bodies, and what the card says of their making."""
    if settings.collect.collector == "sac":
        return _by_sac(settings, key, tasks, count)
    return by_policy(build(settings), settings, key, tasks, count)


def _about(domain: Domain, settings: configuration.Configuration, seed: int) -> dict:
    ends = "at its length" if domain.spec.continues else "at a violation or its length"
    generators = {
        "random": "the domain's random policy",
        "sticky": f"uniform actions, each held for {settings.collect.hold} steps",
        "sac": "soft actor-critic without safety, learning in each body; its first "
        f"finite steps in {settings.collect.environments} copies of the body, in order",
    }
    return {
        "domain": domain.spec.name,
        "task_distribution": settings.tasks,
        "generator": generators[settings.collect.collector],
        "collect": dataclasses.asdict(settings.collect),
        "physics": dataclasses.asdict(settings.physics),
        "switches": settings.switches,
        "seed": seed,
        "horizon": domain.spec.horizon,
        "termination": f"an episode ends at the goal, {ends}",
    }


def training_data(launch: Launch) -> datasets.Dataset:
    """Training bodies, the held-out ones last; collected if it is missing."""
    settings, domain = launch.settings, build(launch.settings).domain
    name = naming.training_data_name(settings, launch.meta_seed)
    folder = _folder(launch, name)
    count = settings.data.train_bodies + settings.data.heldout_bodies
    if not (folder / datasets.CARD).exists():
        seed = launch.meta_seed
        tasks = domain.train_tasks(stage_key(seed, Stage.TRAIN_TASKS), count)
        key = stage_key(seed, Stage.TRAIN_DATA)
        rows, made = _generate(settings, key, tasks, settings.data.transitions)
        about = _about(domain, settings, seed) | made
        about["heldout_bodies"] = settings.data.heldout_bodies
        _say(datasets.save(folder, rows, tasks, about), folder)
    asked = count, settings.data.transitions
    dataset = datasets.load(folder, domain.spec, bodies_like(domain), asked)
    datasets.require_violations(dataset, folder, settings.risk.violation_fraction)
    return dataset


def adaptation_data(
    launch: Launch, seed: int, count: int | None = None
) -> datasets.Dataset:
    """One test body and its first n transitions of one seeded shuffle [1, n, ...].

    n is `count`, at most as many as are kept, or what the configuration asks for.
    """
    settings, domain = launch.settings, build(launch.settings).domain
    folder = _folder(launch, naming.adaptation_data_name(settings, seed))
    pool, least = settings.data.test_transitions, settings.data.adaptation
    held = min(pool, max(configuration.KEPT, least))
    if not (folder / datasets.CARD).exists():
        tasks = domain.test_tasks(stage_key(seed, Stage.TEST_TASK), 1)
        theirs = tasks
        if settings.data.adaptation_body == "another":
            other_key = jax.random.fold_in(stage_key(seed, Stage.TEST_TASK), 1)
            theirs = domain.test_tasks(other_key, 1)
        key, shuffle_key = jax.random.split(stage_key(seed, Stage.ADAPTATION_DATA))
        rows, made = _generate(settings, key, theirs, pool)
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


def _folder(launch: Launch, name: str) -> pathlib.Path:
    return launch.workdir / "datasets" / launch.settings.domain / name


def bodies_like(domain: Domain) -> Task:
    """Shapes and types of a domain's bodies, [1, ...]."""
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


def rounded(value, digits: int = 1) -> str:
    """Without "-0.0"."""
    return json.dumps((np.asarray(value, float).round(digits) + 0.0).tolist())


def described(task: Task) -> str:
    """A body in words."""
    return ", ".join(f"{name} {rounded(x, 2)}" for name, x in task._asdict().items())
