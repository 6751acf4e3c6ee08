"""Checks, describes and converts recorded transitions: `data check FILE`.

python -m experiments.data check a.hdf5 b.hdf5
python -m experiments.data describe a.npz --output=a.png
python -m experiments.data convert minari:bodies/weak-v0 b.hdf5 --to=FOLDER

FILE.hdf5 or .h5, FILE.npz, minari:NAME (each one body), or the folder of a dataset, as
`online --save_replay` writes it.
"""

import itertools

from absl import flags as absl_flags

from mesa_jax.report import recording
from mesa_jax.report.layout import png
from mesa_jax.settings import SettingError, known
from mesa_jax.study import files, recordings
from mesa_jax.study.datasets import DatasetError
from mesa_jax.study.recordings import WRONG
from mesa_jax.types import Transition

from . import data_files, flags

FLAGS = absl_flags.FLAGS


def check(names: list[str]) -> None:
    """Prints what is found in each body's file, and rows that two of them share.

    Raises:
      DatasetError: where something is wrong with one.
    """
    good, bad = {}, []
    for name, found in data_files.read_all(names):
        findings, imported = recordings.check(name, found, *data_files.asked())
        print(f"[data] {name}")
        for finding in findings:
            print(f"  {finding.kind:8}{finding.text}")
        if imported is None:
            bad.append(name)
        else:
            good[name] = imported.transitions
    for one, other in itertools.combinations(good, 2):
        if count := recordings.shared(good[one], good[other]):
            print(
                f"[data] warning: {count} of {len(good[one].cost)} rows of {one} are "
                f"in {other}: what adapts on one must not be tested on the other"
            )
    if bad:
        raise DatasetError(f"{', '.join(bad)}: {WRONG}, as listed above.")


def describe(names: list[str]) -> None:
    """Prints a card of each body, and draws it at --output."""
    sources = data_files.read_all(names)
    bodies = {one.name: data_files.transitions(one) for one in sources}
    for name, rows in bodies.items():
        print(*recordings.told(recordings.card(name, rows)), sep="\n", end="\n\n")
    if FLAGS.output:
        place = flags.path("output")
        drawn = [_drawn(name, rows) for name, rows in bodies.items()]
        files.write_atomically(place, png(recording.page(drawn, recordings.ENDS)))
        print(f"[data] drawn: {place}")


def _drawn(name: str, rows: Transition) -> recording.Body:
    made = recordings.episodes(rows)
    given = rows.observation, rows.action, rows.cost == 1
    return recording.Body(name, *given, made.lengths, made.ends)


def convert(names: list[str]) -> None:
    """Writes the bodies of all files in the form that --to tells."""
    if not FLAGS.to:
        raise SettingError("to", FLAGS.to, f"given: {data_files.FORMS}")
    sources = data_files.read_all(names)
    bodies = [data_files.transitions(one) for one in sources]
    data_files.save(FLAGS.to, bodies, [one.name for one in sources])
    lengths = [len(one.cost) for one in bodies]
    print(f"[data] {len(bodies)} bodies of {lengths} transitions: {FLAGS.to}")


COMMANDS = {"check": check, "describe": describe, "convert": convert}


def main(command: str, *names: str) -> None:
    known("arguments", command, COMMANDS)
    if not names:
        raise SettingError("arguments", command, f"{command} and {data_files.FORMS}")
    COMMANDS[command](list(names))


if __name__ == "__main__":
    data_files.define()
    absl_flags.DEFINE_string("to", None, f"what `convert` writes: {data_files.FORMS}")
    absl_flags.DEFINE_string("output", None, "the drawing of `describe`, a PNG")
    flags.run(main, "COMMAND", "[FILE]", "...", paths=False)
