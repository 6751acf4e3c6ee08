"""Two sets of online runs side by side, differences paired by seed."""

from collections.abc import Mapping, Sequence

import numpy as np

from mesa_jax.report import tables
from mesa_jax.report.measures import finite_mean, per_run, per_seed
from mesa_jax.report.paired import Difference, holm, paired
from mesa_jax.report.statistics import interval
from mesa_jax.study.records import Row

Measures = dict[str, dict[str, dict[str, float]]]  # method, measure, seed
SHOWN = ("violations", "violations_after_fault", "successes", "return_last_tenth")
SHOWN += ("recovered_share",)


def measured(rows: Sequence[Row], struck: Mapping[int, int] | None = None) -> Measures:
    """Returns every measure of finished runs, a mean over a seed's meta-seeds.

    Args:
      struck: by seed, the environment step of a run at which its fault struck.
    """
    found: Measures = {}
    for method in dict.fromkeys(row["method"] for row in rows):
        by_seed = per_run(rows, method, struck)
        if seeds := [str(seed) for seed in by_seed]:
            found[method] = {
                name: dict(zip(seeds, values.tolist(), strict=True))
                for name, values in per_seed(by_seed).items()
            }
    return found


def differences(
    ours: Measures, theirs: Measures, pairs: Sequence[tuple[str, str]]
) -> dict[str, dict[tuple[str, str], Difference]]:
    """Returns theirs less ours by measure and pair of methods, over common seeds.

    A measure's p values are corrected by Holm's rule for how many pairs there are.

    Args:
      pairs: a method of ours and one of theirs.
    """
    found: dict[str, dict[tuple[str, str], Difference]] = {}
    for name in SHOWN:
        there = [p for p in pairs if name in ours[p[0]] and name in theirs[p[1]]]
        each = [paired(ours[a][name], theirs[b][name]) for a, b in there]
        corrected = holm([one.p for one in each])
        if there:
            found[name] = {
                pair: one._replace(p=p)
                for pair, one, p in zip(there, each, corrected, strict=True)
            }
    return found


def compared(
    ours: Measures,
    theirs: Measures,
    found: Mapping[str, Mapping[tuple[str, str], Difference]],
) -> str:
    """Writes a table a measure: A, B, and B - A with its 95 % interval."""
    each = lines(ours, theirs, found).items()
    return "\n\n".join(f"{title}\n\n{tables.markdown(mine)}" for title, mine in each)


def lines(
    ours: Measures,
    theirs: Measures,
    found: Mapping[str, Mapping[tuple[str, str], Difference]],
    names: tuple[str, str] = ("A", "B"),
) -> dict[str, list[list[str]]]:
    """Returns the cells of a table a measure, by its title, the first line its heading.

    Args:
      names: of ours and theirs.
    """
    a_name, b_name = names
    parts = {}
    for name, pairs in found.items():
        scale = 100 if name in tables.SHARES else 1
        less = f"{b_name} - {a_name}"
        mine = [["method", "seeds", a_name, b_name, less, "p", "told apart"]]
        for (a, b), one in pairs.items():
            first, other = ours[a][name], theirs[b][name]
            both = [seed for seed in first if seed in other]
            means = (finite_mean([x[seed] for seed in both]) for x in (first, other))
            cells = [f"{scale * mean:.1f}" if one.seeds else "-" for mean in means]
            values = {"mean": one.mean, "low": one.low, "high": one.high}
            p = "-" if np.isnan(one.p) else f"{one.p:.3g}"
            cells += [tables.estimate(values, scale, 1), p]
            label = a if a == b else f"{a}, {b}"
            told = "yes" if one.resolved else "no"
            mine.append([label, str(one.seeds), *cells, told])
        parts[tables.BRIEF.get(name, name.replace("_", " "))] = mine
    return parts


def brief(measures: Measures) -> str:
    """Writes a line a method: how many seeds, and the mean of each measure shown."""
    first = next(iter(measures.values()))
    names = [name for name in SHOWN if name in first]
    titles = [tables.BRIEF.get(name, name.replace("_", " ")) for name in names]
    lines = [["method", "seeds", *titles]]
    for method, values in measures.items():
        cells = [
            tables.cell(name, interval(np.array([*values[name].values()]))._asdict())
            for name in names
        ]
        lines.append([method, str(len(values[names[0]])), *cells])
    return tables.markdown(lines)
