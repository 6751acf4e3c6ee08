"""Two processes: one workdir, rows that both read, checkpoints that each has."""

import json
import os
import socket
import subprocess
import sys

import pytest

PROGRAM = """
import json, pathlib, sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh

from mesa_jax import sharding
from mesa_jax.study import checkpoints, copies, together
from mesa_jax.study.locks import WorkdirError

address, index, place, foreign = sys.argv[1], int(sys.argv[2]), *sys.argv[3:]
place, foreign = pathlib.Path(place), pathlib.Path(foreign)
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(address, 2, index, cluster_detection_method="deactivate")

found = {"first": together.is_first()}
found["told"] = together.from_first(b"of the first" if index == 0 else b"").decode()
together.LARGEST = 5  # so that it takes several broadcasts
found["in parts"] = together.from_first(b"123456789012" * (index == 0)).decode()
found["nothing"] = together.from_first(b"" if index == 0 else b"unheard").decode()
found["same"] = together.differing(b"flags")
found["differing"] = together.differing(b"flags" if index == 0 else b"other")

try:
    with copies.own(foreign):
        found["foreign"] = "opened"
except WorkdirError as error:
    found["foreign"] = str(error)

devices = np.array(jax.devices()).reshape(2, 1)
with copies.own(place) as mine:
    jax.set_mesh(Mesh(devices, sharding.AXES, axis_types=(AxisType.Auto,) * 2))
    found["mine"] = mine == place
    found["files"] = {
        path.relative_to(mine).as_posix(): path.read_text()
        for path in sorted(mine.rglob("*")) if path.is_file()
    }
    rows = jax.jit(sharding.placed)(jnp.arange(8.0).reshape(4, 2))
    found["share"] = [list(x.data.shape) for x in rows.addressable_shards]
    found["read"] = sharding.read({"rows": rows, "plain": 3})["rows"].tolist()
    folder, by = mine / "checkpoints" / "some", {"by": "test"}
    checkpoints.save(folder, 1, {"rows": rows}, by)
    step, back = checkpoints.restore_latest(folder, {"rows": rows}, by)
    found["restored"] = step, sharding.read(back["rows"]).tolist()
    found["orbax"] = (folder / "1" / "leaves").is_dir()
found["left"] = mine.exists()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each of two processes says, and the workdir after them."""
    place, foreign = tmp_path_factory.mktemp("w"), tmp_path_factory.mktemp("foreign")
    (foreign / "thesis.tex").write_text("not ours", encoding="utf-8")
    for name in ("config.json", "online/a.json", "tb/x/events", "lock.holder"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(f"of {name}", encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    base = [sys.executable, "-c", PROGRAM, address]
    started = [
        subprocess.Popen(
            [*base, str(index), place, foreign],
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        for index in range(2)
    ]
    ended = [process.communicate() for process in started]
    assert [process.returncode for process in started] == [0, 0], ended
    return [json.loads(out.splitlines()[-1]) for out, _ in ended], place


def test_one_is_the_first_and_all_hear_it(found):
    first, other = found[0]
    assert (first["first"], other["first"]) == (True, False)
    for one in (first, other):
        assert one["told"] == "of the first"
        assert one["in parts"] == "123456789012"
        assert one["nothing"] == ""


def test_all_know_who_differs(found):
    assert [one["same"] for one in found[0]] == [[], []]
    assert [one["differing"] for one in found[0]] == [[1], [1]]


def test_the_others_have_a_copy_while_they_need_it(found):
    (first, other), place = found
    assert (first["mine"], other["mine"]) == (True, False)
    assert other["files"] == {
        "config.json": "of config.json",
        "online/a.json": "of online/a.json",
    }
    assert (first["left"], other["left"]) == (True, False)
    assert (place / "lock.holder").read_text(encoding="utf-8") == "of lock.holder"


def test_a_folder_of_something_else_is_refused_by_all(found):
    first, other = found[0]
    assert "no workdir" in first["foreign"]
    assert first["foreign"] == other["foreign"]


def test_each_reads_all_rows_and_restores_its_own_checkpoint(found):
    rows = [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [6.0, 7.0]]
    for one in found[0]:
        assert one["share"] == [[2, 2]]
        assert one["read"] == rows
        assert one["restored"] == [1, rows]


def test_the_first_alone_writes_orbax(found):
    (first, other), place = found
    assert (first["orbax"], other["orbax"]) == (True, False)
    written = place / "checkpoints" / "some" / "1"
    assert sorted(path.name for path in written.iterdir()) == [
        "about.json",
        "leaves",
        "manifest.json",
    ]
