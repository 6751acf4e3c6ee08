"""Meta-trains a prior from the training bodies' datasets.

python -m experiments.meta_train --domain=navigation1 --method=mesa --workdir=DIR
"""

from absl import flags as absl_flags

from mesa_jax.methods import METHODS
from mesa_jax.study import store
from mesa_jax.study.artifacts.priors import prior

from . import flags


def main() -> None:
    launch = flags.launch()
    kind = METHODS[launch.methods[0]].prior
    with store.opened(launch.workdir, launch.settings):
        if kind == "scratch":
            print(f"[meta_train] {launch.methods[0]} has no prior to train.")
        else:
            prior(launch.of(launch.methods[0]), kind)


if __name__ == "__main__":
    flags.define_launch(seeds="")
    absl_flags.DEFINE_string("method", "mesa", f"one of {', '.join(METHODS)}")
    flags.run(main)
