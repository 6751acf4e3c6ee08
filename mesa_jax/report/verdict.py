"""The verdict on a summary, in words: who was safer, by how much, what is open.

Every word that judges is chosen by the numbers. The safest method is the one with the
fewest violations a run; the others are compared with it, paired by seed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mesa_jax.report import paired
from mesa_jax.report.paired import Difference
from mesa_jax.report.statistics import CONFIDENCE
from mesa_jax.report.tables import share
from mesa_jax.report.words import span

Summary = Mapping[str, Any]
ROUNDING = 1e-9  # means this close are equal
LEVEL = f"{100 * CONFIDENCE:g} %"


def verdict(summary: Summary, fault: str = "") -> str:
    """Returns two paragraphs: what a summary says, and what its numbers are of.

    Args:
      summary: as `summary.summarize` makes it.
      fault: what struck the runs, in words; "" for nothing.
    """
    methods = list(summary["methods"])
    if len(methods) == 1:
        return f"Only {methods[0]} has finished runs, so nothing is compared."
    if fault:
        said = [f"The fault: {fault}.", *_safety(summary, "violations_after_fault")]
        said += _safety(summary, "violations_before_fault")
        said += _outcome(summary, "violations_after_fault")
    else:
        said = _safety(summary, "violations") + _outcome(summary, "violations")
    return f"{' '.join(said)}\n\n{_scope(summary)}"


def between(
    found: Mapping[str, Mapping[tuple[str, str], Difference]], a: str, b: str
) -> str:
    """Returns a sentence a measure: where two workdirs' runs are told apart.

    Args:
      found: theirs less ours, as `side_by_side.differences` makes it.
      a, b: what ours and theirs are called.
    """
    said, alike = [], []
    for measure in (m for m in (*WHEN, "successes", "return_last_tenth") if m in found):
        what, pairs = WORDS.get(measure, measure.replace("_", " ")), found[measure]
        told = {
            pair: f"{', '.join(dict.fromkeys(pair))} (by {_size(one)}, p = {_p(one.p)})"
            for pair, one in pairs.items()
            if one.resolved
        }
        alike += [] if told else [what]
        fewer = "less" if measure.startswith("return") else "fewer"
        for word, sign in ((fewer, -1), ("more", 1)):
            mine = [told[p] for p in told if sign * pairs[p].mean > 0]
            if mine:
                said.append(f"{b} has {word} {what} than {a} with {_listed(mine)}.")
    if alike:
        said.append(f"No method is told apart between {a} and {b} in {_listed(alike)}.")
    return " ".join(said)


WORDS = {"return_last_tenth": "return in the last tenth"}
WHEN = {  # the measure of violations, and where in the run they were
    "violations": "",
    "violations_after_fault": "after the fault",
    "violations_before_fault": "before the fault",
}


def _safety(summary: Summary, measure: str) -> list[str]:
    """Sentences: who violated least, than whom it is fewer, and where that is open."""
    means = _means(summary, measure)
    when = WHEN[measure]
    of_methods = [summary["methods"][name][measure] for name in means]
    if not any(one["mean"] or one.get("at_most") for one in of_methods):
        return [_sentence(f"{when} there is no episode")]
    low = min(means.values())
    safest = [name for name, mean in means.items() if mean <= low + ROUNDING]
    seen = _amount(summary, measure, safest)
    if len(safest) == len(means):
        return [_sentence(f"{when} the methods are equally safe: each had {seen}")]
    who = f"{_listed(safest)} {'was' if len(safest) == 1 else 'were equally'}"
    others = _others(summary, measure, safest[0])
    others = {name: one for name, one in others.items() if name not in safest}
    begins = f"{when} {who} safest, with {seen}"
    return _compared(begins, others, "fewer", "more")


def _compared(
    begins: str, found: dict[str, Difference], above: str, below: str
) -> list[str]:
    """Sentences: by how much ours differs from each, and where that is not resolved.

    Args:
      begins: the first sentence, without its full stop.
      above, below: what ours is where the difference is above and below zero.
    """
    for word, sign in ((above, 1), (below, -1)):
        clear = {m: d for m, d in found.items() if d.resolved and sign * d.mean > 0}
        if clear:
            parts = [f"{name} (by {_size(d)})" for name, d in clear.items()]
            least = _p(max(d.p for d in clear.values()))
            begins += f", {word} than {_listed(parts)}, p ≤ {least}"
    said = [_sentence(begins)]
    unclear = {m: d for m, d in found.items() if not d.resolved}
    if unclear:
        parts = [_unresolved(name, d, above, below) for name, d in unclear.items()]
        said.append(f"Not resolved: its difference to {_listed(parts)}.")
    return said


def _unresolved(method: str, one: Difference, above: str, below: str) -> str:
    if one.seeds == 0:
        return f"{method} (no body in common)"
    if one.mean == 0.0:
        return f"{method} (the same mean, p = {_p(one.p)})"
    word = above if one.mean > 0 else below
    return f"{method} ({_size(one)} {word}, p = {_p(one.p)})"


def _outcome(summary: Summary, measure: str) -> list[str]:
    """Sentences: what the safest method achieved, and whether others achieved more."""
    means = _means(summary, measure)
    if not means:
        return []
    safest = min(means, key=means.get)
    by_success = summary["has_success"]
    name = "successes" if by_success else "return_last_tenth"
    seen = _interval(summary["methods"][safest][name])
    what = f"{seen} successes a run" if by_success else f"a last return of {seen}"
    ours_more = {
        method: one._replace(mean=-one.mean, low=-one.high, high=-one.low)
        for method, one in _others(summary, name, safest).items()
    }
    fewer = "fewer" if by_success else "less"
    return _compared(f"{safest} had {what}", ours_more, "more", fewer)


def _scope(summary: Summary) -> str:
    """What the numbers are of, and what they can not tell."""
    seeds = [values["seeds"] for values in summary["methods"].values()]
    steps = f" of {summary['steps']:,} steps" * bool(summary["steps"])
    bodies = span(seeds)
    said = (
        f"({bodies} {'body' if bodies == '1' else 'bodies'} a method, runs{steps}; "
        f"mean a run with its {LEVEL} bootstrap interval, differences paired by body; "
        "p: exact sign-flip test, corrected for the number of comparisons. Resolved is "
        "what interval and test both tell from zero."
    )
    least = paired.least_p(max(seeds), len(seeds) - 1)
    if least > 1 - CONFIDENCE:
        said += f" So few bodies resolve nothing: p is {_p(least)} at the least."
    if summary["meta_seeds"] == 1:
        said += " One meta-seed: what another prior would do is not known."
    return said + ")"


def _means(summary: Summary, measure: str) -> dict[str, float]:
    """By method, of those that have any, in the table's order."""
    found = {}
    for method, values in summary["by_seed"].items():
        known = [x for x in values[measure].values() if x is not None]
        if known:
            found[method] = float(np.mean(known))
    return found


