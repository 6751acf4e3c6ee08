"""Records, contracts and bundles shared by every layer; imports nothing of ours.

`records` holds data, the other modules one bundle of functions each, with a Protocol a
function: its arguments, shapes and meaning.
"""

from mesa_jax.types.agent import Agent
from mesa_jax.types.domain import Domain, Parametrisation
from mesa_jax.types.meta import Adapt, InnerLoss, MetaLearner, Part, WeightSpace
from mesa_jax.types.records import (
    Array,
    Decision,
    DomainSpec,
    Key,
    Metrics,
    Params,
    Plane,
    Prediction,
    Prior,
    Shapes,
    State,
    Statistics,
    Task,
    TaskBatch,
    Transition,
)
from mesa_jax.types.risk import Policy, Predict, RiskMeasure

__all__ = [
    "Adapt",
    "Agent",
    "Array",
    "Decision",
    "Domain",
    "DomainSpec",
    "InnerLoss",
    "Key",
    "MetaLearner",
    "Metrics",
    "Parametrisation",
    "Params",
    "Part",
    "Plane",
    "Policy",
    "Predict",
    "Prediction",
    "Prior",
    "RiskMeasure",
    "Shapes",
    "State",
    "Statistics",
    "Task",
    "TaskBatch",
    "Transition",
    "WeightSpace",
]
