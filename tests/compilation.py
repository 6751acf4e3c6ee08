"""How tests compile."""

import contextlib
from collections.abc import Iterator

import jax


@contextlib.contextmanager
def cheaply() -> Iterator[None]:
    """Compiles fast, runs slowly, and keeps every program in the cache."""
    seconds = jax.config.jax_persistent_cache_min_compile_time_secs
    if seconds == 0:  # it is so already
        yield
        return
    optimized_little = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", True)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", optimized_little)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", seconds)
