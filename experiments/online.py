"""Adapts to test bodies and runs the methods online, all runs as one program.

python -m experiments.online --domain=navigation1 --seeds=10 --workdir=DIR
"""

from collections.abc import Callable

import jax
import numpy as np
from tqdm import tqdm

from experiments.adapt import adapt, initial_states, states_like
from experiments.bodies import stage_keys, test_bodies
from experiments.build import Build, build
from experiments.estimates import calibrated_thresholds
from experiments.meta_train import prior
from experiments.replays import save_replays
from experiments.summary import summary_of
from experiments.support import steps_rule
from mesa_jax import pipeline
from mesa_jax.agents import COMPARED, METHODS
from mesa_jax.pipeline import Stage
from mesa_jax.runtime import (
    checkpoints,
    flags,
    metrics,
    programs,
    results,
    tables,
    workdir,
)
from mesa_jax.runtime.batches import Batch, to_run


def _begin(launch: flags.Launch, built: Build, batch: Batch):
    """The states of a batch and its steps done: restored, or adapted and started."""
    folder = launch.workdir / "checkpoints" / batch.name
    bodies = test_bodies(launch, batch.seeds)
    if not checkpoints.steps(folder):
        batch.write(launch.workdir, finished=False)
        params = adapt(launch, built, batch.methods, bodies)
        checkpoints.save(folder.with_name(f"adapted-{batch.name}"), 0, params)
        thresholds = calibrated_thresholds(launch, batch.methods)
        states = initial_states(launch, built, batch, bodies, params, thresholds)
        checkpoints.save(folder, 0, states)
    restored = checkpoints.restore_latest(
        folder, states_like(launch, built, batch, bodies)
    )
    if restored is None:
        raise checkpoints.CheckpointError(f"{folder} holds no undamaged checkpoint.")
    return restored


def run_batch(launch: flags.Launch, batch: Batch, write: Callable) -> None:
    """Runs a batch to its end, from its last checkpoint if there is one.

    `write(launch, batch, states, values, done, writer)` keeps what a chunk gave.
    """
    built, config = build(launch.settings), launch.settings.online
    done, states = _begin(launch, built, batch)
    _say_start(batch, done)
    seeds = [run.seed for run in batch.runs()]
    keys = stage_keys(seeds, Stage.ONLINE), stage_keys(seeds, Stage.EVALUATE)
    chunk, start = _program(launch, built, batch)
    unit, each = (
        ("step", config.steps) if config.steps else ("episode", config.episodes)
    )

    def so_far(states) -> int:
        return int((states.env_steps if config.steps else states.episode).sum())

    total, finished = each * len(seeds), so_far(states)
    with (
        metrics.MetricsWriter(launch.workdir, batch.name, done) as writer,
        tqdm(total=total, initial=finished, desc="[online]", unit=unit) as bar,
    ):
        while config.active(states).any():
            states, values = chunk(*keys, states, start)
            _require_finite(states, batch)
            done += config.chunk_steps
            # the checkpoint comes last: what it holds has been written
            write(launch, batch, states, values, done, writer)
            checkpoints.save(launch.workdir / "checkpoints" / batch.name, done, states)
            bar.update(so_far(states) - finished)
            finished = so_far(states)
    programs.require_one_trace(chunk, "the online program")
    _say_non_finite(states, batch)
    batch.write(launch.workdir, finished=True)


def _program(launch: flags.Launch, built: Build, batch: Batch):
    """The compiled chunk, and the prior that runs of it which readapt start from."""
    settings, agent = launch.settings, built.agent
    renewing = [m for m in batch.methods if METHODS[m].readapts]
    renew, start = None, ()
    if renewing and settings.online.readapt_every:
        row = METHODS[renewing[0]]
        start, adapt_again = prior(launch, row.prior), built.adapt[row.adaptation]
        steps = steps_rule(launch, renewing[0], settings.online.readapt_rows)

        def anew(key, prior, rows):
            return adapt_again(key, prior, rows, steps(key, prior.params[0], rows))

        renew = pipeline.readapt(agent, settings.online, anew)
    chunk = pipeline.run_online(built.online_domain, agent, settings.online, renew)
    return jax.jit(chunk, donate_argnums=2), start


def _write(launch, batch: Batch, states, values, done: int, writer) -> None:
    """Results of all episodes so far, and the chunk's metrics."""
    config, rows = launch.settings.online, []
    records, evaluations = jax.tree.map(
        np.asarray, (states.records, states.evaluations)
    )
    values = jax.tree.map(np.asarray, values)
    for i, (method, seed, _) in enumerate(batch.runs()):
        run = {"domain": launch.settings.domain, "tasks": launch.settings.tasks}
        run |= {"method": method, "meta_seed": batch.meta_seed, "seed": seed}
        episodes, every = int(states.episode[i]), config.evaluate_every
        mine, theirs = (jax.tree.map(lambda x: x[i], r) for r in (records, evaluations))  # noqa: B023
        rows += results.rows_of(run, mine, episodes, "train", 1)
        rows += results.rows_of(run, theirs, episodes // every, "evaluate", every)
        means = {name: value[i] for name, value in values.items()}
        means["online/episodes"] = episodes
        means["online/violations"] = mine.violation.sum()
        means["online/successes"] = mine.success.sum()
        means["online/non_finite"] = states.non_finite[i]
        writer.write(f"{method}-{seed}", done, means, method=method, seed=seed)
    results.replace_runs(launch.workdir, rows)


def _require_finite(states, batch: Batch) -> None:
    broken = np.asarray(states.broken_at)
    if (broken < 0).all():
        return
    row = int(np.flatnonzero(broken >= 0)[0])
    method, seed, _ = batch.runs()[row]
    body = jax.tree.map(
        lambda value: np.round(np.asarray(value[row]), 3).tolist(), states.task
    )
    raise flags.NotFiniteError(
        f"online: {method}, seed {seed} is not finite at environment step "
        f"{broken[row]} (body {body}). Results and checkpoints before this chunk stand."
    )


def _say_non_finite(states, batch: Batch) -> None:
    counts = np.asarray(states.non_finite)
    for run, count in zip(batch.runs(), counts, strict=True):
        if count:
            print(
                f"[online] {run.method}, seed {run.seed}: {count} episodes ended where "
                "the physics was not finite; those steps are in no replay"
            )


def _say_start(batch: Batch, done: int) -> None:
    thresholds = len(batch.thresholds)
    runs = f"{len(batch.methods)} methods x {len(batch.seeds)} seeds"
    runs += f" x {thresholds} thresholds" * bool(thresholds)
    print(
        f"[online] {runs} in one program"
        + (f", going on from step {done}" if done else "")
    )


def online(launch: flags.Launch) -> None:
    """Runs what is missing of the launch."""
    todo = to_run(launch.workdir, launch.methods, launch.seeds, launch.meta_seed)
    for batch in todo:
        run_batch(launch.of(batch.methods[0]), batch, _write)
    if not todo:
        print("[online] nothing to do: every run of this launch is finished")
    for place in save_replays(launch) if launch.save_replay else ():
        print(f"[online] replay saved: {place}")


def main() -> None:
    launch = flags.launch()
    with workdir.opened(launch.workdir, launch.settings):
        online(launch)
        print(tables.table(summary_of(launch.workdir, launch.settings)))


if __name__ == "__main__":
    flags.define_launch(methods=",".join(COMPARED))
    flags.run(main)
