"""RISKS: every risk measure by name."""

from mesa_jax.risk.avoid import avoid
from mesa_jax.risk.violation import RiskConfig, violation_probability

RISKS = {"violation_probability": violation_probability, "avoid": avoid}

__all__ = ["RISKS", "RiskConfig", "avoid", "violation_probability"]
