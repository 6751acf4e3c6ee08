"""Does a domain keep its contract? A look at shapes and types, then a few steps."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mesa_jax.settings import SettingError
from mesa_jax.types import Domain, DomainSpec, Transition

BODIES, STEPS = 2, 16  # that are looked at
OPTIONAL = {"episode", "shapes", "parametrisation"}


def require_contract(name: str, domain: Any) -> Domain:
    """Returns what a maker has made, if it is a domain that keeps the contract.

    Nothing of an unsimulated domain is run.

    Raises:
      SettingError: naming what is missing, or what has another shape, type or value.
    """
    _require_parts(name, domain)
    if not domain.spec.simulated:
        return domain
    try:
        _require_shapes(name, domain)
        _require_numbers(name, domain)
    except SettingError:
        raise
    except Exception as error:
        error.add_note(f"So it was when domain {name} was tried for {STEPS} steps.")
        raise
    return domain


def _refused(name: str, allowed: str) -> SettingError:
    return SettingError("domain", name, allowed)


def _require_parts(name: str, made: Any) -> None:
    if not isinstance(made, Domain):
        missing = [part for part in Domain._fields if not hasattr(made, part)]
        lacks = f", which lacks {', '.join(missing)}" if missing else ""
        kind = type(made).__name__
        raise _refused(
            name, f"a maker that returns a mesa_jax.Domain (got {kind}{lacks})"
        )
    if not isinstance(made.spec, DomainSpec):
        kind = type(made.spec).__name__
        raise _refused(name, f"of a spec that is a mesa_jax.DomainSpec (got {kind})")
    for size in ("observation_size", "action_size", "horizon"):
        value = getattr(made.spec, size)
        if not isinstance(value, int) or value < 1:
            raise _refused(name, f"of a spec with a whole {size} >= 1 (got {value!r})")
    none = [
        part
        for part in Domain._fields
        if part not in {"spec", "changes", "constraints", *OPTIONAL}
        and not callable(getattr(made, part))
    ]
    if none:
        raise _refused(name, f"a domain whose {', '.join(none)} are functions")


def _one_step(domain: Domain) -> Callable:
    """Makes `(key) -> everything that a step makes`, by what it is called."""

    def made(key):
        keys = jax.random.split(key, 8)
        tasks = domain.train_tasks(keys[0], BODIES)
        task = jax.tree.map(lambda x: x[0], domain.test_tasks(keys[1], BODIES))
        state = domain.reset(keys[2], task)
        seen = domain.observe(state)
        action = domain.reference_policy(keys[3], seen)
        many = domain.reference_policy(keys[4], jnp.stack([seen] * 3))
        reached, transition = domain.step(keys[5], state, action, task)
        return {
            "train_tasks": tasks,
            "test_tasks": domain.test_tasks(keys[6], BODIES),
            "state": state,
            "observe": seen,
            "reference_policy": action,
            "reference_policy of [3, D]": many,
            "reached": reached,
            "transition": transition,
            "success": domain.success(transition, transition.reward),
            "decision_states": domain.decision_states(keys[7], 3, task),
        }

    return made


def _forms(tree: Any) -> Any:
    """Returns a tree's structure and, of each leaf, shape and type."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(x.shape, x.dtype) for x in leaves]


def _require_shapes(name: str, domain: Domain) -> None:
    made = jax.eval_shape(_one_step(domain), jax.random.key(0))
    spec, number = domain.spec, np.dtype(np.float32)
    seen, action = (spec.observation_size,), (spec.action_size,)
    if not isinstance(made["transition"], Transition):
        kind = type(made["transition"]).__name__
        allowed = f"one whose step returns (state, mesa_jax.Transition) (got {kind})"
        raise _refused(name, allowed)
    shapes = {
        "observe": seen,
        "reference_policy": action,
        "reference_policy of [3, D]": (3, *action),
    }
    found = {called: (made[called], shape) for called, shape in shapes.items()}
    of_step = {"observation": seen, "action": action, "next_observation": seen}
    for field, value in made["transition"]._asdict().items():
        found[f"step's {field}"] = value, of_step.get(field, ())
    for called, (value, shape) in found.items():
        if (value.shape, value.dtype) != (shape, number):
            had = f"{value.dtype}{list(value.shape)}"
            allowed = f"one whose {called} is float32{list(shape)} (got {had})"
            raise _refused(name, allowed)
    if _forms(made["reached"]) != _forms(made["state"]):
        allowed = "one whose step returns a state of the form that reset returns"
        raise _refused(name, f"{allowed} ({made['state']}, got {made['reached']})")
    _require_bodies(name, made)


def _require_bodies(name: str, made: dict) -> None:
    for called, count in (
        ("train_tasks", BODIES),
        ("test_tasks", BODIES),
        ("decision_states", 3),
    ):
        leaves = jax.tree.leaves(made[called])
        if not leaves or any(x.shape[:1] != (count,) for x in leaves):
            allowed = f"one whose {called}(key, {count}) has leaves [{count}, ...]"
            raise _refused(name, allowed)
    for called in ("train_tasks", "test_tasks"):
        fields = getattr(made[called], "_asdict", dict)()
        if not fields or not all(hasattr(x, "dtype") for x in fields.values()):
            allowed = f"one whose {called} returns a NamedTuple of arrays"
            raise _refused(name, allowed)
    if made["success"].shape != () or made["success"].dtype != bool:
        raise _refused(name, "one whose success is a bool, []")


def _require_numbers(name: str, domain: Domain) -> None:
    """Takes a few steps of the reference policy: are they finite, and in range?"""

    def rollout(key, task):
        reset_key, key = jax.random.split(key)

        def advance(carry, i):
            state, alive = carry
            act_key, step_key = jax.random.split(jax.random.fold_in(key, i))
            action = domain.reference_policy(act_key, domain.observe(state))
            state, transition = domain.step(step_key, state, action, task)
            return (state, alive & (transition.discount != 0.0)), (transition, alive)

        start = domain.reset(reset_key, task), jnp.ones((), bool)
        return jax.lax.scan(advance, start, jnp.arange(STEPS))[1]

    def bodies(key):
        task_key, key = jax.random.split(key)
        tasks = domain.train_tasks(task_key, BODIES)
        return jax.vmap(rollout)(jax.random.split(key, BODIES), tasks)

    transitions, alive = jax.jit(bodies)(jax.random.key(0))
    held = jax.tree.map(lambda x: np.asarray(x)[np.asarray(alive)], transitions)
    for field, values in held._asdict().items():
        if not np.isfinite(values).all():
            allowed = f"one whose step's {field} is finite within {STEPS} steps"
            raise _refused(name, allowed)
    for field in ("cost", "discount"):
        values = np.unique(getattr(held, field))
        if not set(values.tolist()) <= {0.0, 1.0}:
            allowed = f"one whose step's {field} is 0 or 1 (got {values[:4].tolist()})"
            raise _refused(name, allowed)
