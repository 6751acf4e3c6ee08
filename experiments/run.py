"""The main job: collect, meta-train, adapt, run online, plot. Does what is missing.

python -m experiments.run --domain=navigation1 --tasks=flip --seeds=10 --workdir=DIR
"""

from experiments.collect import collect
from experiments.meta_train import prior
from experiments.online import online
from experiments.plot import plot
from experiments.saved import require_same
from mesa_jax.agents import COMPARED, METHODS
from mesa_jax.runtime import flags, workdir


def main() -> None:
    launch = flags.launch()
    with workdir.opened(launch.workdir, launch.settings):
        require_same(launch.workdir, launch.settings)
        if not all(METHODS[method].variant for method in launch.methods):
            collect(launch)
        rows = {method: METHODS[method] for method in launch.methods}
        first = {(row.prior, row.variant): method for method, row in rows.items()}
        for (kind, _), method in first.items():
            if kind != "scratch":
                prior(launch.of(method), kind)
        online(launch)
        plot(launch.workdir)


if __name__ == "__main__":
    flags.define_launch(methods=",".join(COMPARED))
    flags.run(main)
