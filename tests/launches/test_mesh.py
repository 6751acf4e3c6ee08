"""--mesh: which devices share a launch's work."""

import pytest

from experiments import mesh
from mesa_jax.settings import SettingError


@pytest.mark.parametrize(
    ("text", "there", "sizes"),
    [
        ("auto", 8, (8, 1)),
        ("auto", 1, (1, 1)),
        ("run:4", 8, (4, 1)),
        ("task:8", 8, (1, 8)),
        ("run:2,task:4", 8, (2, 4)),
    ],
)
def test_a_mesh_is_read(text, there, sizes):
    assert mesh.parse(text, there) == sizes


@pytest.mark.parametrize(
    "text", ["", "run", "run:0", "run:x", "runs:2", "run:2,run:2", "run:-1", "task:²"]
)
def test_what_is_no_mesh_is_refused(text):
    with pytest.raises(SettingError, match="mesh must be auto"):
        mesh.parse(text, 8)


def test_more_devices_than_there_are_is_refused():
    with pytest.raises(SettingError, match="at most 4 devices"):
        mesh.parse("run:8", 4)
