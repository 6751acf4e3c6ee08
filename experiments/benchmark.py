"""How many adaptations a second: outer steps and online runs, timed on this machine.

python -m experiments.benchmark --tasks=5,20,64,256,1024 --output=FILE.json

Of an outer step: the published critic (latent layers 3 x 100, one inner step, 256 + 256
rows a task) and the default one (2 x 64, five inner steps, 200 + 256 rows, recovery
policy included), and the rows that encode, on rows drawn before, so that sampling is
not timed. Of online runs:
steps of `mesa` on navigation1. Beside each stands the rate at which this machine
multiplies matrices of those sizes, measured in the same rounds. Writes FILE.json and
a figure, FILE.png. `--yardstick=PATH` times a PyTorch meta-step in turn with the
published critic's, at as many threads.
"""

import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
from typing import Any, NamedTuple

import jax
from absl import flags as absl_flags
from tqdm import tqdm

import mesa_jax
from mesa_jax.report import layout, throughput
from mesa_jax.report.tables import markdown
from mesa_jax.settings import SettingError, whole
from mesa_jax.study import files, switches

from . import flags
from .benchmarked import (
    OUTER,
    Case,
    online_case,
    outer_case,
    product_case,
)
from .device import seconds_a_call

ROUNDS = 3
MOST = 10_000  # tasks or runs in one program
LONGEST = 3600.0  # seconds of a measurement
YARDSTICK_TASKS = 64  # more take it minutes a step


class Options(NamedTuple):
    """What a launch was asked for."""

    tasks: tuple[int, ...]
    runs: tuple[int, ...]
    output: pathlib.Path
    yardstick: pathlib.Path | None
    seconds: float  # of each measurement, at least


def counts(flag: str, values: list[str]) -> tuple[int, ...]:
    """Takes counts, ascending and without repetitions.

    Raises:
      SettingError: if one is no positive integer up to MOST, or there is none.
    """
    found = {whole(value, MOST) for value in values}
    if not found or found & {None, 0}:
        allowed = f"a list of counts up to {MOST:,}, as 5,20,64"
        raise SettingError(flag, ",".join(values), allowed)
    return tuple(sorted(found))


def options() -> Options:
    """Returns the flags, checked.

    Raises:
      SettingError: for one out of its range.
    """
    given = absl_flags.FLAGS
    if not given.output.endswith(".json"):
        raise SettingError("output", given.output, "a file, as runs/benchmark.json")
    script = flags.path("yardstick") if given.yardstick else None
    if script is not None and not script.is_file():
        raise SettingError("yardstick", given.yardstick, "a Python file")
    if not given.seconds <= LONGEST:
        raise SettingError("seconds", given.seconds, f"at most {LONGEST:g}")
    return Options(
        tasks=counts("tasks", given.tasks),
        runs=counts("runs", given.runs),
        output=flags.path("output"),
        yardstick=script,
        seconds=given.seconds,
    )


def threads() -> int:
    """Returns the cores that this process may use; what both sides are given."""
    if hasattr(os, "sched_getaffinity"):  # Linux alone
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def yardstick(script: pathlib.Path, tasks: int, seconds: float) -> float:
    """Times the PyTorch meta-step: seconds a step.

    Raises:
      flags.YardstickError: if it can not be run.
    """
    command = [sys.executable, str(script), f"--tasks={tasks}"]
    command += [f"--threads={threads()}", f"--seconds={seconds:g}"]
    done = subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="replace"
    )
    try:
        return json.loads(done.stdout.splitlines()[-1])["ms_per_step"] / 1e3
    except (IndexError, KeyError, ValueError):
        said = done.stderr.strip().splitlines()[-1:] or ["nothing"]
        raise flags.YardstickError(
            f"{script} printed no time; it said: {said[0]} "
            '(PyTorch: pip install -e ".[yardstick]")'
        ) from None


