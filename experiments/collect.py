"""Collects the offline datasets: training bodies, and the test bodies' adaptation sets.

python -m experiments.collect --domain=navigation1 --workdir=DIR
"""

from mesa_jax.study import plan, store
from mesa_jax.study.artifacts.data import adaptation_data, training_data
from mesa_jax.study.study import Study

from . import flags, processes
from .planned import only_planned


def collect(study: Study, seeds: tuple[int, ...]) -> None:
    """Makes what is missing of the datasets, and verifies the rest."""
    training_data(study)
    for seed in seeds:
        adaptation_data(study, seed)
    count = study.configuration.data.adaptation
    print(f"[collect] {len(seeds)} test bodies x {count} adaptation transitions")


def main() -> None:
    study, asked = flags.launch()
    if only_planned(study, asked, plan.of_collect):
        return
    with store.opened(study.folder, study.configuration):
        collect(study, asked.seeds)


if __name__ == "__main__":
    flags.define_launch()
    processes.define()
    flags.run(main)
