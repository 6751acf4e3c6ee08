"""MESA in JAX: meta-learned risk that adapts to a new body and keeps it safe.

Every public name is listed in `__all__` and loaded when it is first used, so that
importing the package is light: no Brax, no drawing, no files.
"""

import importlib
from typing import Any

__version__ = "0.23.0"

_NAMES = {  # by the module that defines them
    "types": (
        *("Agent", "Decision", "Domain", "DomainSpec", "MetaLearner", "Part", "Policy"),
        *("Prediction", "Prior", "RiskMeasure", "Statistics", "Transition"),
        "WeightSpace",
    ),
    "settings": ("SettingError",),
    "configuration": ("Configuration", "DataConfig"),
    "study.configure": ("configure",),
    "system": ("System", "build"),
    "methods": ("COMPARED", "METHODS", "Method"),
    "domains": ("DOMAINS",),
    "domains.base": ("PhysicsConfig",),
    "domains.faults": ("faulty",),
    "risk": ("RISKS", "RiskConfig", "avoid", "dynamics", "violation_probability"),
    "planning": ("PlannerConfig",),
    "agents": (
        *("RecoveryConfig", "SACConfig", "recovery_policy", "recovery_rl", "sac"),
    ),
    "meta": (
        *("META_LEARNERS", "FinetuneConfig", "InnerLoopConfig", "MAMLConfig"),
        *("PooledConfig", "anil", "finetune", "first_order", "maml", "pooled"),
        "reptile",
    ),
    "data": ("CollectConfig",),
    "run_state": ("OnlineConfig",),
    "evaluation": (
        "QualityConfig",
        "calibrated_threshold",
        "observed_risk",
        "quality_metrics",
    ),
    "phases.offline": ("collect", "meta_train", "meta_training", "training_novelty"),
    "checked": ("FewTransitionsWarning",),
    "filter": ("FilterInfo", "SafetyFilter"),
    "constraints": ("JointFilter", "by_constraint", "joint_filter"),
    "phases.adapting": ("OutsideTrainingWarning", "adapt"),
    "readings": ("Rereading", "rereading"),
    "guard": ("Guard",),
    "phases.online": ("init_runs", "online_program"),
    "phases.calibration": ("calibrate_on",),
    "phases.heldout": ("heldout_metrics",),
    "phases.truth": ("decision_set", "true_risk"),
    "study.study": ("Study",),
    "study.artifacts.recorded": ("transitions_of",),
    "study.load": ("TrainedPrior", "load"),
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}
__all__ = [*_MODULES, "__version__"]


def __getattr__(name: str) -> Any:
    """Loads a public name when it is first used (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_MODULES[name]}")
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)
