"""Switches: what changes numbers and is no flag is fixed, or recorded and compared."""

import contextlib
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from mesa_jax import configuration
from mesa_jax.study import resolve, store, switches
from mesa_jax.study.artifacts import naming

ROOT = pathlib.Path(__file__).parents[2]
OTHERWISE = {  # a value that each fixed switch could have
    "jax_default_prng_impl": "rbg",
    "jax_random_seed_offset": 7,
    "jax_legacy_prng_key": "error",
    "jax_explicit_x64_dtypes": "allow",
    "jax_numpy_dtype_promotion": "strict",
    "jax_numpy_rank_promotion": "raise",
} | {name: "log" for name in switches.FIXED if "transfer_guard" in name}
OTHERS = {  # and each recorded one
    "jax_default_matmul_precision": "tensorfloat32",
    "jax_optimization_level": "O1",
    "jax_exec_time_optimization_effort": 0.5,
    "jax_memory_fitting_effort": 0.5,
    "jax_memory_fitting_level": "O1",
}
FREE = """
check_vma mock_num_gpu_processes
jax2tf_associative_scan_reductions jax2tf_default_native_serialization
jax_allow_f16_reductions jax_array_garbage_collection_guard jax_auto_pcast
jax_backend_target jax_bcoo_cusparse_lowering jax_captured_constants_report_frames
jax_captured_constants_warn_bytes jax_check_proxy_envs jax_check_static_indices
jax_check_tracer_leaks jax_compilation_cache_check_contents
jax_compilation_cache_dir jax_compilation_cache_expect_pgle
jax_compilation_cache_include_metadata_in_key jax_compilation_cache_max_size
jax_compiler_detailed_logging_min_ops jax_cpu_collectives_implementation
jax_cpu_enable_async_dispatch jax_cpu_get_global_topology_timeout_minutes
jax_cpu_get_local_topology_timeout_minutes jax_cross_host_transfer_socket_address
jax_cross_host_transfer_timeout_seconds jax_cross_host_transfer_transfer_size
jax_cross_host_transport_addresses jax_cuda_visible_devices jax_debug_key_reuse
jax_debug_leaked_clients_on_clear_backends jax_debug_log_modules jax_default_device
jax_disable_bwd_checks jax_disable_vmap_shmap_error
jax_disallow_mesh_context_manager jax_distributed_debug jax_dump_ir_modes
jax_dump_ir_to jax_embedded_constants_max_bytes jax_enable_checks
jax_enable_compilation_cache jax_enable_pgle jax_enable_preemption_service
jax_enable_recoverability jax_error_checking_behavior_divide
jax_error_checking_behavior_nan jax_error_checking_behavior_oob
jax_experimental_unsafe_xla_runtime_errors jax_explain_cache_misses
jax_export_calling_convention_version jax_export_ignore_forward_compatibility
jax_force_dcn_cross_host_transfers jax_hlo_source_file_canonicalization_regex
jax_include_debug_info_in_dumps jax_include_full_tracebacks_in_locations
jax_log_checkpoint_residuals jax_log_compiles jax_logging_level
jax_mock_gpu_topology jax_mosaic_allow_hlo jax_mutable_array_checks
jax_num_cpu_devices jax_oneapi_visible_devices jax_pallas_enable_debug_checks
jax_pallas_poison_buffers jax_pallas_use_mosaic_gpu jax_pallas_verbose_errors
jax_persistent_cache_enable_xla_caches jax_persistent_cache_min_compile_time_secs
jax_persistent_cache_min_entry_size_bytes jax_pgle_aggregation_percentile
jax_pgle_profiling_runs jax_pjrt_client_create_options jax_platform_name
jax_platforms jax_pprint_use_color jax_ragged_dot_use_gpu_pallas_triton_lowering
jax_ragged_dot_use_ragged_dot_instruction jax_raise_persistent_cache_errors
jax_refs_to_pins jax_remove_custom_partitioning_ptr_from_cache_key
jax_remove_size_one_mesh_axis_from_type jax_rocm_visible_devices
jax_send_traceback_to_runtime jax_serialization_version
jax_share_binary_between_hosts jax_share_binary_between_hosts_timeout_ms
jax_sort_devices_by_process_index jax_source_url_schema jax_thread_guard
jax_threefry_gpu_kernel_lowering jax_traceback_filtering
jax_traceback_in_locations_limit jax_tracer_error_num_traceback_frames
jax_use_emit_pipeline_primitive jax_use_magma jax_use_shardy_partitioner
jax_xla_backend jax_xla_profile_version
"""  # these change no number of ours
FLAGS = {
    "XLA_FLAGS": "--xla_cpu_enable_fast_math=true",
    "NVIDIA_TF32_OVERRIDE": "0",
    "LIBTPU_INIT_ARGS": "--xla_tpu_x=1",
}


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    """Switches as they are usually, and afterwards as they were."""
    names = [*switches.FIXED, *switches.RECORDED]
    before = {name: jax.config.values[name] for name in names}
    for name in FLAGS:
        monkeypatch.delenv(name, raising=False)
    for name in switches.RECORDED:
        _set(name, None if "matmul" in name else switches.RECORDED[name])
    yield
    for name, value in before.items():
        _set(name, getattr(value, "name", value))


