"""Does an adapted filter keep bodies safe? Hard proposals, the filter, no learner.

python -m experiments.filter_test --domain=navigation1 --tasks=flip --workdir=DIR

On `--bodies` new bodies drawn like the training ones (so that it may choose), adapted
to `--data_adaptation` of their transitions: held random actions are proposed, and those
of a policy that learned without safety; where their risk exceeds the threshold the
recovery policy acts. Prints a table, writes filter_test.csv and draws its curve.
`evaluate` does the same on test bodies. With --look_ahead=STEPS a filter that no robot
can have is tested in place of it: it simulates so many steps of the recovery policy
after each proposed action, and sees whether they violate (look_ahead.csv). Where it
recovers seldom and nothing falls, a better risk measure would gain much.
"""

import functools

import jax
from absl import flags as absl_flags

from mesa_jax.keys import Stage, stage_key
from mesa_jax.methods import filters
from mesa_jax.novelty import sets_of
from mesa_jax.report import filter_test as report
from mesa_jax.settings import SettingError
from mesa_jax.study import plan, store
from mesa_jax.study.artifacts.data import Bodies, collected
from mesa_jax.study.filtering import FILTER, LOOK_AHEAD, looked_ahead, tested
from mesa_jax.study.study import Asked, Study

from . import flags
from .figures import save_figures
from .planned import only_planned
from .whole import define_integer

STREAM = 1_000_002  # of new bodies; splits of the key are small folds
METHODS_ASKED = ("multi_task", "mesa")


def new_bodies(study: Study, count: int) -> Bodies:
    """Collects bodies of the training distribution that are in no dataset."""
    system, rows = study.system, study.configuration.data.adaptation
    key = jax.random.fold_in(stage_key(study.meta_seed, Stage.HELDOUT), STREAM)
    body_key, rows_key, sets_key, root_key = jax.random.split(key, 4)
    tasks = system.domain.train_tasks(body_key, count)
    made, _ = collected(system, rows_key, tasks, 4 * rows)
    sets = jax.vmap(lambda key, one: sets_of(key, one, rows))
    chosen = sets(jax.random.split(sets_key, count), jax.device_put(made))
    return Bodies(
        seeds=tuple(range(count)),
        roots=jax.random.split(root_key, count),
        tasks=tasks,
        rows=jax.tree.map(lambda x: x[:, 0], chosen),
    )


def filter_test(study: Study, asked: Asked, bodies: Bodies, kind: str) -> None:
    """Tests every method on bodies, prints a table and draws the curves.

    Args:
      kind: "training" or "test".
    """
    for method in asked.methods:
        if filters(method):
            FILTER.replace(study.folder, tested(study, method, bodies, kind))
    records = [row for row in FILTER.read(study.folder) if row["bodies"] == kind]
    settings = study.configuration
    print(report.table(records))
    count, transitions = len(bodies.seeds), bodies.rows.cost.shape[1]
    note = (
        f"{count} {kind} bodies, {transitions} transitions of each, "
        f"{settings.quality.filter_episodes} episodes at each threshold; from right to "
        "left the threshold rises, from recovering on every step to never. Large mark: "
        "the method's own threshold. Whiskers: 95 % intervals over bodies."
    )
    title = f"Filter test: {settings.domain}, {settings.tasks}"
    figure = report.figure(title, note, records)
    save_figures("filter_test", study.folder, {f"filter_test_{kind}.png": figure})


def look_ahead(study: Study, asked: Asked, bodies: Bodies, steps: int) -> None:
    """Tests filters that simulate so many steps, and prints a table."""
    for method in asked.methods:
        LOOK_AHEAD.replace(study.folder, looked_ahead(study, method, bodies, steps))
    print(report.look_ahead_table(LOOK_AHEAD.read(study.folder)))


def main() -> None:
    (study, asked), given = flags.launch(), absl_flags.FLAGS
    for method in asked.methods:
        if not filters(method):
            raise SettingError("methods", method, "one that has a filter")
    stages = functools.partial(plan.of_filter_test, bodies=given.bodies)
    if only_planned(study, asked, stages):
        return
    with store.opened(study.folder, study.configuration):
        bodies = new_bodies(study, given.bodies)
        if given.look_ahead:
            look_ahead(study, asked, bodies, given.look_ahead)
        else:
            filter_test(study, asked, bodies, "training")


if __name__ == "__main__":
    flags.define_launch(methods=",".join(METHODS_ASKED), seeds="")
    define_integer("bodies", 100, "new bodies", 2, 10_000)
    steps = "steps that the filter simulates; 0: it asks the risk"
    define_integer("look_ahead", 0, steps, 0, 10_000)
    flags.run(main)
