"""Does an adapted filter keep bodies safe? Hard proposals, the filter, no learner.

python -m experiments.filter_test --domain=navigation1 --tasks=flip --workdir=DIR

On `--bodies` new bodies drawn like the training ones (so that it may choose), adapted
to `--data_adaptation` of their transitions: held actions of the reference policy are
proposed, and where their risk exceeds the threshold the recovery policy acts. Prints a
table, and writes filter_test.csv.
"""

import csv
import io

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags as absl_flags

from mesa_jax import simulation
from mesa_jax.data import by_policy
from mesa_jax.keys import Stage, stage_key
from mesa_jax.methods import METHODS
from mesa_jax.novelty import sets_of
from mesa_jax.report import tables
from mesa_jax.report.summary import spread
from mesa_jax.settings import SettingError
from mesa_jax.study import files, store
from mesa_jax.study.artifacts.adapted import adapted
from mesa_jax.study.artifacts.data import Bodies
from mesa_jax.system import System
from mesa_jax.types import Decision

from . import flags

STREAM = 1_000_002  # of new bodies; splits of the key are small folds
HOLD = 10  # steps
METHODS_ASKED = ("multi_task", "mesa")
COLUMNS = ("method", "body", "episodes", "violated", "while_recovering")
COLUMNS += ("recovered_share",)


def new_bodies(system: System, meta_seed: int, count: int) -> Bodies:
    """Collects bodies of the training distribution that are in no dataset."""
    rows = system.configuration.data.adaptation
    key = jax.random.fold_in(stage_key(meta_seed, Stage.HELDOUT), STREAM)
    body_key, rows_key, sets_key, root_key = jax.random.split(key, 4)
    tasks = system.domain.train_tasks(body_key, count)
    config = system.configuration.collect
    made = by_policy(rows_key, system.domain, config, tasks, 4 * rows)
    sets = jax.vmap(lambda key, one: sets_of(key, one, rows))
    chosen = sets(jax.random.split(sets_key, count), jax.tree.map(jnp.asarray, made))
    return Bodies(
        seeds=tuple(range(count)),
        roots=jax.random.split(root_key, count),
        tasks=tasks,
        rows=jax.tree.map(lambda x: x[:, 0], chosen),
    )


def filter_test(
    system: System, params: tuple, bodies: Bodies, episodes: int
) -> simulation.Filtered:
    """Simulates episodes of each body, [bodies, episodes].

    Args:
      params: (critic, recovery policy), [bodies, ...].
    """
    threshold = system.configuration.recovery.risk_threshold

    def of_body(root, task, params):
        critic, policy = params

        def decide(observation, proposed):
            recovered = system.risk.estimate(critic, observation, proposed) > threshold
            rescue = system.recovery.act(policy, observation)
            action = jnp.where(recovered, rescue, proposed)
            return Decision(action, proposed, recovered)

        keys = jax.random.split(jax.random.fold_in(root, int(Stage.REPORT)), episodes)
        play = lambda key: simulation.filtered_episode(  # noqa: E731
            key, system.domain, task, decide, HOLD
        )
        return jax.vmap(play)(keys)

    program = jax.jit(jax.vmap(of_body))
    return jax.tree.map(np.asarray, program(bodies.roots, bodies.tasks, params))


def _rows(method: str, found: simulation.Filtered) -> list[tuple]:
    """Lines of filter_test.csv, one a body."""
    share = found.recovered.sum(1) / found.length.sum(1)
    counts = found.violated.sum(1), found.while_recovering.sum(1)
    episodes = found.violated.shape[1]
    each = zip(*counts, share, strict=True)
    return [
        (method, i, episodes, a, b, round(float(c), 6))
        for i, (a, b, c) in enumerate(each)
    ]


def main() -> None:
    (study, asked), given = flags.launch(), absl_flags.FLAGS
    for method in asked.methods:
        if not METHODS[method].constrained:
            raise SettingError("methods", method, "constrained")
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    lines = [["method", "episodes violating %", "while recovering %", "worst body %"]]
    lines[0].append("steps recovered %")
    with store.opened(study.folder, study.configuration):
        bodies = new_bodies(study.system, study.meta_seed, given.bodies)
        for method in asked.methods:
            mine = study.of(method)
            params = adapted(mine, (method,), bodies)[method]
            found = filter_test(mine.system, params, bodies, given.episodes)
            rows = _rows(method, found)
            table.writerows(rows)
            violated, recovering = (
                100 * x.mean(1) for x in (found.violated, found.while_recovering)
            )
            share = 100 * np.array([row[-1] for row in rows])
            cells = [
                tables.estimate(spread(x), 1, 1) for x in (violated, recovering, share)
            ]
            lines.append([method, *cells[:2], f"{violated.max():.0f}", cells[2]])
        files.write_atomically(study.folder / "filter_test.csv", text.getvalue())
    print(tables.markdown(lines))
    print(
        f"{given.bodies} bodies x {given.episodes} episodes, actions held {HOLD} steps."
    )


if __name__ == "__main__":
    flags.define_launch(methods=",".join(METHODS_ASKED), seeds="")
    absl_flags.DEFINE_integer("bodies", 100, "new bodies", 2, 10_000)
    absl_flags.DEFINE_integer("episodes", 16, "of each body", 1, 10_000)
    flags.run(main)
