"""The three phases as functions of a `System`: what `import mesa_jax` offers.

Each takes a key first, which it consumes, and the system that it computes with. Methods
are rows of `METHODS`; a system is of one configuration, so a method whose row has
settings of its own takes a system built from a configuration resolved for it.
"""
