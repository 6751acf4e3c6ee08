"""Online runs of a study, all of a batch as one program."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from mesa_jax import adaptation, sharding
from mesa_jax.keys import Stage
from mesa_jax.methods import METHODS
from mesa_jax.online import online_program, readaptation
from mesa_jax.rollout import RunState
from mesa_jax.study import audit, checkpoints, metrics_log
from mesa_jax.study.artifacts.adapted import adapted, initial_states
from mesa_jax.study.artifacts.data import load_test_bodies, stage_keys
from mesa_jax.study.artifacts.priors import trained_prior, trained_source
from mesa_jax.study.audit import Seen
from mesa_jax.study.batches import Batch
from mesa_jax.study.episodes import restored
from mesa_jax.study.errors import NotFiniteError
from mesa_jax.study.evaluation import calibrated_threshold
from mesa_jax.study.study import Study
from mesa_jax.study.traces import require_one_trace, say_compiling, traces
from mesa_jax.system import System, compiled_once


class Chunk(NamedTuple):
    """Holds what runs have recorded after some more steps."""

    seen: Seen
    since: np.ndarray | None  # [runs] episodes of the chunk before; None: keep all


def chunks(study: Study, batch: Batch) -> Iterator[Chunk]:
    """Runs a batch to its end, from its last checkpoint if there is one.

    What a chunk has recorded is to be kept before the next one is asked for: then its
    checkpoint is written. The last chunk is of all that the runs have recorded.

    Args:
      study: as it is for the batch's methods.

    Raises:
      NotFiniteError: naming the run; chunks before it stand.
    """
    place, made_by = study.folder, batch.made_by(study.common)
    config = study.configuration.online
    done, states = _begin(study, batch)
    _print_start(batch, done)
    seeds = [run.seed for run in batch.runs()]
    keys = stage_keys(seeds, Stage.ONLINE), stage_keys(seeds, Stage.EVALUATE)
    # every device has as many runs, those that are added are dropped
    keys, moving = sharding.placed(sharding.padded((keys, states), len(seeds)))
    program, given = _program(study, batch)
    before = traces(program)
    unit, each = (
        ("step", config.steps) if config.steps else ("episode", config.episodes)
    )

    def so_far(states) -> int:
        return int((states.env_steps if config.steps else states.episode).sum())

    total, finished, since = each * len(seeds), so_far(states), None
    with (
        metrics_log.MetricsWriter(place, batch.name, done) as writer,
        tqdm(total=total, initial=finished, desc="[online]", unit=unit) as bar,
    ):
        say_compiling(bar)
        while config.active(states).any():
            moving, values = program(*keys, moving, *given)
            states, values = sharding.first((moving, values), len(seeds))
            _require_finite(states, batch)
            done += config.chunk_steps
            seen = audit.seen_of(states)
            yield Chunk(seen, since)
            # the checkpoint comes last: what it holds has been written
            _write_metrics(writer, batch, states, seen, values, done)
            checkpoints.save(batch.checkpoints(place), done, states, made_by)
            since = seen.episode
            bar.set_postfix_str("", refresh=False)
            bar.update(so_far(states) - finished)
            finished = so_far(states)
    yield Chunk(audit.seen_of(states), None)
    require_one_trace(program, "the online program", before)
    _print_non_finite(states, batch)
    batch.write(place, finished=True)


def _begin(study: Study, batch: Batch) -> tuple[int, RunState]:
    """Returns a batch's steps done and its states: restored, or adapted and started."""
    place, made_by = study.folder, batch.made_by(study.common)
    if not checkpoints.steps(batch.checkpoints(place)):
        batch.write(place, finished=False)
        bodies = load_test_bodies(study, batch.seeds)
        params = adapted(study, batch.methods, bodies)
        checkpoints.save(batch.adapted(place), 0, params, made_by)
        # a sweep has its own, and none is calibrated
        own = {} if batch.thresholds else risk_thresholds(study, batch.methods)
        states = initial_states(study.system, batch, bodies, params, own)
        checkpoints.save(batch.checkpoints(place), 0, states, made_by)
    return restored(study, batch)


def risk_thresholds(study: Study, methods: tuple[str, ...]) -> dict[str, float]:
    """Returns the risk threshold of each constrained method, its own or calibrated.

    It is calibrated, where that is asked for, on held-out training bodies.

    Raises:
      SettingError: if too few of them have enough dangerous states.
    """
    found = {}
    for name in methods:
        mine, row = study.of(name), METHODS[name]
        recovery = mine.configuration.recovery
        if row.constrained and recovery.false_safe:
            found[name] = calibrated_threshold(mine, mine.system)
        elif row.constrained:
            found[name] = recovery.risk_threshold
    return found


def _program(study: Study, batch: Batch):
    """Compiles a chunk; also returns what runs of it that readapt take.

    That is the prior, and where the training bodies lie if their steps depend on it.
    """
    system, config = study.system, study.configuration.online
    renewing = [m for m in batch.methods if METHODS[m].readapts]
    if not (renewing and config.readapt_every):
        return _chunk(system, None), ()
    study, method, training = study.of(renewing[0]), METHODS[renewing[0]], None
    prior = trained_prior(study, method.prior)
    if adaptation.asks_novelty(system, method):
        source = trained_source(study, method)
        training = source.novelty(system, config.readapt_transitions)
    return _chunk(system, renewing[0]), (prior, training)


@compiled_once
def _chunk(system: System, renewing: str | None) -> Callable:
    """Compiles a chunk of runs' steps; their states are donated.

    Args:
      renewing: a method whose runs readapt.
    """
    config = system.configuration.online

    def chunk(keys, evaluate_keys, states, prior=(), training=None):
        renew = None
        if renewing:
            anew = adaptation.adapts_anew(system, METHODS[renewing], training)
            renew = readaptation(system.agent, config, anew)
        runs = online_program(system.online_domain, system.agent, config, renew)
        return runs(keys, evaluate_keys, states, prior)

    return jax.jit(chunk, donate_argnums=2)


def _write_metrics(
    writer: metrics_log.MetricsWriter,
    batch: Batch,
    states,
    seen: Seen,
    values,
    done: int,
) -> None:
    """Writes what a chunk gave, run by run."""
    values, broken = sharding.read((values, states.non_finite))
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
    broken = sharding.read(states.broken_at)
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


def _print_non_finite(states, batch: Batch) -> None:
    counts = sharding.read(states.non_finite)
    for run, count in zip(batch.runs(), counts, strict=True):
        if count:
            print(
                f"[online] {run.method}, seed {run.seed}: {count} episodes ended where "
                "the physics was not finite; those steps are in no replay"
            )


def _print_start(batch: Batch, done: int) -> None:
    thresholds = len(batch.thresholds)
    runs = f"{len(batch.methods)} methods x {len(batch.seeds)} seeds"
    runs += f" x {thresholds} thresholds" * bool(thresholds)
    print(
        f"[online] {runs} in one program"
        + (f", going on from step {done}" if done else "")
    )
