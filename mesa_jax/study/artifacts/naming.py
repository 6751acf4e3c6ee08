"""Names of artefacts: hashes of what made them."""

import dataclasses
import hashlib
import json
from typing import Any

import jax

from mesa_jax.configuration import KEPT, Configuration, to_json
from mesa_jax.types import Array


def _hash(*values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]


def domain_folder(settings: Configuration) -> str:
    """Names the folder of a domain, as every file system takes it."""
    return settings.domain.replace(":", "-")


def fingerprint(settings: Configuration) -> str:
    """Returns the hash of a whole configuration."""
    return _hash(to_json(settings))


def _switched(settings: Configuration) -> list[str]:
    return [settings.switches] if settings.switches else []


def _bodies(settings: Configuration) -> list[Any]:
    """What a test or training body, and the data of it, are made from."""
    values = to_json(settings)
    names = [settings.domain, settings.tasks, values["physics"], values["collect"]]
    if settings.collect.learns:
        names += [values["sac"], "first rows"]  # of older versions the latest
    return names + _switched(settings)


def training_data_name(settings: Configuration, meta_seed: int) -> str:
    """Names the folder of the training bodies' dataset."""
    kept = ("train_bodies", "heldout_bodies", "transitions")
    data = {name: getattr(settings.data, name) for name in kept}
    key = _hash(_bodies(settings), meta_seed, data)
    return f"{settings.tasks}-train-meta{meta_seed}-{key}"


def adaptation_data_name(settings: Configuration, seed: int) -> str:
    """Names the folder of a test body's dataset; adaptation sets are prefixes of it."""
    made = [settings.data.test_transitions]
    if settings.data.adaptation > KEPT:
        made.append(settings.data.adaptation)
    another = settings.data.adaptation_body == "another"
    key = _hash(_bodies(settings), *made)
    return f"{settings.tasks}-{'other-' * another}test-seed{seed}-{key}"


def proposals_name(settings: Configuration, roots: Array) -> str:
    """Names the folder of the unsafe policies of bodies with these keys, [S]."""
    values, keys = to_json(settings), jax.random.key_data(roots).tolist()
    made = [values["sac"], settings.quality.proposal_transitions]
    return f"proposals-{_hash(_bodies(settings), made, keys)}"


def truth_name(settings: Configuration, bodies: str) -> str:
    """Names the file of the simulator's risk on some bodies, as "test-seed0"."""
    quality = dataclasses.asdict(settings.quality)
    asked = [quality[name] for name in ("decision_states", "rollouts", "precision")]
    physics = to_json(settings)["physics"]
    key = _hash(settings.risk.discount, physics, asked, *_switched(settings))
    return f"{settings.tasks}-{bodies}-{key}.npz"


def _policy(settings: Configuration) -> list[Any]:
    """What a recovery policy is made from."""
    of_policy = ("hidden", "saturation_penalty", "initializer", "objective")
    return [getattr(settings.recovery, name) for name in of_policy]


def _risk(settings: Configuration) -> dict[str, Any]:
    """Returns what a critic depends on; a horizon is a discount in other words."""
    values = to_json(settings)["risk"]
    return {name: value for name, value in values.items() if name != "horizon"}


def rounds_name(settings: Configuration, meta_seed: int) -> str:
    """Names the folder of the rounds; how a method reads its body is no part of it."""
    values = to_json(settings)
    reads = ("conditioning", "encoder", "encoding_size")
    risk = {k: v for k, v in _risk(settings).items() if k not in reads}
    asked = [risk, _policy(settings), values["rounds"]]
    key = _hash(training_data_name(settings, meta_seed), asked)
    return f"{settings.tasks}-rounds-meta{meta_seed}-{key}"


def prior_name(settings: Configuration, prior: str, meta_seed: int) -> str:
    """Names the folder of a prior: the hash of its data, networks and learner."""
    values = to_json(settings)
    depends = [_risk(settings), _policy(settings), values[prior]]
    if settings.risk.next_action == "untrained":
        depends += [values["sac"][name] for name in ("hidden", "initializer")]
    if settings.rounds.count:
        depends.append(rounds_name(settings, meta_seed))
    key = _hash(training_data_name(settings, meta_seed), prior, depends)
    return f"{prior}-meta{meta_seed}-{key}"