def _set(name, value):
    with contextlib.suppress(AttributeError):
        value = value.lower() if name in switches.FIXED else value
    jax.config.update(name, value)


def _another(name):
    known = switches.FIXED | switches.RECORDED
    others = OTHERWISE | OTHERS
    return others[name] if name in others else not known[name]


def _settings() -> configuration.Configuration:
    return resolve.resolve("navigation1", "published", "quick")


def _names(settings):
    return (
        naming.training_data_name(settings, 0),
        naming.adaptation_data_name(settings, 0),
        naming.prior_name(settings, "maml", 0),
        naming.prior_name(settings, "pooled", 0),
        naming.truth_name(settings, "test-seed0"),
    )


def test_every_switch_of_jax_is_decided_once():
    kinds = set(switches.FIXED), set(switches.RECORDED), set(FREE.split())
    assert set().union(*kinds) == set(jax.config.values)
    assert sum(map(len, kinds)) == len(jax.config.values)


@pytest.mark.parametrize("name", switches.FIXED)
def test_a_fixed_switch_gets_its_tested_value_and_that_is_said_once(name, capsys):
    _set(name, _another(name))
    switches.fix()
    said = capsys.readouterr().err
    assert f"Note: {name.upper()}={_another(name)} is not followed" in said
    assert switches.in_force()[name.upper()] == switches.FIXED[name]
    switches.fix()
    assert capsys.readouterr().err == ""


def test_fixed_switches_are_as_jax_has_them_so_nothing_is_said(capsys):
    switches.fix()
    assert capsys.readouterr().err == ""
    assert switches.recorded() == ""


