"""What adapted critics say of bodies' decision states, and thresholds from it."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from mesa_jax import adaptation, configuration, evaluation, sharding
from mesa_jax.keys import Stage
from mesa_jax.methods import METHODS
from mesa_jax.settings import SettingError
from mesa_jax.study.artifacts import recorded
from mesa_jax.study.artifacts.adapted import distances, own_steps, start_of
from mesa_jax.study.artifacts.data import Bodies
from mesa_jax.study.artifacts.priors import Source, trained_source
from mesa_jax.study.artifacts.truth import (
    HeldOut,
    Truth,
    heldout_bodies,
    recovery_risk,
)
from mesa_jax.study.study import Study
from mesa_jax.system import System, compiled_once
from mesa_jax.types import Array

WINDOWS = 8  # sets of latest transitions, of a body to calibrate on
STATES, ROLLOUTS = 200, 32  # of a body and a state, for the risk of a policy


def steps_of(settings: configuration.Configuration, method: str) -> tuple[int, ...]:
    """Returns the numbers of steps that a method is asked at, its own among them."""
    config = adaptation.config_of(settings, METHODS[method])
    own = {int(adaptation.steps(config, far)) for far in (0.0, np.inf)}
    return tuple(sorted({0, *settings.quality.steps, *own}))


def estimates(
    system: System,
    method: str,
    source: Source,
    bodies: Bodies,
    truth: Truth,
    steps: tuple[int | Array, ...],
) -> np.ndarray:
    """Estimates risk at decision states after P numbers of steps, [P, S, N].

    Args:
      truth: has the decision states.
      steps: each one number for all bodies, or one for each, [S].
    """
    start, axis = start_of(system, source, bodies)
    asked = jnp.asarray(truth.observations), jnp.asarray(truth.actions)
    given = bodies.keys(Stage.ADAPT), start, bodies.rows, bodies.tasks, *asked
    found = []
    for count in steps:
        steps_axis = 0 if np.ndim(count) else None
        program = _estimating(system, method, axis, steps_axis)
        found.append(program(*given, jnp.asarray(count, jnp.int32)))
    return np.stack(sharding.read(found))


@compiled_once
def _estimating(
    system: System, method: str, axis: int | None, steps_axis: int | None
) -> Callable:
    """Compiles estimates [S, N] of adapted critics.

    Args:
      axis: of the bodies in what they begin from; None: they share one.
      steps_axis: of the bodies in the numbers of steps.
    """
    to_body = adaptation.to_body(system, METHODS[method], critic_alone=True)

    def one(key, prior, rows, task, observations, actions, steps):
        critic = to_body(key, prior, rows, task, steps)[0]
        return system.risk.estimate(critic, observations, actions)

    return jax.jit(sharding.vmap(one, (0, axis, 0, 0, 0, 0, steps_axis)))


def recovery_risks(
    system: System,
    method: str,
    source: Source,
    bodies: Bodies,
    keys: Array,
    steps: int | Array,
) -> np.ndarray:
    """Simulates the true risk of adapted recovery policies, means over states, [S].

    Args:
      keys: of the bodies' truths, [S].
      steps: of adaptation, one number for all bodies or one for each, [S].
    """
    start, axis = start_of(system, source, bodies)
    steps_axis = 0 if np.ndim(steps) else None
    program = _recovering(system, method, axis, steps_axis)
    given = bodies.keys(Stage.ADAPT), start, bodies.rows, bodies.tasks, keys
    return sharding.read(program(*given, jnp.asarray(steps, jnp.int32)))


@compiled_once
def _recovering(
    system: System, method: str, axis: int | None, steps_axis: int | None
) -> Callable:
    """Compiles mean true risks [S] of adapted recovery policies; as `_estimating`."""
    to_body = adaptation.to_body(system, METHODS[method])

    def one(key, prior, rows, task, truth_key, steps):
        policy = to_body(key, prior, rows, task, steps)[1]
        return recovery_risk(system, truth_key, task, policy, STATES, ROLLOUTS)

    return jax.jit(sharding.vmap(one, (0, axis, 0, 0, 0, steps_axis)))


def as_read(
    settings: configuration.Configuration, method: str, held: HeldOut
) -> Bodies:
    """Returns adaptation sets of held-out bodies as the method's online runs have them.

    One that reads anew acts on its latest transitions: `WINDOWS` times as many bodies,
    with rows that were made one after the other. Others act on a shuffled set.
    """
    online = settings.online
    if not adaptation.reads(settings, METHODS[method]):
        return held.bodies.first(settings.data.adaptation)
    total = held.in_order.cost.shape[1]
    count = min(online.readapt_transitions, total)
    starts = np.linspace(0, total - count, WINDOWS).astype(int)

    def windows(rows):
        cut = jnp.stack([rows[:, start : start + count] for start in starts], axis=1)
        return cut.reshape(-1, *cut.shape[2:])

    several = lambda x: jnp.repeat(x, WINDOWS, axis=0)  # noqa: E731
    roots = jax.vmap(lambda key: jax.random.split(key, WINDOWS))(held.bodies.roots)
    return Bodies(
        seeds=tuple(several(jnp.arange(len(held.bodies.seeds))).tolist()),
        roots=roots.reshape(-1),
        tasks=jax.tree.map(several, held.bodies.tasks),
        rows=jax.tree.map(windows, held.in_order),
    )


def calibrated_threshold(study: Study, system: System) -> float:
    """Calibrates a method's risk threshold on held-out training bodies, and prints it.

    They are read as online runs read theirs (`quality.calibrate`). Of recorded bodies
    what followed tells, in place of a simulator (`calibrate_on`).

    Args:
      study: as it is for the method.
      system: of its configuration, with the levels that are asked.

    Raises:
      SettingError: if too few of them have enough dangerous states.
    """
    settings, method = system.configuration, study.method
    source = trained_source(study, METHODS[method])
    if not system.domain.spec.simulated:
        return recorded.calibrated(study, system, source.prior)
    held = heldout_bodies(study)
    bodies = as_read(settings, method, held)
    times = len(bodies.seeds) // len(held.bodies.seeds)
    truth = Truth(*(np.repeat(x, times, axis=0) for x in held.truth))
    far = distances(system, source, bodies)
    own = own_steps(system, METHODS[method], far)
    (values,) = estimates(system, method, source, bodies, truth, (own,))
    by_body = (len(held.bodies.seeds), -1)
    calibration = evaluation.calibrate(
        jnp.asarray(values.reshape(by_body)),
        jnp.asarray(truth.risk.reshape(by_body)),
        settings.recovery.risk_threshold,
        settings.recovery.false_safe,
        settings.recovery.false_safe_bodies,
        times,
    )
    return _printed(settings, method, calibration)


def _printed(settings, method: str, calibration: evaluation.Calibration) -> float:
    """Prints what a threshold is worth, and returns it."""
    recovery, dangerous = settings.recovery, np.asarray(calibration.dangerous)
    able = int(np.sum(calibration.able))
    if not np.isfinite(calibration.threshold):
        allowed = (
            f"larger: of {len(dangerous)} held-out training bodies {able} have the "
            f"{recovery.dangerous_to_calibrate} dangerous states that it takes, and "
            f"it takes {recovery.bodies_to_calibrate} such bodies "
            "(--data_heldout_bodies, --quality_decision_states); they have "
            f"{', '.join(map(str, dangerous))}"
        )
        raise SettingError("recovery_false_safe", recovery.false_safe, allowed)
    print(
        f"[threshold] {method}: risk threshold {float(calibration.threshold):.3f}, "
        f"calibrated on {able} held-out training bodies with {dangerous.min()} to "
        f"{dangerous.max()} dangerous states each: of a new body like them, at most "
        f"{100 * recovery.false_safe:g} % of the dangerous states pass for safe, but "
        f"for {100 * recovery.false_safe_bodies:g} % of such bodies"
    )
    return float(calibration.threshold)
