"""What transitions of somebody else's must be, before a filter adapts on them.

They are arrays, or episodes as Minari keeps them: T actions, T + 1 observations.
"""

import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np

from mesa_jax.settings import SettingError
from mesa_jax.types import DomainSpec, Transition

OF_A_STEP = ("actions", "rewards", "terminations", "truncations")  # T of each
OF_AN_EPISODE = ("observations", *OF_A_STEP, "infos")
COSTS = ("cost", "costs")  # the entry of `infos` that is taken for the cost


class FewTransitionsWarning(UserWarning):
    """Says that there is a single transition to adapt from."""


def checked_transitions(spec: DomainSpec, transitions: Transition) -> Transition:
    """Returns transitions as arrays of float32 that a filter of a domain can adapt on.

    Args:
      spec: of the domain, for its sizes.
      transitions: [n, ...] of one body or [S, n, ...] of S, of anything that NumPy
        takes; or episodes of one body, as `from_episodes` takes them.

    Warns:
      FewTransitionsWarning: where there is but one of each body.

    Raises:
      SettingError: naming the field that has another shape or type, an entry that is
        not finite, a cost or discount that is not 0 or 1, an action outside [-1, 1].
    """
    if not isinstance(transitions, Transition):
        transitions = from_episodes(transitions)
    if any(isinstance(x, jax.core.Tracer) for x in transitions):
        return transitions  # who compiles has checked
    held = {name: _numbers(name, x) for name, x in transitions._asdict().items()}
    lead = held["cost"].shape
    if len(lead) not in (1, 2) or 0 in lead:
        allowed = "of shape [transitions] or [bodies, transitions], at least one each"
        raise SettingError("cost", f"one of shape {lead}", allowed)
    sizes = {"observation": (spec.observation_size,), "action": (spec.action_size,)}
    sizes["next_observation"] = sizes["observation"]
    for name, values in held.items():
        shape = (*lead, *sizes.get(name, ()))
        if values.shape != shape:
            allowed = f"of shape {shape} in {spec.name}, as cost has {lead}"
            raise SettingError(name, f"one of shape {values.shape}", allowed)
        _require(name, np.isfinite(values), values, lead, "finite")
    for name in ("cost", "discount"):
        allowed = "0 or 1" + " (a violation)" * (name == "cost")
        _require(name, np.isin(held[name], (0.0, 1.0)), held[name], lead, allowed)
    inside = np.abs(held["action"]) <= 1.0
    _require("action", inside, held["action"], lead, "in [-1, 1]: scale it")
    if lead[-1] == 1:
        said = "a filter adapts from one transition: it tells little, 20 or more do"
        warnings.warn(said, FewTransitionsWarning, stacklevel=3)
    return Transition(*jax.device_put(list(held.values())))


def from_episodes(episodes: Any, cost: str | None = None) -> Transition:
    """Returns the transitions [n, ...] of one body's episodes, in their order.

    The state that a step reached is the next observation of its episode. Where it
    terminated the discount is 0; a truncation is a time limit, and does not terminate.

    Args:
      episodes: Minari's `EpisodeData`, or whatever has the fields `OF_AN_EPISODE`, T
        steps of each; or several of them, as a list or a dataset.
      cost: the entry of `infos` that is 1 where the state reached violates, [T], or
        [T + 1] with the reset's first; None: whichever of `COSTS` is there.

    Raises:
      SettingError: naming the episode and what it lacks or has in another length.
    """
    listed = [episodes] if hasattr(episodes, "observations") else episodes
    held = list(listed) if isinstance(listed, Iterable) else []
    if not held or not all(hasattr(one, "observations") for one in held):
        allowed = f"a mesa_jax.Transition of {', '.join(Transition._fields)}, or "
        allowed += f"episodes of one body, with {', '.join(OF_AN_EPISODE)}"
        raise SettingError("transitions", type(episodes).__name__, allowed)
    made = [_of_episode(f"episode {i}", one, cost) for i, one in enumerate(held)]
    sizes = {tuple(np.shape(x)[1:] for x in one) for one in made}
    if len(sizes) > 1:
        allowed = "of one size: observations and actions of one body"
        raise SettingError("episodes", sorted(sizes), allowed)
    joined = map(np.concatenate, zip(*made, strict=True))
    return Transition(*map(_numbers, Transition._fields, joined))


