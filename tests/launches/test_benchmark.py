"""Counting, compiling and timing; and the launch, very small, with a yardstick."""

import json
import os
import time
from unittest import mock

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib import image

from experiments import benchmark, benchmarked, device, flags
from mesa_jax.settings import SettingError
from mesa_jax.study.traces import require_one_trace, traces


def flops(function, *arguments) -> int:
    return device.product_flops(jax.make_jaxpr(function)(*arguments).jaxpr)


LEFT, RIGHT = jnp.ones((3, 4)), jnp.ones((4, 5))
ONCE = 2 * 3 * 4 * 5


def test_a_product_counts_two_a_multiply_and_add():
    assert flops(jnp.matmul, LEFT, RIGHT) == ONCE
    assert flops(lambda a, b: jnp.tanh(a) * 3, LEFT, RIGHT) == 0
    batched = jax.vmap(jnp.matmul, (0, None))
    assert flops(batched, jnp.ones((7, 3, 4)), RIGHT) == 7 * ONCE
    assert flops(jax.jit(jax.checkpoint(jnp.matmul)), LEFT, RIGHT) == ONCE


def test_a_scan_counts_every_turn_and_a_conditional_its_dearest_branch():
    def scanned(left, right):
        def turn(total, _):
            return total + jnp.sum(left @ right), None

        return jax.lax.scan(turn, 0.0, length=6)[0]

    def either(left, right):
        twice = lambda: jnp.sum(left @ right) + jnp.sum((2 * left) @ right)  # noqa: E731
        return jax.lax.cond(left[0, 0] > 0, twice, lambda: jnp.sum(left @ right))

    assert flops(scanned, LEFT, RIGHT) == 6 * ONCE
    assert flops(either, LEFT, RIGHT) == 2 * ONCE


def test_the_gradient_of_a_product_is_two_more():
    gradient = jax.grad(lambda a, b: jnp.sum(jnp.sin(a @ b)), (0, 1))
    assert flops(gradient, LEFT, RIGHT) == 3 * ONCE


def test_a_loop_without_a_fixed_number_of_turns_can_not_be_counted():
    def loop(left, turns):
        square = jnp.ones((4, 4))
        return jax.lax.fori_loop(0, turns, lambda _, x: x @ square, left)

    with pytest.raises(ValueError, match="fixed number of turns"):
        flops(loop, LEFT, 5)


def test_a_compiled_program_says_what_it_costs():
    program = device.compiled(lambda a, b: jnp.sum(a @ b), LEFT, RIGHT)
    assert float(program.call(LEFT, RIGHT)) == 3 * 4 * 5
    assert program.product_flops == ONCE
    assert program.compile_seconds > 0
    assert program.memory_bytes >= 4 * (3 * 4 + 4 * 5 + 1)
    assert jax.config.jax_enable_compilation_cache  # as before


def test_a_compilation_that_is_timed_takes_nothing_kept():
    def polynomial(x):
        return jnp.sum(jnp.cos(x) ** 3 + 0.123 * x)

    hits = []
    jax.monitoring.register_event_listener(lambda event, **_: hits.append(event))
    kept = "/jax/compilation_cache/cache_hits"
    for _ in range(2):  # the second finds it kept
        jax.clear_caches()
        jax.jit(polynomial, donate_argnums=()).lower(LEFT).compile()
    assert kept in hits
    hits.clear()
    jax.clear_caches()
    device.compiled(polynomial, LEFT)
    assert kept not in hits
    jax.clear_caches()
    jax.jit(polynomial, donate_argnums=()).lower(LEFT).compile()
    assert kept in hits  # kept programs are used again


def test_a_call_is_timed_by_its_median():
    waits = iter([0.2, 0.0, 0.04, 0.05, 0.06])  # the first is to warm up

    def call(state):
        time.sleep(next(waits))
        return state + 1

    seconds, state = device.seconds_a_call(call, jnp.zeros(()), least_seconds=0.12)
    assert 0.03 < seconds < 0.06 and state == 5


def test_a_function_that_is_traced_anew_is_told():
    @jax.jit
    def double(x):
        return 2 * x

    double(jnp.ones(3))
    require_one_trace(double, "double")
    double(jnp.ones(4))
    with pytest.raises(AssertionError, match="double was traced 2 times"):
        require_one_trace(double, "double")
    before = traces(double)  # a later launch is told of its own alone
    double(jnp.ones(5))
    require_one_trace(double, "double", before)
    double(jnp.ones(6))
    with pytest.raises(AssertionError, match="double was traced 2 times"):
        require_one_trace(double, "double", before)


@pytest.mark.parametrize("cache", ["", "elsewhere"])
def test_compiled_programs_are_kept_in_the_users_cache(monkeypatch, tmp_path, cache):
    before = jax.config.jax_compilation_cache_dir
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / cache) if cache else "")
    try:
        jax.config.update("jax_compilation_cache_dir", None)
        device.keep_compiled()
        expected = tmp_path / (cache or ".cache") / "mesa_jax" / "jax"
        assert jax.config.jax_compilation_cache_dir == str(expected)
        jax.config.update("jax_compilation_cache_dir", str(tmp_path))
        device.keep_compiled()
        assert jax.config.jax_compilation_cache_dir == str(tmp_path)  # was told
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


# The cases


