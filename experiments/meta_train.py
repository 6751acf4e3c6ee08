"""Meta-trains a prior from the training bodies' datasets.

python -m experiments.meta_train --domain=navigation1 --method=mesa --workdir=DIR
python -m experiments.meta_train --domain=recorded --data=a.hdf5,b.hdf5 --workdir=DIR

With --data there is no simulator: the bodies are files (`experiments.data`), the last
ones are held out, and what happened in them stands in for the truth.
"""

from absl import flags as absl_flags

from mesa_jax.methods import METHODS
from mesa_jax.study import plan, store
from mesa_jax.study.artifacts import recorded
from mesa_jax.study.artifacts.priors import trained_prior
from mesa_jax.study.evaluation import calibrated_threshold

from . import data_files, flags, processes, recorded_flags
from .pages import draw_training
from .planned import only_planned


def main() -> None:
    bodies = recorded_flags.resolve()
    study, asked = flags.launch()
    (method,) = asked.methods
    kind, mine = METHODS[method].prior, study.of(method)
    if only_planned(study, asked, plan.of_meta_train):
        return
    with store.opened(study.folder, study.configuration):
        if bodies:
            recorded.adopt(study, list(bodies.values()), list(bodies))
        if kind == "scratch":
            print(f"[meta_train] {method} has no prior to train.")
            return
        trained_prior(mine, kind)
        draw_training(study, asked.methods)
        if recorded_flags.calibrates(mine):
            calibrated_threshold(mine, mine.system)


if __name__ == "__main__":
    flags.define_launch(seeds="")
    absl_flags.DEFINE_string("method", "mesa", f"one of {', '.join(METHODS)}")
    absl_flags.DEFINE_list(
        "data", None, f"recorded bodies, comma-separated: {data_files.FORMS}"
    )
    data_files.define()
    processes.define()
    flags.run(main)
