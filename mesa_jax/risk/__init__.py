"""RISKS: every risk measure by name."""

from mesa_jax.risk.violation import RiskConfig, violation_probability

RISKS = {"violation_probability": violation_probability}

__all__ = ["RISKS", "RiskConfig", "violation_probability"]
