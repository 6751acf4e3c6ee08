"""Violations and successes online against the risk threshold, as one program.

python -m experiments.thresholds --workdir=DIR --methods=mesa --seeds=5

Every method, seed and threshold is one row of the compiled online program; threshold
is a traced number. Writes thresholds.csv and a figure.
"""

import functools
import pathlib
from operator import itemgetter

import numpy as np
from absl import flags as absl_flags

from mesa_jax.configuration import Configuration
from mesa_jax.methods import COMPARED, METHODS, program_of
from mesa_jax.report import quality, tables
from mesa_jax.report.statistics import Curve
from mesa_jax.report.summary import spread
from mesa_jax.settings import SettingError
from mesa_jax.study import audit, plan, store
from mesa_jax.study.audit import Seen
from mesa_jax.study.batches import Batch, stored
from mesa_jax.study.episodes import require_same
from mesa_jax.study.records import ResultsError, Table, grouped, one_of
from mesa_jax.study.runs import chunks

from . import flags
from .figures import save_figures
from .pages import draw_training
from .planned import only_planned

CONSTRAINED = tuple(name for name in COMPARED if METHODS[name].constrained)
THRESHOLDS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
COUNTS = ("violation", "violation_while_recovering", "success", "recoveries", "length")
COUNTED = ("violation", "success")  # what is shown
TABLE = Table(
    "thresholds.csv",
    {
        "risk_threshold": float,
        "method": one_of(METHODS),
        **dict.fromkeys(("meta_seed", "seed", "episodes", *COUNTS), int),
    },
    key=("method", "risk_threshold", "meta_seed", "seed"),
    order=lambda row: TABLE.key_of(row),
    error=ResultsError,
)
MOST = 1_000  # thresholds in one program


def parse(values: list[str]) -> tuple[float, ...]:
    """Takes thresholds, ascending and without repetitions.

    Raises:
      SettingError: if one is no number in (0, 1), or there is none.
    """
    allowed = f"a list of 1 to {MOST} numbers in (0, 1), as 0.1,0.3"
    try:
        found = tuple(sorted({float(value) for value in values}))
    except ValueError:
        raise SettingError("thresholds", ",".join(values), allowed) from None
    inside = (0.0 < x < 1.0 and 0.0 < np.float32(x) < 1.0 for x in found)
    if not 0 < len(found) <= MOST or not all(inside):
        raise SettingError("thresholds", ",".join(values), allowed)
    return found


def _rows(batch: Batch, seen: Seen) -> list[dict]:
    """Returns a line a run with its counts so far."""
    rows = []
    for i, run in enumerate(batch.runs()):
        labels = (run.threshold, run.method, batch.meta_seed, run.seed)
        counts = [int(getattr(seen.records, name)[i].sum()) for name in COUNTS]
        row = (*labels, int(seen.episode[i]), *counts)
        rows.append(dict(zip(TABLE.columns, row, strict=True)))
    return rows


def keep(place: pathlib.Path, batch: Batch, seen: Seen) -> None:
    """Writes the batch's lines in place of what the file had of them."""
    there, damaged = _there(place)
    if damaged:
        audit.keep_damaged(place / TABLE.file)
    _write_rows(place, [*there.values(), *_rows(batch, seen)])


def _write_rows(place: pathlib.Path, rows: list[dict]) -> None:
    """Writes thresholds.csv; of lines of one run the last."""
    TABLE.write(place, {TABLE.key_of(row): row for row in rows}.values())


def _there(place: pathlib.Path) -> tuple[dict[tuple, dict], bool]:
    """Returns the lines by run, and whether the file can not be read (then none)."""
    try:
        return {TABLE.key_of(row): row for row in TABLE.read(place)}, False
    except ResultsError as error:
        print(f"Warning: {error}")
        return {}, True


