"""A small computation through the real code, and what it gave where it was stored.

python -m experiments.selftest

Prints the values, to be stored anew after a change that is meant to change numbers.
"""

import json

import jax
import jax.numpy as jnp

from mesa_jax import configuration, equations, simulation
from mesa_jax.keys import Stage, stage_key
from mesa_jax.prior import init_params, input_statistics
from mesa_jax.study import switches
from mesa_jax.system import build
from mesa_jax.types import TaskBatch

NETWORK = {"hidden": (8,), "initializer": "lecun"}
SMALL = {  # every setting that the values depend on
    "risk": NETWORK | {"discount": 0.8, "ensemble_size": 1, "violation_fraction": 0.0},
    "recovery": NETWORK | {"saturation_penalty": 0.1},
    "sac": NETWORK | {"discount": 0.99, "temperature": 0.2},
    "maml": {
        "inner_steps": 2,
        "inner_lr": 0.1,
        "inner_clip": 0.0,
        "learner": "maml",
        "target_rate": 1.0,
        "outer_target": "adapted",
        "anchor": 1.0,
        "recovery": "meta",
    },
}
BODIES, EPISODES = 3, 4

# On an x86-64 CPU (AVX2), Linux, Python 3.11.7, jax and jaxlib 0.10.2, mesa_jax 0.13.0.
STORED = {
    "backup/target": 0.4000000059604645,
    "rollout/reached": 21.891860961914062,
    "rollout/violations": 77.0,
    "truth/risk": 0.32016295194625854,
    "maml/meta/gradient_norm_0": 0.3489384055137634,
    "maml/meta/gradient_norm_1": 0.09273912757635117,
    "maml/meta/task_loss": 2.4157512187957764,
    "maml/recovery/risk": 0.5400158166885376,
    "maml/risk/loss": 0.12872427701950073,
    "maml/risk/mean": 0.5108968615531921,
    "maml/risk/prior_loss": 0.1360727846622467,
    "sac/sac/actor_loss": 23.043228149414062,
    "sac/sac/critic_loss": 5426.19921875,
    "sac/sac/entropy": -32.93815994262695,
    "sac/sac/q_mean": -7.522218227386475,
}
TOLERANCE = 1e-3  # relative; CPUs differ in the last of single precision's seven digits


def values() -> dict[str, float]:
    """An outer step of MAML, an update of SAC, rollouts, a true risk, and a target."""
    settings = configuration.override(configuration.Configuration(), SMALL)
    built, domain = build(settings), build(settings).domain
    bodies = domain.train_tasks(stage_key(0, Stage.TRAIN_TASKS), BODIES)
    keys = jax.random.split(stage_key(0, Stage.TRAIN_DATA), BODIES)
    episodes = jax.jit(
        jax.vmap(lambda k, task: simulation.data_episodes(k, domain, task, EPISODES))
    )
    padded, _ = episodes(keys, bodies)
    rows = jax.tree.map(lambda x: x.reshape(BODIES, -1, *x.shape[3:]), padded)
    half = rows.cost.shape[1] // 2
    support = jax.tree.map(lambda x: x[:, :half], rows)
    query = jax.tree.map(lambda x: x[:, half:], rows)
    inputs = input_statistics(rows, "standardized", changes=False)
    params = init_params(
        stage_key(0, Stage.PRIOR_INIT), built.risk, built.recovery, inputs
    )
    learner = built.learners["maml"]
    _, learned = jax.jit(learner.update)(
        stage_key(0, Stage.META_TRAIN), learner.init(params), TaskBatch(support, query)
    )
    together = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rows)
    policy = built.task_policy
    _, played = jax.jit(policy.update)(
        stage_key(0, Stage.ONLINE),
        policy.init(stage_key(0, Stage.AGENT_INIT)),
        together,
    )
    body = jax.tree.map(lambda x: x[0], bodies)
    near_the_wall, upwards = jnp.array([-20.0, 3.5]), jnp.array([0.0, 1.0])
    truth = jax.jit(
        lambda key: simulation.risk_truth(
            key, domain, body, near_the_wall, upwards, 0.8, rollouts=64
        )
    )(stage_key(0, Stage.TRUTH))
    found = {
        "backup/target": equations.risk_backup(*map(jnp.float32, (0.0, 0.8, 0.5))),
        "rollout/reached": jnp.mean(jnp.abs(rows.next_observation)),
        "rollout/violations": jnp.sum(rows.cost),
        "truth/risk": truth,
        **{f"maml/{name}": jnp.sum(x) for name, x in learned.items()},
        **{f"sac/{name}": x for name, x in played.items()},
    }
    return {name: float(x) for name, x in found.items()}


if __name__ == "__main__":
    switches.fix()
    print(json.dumps(values(), indent=4))
