"""Rows over eight devices, of which this CPU plays each: the same numbers as on one."""

import json
import os
import subprocess
import sys

import pytest

from mesa_jax.study.switches import HOST_DEVICES, PATIENCE

PROGRAM = """
import json

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, PartitionSpec as P

import mesa_jax as mesa
from mesa_jax import sharding
from mesa_jax.phases.training import outer_steps, start
from mesa_jax.study import switches

switches.make_room()


def mesh_of(*shape):
    devices = np.array(jax.devices()[: shape[0] * shape[1]]).reshape(shape)
    return Mesh(devices, sharding.AXES, axis_types=(AxisType.Auto,) * 2)


def apart(one, other):
    gaps = jax.tree.map(
        lambda a, b: float(np.abs(np.asarray(a) - np.asarray(b)).max()), one, other
    )
    return max(jax.tree.leaves(gaps))


def on(mesh, call):
    if mesh is None:
        return jax.device_get(call())
    with jax.set_mesh(mesh):
        return jax.device_get(call())


tiny = {
    "risk": {"hidden": (8,)}, "recovery": {"hidden": (8,)}, "sac": {"hidden": (8,)},
    "maml": {"num_tasks": 5, "inner_steps": 1, "support_size": 16, "query_size": 16},
    "data": {"adaptation": 20},
    "online": {"episodes": 2, "chunk_steps": 3, "batch_size": 4, "start_steps": 1},
}
system = mesa.build(mesa.configure("navigation1", tasks="flip").override(**tiny))
keys = jax.random.split(jax.random.key(0), 9)
bodies = system.domain.train_tasks(keys[0], 6)
found = {}

# any function, rows that do not divide, an argument that all share
rows = jnp.arange(22.0).reshape(11, 2)
plain = jax.vmap(lambda row, by: row @ by, (0, None))
over = sharding.vmap(lambda row, by: row @ by, (0, None))
by = jnp.ones((2, 3))
for shape in ((8, 1), (1, 8), (2, 4)):
    again = on(mesh_of(*shape), lambda: jax.jit(over)(rows, by))
    found[f"rows {shape}"] = apart(plain(rows, by), again)
with jax.set_mesh(mesh_of(8, 1)):
    made = jax.jit(over)(jnp.ones((16, 2)), by)
    found["share"] = [list(x.data.shape) for x in made.addressable_shards]

# many programs under way at once: each needs eight threads to meet
everywhere = jax.jit(lambda x: jnp.sign(x @ jnp.ones((256, 256))), out_shardings=P())
shared_out = jax.jit(lambda x: x / 256, out_shardings=P("run"))
with jax.set_mesh(mesh_of(8, 1)):
    x = shared_out(jnp.ones((1024, 256)))
    for _ in range(100):
        x = shared_out(everywhere(x))
        dropped = [everywhere(x) for _ in range(3)]
    found["under way"] = float(x.max())

# collection, an outer step of five bodies on eight devices, an online step
data = mesa.collect(keys[1], system, bodies, count=40)

def collect():
    return mesa.collect(jax.random.clone(keys[1]), system, bodies, count=40)

again = on(mesh_of(8, 1), collect)
found["collect"] = apart(data, again)

where = mesa.decision_set(jax.random.key(8), system, bodies, 10)

def truth():
    return mesa.true_risk(jax.random.key(9), system, bodies, where)

found["truth"] = apart(on(None, truth), on(mesh_of(8, 1), truth))

def outer():
    state, transitions = start(system, "maml", jax.random.key(2), data)
    chunk = jax.jit(outer_steps(system, "maml", 1))
    given = jax.random.key(3), jax.random.key(4), state, transitions, data
    state, metrics = chunk(*given)
    return metrics, state.learner.prior

one, eight = on(None, outer), on(mesh_of(8, 1), outer)
found["losses"], found["outer step"] = apart(one[0], eight[0]), apart(one[1], eight[1])
with jax.set_mesh(mesh_of(8, 1)):
    state, transitions = start(system, "maml", jax.random.key(2), data)
    chunk = jax.jit(outer_steps(system, "maml", 1))
    given = jax.random.key(3), jax.random.key(4), state, transitions, data
    found["all-reduce"] = "all-reduce" in chunk.lower(*given).compile().as_text()

body = system.domain.test_tasks(keys[3], 5)
few = mesa.collect(keys[4], system, body, count=20)
guard = mesa.adapt(keys[5], system, None, few, method="recovery_rl")
begun = jax.device_get(mesa.init_runs(keys[6], system, guard, body, few))

def online():
    program = jax.jit(mesa.online_program(system, None))
    run_keys = jax.random.split(jax.random.key(7), 5)
    run_keys, runs = sharding.placed(sharding.padded((run_keys, begun), 5))
    return sharding.first(program(run_keys, runs)[0].agent, 5)

found["online steps"] = apart(on(None, online), on(mesh_of(8, 1), online))
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found():
    """What one process with eight devices says."""
    flags = os.environ.get("XLA_FLAGS", "")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={
            **os.environ,
            "XLA_FLAGS": f"{flags} {HOST_DEVICES}=8 {PATIENCE}=120",
            "JAX_PLATFORMS": "cpu",
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("shape", ["(8, 1)", "(1, 8)", "(2, 4)"])
def test_rows_that_do_not_divide_come_back_as_they_are(found, shape):
    assert found[f"rows {shape}"] == 0.0


def test_programs_under_way_at_once_end(found):
    """Threads for one program alone: they waited for each other for ever."""
    assert found["under way"] == pytest.approx(1 / 256)


def test_each_device_holds_its_share(found):
    assert found["share"] == [[2, 3]] * 8


@pytest.mark.parametrize(
    ("what", "within"),
    [
        ("collect", 1e-6),
        ("truth", 1e-6),
        ("losses", 1e-6),
        ("outer step", 1e-4),  # Adam divides what differs in the last digit by itself
        ("online steps", 1e-5),
    ],
)
def test_eight_devices_agree_with_one(found, what, within):
    assert found[what] < within


def test_gradients_of_bodies_meet_in_an_all_reduce(found):
    assert found["all-reduce"] is True
