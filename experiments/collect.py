"""Collects the offline datasets: training bodies, and the test bodies' adaptation sets.

python -m experiments.collect --domain=navigation1 --workdir=DIR
"""

from mesa_jax.study import store
from mesa_jax.study.artifacts.data import adaptation_data, training_data
from mesa_jax.study.study import Launch

from . import flags


def collect(launch: Launch) -> None:
    """Makes what is missing of the launch's datasets, and verifies the rest."""
    training_data(launch)
    for seed in launch.seeds:
        adaptation_data(launch, seed)
    count = launch.settings.data.adaptation
    print(f"[collect] {len(launch.seeds)} test bodies x {count} adaptation transitions")


def main() -> None:
    launch = flags.launch()
    with store.opened(launch.workdir, launch.settings):
        collect(launch)


if __name__ == "__main__":
    flags.define_launch()
    flags.run(main)
