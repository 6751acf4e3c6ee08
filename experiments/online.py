"""Adapts to test bodies and runs the methods online, all runs as one program.

python -m experiments.online --domain=navigation1 --seeds=10 --workdir=DIR
"""

import pathlib

from mesa_jax.configuration import Configuration
from mesa_jax.methods import COMPARED
from mesa_jax.report import tables
from mesa_jax.study import audit, inventory, plan, store
from mesa_jax.study.batches import Batch, to_run
from mesa_jax.study.episodes import require_same
from mesa_jax.study.records import RESULTS
from mesa_jax.study.replays import save_replays
from mesa_jax.study.runs import Chunk, chunks
from mesa_jax.study.study import Asked, Study

from . import flags, processes
from .pages import draw_training
from .planned import only_planned
from .summary import online_runs, save_summary


def online(study: Study, asked: Asked) -> None:
    """Runs what is missing."""
    for batch in audit.check(study.folder, study.configuration).to_repeat:
        batch.write(study.folder, finished=False)
    todo = to_run(study.folder, asked.methods, asked.seeds, study.meta_seed)
    for batch in todo:
        mine = study.of(batch.methods[0])
        for chunk in chunks(mine, batch):
            keep(study.folder, mine.configuration, batch, chunk)
        draw_training(study, batch.methods)
    if not todo:
        print("[online] nothing to do: every run of this launch is finished")
    if asked.save_replay:
        for place in save_replays(study, asked.methods, asked.seeds):
            print(f"[online] replay saved: {place}")


def keep(
    place: pathlib.Path, settings: Configuration, batch: Batch, chunk: Chunk
) -> None:
    """Writes rows of results.csv: those of the last chunk are added at its end."""
    rows = audit.rows_of(settings, batch, chunk.seen, chunk.since)
    if chunk.since is None:
        RESULTS.replace(place, rows, inventory.keys_of(batch))
    else:
        RESULTS.append(place, rows)


def main() -> None:
    study, asked = flags.launch()
    if only_planned(study, asked, plan.of_online):
        return
    with store.opened(study.folder, study.configuration):
        require_same(study)
        online(study, asked)
        print(tables.table(save_summary(study.folder, online_runs(study))))


if __name__ == "__main__":
    flags.define_launch(methods=",".join(COMPARED), replays=True)
    processes.define()
    flags.run(main)
