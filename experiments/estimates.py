"""What adapted critics say of bodies' decision states, and thresholds from it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.adapt import adaptation_to, start_of
from experiments.bodies import Bodies
from experiments.build import build, critic_only
from experiments.support import own_steps
from experiments.truth import Truth, asked_of, held_out
from mesa_jax import quality
from mesa_jax.agents import METHODS
from mesa_jax.pipeline import Stage
from mesa_jax.runtime import config, flags
from mesa_jax.types import Array

STATES, ROLLOUTS = 200, 32  # of a body and a state, for the risk of a policy
POLICY_STREAM = 4  # of a truth's key; smaller ones are taken


def steps_of(settings: config.Settings, method: str) -> tuple[int, ...]:
    """Numbers of adaptation steps that a method is asked at, its own among them."""
    section = getattr(settings, METHODS[method].adaptation)
    own = {section.steps, getattr(section, "steps_outside", 0)}
    return tuple(sorted({0, *settings.quality.steps, *own}))


def estimates(
    launch: flags.Launch,
    method: str,
    bodies: Bodies,
    truth: Truth,
    steps: tuple[int | np.ndarray, ...],
) -> np.ndarray:
    """[P, S, N] estimates at the bodies' decision states, after P numbers of steps.

    Args:
      steps: each one number for all bodies, or one for each, [S].
    """
    built = build(launch.settings)
    start, axis = start_of(launch, built, method, bodies)
    to_body = adaptation_to(built, method, built.adapt_critic)

    def one(key, prior, rows, task, observations, actions, steps):
        critic = to_body(key, prior, rows, task, steps)[0]
        return built.risk.estimate(critic, observations, actions)

    @functools.cache
    def program(steps_axis):
        return jax.jit(jax.vmap(one, (0, axis, 0, 0, 0, 0, steps_axis)))

    asked = jnp.asarray(truth.observations), jnp.asarray(truth.actions)
    keys, start = bodies.keys(Stage.ADAPT), critic_only(start)
    given = keys, start, bodies.rows, bodies.tasks, *asked
    found = [
        program(0 if np.ndim(count) else None)(*given, jnp.asarray(count, jnp.int32))
        for count in steps
    ]
    return np.stack([np.asarray(values) for values in found])


def recovery_risks(
    launch: flags.Launch,
    method: str,
    bodies: Bodies,
    keys: Array,
    steps: int | np.ndarray,
) -> np.ndarray:
    """[S] mean true risk of what the adapted recovery policy does at decision states.

    Args:
      keys: of the bodies' truths, [S].
      steps: of adaptation, one number for all bodies or one for each, [S].
    """
    built, settings = build(launch.settings), launch.settings
    start, axis = start_of(launch, built, method, bodies)
    to_body = adaptation_to(built, method, built.adapt)

    def one(key, prior, rows, task, truth_key, steps):
        policy = to_body(key, prior, rows, task, steps)[1]
        asked = asked_of(settings, built.domain, truth_key, task)
        return quality.policy_risk(
            jax.random.fold_in(truth_key, POLICY_STREAM),
            built.domain,
            task,
            jax.tree.map(lambda x: x[:STATES], asked.states),
            lambda seen: built.recovery.act(policy, seen),
            settings.risk.discount,
            min(ROLLOUTS, settings.quality.rollouts),
            settings.quality.precision,
        )

    over = (0, axis, 0, 0, 0, 0 if np.ndim(steps) else None)
    given = bodies.keys(Stage.ADAPT), start, bodies.rows, bodies.tasks, keys
    return np.asarray(
        jax.jit(jax.vmap(one, over))(*given, jnp.asarray(steps, jnp.int32))
    )


def calibrated_thresholds(launch: flags.Launch, methods) -> dict[str, float]:
    """By constrained method, the risk threshold that its settings ask to calibrate.

    On held-out training bodies, adapted to as a test body is: so high that the share
    `recovery_false_safe` of their dangerous states passes for safe. Empty where none is
    asked for.
    """
    settings, found = launch.settings, {}
    if settings.recovery.false_safe == 0.0:
        return found
    held = held_out(launch)
    bodies = held.bodies.first(settings.data.adaptation)
    for method in [name for name in methods if METHODS[name].constrained]:
        own, _ = own_steps(launch, method, bodies)
        (values,) = estimates(launch, method, bodies, held.truth, (own,))
        found[method] = float(
            quality.calibrated_threshold(
                values,
                held.truth.risk,
                settings.recovery.risk_threshold,
                settings.recovery.false_safe,
            )
        )
        print(
            f"[online] {method}: risk threshold {found[method]:.3f}, calibrated on "
            f"{len(bodies.seeds)} held-out training bodies"
        )
    return found
