"""Markdown tables, which also read well on a terminal."""

from typing import Any

import numpy as np

from mesa_jax.report.summary import unfinished_runs

HEADERS = {
    "violations": "violations",
    "violating_share": "episodes violating %",
    "violations_after_fault": "violations after fault",
    "violating_before_fault": "episodes violating before it %",
    "violating_after_fault": "after it %",
    "successes": "successes",
    "ratio": "ratio",
    "return_per_violation": "return / (violations + 1)",
    "return_after_fault": "return after fault",
    "return_last_tenth": "return, last tenth",
    "recovered_share": "steps recovered %",
    "violations_while_recovering": "violations recovering",
}
MEANINGS = {  # a run: its training episodes on one body
    "violations": "episodes of a run that end in a violation",
    "violating_share": "share of a run's episodes that end in one",
    "violations_after_fault": "those of episodes that end after the fault",
    "violating_before_fault": "share of the episodes before the fault that violate",
    "violating_after_fault": "share of the episodes after the fault that violate",
    "successes": "episodes of a run that reach the goal",
    "ratio": "(successes + 1) / (violations + 1)",
    "return_per_violation": "sum of a run's returns / (violations + 1)",
    "return_after_fault": "mean return of the episodes after the fault",
    "return_last_tenth": "mean return of the last tenth of a run's episodes",
    "recovered_share": "share of a run's steps on which the recovery policy acted",
    "violations_while_recovering": "violations on a step of the recovery policy",
}
BRIEF = {  # a line that a terminal holds
    "violations": "violations",
    "violations_before_fault": "before the fault",
    "violations_after_fault": "after it",
    "successes": "successes",
    "return_last_tenth": "return, last tenth",
    "recovered_share": "steps recovered %",
}
SHARE = "success % where possible"
SHARES = ("violating_share", "recovered_share")
SHARES += ("violating_before_fault", "violating_after_fault")
OF_SUCCESS, OF_RETURN = ("successes", "ratio"), ("return_per_violation",)
OF_STEPS = ("violating_share",)  # runs of as many steps differ in their episodes


def table(summary: dict[str, Any]) -> str:
    """Writes the summary of online runs, a line a method."""
    return "\n\n".join([markdown(lines(summary)), *notes(summary)])


def lines(summary: dict[str, Any]) -> list[list[str]]:
    """Returns the cells of the summary's table, its first line the heading."""
    names = measures(summary)
    share = [SHARE] if summary["has_success"] else []
    found = [["method", "seeds", "episodes", *(HEADERS[n] for n in names), *share]]
    for method, values in summary["methods"].items():
        cells = [method, str(values["seeds"]), str(values["episodes"])]
        for name in names:
            cells.append(cell(name, values[name]))
        if share:
            able = values["success_share"]
            cells.append("-" if able is None else f"{100 * able:.0f}")
        found.append(cells)
    return found


def measures(summary: dict[str, Any]) -> list[str]:
    """Returns the measures that the summary's table has, in its order."""
    left_out = OF_RETURN if summary["has_success"] else OF_SUCCESS
    left_out += () if summary["steps"] else OF_STEPS
    one = next(iter(summary["methods"].values()))
    return [name for name in HEADERS if name in one and name not in left_out]


def notes(summary: dict[str, Any]) -> list[str]:
    """Returns what is said below the summary's table."""
    found = []
    if summary["steps"]:
        found.append(f"Each run has {summary['steps']:,} environment steps.")
    if random := summary.get("random_policy"):
        found.append(
            f"Random actions: return {cell('return', random['return'])}, "
            f"violations an episode {cell('ratio', random['violations'])}."
        )
    if left_out := unfinished_runs(summary.get("unfinished", ())):
        found.append(left_out)
    return found


def improvements(summary: dict[str, Any], measure: str = "violations") -> str:
    """Writes how probably a row's method is better than each column's; "" of one.

    Args:
      measure: of `summary["improvement"]`.
    """
    found = summary["improvement"][measure]
    if len(found) < 2:
        return ""
    shown = [["better than", *found]]
    for ours, of in found.items():
        shown.append([ours, *(estimate(of[x], 1, 2) if x in of else "" for x in found)])
    return markdown(shown)


def brief(summary: dict[str, Any]) -> str:
    """Writes the measures that the verdict speaks of, each a mean a run."""
    outcome = "successes" if summary["has_success"] else "return_last_tenth"
    left_out = {"successes", "return_last_tenth"} - {outcome}
    one = next(iter(summary["methods"].values()))
    names = [name for name in BRIEF if name in one and name not in left_out]
    lines = [["method", *(BRIEF[name] for name in names)]]
    for method, values in summary["methods"].items():
        lines.append([method, *(cell(name, values[name]) for name in names)])
    return markdown(lines)


def cell(name: str, values: dict[str, float]) -> str:
    """Writes mean and 95 % interval of a measure; "-" where no seed has a value."""
    scale = 100 if name in SHARES else 1
    least = scale * abs(values["mean"] or 0.0)
    digits = 0 if least >= 100 else 2 if name == "ratio" else 1
    return estimate(values, scale, digits)


def estimate(values: dict[str, float], scale: float, digits: int) -> str:
    """Writes a mean with the interval that it has; "-" where there is no mean.

    What was never seen has the largest share of episodes that it might have.
    """

    def known(name):
        value = values.get(name)
        return value is not None and np.isfinite(value)  # None: read from JSON

    if not known("mean"):
        return "-"
    numbers = {k: f"{scale * x:.{digits}f}" for k, x in values.items() if known(k)}
    if known("at_most"):
        return f"0 (at most {share(values['at_most'])} of episodes)"
    if known("low") and known("high"):
        return "{mean} [{low}, {high}]".format(**numbers)
    return numbers["mean"]


def share(value: float) -> str:
    """Writes a share in per cent, with as many digits as say something."""
    return f"{100 * value:.2g} %" if value < 0.995 else "100 %"


def markdown(lines: list[list[str]]) -> str:
    """Writes a table, its first line the heading, padded so that it reads as text."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    lines = [lines[0], ["-" * width for width in widths], *lines[1:]]

    def show(cells):
        padded = [c.ljust(w) for c, w in zip(cells, widths, strict=True)]
        return "| " + " | ".join(padded) + " |"

    return "\n".join(map(show, lines))
