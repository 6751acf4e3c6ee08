"""Adapts to test bodies and runs the methods online, all runs as one program.

python -m experiments.online --domain=navigation1 --seeds=10 --workdir=DIR
"""

import hashlib
import json
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from experiments.build import Build, build
from experiments.collect import adaptation_data
from experiments.meta_train import prior
from mesa_jax import pipeline, rollout
from mesa_jax.agents import METHODS
from mesa_jax.pipeline import Stage, stage_key
from mesa_jax.runtime import checkpoints, files, flags, metrics, results, workdir
from mesa_jax.types import Prior


class Batch(NamedTuple):
    """Runs that are one compiled program: methods x seeds, method by method."""

    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    meta_seed: int

    @property
    def name(self) -> str:
        text = json.dumps(self, sort_keys=True)
        return "online-" + hashlib.sha256(text.encode()).hexdigest()[:8]

    def runs(self) -> list[tuple[str, int]]:
        return [(method, seed) for method in self.methods for seed in self.seeds]


def batches(launch: flags.Launch) -> list[Batch]:
    """What of the launch is to be run: unfinished batches first, then missing runs."""
    begun, taken = [], set()
    for path in sorted((launch.workdir / "online").glob("*.json")):
        record = files.read_json(path)
        methods, seeds = tuple(record["methods"]), tuple(record["seeds"])
        batch = Batch(methods, seeds, record["meta_seed"])
        if batch.meta_seed != launch.meta_seed:
            continue
        taken |= set(batch.runs())
        asked = {(m, s) for m in launch.methods for s in launch.seeds}
        if not record["finished"] and asked & set(batch.runs()):
            begun.append(batch)
    missing: dict[tuple[int, ...], list[str]] = {}
    for method in launch.methods:
        seeds = tuple(seed for seed in launch.seeds if (method, seed) not in taken)
        if seeds:
            missing.setdefault(seeds, []).append(method)
    new = [Batch(tuple(ms), seeds, launch.meta_seed) for seeds, ms in missing.items()]
    return begun + new


def adapted(launch: flags.Launch, built: Build, batch: Batch) -> dict[str, tuple]:
    """Per method of a batch its (critic, recovery policy) [S, ...] on each test body."""
    sets = [adaptation_data(launch, seed) for seed in batch.seeds]
    support = jax.tree.map(
        lambda *x: jnp.stack([v[0] for v in x]), *(s.rows for s in sets)
    )
    keys = _keys(batch.seeds, Stage.ADAPT)
    by_prior = {}
    for kind in dict.fromkeys(METHODS[method].prior for method in batch.methods):
        if kind == "scratch":
            params = jax.vmap(
                lambda key, rows: pipeline.init_params(
                    key, built.risk, built.recovery, pipeline.statistics(rows)
                )
            )(_keys(batch.seeds, Stage.PRIOR_INIT), support)
            start, axes = Prior(params, ()), (0, 0, 0)
        else:
            start, axes = prior(launch, kind), (0, None, 0)
        by_prior[kind] = jax.jit(jax.vmap(built.adapt[kind], axes))(
            keys, start, support
        )
    print(f"[adapt] {len(batch.methods)} methods x {len(batch.seeds)} bodies")
    return {method: by_prior[METHODS[method].prior] for method in batch.methods}


def _keys(seeds, stage: Stage):
    return jax.vmap(lambda seed: stage_key(seed, stage))(jnp.asarray(seeds))


def start(launch: flags.Launch, built: Build, batch: Batch, params: dict[str, tuple]):
    """The states of a batch before the first step, [S, ...] over its runs."""
    settings = launch.settings
    sets = [adaptation_data(launch, seed) for seed in batch.seeds]

    def one(seed, params, threshold, task, rows):
        agent = built.agent.init(stage_key(seed, Stage.AGENT_INIT), *params, threshold)
        key = stage_key(seed, Stage.RUN_START)
        return rollout.init_run(key, built.domain, settings.online, task, agent, rows)

    def over_runs(trees):  # one tree a seed -> [runs, ...]
        return jax.tree.map(
            lambda *x: jnp.stack([v[0] for v in x] * len(batch.methods)), *trees
        )

    stacked = jax.tree.map(lambda *x: jnp.concatenate(x), *params.values())
    thresholds = [
        settings.recovery.risk_threshold if METHODS[method].constrained else jnp.inf
        for method, _ in batch.runs()
    ]
    return jax.jit(jax.vmap(one))(
        jnp.array([seed for _, seed in batch.runs()]),
        stacked,
        jnp.array(thresholds),
        over_runs([s.tasks for s in sets]),
        over_runs([s.rows for s in sets]),
    )


