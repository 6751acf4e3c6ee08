"""RISKS: every risk measure by name."""

from mesa_jax.risk.avoid import avoid
from mesa_jax.risk.dynamics import dynamics
from mesa_jax.risk.violation import RiskConfig, violation_probability

RISKS = {
    "violation_probability": violation_probability,
    "avoid": avoid,
    "dynamics": dynamics,
}

__all__ = ["RISKS", "RiskConfig", "avoid", "dynamics", "violation_probability"]
