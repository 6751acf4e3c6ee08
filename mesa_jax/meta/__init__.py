"""META_LEARNERS: every way to learn a prior from many tasks, by name."""

from mesa_jax.meta.anil import anil
from mesa_jax.meta.config import InnerLoopConfig, MAMLConfig
from mesa_jax.meta.maml import first_order, maml
from mesa_jax.meta.pooled import FinetuneConfig, PooledConfig, finetune, pooled
from mesa_jax.meta.reptile import reptile

META_LEARNERS = {
    "maml": maml,
    "first_order": first_order,
    "anil": anil,
    "reptile": reptile,
    "pooled": pooled,
}

__all__ = [
    "META_LEARNERS",
    "FinetuneConfig",
    "InnerLoopConfig",
    "MAMLConfig",
    "PooledConfig",
    "anil",
    "finetune",
    "first_order",
    "maml",
    "pooled",
    "reptile",
]
