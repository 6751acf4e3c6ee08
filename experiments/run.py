"""The main job: collect, meta-train, adapt, run online, plot. Does what is missing.

python -m experiments.run --domain=navigation1 --tasks=flip --seeds=10 --workdir=DIR
"""

from mesa_jax.methods import COMPARED, METHODS, program_of
from mesa_jax.study import plan, store
from mesa_jax.study.artifacts.priors import trained_prior
from mesa_jax.study.episodes import require_same

from . import flags, processes
from .collect import collect
from .online import online
from .pages import draw_training
from .planned import only_planned
from .plot import plot
from .report import report


def main() -> None:
    study, asked = flags.launch()
    if only_planned(study, asked, plan.of_run):
        return
    with store.opened(study.folder, study.configuration):
        require_same(study)
        if not all(METHODS[method].settings for method in asked.methods):
            collect(study, asked.seeds)
        first = {(METHODS[m].prior, program_of(m)): m for m in asked.methods}
        for (kind, _), method in first.items():
            if kind != "scratch":
                trained_prior(study.of(method), kind)
        draw_training(study, tuple(first.values()))
        online(study, asked)
        plot(study.folder)
        print(f"\n[run] all of it on a page: {report([study.folder], maps=False)}")


if __name__ == "__main__":
    flags.define_launch(methods=",".join(COMPARED), replays=True)
    processes.define()
    flags.run(main)
