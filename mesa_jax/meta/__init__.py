"""META_LEARNERS: every way to learn a prior from many tasks, by name."""

from mesa_jax.meta.config import InnerLoopConfig, MAMLConfig
from mesa_jax.meta.maml import first_order, maml
from mesa_jax.meta.pooled import FinetuneConfig, PooledConfig, finetune, pooled

META_LEARNERS = {"maml": maml, "first_order": first_order, "pooled": pooled}

__all__ = [
    "META_LEARNERS",
    "FinetuneConfig",
    "InnerLoopConfig",
    "MAMLConfig",
    "PooledConfig",
    "finetune",
    "first_order",
    "maml",
    "pooled",
]
