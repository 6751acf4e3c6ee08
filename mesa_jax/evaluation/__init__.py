"""How right a risk measure is: the simulator's own risk, metrics, calibration."""

from mesa_jax.evaluation.calibration import Calibration, calibrate, calibrated_threshold
from mesa_jax.evaluation.filtering import filter_test
from mesa_jax.evaluation.metrics import (
    at_threshold,
    auroc,
    bins,
    calibration_error,
    collapse,
    false_safe_at,
    noise_floor,
    quality_metrics,
    squared_error,
    tradeoff,
)
from mesa_jax.evaluation.observed import dangerous_and_decided, observed_risk
from mesa_jax.evaluation.truth import (
    DecisionSet,
    QualityConfig,
    decision_set,
    policy_risk,
    true_risk,
    true_risk_without_adaptation,
)

__all__ = [
    "Calibration",
    "DecisionSet",
    "QualityConfig",
    "at_threshold",
    "auroc",
    "bins",
    "calibrate",
    "calibrated_threshold",
    "calibration_error",
    "collapse",
    "dangerous_and_decided",
    "decision_set",
    "false_safe_at",
    "filter_test",
    "noise_floor",
    "observed_risk",
    "policy_risk",
    "quality_metrics",
    "squared_error",
    "tradeoff",
    "true_risk",
    "true_risk_without_adaptation",
]
