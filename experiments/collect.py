"""Collects the offline datasets: training bodies, and the test bodies' adaptation sets.

python -m experiments.collect --domain=navigation1 --workdir=DIR
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from experiments.build import build
from mesa_jax import rollout
from mesa_jax.pipeline import Stage, stage_key
from mesa_jax.runtime import config, datasets, flags, workdir
from mesa_jax.types import Domain, Task

POOL = 10_000  # transitions of a test body that are shuffled once
KEPT = 1_000  # of them are stored, or as many as the configuration asks for


def _generate(domain: Domain, key, tasks: Task, count: int):
    """Rows [T, count, ...] of T bodies, episode after episode."""
    bodies = jax.tree.leaves(tasks)[0].shape[0]
    episodes = -(-count // 4)
    make = jax.jit(
        jax.vmap(lambda k, task: rollout.data_episodes(k, domain, task, episodes))
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
    return jax.tree.map(lambda *x: np.stack(x), *rows)


def _about(domain: Domain, settings: config.Settings, seed: int) -> dict:
    return {
        "domain": domain.spec.name,
        "task_distribution": settings.tasks,
        "generator": "the domain's random policy",
        "seed": seed,
        "horizon": domain.spec.horizon,
        "termination": "an episode ends at a violation, at the goal, or at its length",
    }


def training_data(launch: flags.Launch) -> datasets.Dataset:
    """Training bodies, the held-out ones last; collected if it is missing."""
    settings, domain = launch.settings, build(launch.settings).domain
    name = config.training_data_name(settings, launch.meta_seed)
    folder = _folder(launch, name)
    if not (folder / datasets.CARD).exists():
        count = settings.data.train_bodies + settings.data.heldout_bodies
        seed = launch.meta_seed
        tasks = domain.train_tasks(stage_key(seed, Stage.TRAIN_TASKS), count)
        key = stage_key(seed, Stage.TRAIN_DATA)
        rows = _generate(domain, key, tasks, settings.data.transitions)
        about = _about(domain, settings, seed) | {
            "heldout_bodies": settings.data.heldout_bodies
        }
        _say(datasets.save(folder, rows, tasks, about), folder)
    task_type = _task_type(domain)
    dataset = datasets.load(folder, domain.spec, task_type)
    datasets.require_violations(dataset, folder, settings.risk.violation_fraction)
    return dataset


def adaptation_data(
    launch: flags.Launch, seed: int, count: int | None = None
) -> datasets.Dataset:
    """One test body and its first n transitions of one seeded shuffle [1, n, ...].

    n is `count`, at most as many as are kept, or what the configuration asks for.
    """
    settings, domain = launch.settings, build(launch.settings).domain
    folder = _folder(launch, config.adaptation_data_name(settings, seed))
    if not (folder / datasets.CARD).exists():
        tasks = domain.test_tasks(stage_key(seed, Stage.TEST_TASK), 1)
        key, shuffle_key = jax.random.split(stage_key(seed, Stage.ADAPTATION_DATA))
        rows = _generate(domain, key, tasks, POOL)
        order = jax.random.permutation(shuffle_key, POOL)
        kept = np.asarray(order[: max(KEPT, settings.data.adaptation)])
        rows = jax.tree.map(lambda x: x[:, kept], rows)
        sizes = sorted({50, 200, KEPT, settings.data.adaptation})
        violating = {str(n): int(rows.cost[:, :n].sum()) for n in sizes}
        about = _about(domain, settings, seed) | {"violating_of_first": violating}
        datasets.save(folder, rows, tasks, about)
    dataset = datasets.load(folder, domain.spec, _task_type(domain))
    count = count or settings.data.adaptation
    rows = jax.tree.map(lambda x: x[:, :count], dataset.rows)
    if rows.cost.sum() == 0:
        print(f"Warning: the {count} adaptation rows of seed {seed} hold no violation.")
    return dataset._replace(rows=rows)


def _folder(launch: flags.Launch, name: str) -> pathlib.Path:
    return launch.workdir / "datasets" / launch.settings.domain / name


def _task_type(domain: Domain) -> type:
    return type(domain.test_tasks(jax.random.key(0), 1))


def _say(dataset: datasets.Dataset, folder: pathlib.Path) -> None:
    shares = dataset.card["violation_share_per_body"]
    print(
        f"[collect] {dataset.card['bodies']} bodies x "
        f"{dataset.card['transitions_per_body']} transitions, "
        f"{100 * min(shares):.1f} to {100 * max(shares):.1f} % violating, in {folder}"
    )


def collect(launch: flags.Launch) -> None:
    """Makes what is missing of the launch's datasets, and verifies the rest."""
    training_data(launch)
    for seed in launch.seeds:
        adaptation_data(launch, seed)
    count = launch.settings.data.adaptation
    print(f"[collect] {len(launch.seeds)} test bodies x {count} adaptation transitions")


def main() -> None:
    launch = flags.launch()
    with workdir.opened(launch.workdir, launch.settings):
        collect(launch)


if __name__ == "__main__":
    flags.define_launch()
    flags.run(main)
