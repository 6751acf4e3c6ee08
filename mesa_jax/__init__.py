"""MESA in JAX: meta-learned risk that adapts to a new body and keeps it safe."""

__version__ = "0.14.0"