def run_batch(launch: flags.Launch, batch: Batch) -> None:
    """Runs a batch to its end, from its last checkpoint if there is one."""
    built, config = build(launch.settings), launch.settings.online
    manifest = launch.workdir / "online" / f"{batch.name}.json"
    folder = launch.workdir / "checkpoints" / batch.name
    begun = checkpoints.steps(folder)
    if not begun:
        params = adapted(launch, built, batch)
        checkpoints.save(
            launch.workdir / "checkpoints" / f"adapted-{batch.name}", 0, params
        )
        states = start(launch, built, batch, params)
        checkpoints.save(folder, 0, states)
        files.write_json(manifest, batch._asdict() | {"finished": False})
    restored = checkpoints.restore_latest(folder, _like(launch, built, batch))
    if restored is None:
        raise checkpoints.CheckpointError(f"{folder} holds no undamaged checkpoint.")
    done, states = restored
    _say_start(batch, done)
    seeds = [seed for _, seed in batch.runs()]
    keys, evaluate_keys = _keys(seeds, Stage.ONLINE), _keys(seeds, Stage.EVALUATE)
    chunk = jax.jit(
        pipeline.run_online(built.domain, built.agent, config), donate_argnums=2
    )
    target = config.episodes * len(seeds)
    finished = int(states.episode.sum())
    with (
        metrics.MetricsWriter(launch.workdir, batch.name, done) as writer,
        tqdm(total=target, initial=finished, desc="[online]", unit="episode") as bar,
    ):
        while finished < target:
            states, values = chunk(keys, evaluate_keys, states)
            _require_finite(states, batch)
            done += config.chunk_steps
            checkpoints.save(folder, done, states)
            _write(launch, batch, states, values, done, writer)
            bar.update(int(states.episode.sum()) - finished)
            finished = int(states.episode.sum())
    files.write_json(manifest, batch._asdict() | {"finished": True})


def _like(launch: flags.Launch, built: Build, batch: Batch):
    """Shapes of a batch's states, without computing them."""

    def make():
        sets = [adaptation_data(launch, seed) for seed in batch.seeds]
        support = jax.tree.map(lambda *x: jnp.concatenate(x), *(s.rows for s in sets))
        params = jax.vmap(
            lambda key, rows: pipeline.init_params(
                key, built.risk, built.recovery, pipeline.statistics(rows)
            )
        )(_keys(batch.seeds, Stage.PRIOR_INIT), support)
        return start(launch, built, batch, dict.fromkeys(batch.methods, params))

    return jax.eval_shape(make)


def _write(launch, batch: Batch, states, values, done: int, writer) -> None:
    """Results of all episodes so far, and the chunk's metrics."""
    config, rows = launch.settings.online, []
    records, evaluations = jax.tree.map(
        np.asarray, (states.records, states.evaluations)
    )
    values = jax.tree.map(np.asarray, values)
    for i, (method, seed) in enumerate(batch.runs()):
        run = {"domain": launch.settings.domain, "tasks": launch.settings.tasks}
        run |= {"method": method, "meta_seed": batch.meta_seed, "seed": seed}
        episodes, every = int(states.episode[i]), config.evaluate_every
        mine, theirs = (jax.tree.map(lambda x: x[i], r) for r in (records, evaluations))  # noqa: B023
        rows += results.rows_of(run, mine, episodes, "train", 1)
        rows += results.rows_of(run, theirs, episodes // every, "evaluate", every)
        means = {name: value[i] for name, value in values.items()}
        means |= {
            "online/violations": mine.violation.sum(),
            "online/episodes": episodes,
        }
        means |= {"online/successes": mine.success.sum()}
        writer.write(f"{method}-{seed}", done, means, method=method, seed=seed)
    results.replace_runs(launch.workdir, rows)


def _require_finite(states, batch: Batch) -> None:
    broken = np.asarray(states.broken_at)
    if (broken < 0).all():
        return
    row = int(np.flatnonzero(broken >= 0)[0])
    method, seed = batch.runs()[row]
    body = {
        name: np.round(np.asarray(value[row]), 3).tolist()
        for name, value in states.task._asdict().items()
    }
    raise flags.NotFiniteError(
        f"online: {method}, seed {seed} is not finite at environment step {broken[row]} "
        f"(body {body}). Results and checkpoints before this chunk stand."
    )


def _say_start(batch: Batch, done: int) -> None:
    runs = f"{len(batch.methods)} methods x {len(batch.seeds)} seeds in one program"
    print(f"[online] {runs}" + (f", going on from step {done}" if done else ""))


def online(launch: flags.Launch) -> pathlib.Path:
    """Runs what is missing of the launch."""
    todo = batches(launch)
    for batch in todo:
        run_batch(launch, batch)
    if not todo:
        print("[online] nothing to do: every run of this launch is finished")
    return launch.workdir


def main() -> None:
    launch = flags.launch()
    with workdir.opened(launch.workdir, launch.settings):
        online(launch)
        print(results.table(results.summarize(launch.workdir)))


if __name__ == "__main__":
    flags.define_launch(methods=",".join(METHODS))
    flags.run(main)
