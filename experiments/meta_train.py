"""Meta-trains a prior from the training bodies' datasets.

python -m experiments.meta_train --domain=navigation1 --method=mesa --workdir=DIR
"""

from absl import flags as absl_flags

from mesa_jax.methods import METHODS
from mesa_jax.study import plan, store
from mesa_jax.study.artifacts.priors import trained_prior

from . import flags
from .pages import draw_training
from .planned import only_planned


def main() -> None:
    study, asked = flags.launch()
    (method,) = asked.methods
    kind = METHODS[method].prior
    if only_planned(study, asked, plan.of_meta_train):
        return
    with store.opened(study.folder, study.configuration):
        if kind == "scratch":
            print(f"[meta_train] {method} has no prior to train.")
        else:
            trained_prior(study.of(method), kind)
            draw_training(study, asked.methods)


if __name__ == "__main__":
    flags.define_launch(seeds="")
    absl_flags.DEFINE_string("method", "mesa", f"one of {', '.join(METHODS)}")
    flags.run(main)
