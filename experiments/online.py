"""Adapts to test bodies and runs the methods online, all runs as one program.

python -m experiments.online --domain=navigation1 --seeds=10 --workdir=DIR
"""

from mesa_jax.methods import COMPARED
from mesa_jax.report import tables
from mesa_jax.study import audit, store
from mesa_jax.study.batches import to_run
from mesa_jax.study.episodes import require_same
from mesa_jax.study.replays import save_replays
from mesa_jax.study.runs import _write, run_batch
from mesa_jax.study.study import Launch
from mesa_jax.study.summary import online_runs

from . import flags
from .plot import save_summary


def online(launch: Launch) -> None:
    """Runs what is missing of the launch."""
    for batch in audit.check(launch.workdir, launch.settings).to_repeat:
        batch.write(launch.workdir, finished=False)
    todo = to_run(launch.workdir, launch.methods, launch.seeds, launch.meta_seed)
    for batch in todo:
        run_batch(launch.of(batch.methods[0]), batch, _write)
    if not todo:
        print("[online] nothing to do: every run of this launch is finished")
    for place in save_replays(launch) if launch.save_replay else ():
        print(f"[online] replay saved: {place}")


def main() -> None:
    launch = flags.launch()
    with store.opened(launch.workdir, launch.settings):
        require_same(launch.workdir, launch.settings)
        online(launch)
        found = online_runs(launch.workdir, launch.settings)
        print(tables.table(save_summary(launch.workdir, found)))


if __name__ == "__main__":
    flags.define_launch(methods=",".join(COMPARED))
    flags.run(main)
