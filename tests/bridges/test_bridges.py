"""What every bridge to an outside library keeps to."""

import subprocess
import sys

import pytest

from mesa_jax import bridges


def test_a_missing_library_names_the_extra_that_brings_it():
    helps = r'pip install "mesa_jax\[some\]"'
    with pytest.raises(bridges.MissingExtraError, match=helps):
        bridges.needed("no_such_library.part", "some")


def test_a_library_that_is_there_is_returned():
    assert bridges.needed("json.decoder", "some").JSONDecoder


def test_importing_the_package_loads_no_bridge():
    code = "import sys, mesa_jax; print([n for n in sys.modules if 'bridges' in n])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert told.stdout.strip() == "[]"
