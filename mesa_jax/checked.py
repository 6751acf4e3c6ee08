"""What transitions of somebody else's must be, before a filter adapts on them."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np

from mesa_jax.settings import SettingError
from mesa_jax.types import DomainSpec, Transition


class FewTransitionsWarning(UserWarning):
    """Says that there is a single transition to adapt from."""


def checked_transitions(spec: DomainSpec, transitions: Transition) -> Transition:
    """Returns transitions as arrays of float32 that a filter of a domain can adapt on.

    Args:
      spec: of the domain, for its sizes.
      transitions: [n, ...] of one body or [S, n, ...] of S; anything that NumPy takes.

    Warns:
      FewTransitionsWarning: where there is but one of each body.

    Raises:
      SettingError: naming the field that has another shape or type, an entry that is
        not finite, a cost or discount that is not 0 or 1, an action outside [-1, 1].
    """
    if not isinstance(transitions, Transition):
        kind = type(transitions).__name__
        fields = ", ".join(Transition._fields)
        raise SettingError("transitions", kind, f"a mesa_jax.Transition of {fields}")
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
    return Transition(*map(jnp.asarray, held.values()))


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
