"""What a body is without a method: random actions on it, and when its fault strikes."""

import contextlib
import hashlib
import json
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp

from mesa_jax import configuration, simulation
from mesa_jax.configuration import Configuration
from mesa_jax.domains.fault_notation import parse
from mesa_jax.domains.faults import afflict, onset_of
from mesa_jax.keys import Stage, stage_key
from mesa_jax.study import files
from mesa_jax.study.study import Study
from mesa_jax.system import System
from mesa_jax.types import Domain, Task

EPISODES = 32  # of random actions, a body
FILE = "random_policy.json"


def body_of_seed(domain: Domain, seed: int) -> Task:
    """Returns the test body of a seed."""
    tasks = domain.test_tasks(stage_key(seed, Stage.TEST_TASK), 1)
    return jax.tree.map(lambda x: x[0], tasks)


def onset(system: System, seed: int) -> int:
    """Returns the environment step of a seed's run at which its first fault strikes."""
    key, body = stage_key(seed, Stage.FAULT), body_of_seed(system.domain, seed)
    return int(onset_of(afflict(parse(system.configuration.fault), key, body)).min())


def playing(domain: Domain) -> Callable:
    """Compiles `EPISODES` of the reference policy: (key, body) -> episodes, real steps.

    An episode ends as an online one does.
    """
    ending = domain._replace(spec=domain.spec._replace(continues=False), episode=None)
    return jax.jit(lambda k, t: simulation.data_episodes(k, ending, t, EPISODES))


def random_episodes(play: Callable, domain: Domain, seed: int) -> dict[str, float]:
    """Simulates the reference policy on a seed's body: of a mean episode the return and
    violations.

    Args:
      play: as `playing` makes it.
      domain: whose body it is.
      seed: of the body.
    """
    rows, real = play(stage_key(seed, Stage.REPORT), body_of_seed(domain, seed))
    sums = (jnp.sum(x * real) for x in (rows.reward, rows.cost))
    returned, violated = (float(x) / EPISODES for x in sums)
    return {"return": returned, "violations": violated, "episodes": EPISODES}


def random_policy(study: Study, seeds: list[int]) -> dict[int, dict[str, float]]:
    """Reads (or simulates) `random_episodes` by seed, on healthy bodies."""
    domain = study.system.domain
    play = playing(domain)
    return stored_or_made(
        study.folder / FILE,
        study.configuration,
        seeds,
        lambda seed: random_episodes(play, domain, seed),
    )


def stored_or_made(
    path: pathlib.Path, settings: Configuration, seeds: list[int], simulate: Callable
) -> dict[int, dict[str, float]]:
    """Reads what a file has of seeds under these settings; makes and adds the rest.

    Args:
      simulate: seed -> numbers by name.
    """
    known = _stored(path, settings)
    missing = [seed for seed in seeds if str(seed) not in known]
    if missing:
        known |= {str(seed): simulate(seed) for seed in missing}
        made_by = _hash(settings, known)
        files.write_derived(path, {"bodies": known, "made_by": made_by})
    return {seed: known[str(seed)] for seed in seeds}


def _stored(path: pathlib.Path, settings: Configuration) -> dict[str, dict]:
    """Reads what was simulated before under the same settings, if it is undamaged."""
    if not path.exists():
        return {}
    with contextlib.suppress(files.DamagedFileError, TypeError, KeyError):
        record = files.read_json(path)
        if record["made_by"] == _hash(settings, record["bodies"]):
            return record["bodies"]
    print(f"Warning: {path} is damaged or of other settings; it is made again.")
    return {}


def _hash(settings: Configuration, bodies: dict) -> str:
    text = json.dumps([configuration.to_json(settings), bodies], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
