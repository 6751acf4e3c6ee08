"""Online runs of a study, all of a batch as one program."""

from collections.abc import Callable

import jax
import numpy as np
from tqdm import tqdm

from mesa_jax.keys import Stage
from mesa_jax.methods import METHODS
from mesa_jax.online import online_program, readaptation
from mesa_jax.study import audit, checkpoints, metrics_log, records
from mesa_jax.study.artifacts.adapted import adapt, initial_states
from mesa_jax.study.artifacts.data import stage_keys, test_bodies
from mesa_jax.study.artifacts.distance import steps_rule
from mesa_jax.study.artifacts.priors import prior
from mesa_jax.study.audit import Seen
from mesa_jax.study.batches import Batch
from mesa_jax.study.episodes import restored
from mesa_jax.study.errors import NotFiniteError
from mesa_jax.study.evaluation import calibrated_thresholds
from mesa_jax.study.study import Launch
from mesa_jax.study.traces import require_one_trace
from mesa_jax.system import Build, build

# keeps what runs have recorded: all of it, or (last) what came `since` these episodes
Write = Callable[[Launch, Batch, Seen, np.ndarray | None], None]


def _begin(launch: Launch, built: Build, batch: Batch):
    """The states of a batch and its steps done: restored, or adapted and started."""
    place, made_by = launch.workdir, batch.made_by(launch.settings)
    if not checkpoints.steps(batch.checkpoints(place)):
        batch.write(place, finished=False)
        bodies = test_bodies(launch, batch.seeds)
        params = adapt(launch, built, batch.methods, bodies)
        checkpoints.save(batch.adapted(place), 0, params, made_by)
        thresholds = calibrated_thresholds(launch, batch.methods)
        states = initial_states(launch, built, batch, bodies, params, thresholds)
        checkpoints.save(batch.checkpoints(place), 0, states, made_by)
    return restored(place, launch.settings, built, batch)


def run_batch(launch: Launch, batch: Batch, write: Write) -> None:
    """Runs a batch to its end, from its last checkpoint if there is one."""
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

    total, finished, since = each * len(seeds), so_far(states), None
    made_by = batch.made_by(launch.settings)
    with (
        metrics_log.MetricsWriter(launch.workdir, batch.name, done) as writer,
        tqdm(total=total, initial=finished, desc="[online]", unit=unit) as bar,
    ):
        while config.active(states).any():
            states, values = chunk(*keys, states, start)
            _require_finite(states, batch)
            done += config.chunk_steps
            # the checkpoint comes last: what it holds has been written
            seen = audit.seen_of(states)
            write(launch, batch, seen, since)
            _write_metrics(writer, batch, states, seen, values, done)
            checkpoints.save(batch.checkpoints(launch.workdir), done, states, made_by)
            since = seen.episode
            bar.update(so_far(states) - finished)
            finished = so_far(states)
    write(launch, batch, audit.seen_of(states), None)
    require_one_trace(chunk, "the online program")
    _say_non_finite(states, batch)
    batch.write(launch.workdir, finished=True)


def _program(launch: Launch, built: Build, batch: Batch):
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

        renew = readaptation(agent, settings.online, anew)
    chunk = online_program(built.online_domain, agent, settings.online, renew)
    return jax.jit(chunk, donate_argnums=2), start


def _write(launch: Launch, batch: Batch, seen: Seen, since: np.ndarray | None) -> None:
    """Rows of results.csv: those of the last chunk are added at its end."""
    rows = audit.rows_of(launch.settings, batch, seen, since)
    if since is None:
        records.RESULTS.replace(launch.workdir, rows, audit.keys_of(batch))
    else:
        records.RESULTS.append(launch.workdir, rows)


def _write_metrics(
    writer: metrics_log.MetricsWriter,
    batch: Batch,
    states,
    seen: Seen,
    values,
    done: int,
) -> None:
    """What a chunk gave, run by run."""
    values, broken = jax.tree.map(np.asarray, (values, states.non_finite))
    for i, (method, seed, threshold) in enumerate(batch.runs()):
        means = {name: value[i] for name, value in values.items()}
        means["online/episodes"] = seen.episode[i]
        means["online/violations"] = seen.records.violation[i].sum()
        means["online/successes"] = seen.records.success[i].sum()
        means["online/non_finite"] = broken[i]
        name = f"{method}-{seed}"
        if threshold is not None:
            name += f"-{threshold:g}"
        writer.write(name, done, means, method=method, seed=seed)


def _require_finite(states, batch: Batch) -> None:
    broken = np.asarray(states.broken_at)
    if (broken < 0).all():
        return
    row = int(np.flatnonzero(broken >= 0)[0])
    method, seed, _ = batch.runs()[row]
    body = jax.tree.map(
        lambda value: np.round(np.asarray(value[row]), 3).tolist(), states.task
    )
    raise NotFiniteError(
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
