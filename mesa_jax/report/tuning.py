"""Tables of what settings were worth in the filter test on held-out bodies."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mesa_jax.report.tables import markdown

SHOWN = 6  # cells of a method in a table


def tables(records: Sequence[Mapping[str, Any]], means: Mapping[str, Mapping]) -> str:
    """Returns a Markdown table a method: its best cells, the chosen one first.

    Args:
      records: of `study.tuning.TUNING`.
      means: of `study.tuning.means`.
    """
    parts = []
    for method, cells in means.items():
        mine = [row for row in records if row["method"] == method]
        bodies = len({(row["meta_seed"], row["body"]) for row in mine})
        lines = [["setting", "adaptation steps", "threshold", "episodes violating %"]]
        lines[0].append("steps recovered %")
        for (setting, steps, threshold), mean in [*cells.items()][:SHOWN]:
            shares = (f"{100 * share:.1f}" for share in mean)
            lines.append([_short(setting), str(steps), f"{threshold:g}", *shares])
        head = (
            f"{method}: the filter test on {bodies} held-out training bodies; the best "
            f"{len(lines) - 1} of {len(cells)} settings"
        )
        parts.append(f"{head}\n{markdown(lines)}")
    return "\n\n".join(parts)


def _short(setting: str) -> str:
    return ", ".join(
        f"{section}_{name}={value}"
        for section, fields in json.loads(setting).items()
        for name, value in fields.items()
    )