def _of_episode(name: str, episode: Any, cost: str | None) -> Transition:
    found, infos = steps_of(name, episode), episode.infos or {}
    for entry in COSTS if cost is None else (cost,):
        if f"infos/{entry}" in found:
            break
    else:
        wanted, count = cost or COSTS[0], len(found["rewards"])
        has = {k: np.shape(x)[:1] for k, x in infos.items() if not isinstance(x, dict)}
        allowed = f"with {wanted}, 1 where the state reached violates: [{count}] of "
        allowed += f"the steps, or [{count + 1}] with the reset's first"
        raise SettingError(f"infos of {name}", has or "nothing", allowed)
    return Transition(
        observation=found["observations"],
        action=found["actions"],
        reward=found["rewards"],
        cost=found[f"infos/{entry}"],
        discount=~found["terminations"].astype(bool),
        next_observation=found["next_observations"],
    )


def steps_of(name: str, episode: Any) -> dict[str, np.ndarray]:
    """Returns an episode's columns, [T, ...]; entries of a dictionary are joined.

    Those of `infos` are "infos/cost" and the like, without the reset's; entries of
    other lengths than T and T + 1 are left out.

    Args:
      name: what messages call it.
      episode: of T steps, as `from_episodes` takes it.

    Raises:
      SettingError: naming the field that it lacks, or that is not of T steps.
    """
    lacks = [field for field in OF_AN_EPISODE if not hasattr(episode, field)]
    if lacks:
        allowed = f"one with {', '.join(OF_AN_EPISODE)}"
        raise SettingError(name, f"one without {', '.join(lacks)}", allowed)
    try:
        seen = _joined(episode.observations)
        found = {field: _joined(getattr(episode, field)) for field in OF_A_STEP}
    except ValueError as error:  # rows of several sizes
        raise SettingError(name, str(error), "of rows of one size") from None
    count = len(seen) - 1
    for field, values in found.items():
        if values.shape[:1] != (count,) or not count:
            got = f"{len(seen)} observations and {field} of shape {values.shape}"
            raise SettingError(name, got, "of T steps, at least one, and T + 1 seen")
    found |= {"observations": seen[:-1], "next_observations": seen[1:]}
    return found | dict(_infos(episode.infos or {}, "infos", count))


def _joined(values: Any) -> np.ndarray:
    if not isinstance(values, dict):
        return np.atleast_1d(values)
    entries = [_joined(values[name]) for name in sorted(values)]
    return np.concatenate([x.reshape(len(x), -1) for x in entries], axis=-1)


def _infos(values: dict, name: str, count: int) -> Iterator[tuple[str, np.ndarray]]:
    for key, entry in values.items():
        if isinstance(entry, dict):
            yield from _infos(entry, f"{name}/{key}", count)
        elif np.shape(entry)[:1] in ((count,), (count + 1,)):  # with the reset's
            yield f"{name}/{key}", np.asarray(entry)[-count:]


def _numbers(name: str, values) -> np.ndarray:
    found = np.asarray(values)
    if not np.can_cast(found.dtype, np.float64, "same_kind"):
        raise SettingError(name, f"an array of {found.dtype}", "one of real numbers")
    with np.errstate(over="ignore"):
        return found.astype(np.float32)


def _require(name, fine, values, lead, allowed: str) -> None:
    """Raises SettingError naming the first entry that is not fine."""
    if not fine.all():
        at = tuple(np.argwhere(~fine)[0])
        axes = ("body", "transition")[-len(lead) :]
        place = ", ".join(f"{a} {i}" for a, i in zip(axes, at, strict=False))
        raise SettingError(name, f"{values[at]:g} at {place}", allowed)