def test_the_published_step_is_what_it_is_compared_with():
    """The yardstick: latent 3 x 100, 256 + 256 rows, one step, the critic alone."""
    case = benchmarked.outer_case("published", 2)
    prior = case.state[0].prior
    assert len(prior.params) == len(prior.rates) == 1
    sizes = [x.size for x in jax.tree.leaves(prior.params[0]["network"])]
    assert sum(sizes) == 101 * 20_801 + 4 * 100  # 4-100-100-100-1
    rates = [float(jax.nn.softplus(x)) for x in jax.tree.leaves(prior.rates)]
    np.testing.assert_allclose(rates, 1e-3, rtol=1e-3)
    assert case.product == (2, 256, 100)


def test_a_product_is_of_its_sizes():
    product = benchmarked.product_case((3, 256, 100))
    turns = product.flops / (2 * 3 * 256 * 100 * 100)
    assert turns == round(turns) >= 1
    assert product.call(product.state).shape == (3, 256, 100)
    assert flops(product.call, product.state) == product.flops


MEASURED = ("published", "context")


@pytest.mark.parametrize("name", [n for n in benchmarked.OUTER if n not in MEASURED])
def test_every_other_case_is_a_program_from_its_state_to_the_next(monkeypatch, name):
    """It is traced here, and not compiled."""
    traced = []

    def shapes(step, *given, donate):
        traced.append(jax.eval_shape(step, *given))
        return device.Program(None, 0.0, 0, 0)

    monkeypatch.setattr(benchmarked, "compiled", shapes)
    case = benchmarked.outer_case(name, 2)
    case.program()
    ((after, loss),) = traced
    chex.assert_trees_all_equal_shapes_and_dtypes(after, case.state)
    assert loss.shape == ()


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A launch of one and two tasks beside a yardstick that takes a second a task."""
    place = tmp_path_factory.mktemp("benchmark")
    script = place / "yardstick.py"
    script.write_text(
        "import json, sys\n"
        "given = dict(x.lstrip('-').split('=') for x in sys.argv[1:])\n"
        "print('warming up')\n"
        "print(json.dumps({'ms_per_step': 1e3 * int(given['tasks'])}))\n"
        "assert given['threads'] and given['seconds'] == '0'\n"
    )
    output = place / "b.json"
    asked = benchmark.Options((1, 2), (2,), output, script, 0.0)
    cases = {name: benchmarked.OUTER[name] for name in MEASURED}
    with mock.patch.object(benchmark, "OUTER", cases):
        return output, benchmark.benchmark(asked)


@pytest.mark.slow
def test_every_case_has_its_row(measured):
    output, rows = measured
    found = [(row["case"], row["count"]) for row in rows]
    outer = [(name, n) for n in (1, 2) for name in MEASURED]
    assert found == [*outer, ("online", 2)]
    written = json.loads(output.read_text())
    assert written["rows"] == rows
    assert written["threads"] >= 1 and written["jax"] == jax.__version__


@pytest.mark.slow
def test_a_rows_numbers_belong_together(measured):
    for row in measured[1]:
        seconds = row["milliseconds"] / 1e3
        np.testing.assert_allclose(row["per_second"], row["count"] / seconds)
        rate = row["flops_a_step"] / seconds
        np.testing.assert_allclose(row["flops_per_second"], rate)
        share = rate / row["product_flops_per_second"]
        np.testing.assert_allclose(row["share_of_product"], share)
        assert min(row["memory_mib"], row["compile_seconds"], rate) > 0


@pytest.mark.slow
def test_the_yardstick_stands_beside_the_published_critic_alone(measured):
    for row in measured[1]:
        assert ("yardstick_milliseconds" in row) == (row["case"] == "published")
        if row["case"] == "published":
            assert row["yardstick_milliseconds"] == 1e3 * row["count"]
            assert row["times_the_yardstick"] >= row["least_times_the_yardstick"] > 0


@pytest.mark.slow
def test_the_low_rank_step_takes_few_operations(measured):
    """Of one step: ten products with F or the network's matrices, and no more."""
    of = {row["count"]: row for row in measured[1] if row["case"] == "published"}
    weights = 20_801
    each = of[2]["flops_a_step"] - of[1]["flops_a_step"]  # of one more task
    network, basis = 2 * 256 * weights, 2 * 100 * weights
    assert 8 * basis < each < 16 * network + 8 * basis


@pytest.mark.slow
def test_the_figure_is_drawn_and_the_table_shows_every_row(measured):
    output, rows = measured
    pixels = image.imread(output.with_suffix(".png"))[..., :3]
    assert 0.02 < (pixels < 0.9).any(-1).mean() < 0.9
    lines = benchmark.table(rows).splitlines()
    assert len(lines) == 2 + len(rows)
    assert "latent 3x100" in lines[2] and " 1000 " in lines[2]  # ms of the yardstick


def test_cores_are_counted_where_a_process_can_not_be_bound_to_some(monkeypatch):
    assert 1 <= benchmark.threads() <= os.cpu_count()
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert benchmark.threads() == os.cpu_count()


def test_a_yardstick_that_fails_is_told_with_its_words(tmp_path):
    script = tmp_path / "broken.py"
    script.write_text("raise SystemExit('no such thing as torch')\n")
    with pytest.raises(flags.YardstickError, match=r"no such thing.*yardstick"):
        benchmark.yardstick(script, 5, 0.1)


NO_COUNTS = [[], ["5", "x"], ["0"], ["-3"], ["1.5"], ["²"], ["10001"], ["9" * 5000]]


@pytest.mark.parametrize("values", NO_COUNTS, ids=range(len(NO_COUNTS)))
def test_counts_are_positive_integers(values):
    with pytest.raises(SettingError, match="tasks must be a list of counts"):
        benchmark.counts("tasks", values)
    assert benchmark.counts("tasks", ["20", "5", "20"]) == (5, 20)
