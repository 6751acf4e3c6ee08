"""The paragraph about a summary: what it says follows from the numbers."""

import numpy as np
import pytest

from mesa_jax.report import statistics, verdict
from mesa_jax.report.summary import spread
from mesa_jax.study import records as results
from tests.report.test_summary import _records, _run, _summarize

FAULT = "actuator 1 reversed from step 20 on"
SEEDS = range(8)


def summary_of(
    violations: dict[str, list[float]],
    after: dict[str, list[float]] | None = None,
    successes: dict[str, list[float]] | None = None,
    episodes: int = 100,
    **changes,
) -> dict:
    """As `summary.summarize` makes it; each method's values by seed."""
    before = {
        name: list(np.subtract(values, (after or violations)[name]))
        for name, values in violations.items()
    }
    columns = {"violations": violations}
    if after:
        columns |= {"violations_after_fault": after, "violations_before_fault": before}
    columns["successes"] = successes or {
        name: [5] * len(v) for name, v in violations.items()
    }
    methods, by_seed = {}, {}
    for name, values in violations.items():
        methods[name] = {"seeds": len(values)}
        by_seed[name] = {}
        for measure, of in columns.items():
            methods[name][measure] = spread(np.array(of[name], float), episodes)
            by_seed[name][measure] = dict(zip(map(str, SEEDS), of[name], strict=False))
    summary = {"methods": methods, "by_seed": by_seed, "has_success": True}
    return summary | {"steps": 0, "meta_seeds": 1} | changes


FEW = [1, 0, 1, 2, 1, 0, 1, 2]
MANY = [20, 30, 25, 40, 22, 31, 28, 44]


def test_a_resolved_difference_has_its_size_and_interval():
    said = verdict.verdict(summary_of({"mesa": MANY, "mesa_context": FEW}))
    low, high = statistics.interval(np.subtract(MANY, FEW))[1:]
    assert said.startswith("mesa_context was safest, with 1.0 [")
    by = f"29.0 [{low:.1f}, {high:.1f}]"
    assert f"fewer than mesa (by {by}), p ≤ 0.0078." in said
    assert "Not resolved: its difference to mesa (" in said  # of successes, all alike


def test_the_method_that_is_named_safest_follows_the_numbers():
    said = verdict.verdict(summary_of({"mesa": FEW, "mesa_context": MANY}))
    assert said.startswith("mesa was safest")
    assert "fewer than mesa_context (by 29.0 [" in said


def test_an_unresolved_difference_is_said_to_be():
    ours, theirs = FEW, [2, 0, 0, 3, 1, 1, 1, 2]
    said = verdict.verdict(summary_of({"context": theirs, "mesa_context": ours}))
    assert said.startswith("mesa_context was safest")
    low, high = statistics.interval(np.subtract(theirs, ours))[1:]
    by = f"0.2 [{low:.1f}, {high:.1f}]"
    assert f"Not resolved: its difference to context ({by} fewer, p = " in said
    assert "fewer than" not in said


def test_few_bodies_resolve_nothing_and_are_said_to():
    said = verdict.verdict(summary_of({"mesa": MANY[:3], "mesa_context": FEW[:3]}))
    assert "fewer than" not in said
    assert "Not resolved: its difference to mesa (" in said
    assert "So few bodies resolve nothing: p is 0.25 at the least." in said
    enough = verdict.verdict(summary_of({"mesa": MANY, "mesa_context": FEW}))
    assert "So few" not in enough


def test_methods_that_are_equal_are_all_named():
    said = verdict.verdict(summary_of({"context": FEW, "mesa_context": FEW}))
    assert said.startswith("the methods are equally safe: each had 1.0 [".capitalize())
    assert "safest" not in said.split(".")[0]
    three = {"mesa": MANY, "context": FEW, "mesa_context": FEW}
    said = verdict.verdict(summary_of(three))
    assert said.startswith("context and mesa_context were equally safest")
    assert "fewer than mesa (by" in said


def test_what_was_never_seen_has_the_exact_bound():
    none = [0] * 8
    said = verdict.verdict(summary_of({"mesa": MANY, "mesa_context": none}))
    bound = 100 * (1 - 0.025 ** (1 / 100))  # of 100 episodes, two-sided 95 %
    assert f"no violation (exact 95 % bound: {bound:.2g} % of the episodes)" in said
    all_safe = verdict.verdict(summary_of({"mesa": none, "mesa_context": none}))
    assert "equally safe: each had no violation (exact 95 % bound" in all_safe


def test_before_and_after_a_fault_are_told_apart():
    total = {"mesa": list(np.add(MANY, FEW)), "mesa_context": list(np.add(FEW, FEW))}
    after = {"mesa": MANY, "mesa_context": FEW}
    said = verdict.verdict(summary_of(total, after), FAULT)
    assert said.startswith(f"The fault: {FAULT}.")
    assert "After the fault mesa_context was safest" in said
    assert "Before the fault the methods are equally safe" in said


def test_who_achieves_less_is_said_too():
    more, fewer = [20, 22, 25, 21, 24, 26, 27, 23], [5, 6, 4, 7, 5, 6, 4, 8]
    counted = {"mesa": more, "mesa_context": fewer}
    safe = {"mesa": MANY, "mesa_context": FEW}
    said = verdict.verdict(summary_of(safe, successes=counted))
    difference = np.mean(np.subtract(more, fewer))
    assert f"fewer than mesa (by {difference:.1f} [" in said
    swapped = {"mesa": fewer, "mesa_context": more}
    said = verdict.verdict(summary_of(safe, successes=swapped))
    assert f"more than mesa (by {difference:.1f} [" in said


def test_one_method_is_compared_with_nothing():
    assert "nothing is compared" in verdict.verdict(summary_of({"mesa": FEW}))


def test_methods_without_a_common_body_are_not_compared():
    summary = summary_of({"mesa": FEW, "mesa_context": MANY})
    for values in summary["by_seed"]["mesa"].values():
        for seed in list(values):
            values[f"1{seed}"] = values.pop(seed)
    assert "mesa_context (no body in common)" in verdict.verdict(summary)


@pytest.mark.parametrize("struck", [None, {0: 10, 1: 20}, {0: 99, 1: 99}])
@pytest.mark.parametrize("has_success", [True, False])
def test_a_summary_of_a_workdir_has_its_words(tmp_path, struck, has_success):
    rows = []
    for method, violation in (("mesa", [1, 1, 1]), ("mesa_context", [0, 1, 0])):
        for seed in (0, 1):
            run = _run(method, seed)
            rows += results.rows_of(run, _records(violation), 3, "train", 1)
    results.RESULTS.replace(tmp_path, rows)
    summary = _summarize(tmp_path, None, has_success, struck)
    said = verdict.verdict(summary, FAULT * bool(struck))
    assert "mesa_context was safest" in said
    assert "equally safe" not in said
    assert ("After the fault there is no episode" in said) == (struck == {0: 99, 1: 99})
    assert ("successes" in said) == has_success
    assert "nan" not in said


def test_another_meta_seed_is_asked_for_where_there_is_one():
    runs = {"mesa": MANY, "mesa_context": FEW}
    assert "One meta-seed" in verdict.verdict(summary_of(runs))
    assert "One meta-seed" not in verdict.verdict(summary_of(runs, meta_seeds=3))
