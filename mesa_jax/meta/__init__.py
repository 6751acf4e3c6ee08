"""META_LEARNERS: every way to learn a prior from many tasks, by name."""

from mesa_jax.meta.maml import MAMLConfig, maml
from mesa_jax.meta.pooled import FinetuneConfig, PooledConfig, finetune, pooled

META_LEARNERS = {"maml": maml, "pooled": pooled}

__all__ = [
    "META_LEARNERS",
    "FinetuneConfig",
    "MAMLConfig",
    "PooledConfig",
    "finetune",
    "maml",
    "pooled",
]
