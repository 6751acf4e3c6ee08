"""Violations and successes online against the risk threshold, as one program.

python -m experiments.thresholds --workdir=DIR --methods=mesa --seeds=5

Every method, seed and threshold is one row of the compiled online program; threshold
is a traced number. Writes thresholds.csv and a figure.
"""

import csv
import io
import pathlib

import jax
import numpy as np
from absl import flags as absl_flags

from experiments.online import run_batch
from mesa_jax.agents import COMPARED, METHODS
from mesa_jax.runtime import (
    files,
    flags,
    measures,
    report,
    report_quality,
    results,
    tables,
    workdir,
)
from mesa_jax.runtime.batches import Batch, stored
from mesa_jax.runtime.config import Settings
from mesa_jax.runtime.report_quality import Line
from mesa_jax.settings import SettingError

CONSTRAINED = tuple(name for name in COMPARED if METHODS[name].constrained)
THRESHOLDS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
COUNTS = ("violation", "violation_while_recovering", "success", "recoveries", "length")
COLUMNS = ("risk_threshold", "method", "meta_seed", "seed", "episodes", *COUNTS)
FILE = "thresholds.csv"


def parse(values: list[str]) -> tuple[float, ...]:
    """Ascending, without repetitions.

    Raises:
      SettingError: if one is no number in (0, 1), or there is none.
    """
    allowed = "a list of numbers in (0, 1), as 0.1,0.3"
    try:
        found = tuple(sorted({float(value) for value in values}))
    except ValueError:
        raise SettingError("thresholds", ",".join(values), allowed) from None
    inside = (0.0 < x < 1.0 and 0.0 < np.float32(x) < 1.0 for x in found)
    if not found or not all(inside):
        raise SettingError("thresholds", ",".join(values), allowed)
    return found


def _write(launch: flags.Launch, batch: Batch, states, values, done, writer) -> None:
    """One line a run with its counts so far, in place of what the file had of it."""
    records = jax.tree.map(np.asarray, states.records)
    rows = []
    for i, run in enumerate(batch.runs()):
        labels = (run.threshold, run.method, batch.meta_seed, run.seed)
        counts = [int(getattr(records, name)[i].sum()) for name in COUNTS]
        row = (*labels, int(states.episode[i]), *counts)
        rows.append(dict(zip(COLUMNS, row, strict=True)))
        name = f"{run.method}-{run.seed}-{run.threshold:g}"
        means = {key: float(value[i]) for key, value in values.items()}
        writer.write(name, done, means, method=run.method, seed=run.seed)
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    kept = {_run_of(row): row for row in read(launch.workdir)}
    kept |= {_run_of(row): row for row in rows}
    table.writerows(kept[key] for key in sorted(kept))
    files.write_atomically(launch.workdir / FILE, text.getvalue())


def _run_of(row: dict) -> tuple:
    return row["method"], row["risk_threshold"], row["meta_seed"], row["seed"]


def read(place: pathlib.Path) -> list[dict]:
    """Lines of thresholds.csv, typed; none where there is no file yet."""
    path = place / FILE
    if not path.exists():
        return []
    typed = []
    try:
        for row in csv.DictReader(io.StringIO(path.read_text())):
            numbers = {k: v if k == "method" else float(v) for k, v in row.items()}
            typed.append(numbers | {k: int(numbers[k]) for k in COLUMNS[2:]})
    except (KeyError, TypeError, ValueError):
        raise results.ResultsError(
            f"{path} can not be read; delete it and the list of its runs in "
            f"{place / 'online'} to run them again."
        ) from None
    return typed


def _line(rows: list[dict], column: str) -> Line:
    """A column against the threshold, mean and interval over seeds."""
    x = sorted({row["risk_threshold"] for row in rows})
    intervals = []
    for threshold in x:
        by_seed: dict[int, list[float]] = {}
        for row in rows:
            if row["risk_threshold"] == threshold:
                by_seed.setdefault(row["seed"], []).append(row[column])
        means = np.array([np.mean(values) for values in by_seed.values()])
        intervals.append(measures.interval(means))
    return Line(np.array(x), *np.array(intervals).T)


def show(place: pathlib.Path, settings: Settings) -> None:
    """Prints the table and draws the figure of all finished runs of the workdir.

    Raises:
      ResultsError: if there is none.
    """
    finished = {
        (run.method, run.threshold, batch.meta_seed, run.seed)
        for batch, done in stored(place)
        for run in batch.runs()
        if done
    }
    rows = [row for row in read(place) if _run_of(row) in finished]
    if not rows:
        raise results.ResultsError(f"{place / FILE} has no finished run.")
    of = {
        name: mine
        for name in METHODS
        if (mine := [row for row in rows if row["method"] == name])
    }
    lines = [["method", "risk threshold", "violations", "successes"]]
    for name, mine in of.items():
        violations, successes = _line(mine, "violation"), _line(mine, "success")
        for i, threshold in enumerate(violations.x):
            cells = (
                f"{line.mean[i]:.1f} [{line.low[i]:.1f}, {line.high[i]:.1f}]"
                for line in (violations, successes)
            )
            lines.append([name, f"{threshold:g}", *cells])
    print(tables.markdown(lines))
    seeds, online = len({row["seed"] for row in rows}), settings.online
    budget = f"{online.episodes} training episodes"
    if online.steps:
        budget = f"{online.steps:,} environment steps"
    figure = report_quality.online_thresholds(
        f"Online, against the risk threshold: {settings.domain}, {settings.tasks}",
        f"Sums over {budget}; mean over {seeds} seeds. The "
        f"configuration's threshold is {settings.recovery.risk_threshold:g}.",
        {name: _line(mine, "violation") for name, mine in of.items()},
        {name: _line(mine, "success") for name, mine in of.items()},
    )
    path = place / "report" / "online_thresholds.png"
    print(f"[thresholds] {report.save(figure, path)}")


def main() -> None:
    launch = flags.launch()
    thresholds = parse(absl_flags.FLAGS.thresholds)
    for method in launch.methods:
        if not METHODS[method].constrained:
            allowed = "constrained: a threshold changes nothing for the others"
            raise SettingError("methods", method, allowed)
    if len({METHODS[method].variant for method in launch.methods}) > 1:
        allowed = "of one program: published rows have one each"
        raise SettingError("methods", ",".join(launch.methods), allowed)
    batch = Batch(launch.methods, launch.seeds, launch.meta_seed, thresholds)
    with workdir.opened(launch.workdir, launch.settings):
        if (batch, True) in stored(launch.workdir):
            print("[thresholds] nothing to do: every run of this launch is finished")
        else:
            run_batch(launch.of(launch.methods[0]), batch, _write)
        show(launch.workdir, launch.settings)


if __name__ == "__main__":
    flags.define_launch(methods=",".join(CONSTRAINED), seeds="5")
    absl_flags.DEFINE_list(
        "thresholds",
        [str(value) for value in THRESHOLDS],
        "risk thresholds to try, each in (0, 1)",
    )
    flags.run(main)
