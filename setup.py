"""Packaging: metadata, version ranges, extras; exact versions: requirements.lock."""

import pathlib
import re

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent
VERSION = re.search(
    r'__version__ = "(.+)"', (HERE / "mesa_jax/__init__.py").read_text(encoding="utf-8")
)

setup(
    name="mesa_jax",
    version=VERSION[1],
    description="Meta-learned risk that adapts to a new body and keeps it safe (MESA).",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["mesa_jax", "mesa_jax.*", "experiments"]),
    package_data={"mesa_jax.study": ["*.json"]},
    install_requires=[
        "absl-py>=2.1",
        "brax>=0.14",
        "chex>=0.1.90",
        "etils>=1.7",
        "filelock>=4",
        "flax>=0.12",
        "jax>=0.9",
        "matplotlib>=3.9",
        "numpy>=2.0",
        "optax>=0.2.6",
        "orbax-checkpoint>=0.11.30",
        "scipy>=1.14",
        "tensorboardX>=2.6",
        "tqdm>=4.66",
    ],
    extras_require={
        "test": ["hypothesis>=6.100", "pytest>=8", "pytest-xdist>=3.6", "ruff>=0.9"],
        "yardstick": ["torch>=2.4"],
        "cuda": ["jax[cuda12]"],
        "tpu": ["jax[tpu]"],
    },
)