def check(place: pathlib.Path, settings: Configuration) -> list[dict]:
    """Returns the lines of finished runs; mends thresholds.csv by their checkpoints.

    Says which runs are left out, and what was mended.

    Raises:
      ResultsError: if thresholds.csv lacks a run and no checkpoint holds it.
    """
    there, damaged = _there(place)
    found: dict[tuple, dict] = {}
    for batch, finished in stored(place):
        if not batch.thresholds:
            continue
        if not finished:
            print(f"[thresholds] {batch.name} is not at its end and left out.")
            continue
        seen = audit.stored(place, settings, batch)
        keys = [(r.method, r.threshold, batch.meta_seed, r.seed) for r in batch.runs()]
        if seen is not None and not audit.going(settings, batch, seen).any():
            found |= {TABLE.key_of(row): row for row in _rows(batch, seen)}
        elif all(key in there for key in keys):
            print(
                f"Warning: no undamaged checkpoint holds the end of {batch.name}; its "
                f"lines in {place / TABLE.file} stand unchecked."
            )
            found |= {key: there[key] for key in keys}
        else:
            raise ResultsError(
                f"{place / TABLE.file} lacks runs of {batch.name}, and no undamaged "
                f"checkpoint holds their end. Delete {batch.manifest(place)} and "
                f"{batch.checkpoints(place)} to run them again."
            )
    wrong = sum(row != there.get(key) for key, row in found.items())
    if wrong or damaged:
        audit.keep_damaged(place / TABLE.file)
        _write_rows(place, [*there.values(), *found.values()])
        print(
            f"Warning: {place / TABLE.file} was damaged or not whole and is "
            "written again "
            f"from the checkpoints: {wrong} runs differed."
        )
    return list(found.values())


def _spread(rows: list[dict], column: str) -> dict:
    """Returns a column's mean over seeds of one threshold's runs, with its interval."""
    by_seed = grouped(rows, itemgetter("seed")).values()
    means = np.array([np.mean([row[column] for row in mine]) for mine in by_seed])
    return spread(means, sum(row["episodes"] for row in rows))


def _curve(rows: list[dict], column: str) -> Curve:
    """Returns a column against the threshold, mean and interval over seeds."""
    x = sorted({row["risk_threshold"] for row in rows})
    found = [
        _spread([row for row in rows if row["risk_threshold"] == at], column)
        for at in x
    ]
    ends = ([one[k] for one in found] for k in ("mean", "low", "high"))
    return Curve(np.array(x), *(np.array(values, float) for values in ends))


def show(place: pathlib.Path, settings: Configuration) -> None:
    """Prints the table and draws the figure of all finished runs of the workdir.

    Raises:
      ResultsError: if there is none.
    """
    rows = check(place, settings)
    if not rows:
        raise ResultsError(f"{place / TABLE.file} has no finished run.")
    of = {
        name: mine
        for name in METHODS
        if (mine := [row for row in rows if row["method"] == name])
    }
    lines = [["method", "risk threshold", "violations", "successes"]]
    for name, mine in of.items():
        for threshold in sorted({row["risk_threshold"] for row in mine}):
            here = [row for row in mine if row["risk_threshold"] == threshold]
            cells = (tables.estimate(_spread(here, k), 1, 1) for k in COUNTED)
            lines.append([name, f"{threshold:g}", *cells])
    print(tables.markdown(lines))
    seeds, online = len({row["seed"] for row in rows}), settings.online
    budget = f"{online.episodes} training episodes"
    if online.steps:
        budget = f"{online.steps:,} environment steps"
    figure = quality.online_thresholds(
        f"Online, against the risk threshold: {settings.domain}, {settings.tasks}",
        f"Sums over {budget}; mean over {seeds} seeds. The "
        f"configuration's threshold is {settings.recovery.risk_threshold:g}.",
        {name: _curve(mine, "violation") for name, mine in of.items()},
        {name: _curve(mine, "success") for name, mine in of.items()},
    )
    save_figures("thresholds", place, {"online_thresholds.png": figure})


def main() -> None:
    study, asked = flags.launch()
    thresholds = parse(absl_flags.FLAGS.thresholds)
    for method in asked.methods:
        if not METHODS[method].constrained:
            allowed = "constrained: a threshold changes nothing for the others"
            raise SettingError("methods", method, allowed)
    if len({program_of(method) for method in asked.methods}) > 1:
        allowed = "of one program: published rows have one each"
        raise SettingError("methods", ",".join(asked.methods), allowed)
    stages = functools.partial(plan.of_thresholds, values=thresholds)
    if only_planned(study, asked, stages):
        return
    batch = Batch(asked.methods, asked.seeds, study.meta_seed, thresholds)
    with store.opened(study.folder, study.configuration):
        require_same(study)
        if (batch, True) in stored(study.folder):
            print("[thresholds] nothing to do: every run of this launch is finished")
        else:
            for chunk in chunks(study.of(asked.methods[0]), batch):
                keep(study.folder, batch, chunk.seen)
            draw_training(study, asked.methods)
        show(study.folder, study.configuration)


if __name__ == "__main__":
    flags.define_launch(methods=",".join(CONSTRAINED), seeds="5")
    absl_flags.DEFINE_list(
        "thresholds",
        [str(value) for value in THRESHOLDS],
        "risk thresholds to try, each in (0, 1)",
    )
    flags.run(main)