def _others(summary: Summary, measure: str, ours: str) -> dict[str, Difference]:
    values = {name: by[measure] for name, by in summary["by_seed"].items()}
    mine = values.pop(ours)
    return paired.against(mine, values)


def _amount(summary: Summary, measure: str, methods: Sequence[str]) -> str:
    """Violations a run; where none was seen, the largest bound of the methods'."""
    every = [summary["methods"][name][measure] for name in methods]
    if all(values.get("at_most") is not None for values in every):
        bound = share(max(values["at_most"] for values in every))
        return f"no violation (exact {LEVEL} bound: {bound} of the episodes)"
    return f"{_interval(every[0])} violations a run"


def _interval(values: Mapping[str, float | None]) -> str:
    known = [values[name] for name in ("mean", "low", "high")]
    return _numbers([x for x in known if x is not None and np.isfinite(x)])


def _size(one: Difference) -> str:
    """A difference without its sign, with its interval."""
    sign = -1 if one.mean < 0 else 1
    bounds = sorted(sign * x for x in (one.low, one.high) if np.isfinite(x))
    return _numbers([sign * one.mean, *bounds])


def _numbers(values: Sequence[float]) -> str:
    """A mean, with its interval where there is one."""
    if not values:
        return "-"
    size = abs(values[0])
    digits = 0 if size >= 99.5 else 2 if 0 < size < 0.095 else 1
    mean, *bounds = (f"{round(x, digits) + 0.0:.{digits}f}" for x in values)
    return f"{mean} [{', '.join(bounds)}]" if len(bounds) == 2 else mean


def _p(value: float) -> str:
    return f"{value:.2g}"


def _listed(names: Sequence[str]) -> str:
    """a, b and c."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _sentence(text: str) -> str:
    """With a full stop, and with a capital unless a method's name comes first."""
    text = text.strip()
    begins = text.startswith(("after", "before", "the "))
    return (text[0].upper() + text[1:] if begins else text) + "."
