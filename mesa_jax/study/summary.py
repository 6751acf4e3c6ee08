"""The finished online runs of a workdir, and what they are compared with."""

import contextlib
import hashlib
import json
import pathlib

import jax
import jax.numpy as jnp

from mesa_jax import configuration, simulation
from mesa_jax.domains.fault_notation import parse
from mesa_jax.domains.faults import afflict, onset_of
from mesa_jax.keys import Stage, stage_key
from mesa_jax.study import audit, files, records
from mesa_jax.study.records import OnlineRuns
from mesa_jax.system import build
from mesa_jax.types import Task

EPISODES = 32  # of random actions, a body


def _body(settings: configuration.Settings, seed: int) -> Task:
    tasks = build(settings).domain.test_tasks(stage_key(seed, Stage.TEST_TASK), 1)
    return jax.tree.map(lambda x: x[0], tasks)


def online_runs(place: pathlib.Path, settings: configuration.Settings) -> OnlineRuns:
    """Checks results.csv and returns its finished runs with what the domain says."""
    domain = build(settings).domain
    unfinished = audit.check(place, settings).unfinished
    rows = records.ended(records.RESULTS.read(place), unfinished)
    seeds = records.seeds(rows)
    return OnlineRuns(
        rows,
        unfinished,
        {seed: bool(domain.solvable(_body(settings, seed))) for seed in seeds},
        domain.spec.has_success,
        {seed: onset(settings, seed) for seed in seeds if settings.fault},
        random_policy(place, settings, seeds),
        settings.online.steps,
    )


def onset(settings: configuration.Settings, seed: int) -> int:
    """The environment step of a seed's run at which its first fault strikes."""
    key, body = stage_key(seed, Stage.FAULT), _body(settings, seed)
    return int(onset_of(afflict(parse(settings.fault), key, body)).min())


def random_policy(
    place: pathlib.Path, settings: configuration.Settings, seeds: list[int]
) -> dict[int, dict[str, float]]:
    """Return and violations of a mean episode of the reference policy, by seed.

    Simulated once a workdir, on healthy bodies; an episode ends as an online one does.
    """
    path = place / "random_policy.json"
    known = _kept(path, settings)
    missing = [seed for seed in seeds if str(seed) not in known]
    domain = build(settings).domain
    if missing:
        ending = domain._replace(
            spec=domain.spec._replace(continues=False), episode=None
        )
        play = jax.jit(lambda k, t: simulation.data_episodes(k, ending, t, EPISODES))
        for seed in missing:
            key = stage_key(seed, Stage.REPORT)
            rows, real = play(key, _body(settings, seed))
            sums = (jnp.sum(x * real) for x in (rows.reward, rows.cost))
            returned, violated = (float(x) / EPISODES for x in sums)
            found = {"return": returned, "violations": violated, "episodes": EPISODES}
            known[str(seed)] = found
        record = {"bodies": known, "made_by": _hash(settings, known)}
        files.write_derived(path, record)
    return {seed: known[str(seed)] for seed in seeds}


def _kept(path: pathlib.Path, settings: configuration.Settings) -> dict[str, dict]:
    """What was simulated before under the same settings, if it is undamaged."""
    if not path.exists():
        return {}
    with contextlib.suppress(files.DamagedFileError, TypeError, KeyError):
        record = files.read_json(path)
        if record["made_by"] == _hash(settings, record["bodies"]):
            return record["bodies"]
    print(f"Warning: {path} is damaged or of other settings; it is made again.")
    return {}


def _hash(settings: configuration.Settings, bodies: dict) -> str:
    text = json.dumps([configuration.to_json(settings), bodies], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