def measure(case: Case, script: pathlib.Path | None, seconds: float) -> dict[str, Any]:
    """Measures a row: the median of rounds, each of ours, the product's, theirs."""
    program, product = case.program(), product_case(case.product)
    ours, theirs, products = [], [], []
    state, inputs = case.state, product.state
    for _ in range(ROUNDS):
        took, state = seconds_a_call(program.call, state, seconds)
        ours.append(took)
        took, inputs = seconds_a_call(product.call, inputs, seconds / 3)
        products.append(took)
        if script is not None:
            theirs.append(yardstick(script, case.count, seconds))
    took = statistics.median(ours)
    rate = statistics.median(product.flops / one for one in products)
    row = {
        "case": case.name,
        "count": case.count,
        "milliseconds": 1e3 * took / case.turns,
        "per_second": case.count * case.turns / took,
        "flops_a_step": program.product_flops / case.turns,
        "flops_per_second": program.product_flops / took,
        "product_flops_per_second": rate,
        "share_of_product": program.product_flops / took / rate,
        "memory_mib": program.memory_bytes / 2**20,
        "compile_seconds": program.compile_seconds,
    }
    if theirs:
        ratios = [a / b for a, b in zip(theirs, ours, strict=True)]
        row |= {
            "yardstick_milliseconds": 1e3 * statistics.median(theirs),
            "times_the_yardstick": statistics.median(ratios),
            "least_times_the_yardstick": min(ratios),
        }
    return row


COLUMNS = {
    "count": ("tasks or runs", "{}"),
    "milliseconds": ("ms a step", "{:.2f}"),
    "per_second": ("per second", "{:,.0f}"),
    "flops_per_second": ("GFLOP/s", "{:.1f}"),
    "share_of_product": ("of product's %", "{:.0f}"),
    "memory_mib": ("MiB", "{:.0f}"),
    "compile_seconds": ("compile s", "{:.1f}"),
    "yardstick_milliseconds": ("PyTorch ms", "{:.0f}"),
    "times_the_yardstick": ("times faster", "{:.1f}"),
}
SCALES = {"flops_per_second": 1e-9, "share_of_product": 100}


def table(rows: list[dict[str, Any]]) -> str:
    """Writes a Markdown table of the measured rows."""
    lines = [["what", *(head for head, _ in COLUMNS.values())]]
    for row in rows:
        cells = [
            form.format(row[name] * SCALES.get(name, 1)) if name in row else ""
            for name, (_, form) in COLUMNS.items()
        ]
        lines.append([" ".join(throughput.PANELS[row["case"]]), *cells])
    return markdown(lines)


def machine() -> dict[str, Any]:
    """Describes where it is measured."""
    device = jax.devices()[0]
    return {
        "device": device.device_kind,
        "platform": device.platform,
        "threads": threads(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "mesa_jax": mesa_jax.__version__,
        "switches": switches.recorded(),
    }


def benchmark(asked: Options) -> list[dict[str, Any]]:
    """Measures everything, writes and shows it; returns the rows.

    Raises:
      flags.YardstickError: if the yardstick can not be run.
    """
    cases = [(outer_case, name, count) for count in asked.tasks for name in OUTER]
    cases += [(online_case, "online", count) for count in asked.runs]
    rows = []
    for make, name, count in tqdm(cases, desc="[benchmark]", unit="case"):
        compared = name == "published" and count <= YARDSTICK_TASKS
        row = measure(
            make(name, count), asked.yardstick if compared else None, asked.seconds
        )
        rows.append(row)
        files.write_json(asked.output, machine() | {"rows": rows})
    print(table(rows))
    figure = throughput.throughput(machine(), rows)
    print(f"[benchmark] {asked.output}")
    path = asked.output.with_suffix(".png")
    print(f"[benchmark] {files.write_atomically(path, layout.png(figure))}")
    return rows


def main() -> None:
    benchmark(options())


if __name__ == "__main__":
    absl_flags.DEFINE_list("tasks", "5,20,64,256,1024", "bodies an outer step")
    absl_flags.DEFINE_list("runs", "1,4,16,64", "online runs in one program")
    absl_flags.DEFINE_string("output", "", "FILE.json to write; the figure lies beside")
    absl_flags.DEFINE_string("yardstick", "", "PyTorch meta-step to time in turn")
    absl_flags.DEFINE_float("seconds", 2.0, "of each measurement, at least", 0.0)
    flags.run(main)
