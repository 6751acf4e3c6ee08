"""A safety filter for a robot: StableHLO, ONNX and a module that needs NumPy alone.

python -m experiments.export --workdir=DIR --method=mesa_context --body=0

The method's filter of one test body, as online runs start from it. Each form is checked
against JAX on stored decisions, then written into DIR/export/METHOD-bodySEED. The extra
`onnx` (onnx, onnxruntime) brings ONNX; without it that form is left out.
"""

import pathlib

import jax
from absl import flags as absl_flags

import mesa_jax
from mesa_jax.bridges import exporting
from mesa_jax.filter import METHOD
from mesa_jax.keys import SEED_LIMIT
from mesa_jax.methods import METHODS, filters
from mesa_jax.report import tables
from mesa_jax.settings import SettingError, known
from mesa_jax.study import exports, store
from mesa_jax.study.fitted import Fitted, fitted
from mesa_jax.study.study import Study

from . import flags


def export(study: Study, method: str, body: int) -> pathlib.Path:
    """Writes a method's filter of a test body, and returns where it lies.

    Raises:
      ExportError: if a form decides otherwise than JAX; nothing is written then.
    """
    filtered = fitted(study, method, body)
    made = exporting.export(filtered, about(study, method, body, filtered))
    place = exports.folder(study, method, body)
    exports.write(place, made.files)
    for note in made.notes:
        print(f"[export] {note}")
    print(table(made.lines))
    return place


def about(study: Study, method: str, body: int, filtered: Fitted) -> dict:
    """Returns what `export.json` says."""
    settings = study.of(method).configuration
    versions = {"mesa_jax": mesa_jax.__version__, "jax": jax.__version__}
    return {
        "method": method,
        "domain": settings.domain,
        "tasks": settings.tasks,
        "body": body,
        "meta_seed": study.meta_seed,
        "risk": settings.risk.measure,
        "threshold": round(float(filtered.guard.threshold), 6),
        "transitions": len(filtered.transitions.cost),
        "versions": versions,
    }


def table(lines: list[exporting.Line]) -> str:
    """Returns the forms with their sizes, differences and latencies."""
    cells = [["form", "files", "kB", "difference", "p50 µs", "p99 µs"]]
    for one in lines:
        size = f"{one.size / 1e3:.1f}" if one.files else ""
        gap = f"{one.difference:.1e}" if one.files else ""
        files = " ".join(one.files)
        cells.append([one.name, files, size, gap, f"{one.p50:.0f}", f"{one.p99:.0f}"])
    return tables.markdown(cells)


def main() -> None:
    given, place = absl_flags.FLAGS, flags.workdir()
    method = known("method", given.method, METHODS)
    if not filters(method):
        raise SettingError("method", method, "one that has a filter")
    settings = store.settings_of(place)
    with store.opened(place, settings):
        folder = export(Study(place, settings, given.meta_seed), method, given.body)
    print(f"[export] {folder}: `python check.py` in it checks another machine")


if __name__ == "__main__":
    flags.define_workdir()
    absl_flags.DEFINE_string("method", METHOD, "whose filter")
    seeds = {"lower_bound": 0, "upper_bound": SEED_LIMIT - 1}
    absl_flags.DEFINE_integer("body", 0, "seed of the test body", **seeds)
    absl_flags.DEFINE_integer("meta_seed", 0, "seed of the prior", **seeds)
    flags.run(main)
