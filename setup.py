"""Packaging: metadata, version ranges, extras; exact versions: requirements.lock.

The wheel holds one package: the launches are in it as `mesa_jax.experiments`.
"""

import pathlib
import re

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent
VERSION = re.search(
    r'__version__ = "(.+)"', (HERE / "mesa_jax/__init__.py").read_text(encoding="utf-8")
)

setup(
    name="mesa_jax",  # for Python as pyproject.toml says
    version=VERSION[1],
    description="Meta-learned risk that adapts to a new body and keeps it safe (MESA).",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    project_urls={
        "MESA": "https://arxiv.org/abs/2112.03575",
        "Recovery RL": "https://arxiv.org/abs/2010.15920",
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    packages=[
        *find_packages(include=["mesa_jax", "mesa_jax.*"]),
        "mesa_jax.experiments",
        "mesa_jax.experiments.examples",
        "mesa_jax.experiments.launch",
    ],
    package_dir={
        "mesa_jax.experiments": "experiments",
        "mesa_jax.experiments.examples": "experiments/examples",
        "mesa_jax.experiments.launch": "experiments/launch",
    },
    package_data={
        "mesa_jax.study": ["*.json"],
        "mesa_jax.report": ["templates/page.*"],
    },
    include_package_data=False,  # no figures and tables of the results
    entry_points={"console_scripts": ["mesa-jax = mesa_jax.experiments.__main__:main"]},
    install_requires=[
        "absl-py>=2.1",
        "brax>=0.14",
        "chex>=0.1.90",
        "etils>=1.7",
        "filelock>=4",
        "flatbuffers>=24",  # of jax.export
        "flax>=0.12",
        "jax>=0.9",
        "jinja2>=3.1",
        "matplotlib>=3.9",
        "numpy>=2.0",
        "optax>=0.2.6",
        "orbax-checkpoint>=0.11.30",
        "scipy>=1.14",
        "tensorboardX>=2.6",
        "tqdm>=4.66",
    ],
    extras_require={
        "test": [
            "hypothesis>=6.100",
            "pytest>=8",
            "pytest-xdist>=3.6",
            "ruff>=0.9",
            "setuptools>=77",
        ],
        "docs": ["furo>=2024.8", "myst-parser>=4", "sphinx>=8"],
        "yardstick": ["torch>=2.4"],
        "gymnasium": ["gymnasium>=1.0"],
        "onnx": ["onnx>=1.17", "onnxruntime>=1.20"],
        "sb3": ["stable-baselines3>=2.4"],
        "mujoco": ["gymnasium[mujoco]>=1.0"],
        "hdf5": ["h5py>=3.10"],
        "minari": ["gymnasium>=1.0", "h5py>=3.10", "minari>=0.5.3"],
        "notebook": ["ipykernel>=6.29", "nbclient>=0.10", "nbformat>=5.10"],
        "wandb": ["wandb>=0.21"],
        "cuda": ["jax[cuda12]"],
        "tpu": ["jax[tpu]"],
    },
)
