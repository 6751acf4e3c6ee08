"""Values of a configuration that exclude each other."""

from collections.abc import Iterator
from typing import Any

Exclusion = tuple[str, Any, str]  # a flag, its value, and what is allowed


def exclusions(settings: Any) -> Iterator[Exclusion]:
    """Yields each value that another one excludes.

    Args:
      settings: a `Configuration`.
    """
    bodies, maml = settings.data.train_bodies, settings.maml
    for section in ("maml", "pooled"):
        count = getattr(settings, section).num_tasks
        if count > bodies:
            allowed = f"at most data_train_bodies ({bodies})"
            yield f"{section}_num_tasks", count, allowed
    if settings.risk.conditioning != "none" and bodies < 2:
        allowed = "at least 2 where the critic reads its body"
        yield "data_train_bodies", bodies, allowed
    if settings.risk.weights == "latent":
        where = "where the critic's weights are latent (--risk_weights)"
        if maml.inner_clip != 0.0:
            yield "maml_inner_clip", maml.inner_clip, f"0 {where}"
        if maml.learner != "maml":
            yield "maml_learner", maml.learner, f"maml {where}"
    steps, horizon = settings.online.steps, settings.physics.horizon
    if 0 < steps < horizon:
        allowed = f"0 (no limit), or at least one episode (horizon {horizon})"
        yield "online_steps", steps, allowed
    held, recovery = settings.data.heldout_bodies, settings.recovery
    kind = settings.constraint.kind
    if recovery.target_policy == "composite" and kind != "recovery_rl":
        allowed = f"task where no recovery policy acts (--constraint_kind={kind})"
        yield "recovery_target_policy", recovery.target_policy, allowed
    if kind == "carl":
        yield from _no_plans(settings)
    if recovery.false_safe > 0.0 and held < recovery.bodies_to_calibrate:
        allowed = (
            f"at least {recovery.bodies_to_calibrate} to calibrate a threshold "
            "(--recovery_false_safe, --recovery_false_safe_bodies)"
        )
        yield "data_heldout_bodies", held, allowed
    kept, made = settings.data.adaptation, settings.data.test_transitions
    if kept > made:
        yield "data_adaptation", kept, f"at most data_test_transitions ({made})"


def _no_plans(settings: Any) -> Iterator[Exclusion]:
    """Yields what an agent that plans cannot do with."""
    if settings.risk.measure != "dynamics":
        allowed = (
            "dynamics where an agent plans (carl and carl_reward have it, unless "
            "another is asked for)"
        )
        yield "risk", settings.risk.measure, allowed
    members, particles = settings.risk.ensemble_size, settings.planner.particles
    if particles % members:
        allowed = f"a multiple of risk_ensemble_size ({members})"
        yield "planner_particles", particles, allowed
