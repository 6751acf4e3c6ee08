"""Tables of what settings were worth on held-out training bodies."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mesa_jax.report.tables import markdown

SHOWN = 6  # settings of a method in a table


def tables(records: Sequence[Mapping[str, Any]], means: Mapping[str, Mapping]) -> str:
    """Returns a Markdown table a method: its best settings over all numbers of steps.

    Args:
      records: of `study.tuning.read`.
      means: of `study.tuning.means`.
    """
    parts = []
    for method, cells in means.items():
        mine = [row for row in records if row["method"] == method]
        counts = sorted({row["steps"] for row in mine})
        bodies = len({(row["meta_seed"], row["body"]) for row in mine})
        settings = list(dict.fromkeys(setting for setting, _ in cells))
        lines = [["setting", *(f"{count} steps" for count in counts)]]
        for setting in settings[:SHOWN]:
            both = (cells[setting, count] for count in counts)
            numbers = (f"{x.squared_error:.4f}, {x.recovery_risk:.3f}" for x in both)
            lines.append([_short(setting), *numbers])
        head = (
            f"{method}: squared error, and true risk of the recovery policy, on "
            f"{bodies} held-out training bodies; the best {len(lines) - 1} of "
            f"{len(settings)} settings"
        )
        parts.append(f"{head}\n{markdown(lines)}")
    return "\n\n".join(parts)


def _short(setting: str) -> str:
    return ", ".join(
        f"{section}_{name}={value}"
        for section, fields in json.loads(setting).items()
        for name, value in fields.items()
    )
