"""What every test runs under: key-reuse checks and a shared compile cache."""

import ctypes
import gc
import os
import pathlib
import signal

# before JAX is imported, and for what tests start: programs compile fast, run slowly
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1",
)

import hypothesis
import jax
import pytest

ROOT = pathlib.Path(__file__).parent.parent

# tracing makes millions of objects that live on: look for cycles among them less often
gc.set_threshold(200_000, 50, 100)

# a shell's background ignores Ctrl-C, and nohup a hang-up: launches must hear both
for name, heard in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
    number = getattr(signal, name, None)  # not every system has each
    if number is not None and signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, heard)

jax.config.update("jax_debug_key_reuse", True)
jax.config.update("jax_compilation_cache_dir", str(ROOT / ".cache" / "jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
hypothesis.settings.register_profile(  # the same examples everywhere
    "few", derandomize=True, max_examples=25, deadline=None, database=None
)
hypothesis.settings.load_profile("few")


def pytest_collection_modifyitems(items):
    """Puts whole launches first: they take longest, and two workers end together."""
    items.sort(key=lambda item: "/launches/" not in item.nodeid)


@pytest.fixture
def float64():
    """Double precision, for finite differences and densities."""
    with jax.enable_x64(True):
        yield


MEMORY, MAPPINGS = 1.5e9, 15_000  # of a worker, beyond which its programs are dropped
PROCESS = pathlib.Path("/proc/self")


def holds_much() -> bool:
    """Tells whether this process nears a limit; yes where the system does not say.

    A compiled program takes hundreds of mappings; Linux gives a process 65,530.
    """
    try:
        pages = PROCESS.joinpath("statm").read_text().split()[1]
        mappings = PROCESS.joinpath("maps").read_bytes().count(b"\n")
    except OSError:
        return True
    return int(pages) * os.sysconf("SC_PAGE_SIZE") > MEMORY or mappings > MAPPINGS


@pytest.fixture(scope="module", autouse=True)
def forgotten_programs():
    """Drops programs at a file's end once they take much: until then files that need
    the same ones share them.
    """
    yield
    if not holds_much():
        return
    jax.clear_caches()
    gc.collect()
    if trim := getattr(ctypes.pythonapi, "malloc_trim", None):  # of Linux
        trim(0)
