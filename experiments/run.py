"""The main job: collect, meta-train, adapt, run online, plot. Does what is missing.

python -m experiments.run --domain=navigation1 --tasks=flip --seeds=10 --workdir=DIR
"""

from mesa_jax.methods import COMPARED, METHODS, program_of
from mesa_jax.study import store
from mesa_jax.study.artifacts.priors import prior
from mesa_jax.study.episodes import require_same

from . import flags
from .collect import collect
from .online import online
from .plot import plot


def main() -> None:
    launch = flags.launch()
    with store.opened(launch.workdir, launch.settings):
        require_same(launch.workdir, launch.settings)
        if not all(METHODS[method].settings for method in launch.methods):
            collect(launch)
        first = {(METHODS[m].prior, program_of(m)): m for m in launch.methods}
        for (kind, _), method in first.items():
            if kind != "scratch":
                prior(launch.of(method), kind)
        online(launch)
        plot(launch.workdir)


if __name__ == "__main__":
    flags.define_launch(methods=",".join(COMPARED))
    flags.run(main)
