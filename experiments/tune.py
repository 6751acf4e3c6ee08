"""Chooses settings in closed loop, on held-out training bodies: the filter test.

python -m experiments.tune --domain=navigation1 --tasks=flip --workdir=DIR

Every method is tried with as many settings: horizons of the risk times four of its own
kind, at every number of adaptation steps and threshold. Writes tuning.csv (of each on
each body the episodes that violate and the steps recovered) and tuning.json (what is
chosen: fewest violations, then least recovery). With --update_presets the presets of
this domain and these bodies become what was chosen. More --meta_seed add to the choice.
"""

import json

from absl import flags as absl_flags

from mesa_jax import configuration
from mesa_jax.methods import METHODS
from mesa_jax.report import tuning as report
from mesa_jax.settings import SettingError
from mesa_jax.study import plan, presets, store, tuning
from mesa_jax.study.artifacts.heldout import heldout_sets
from mesa_jax.study.artifacts.proposals import unsafe_policies
from mesa_jax.study.artifacts.trials import (
    SETTINGS,
    settings_of,
    trained_starts,
    worth,
)
from mesa_jax.study.study import Asked, Study

from . import flags
from .pages import draw_training
from .planned import only_planned
from .whole import define_integer

TRIED = [name for name, row in METHODS.items() if row.grid]
UNASKED = [name for name in TRIED if name != "system_id"]  # not of every domain


def tune(
    study: Study, asked: Asked, horizons: tuple[float, ...], most: int = SETTINGS
) -> dict[str, dict]:
    """Tries what is missing; returns the chosen settings by section."""
    place, seed = study.folder, study.meta_seed
    for method in asked.methods:
        rows = settings_of(method, horizons, most)
        if not tuning.has(place, method, seed, rows):
            mine = study.of(method)
            held = heldout_sets(mine)
            bodies = held.bodies.first(mine.configuration.data.adaptation)
            starts = trained_starts(mine, method, bodies, rows)
            unsafe = unsafe_policies(mine, bodies)
            found = worth(mine, method, rows, starts, bodies, unsafe)
            steps = METHODS[method].grid_steps
            tuning.TUNING.replace(
                place, tuning.records(method, seed, rows, steps, found)
            )
    records = tuning.TUNING.read(place)
    print(report.tables(records, tuning.means(records)))
    return tuning.choose(place)


def main() -> None:
    study, asked = flags.launch()
    given = absl_flags.FLAGS
    for method in asked.methods:
        if not METHODS[method].grid:
            raise SettingError("methods", method, "among " + ", ".join(TRIED))
    if given.update_presets:
        tuning.require_clone()
    horizons = _horizons(study, given.horizons)
    if only_planned(study, asked, plan.of_tune):
        return
    with store.opened(study.folder, study.configuration):
        chosen = tune(study, asked, horizons, given.settings)
        draw_training(study, asked.methods)
        print(json.dumps(chosen, indent=1))
        if given.update_presets:
            tuning.update_presets(study.configuration, chosen)


def _horizons(study: Study, asked: list[str] | None) -> tuple[float, ...]:
    """Returns the horizons that are tried, in seconds.

    Raises:
      SettingError: on what is no number, or no longer than a step.
    """
    if not asked:
        steps, settings = (2.5, 5.0, 10.0, 20.0), study.configuration
        usual = tuple(configuration.seconds_of(settings) * k for k in steps)
        return presets.HORIZONS.get(settings.domain, usual)
    try:
        found = tuple(sorted({float(text) for text in asked}))
    except ValueError:
        raise SettingError("horizons", asked, "a list of numbers") from None
    for horizon in found:
        configuration.override(study.common, {"risk": {"horizon": horizon}})
    return found


if __name__ == "__main__":
    flags.define_launch(methods=",".join(UNASKED), seeds="")
    absl_flags.DEFINE_bool(
        "update_presets", False, "make the chosen settings the presets' own"
    )
    define_integer(
        "settings", SETTINGS, "of each method's own kind, at each horizon", 1, SETTINGS
    )
    absl_flags.DEFINE_list(
        "horizons", None, "seconds that the risk may look ahead; the domain's if empty"
    )
    flags.run(main)