def test_launches_draw_the_same_numbers_of_the_same_type_under_any_environment():
    """The process of a user who exports what he likes, from its import on."""
    told = {
        "JAX_DEFAULT_PRNG_IMPL": "rbg",
        "JAX_THREEFRY_PARTITIONABLE": "0",
        "JAX_RANDOM_SEED_OFFSET": "5",
        "JAX_ENABLE_X64": "1",
        "JAX_NUMPY_RANK_PROMOTION": "raise",
        "JAX_NUMPY_DTYPE_PROMOTION": "strict",
        "JAX_DEBUG_INFS": "1",
    }
    program = """if 1:
        import jax, jax.numpy as jnp
        from mesa_jax.study import switches
        switches.fix()
        x = jax.random.normal(jax.random.key(3), (5,)) + jnp.ones((1, 5)) * jnp.inf
        print(x.dtype, jax.random.normal(jax.random.key(3), (5,)).tolist())"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | told,
        capture_output=True,
        text=True,
        check=True,
    )
    expected = jax.random.normal(jax.random.key(3), (5,)).tolist()
    assert done.stdout == f"float32 {expected}\n"
    assert all(f"{name}=" in done.stderr for name in told)


@pytest.mark.parametrize("name", switches.RECORDED)
def test_a_recorded_switch_names_data_and_priors_and_is_compared(name, tmp_path):
    usual = _settings()
    with store.opened(tmp_path / "usual", usual):
        pass
    _set(name, _another(name))
    other = _settings()
    assert other != usual
    assert not set(_names(other)) & set(_names(usual))
    with pytest.raises(store.WorkdirError, match=name.upper()):
        store.stored_settings(tmp_path / "usual")
    with pytest.raises(store.WorkdirError, match=name.upper()):
        store.opened(tmp_path / "usual", other).__enter__()
    with store.opened(tmp_path / "other", other):
        pass
    assert store.stored_settings(tmp_path / "other") == other
    _set(name, None if "matmul" in name else switches.RECORDED[name])
    with pytest.raises(store.WorkdirError, match=name.upper()):
        store.stored_settings(tmp_path / "other")


@pytest.mark.parametrize("name", FLAGS)
def test_a_variable_that_xla_reads_is_recorded_too(name, tmp_path, monkeypatch):
    with store.opened(tmp_path / "w", _settings()):
        pass
    usual = _names(_settings())
    monkeypatch.setenv(name, FLAGS[name])
    assert not set(_names(_settings())) & set(usual)
    with pytest.raises(store.WorkdirError) as refused:
        store.stored_settings(tmp_path / "w")
    assert f"{name}: '' there, {FLAGS[name]!r} here" in str(refused.value)


def test_flags_of_xla_that_change_nothing_are_not_recorded(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
    assert switches.recorded() == ""
    some = "--xla_b=2 --xla_dump_to=/tmp/x --xla_a=1"
    monkeypatch.setenv("XLA_FLAGS", some)
    assert switches.recorded() == "XLA_FLAGS='--xla_a=1 --xla_b=2'"


def test_a_launch_records_its_switches(tmp_path):
    jax.config.update("jax_default_matmul_precision", "tensorfloat32")
    with store.opened(tmp_path / "w", _settings()):
        pass
    text = (tmp_path / "w" / "provenance.json").read_text()
    assert '"JAX_DEFAULT_MATMUL_PRECISION": "high"' in text
    assert '"JAX_DEFAULT_PRNG_IMPL": "threefry2x32"' in text


def test_products_are_of_float32_unless_told():
    name, x = "jax_default_matmul_precision", jnp.ones((2, 2))
    switches.fix()
    assert "HIGHEST" in str(jax.make_jaxpr(jnp.matmul)(x, x))
    jax.config.update(name, "tensorfloat32")
    switches.fix()
    assert getattr(jax.config, name) == "tensorfloat32"


@pytest.mark.parametrize("names", [("float32", "highest"), ("tensorfloat32", "high")])
def test_a_precision_has_one_name(names):
    found = set()
    for name in names:
        jax.config.update("jax_default_matmul_precision", name)
        found.add(switches.recorded())
    assert len(found) == 1


EIGHT = f"{switches.HOST_DEVICES}=8"


@pytest.mark.parametrize(
    ("before", "after", "threads"),
    [
        ("", "", None),
        ("--xla_dump_to=x", "--xla_dump_to=x", None),
        (EIGHT, f"{EIGHT} {switches.PATIENCE}=600", "32"),
        (f"{EIGHT} {switches.PATIENCE}=5", f"{EIGHT} {switches.PATIENCE}=5", "32"),
    ],
)
def test_devices_that_one_cpu_plays_have_threads_and_time(
    monkeypatch, before, after, threads
):
    """XLA ends a process where a device is late by 40 s; it is no other number."""
    monkeypatch.setenv("XLA_FLAGS", before)
    monkeypatch.delenv(switches.THREADS, raising=False)
    recorded = switches.recorded()
    switches.make_room()
    assert os.environ["XLA_FLAGS"] == after
    assert os.environ.get(switches.THREADS) == threads
    assert switches.recorded() == recorded


def test_threads_that_the_user_sets_are_kept(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", EIGHT)
    monkeypatch.setenv(switches.THREADS, "20")
    switches.make_room()
    assert os.environ[switches.THREADS] == "20"


def test_host_devices_that_jax_is_asked_for_count_too(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.delenv(switches.THREADS, raising=False)
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "4")
    switches.make_room()
    assert os.environ[switches.THREADS] == "16"
