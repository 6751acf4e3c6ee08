"""Programs that `benchmark` times: one a case, and matrix products beside it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mesa_jax import configuration, replay, rollout
from mesa_jax.meta import maml
from mesa_jax.methods import METHODS
from mesa_jax.online import online_program
from mesa_jax.prior import init_params, input_statistics
from mesa_jax.system import build
from mesa_jax.types import Statistics, TaskBatch, Transition

from .device import Program, compiled

ROW = METHODS["mesa_published"].settings
PUBLISHED = {  # its critic alone; targets as the yardstick has them
    "risk": ROW["risk"] | {"next_action": "reference"},
    "maml": ROW["maml"] | {"target_rate": 0.0},
}
OUTER = {  # settings of the cases that are an outer step
    "published": PUBLISHED,
    "default": {},
    "context": METHODS["context"].settings,
    "mesa_context": METHODS["mesa_context"].settings,
}
ROWS = 256  # of a product's left side, as the larger batch
ONLINE_STEPS = 100  # a call
HELD = 300  # rows of an adaptation set; beyond a batch, so that learning is on


class Case(NamedTuple):
    """Holds a program, its state, and what it is compared with."""

    name: str
    count: int  # tasks or runs
    turns: int  # steps a call
    state: Any
    program: Callable[[], Program]  # its call: state -> state
    product: tuple[int, int, int]  # [count, rows, width] . [count, width, width]


class Product(NamedTuple):
    call: Callable
    state: Any
    flops: int


def _rows(key, *lead: int, observation: int, action: int) -> Transition:
    """Draws random transitions, a tenth of them violating, as the yardstick's."""
    keys = jax.random.split(key, 4)
    cost = (jax.random.uniform(keys[2], lead) < 0.1).astype(jnp.float32)
    return Transition(
        observation=jax.random.normal(keys[0], (*lead, observation)),
        action=jnp.tanh(jax.random.normal(keys[1], (*lead, action))),
        reward=jnp.zeros(lead),
        cost=cost,
        discount=1.0 - cost,
        next_observation=jax.random.normal(keys[3], (*lead, observation)),
    )


def _settings(changes: dict) -> configuration.Configuration:
    return configuration.override(configuration.Configuration(), changes)


def outer_case(name: str, count: int) -> Case:
    """Makes one outer step over `count` tasks; the published critic has no policy.

    With `inner_every` > 1, a step that takes inner steps is timed.
    """
    changes = OUTER[name]
    every_one = {"num_tasks": count, "inner_every": 1}
    maml_changes = changes.get("maml", {}) | every_one
    bodies = {"data": {"train_bodies": max(count, 2)}, "maml": maml_changes}
    settings = _settings(changes | bodies)
    built = build(settings)
    parts = built.parts[:1] if name == "published" else built.parts
    learner = maml(parts, settings.maml, settings.inner_loop)
    spec, sizes = built.domain.spec, built.sizes["maml"]
    widths = {"observation": spec.observation_size, "action": spec.action_size}
    keys = jax.random.split(jax.random.key(0), 3)
    batch = TaskBatch(
        _rows(keys[0], count, sizes.support, **widths),
        _rows(keys[1], count, sizes.query, **widths),
    )
    encodes = built.risk.encode is not None
    inputs = input_statistics(batch.query, "standardized", encodes)
    params = init_params(keys[2], built.risk, built.recovery, inputs)
    state = learner.init(params[: len(parts)])

    def step(carry, batch):
        state, i = carry
        key = jax.random.fold_in(jax.random.key(1), i)
        state, metrics = learner.update(key, state, batch)
        return (state, i + 1), metrics["risk/loss"]

    carry = jax.tree.map(jnp.copy, (state, jnp.zeros((), jnp.int32)))

    def program() -> Program:
        made = compiled(step, carry, batch, donate=(0,))
        return made._replace(call=lambda carry: made.call(carry, batch)[0])

    width = settings.risk.hidden[0]
    return Case(name, count, 1, carry, program, (count, ROWS, width))


def online_case(name: str, count: int) -> Case:
    """Makes steps of `count` online runs of `mesa` on navigation1, all learning."""
    online = {"episodes": 10_000, "steps": 20_000, "chunk_steps": ONLINE_STEPS}
    online |= {"evaluate_every": 10_000, "start_steps": 0}
    settings = _settings({"online": online})
    built, spec = build(settings), build(settings).domain.spec
    widths = {"observation": spec.observation_size, "action": spec.action_size}
    keys = jax.random.split(jax.random.key(0), count)
    tasks = built.domain.test_tasks(jax.random.key(1), count)
    sizes = (spec.observation_size,) * 2 + (spec.action_size,) * 2
    inputs = Statistics(*map(jnp.ones, sizes))

    def start(key, task):
        init_key, agent_key, rows_key, run_key = jax.random.split(key, 4)
        params = init_params(init_key, built.risk, built.recovery, inputs)
        agent = built.agent.init(agent_key, *params, settings.recovery.risk_threshold)
        rows = _rows(rows_key, HELD, **widths)
        state = rollout.init_run(
            run_key, built.domain, settings.online, task, agent, rows
        )
        return state._replace(task_replay=replay.fill(state.task_replay, rows))

    states = jax.jit(jax.vmap(start))(keys, tasks)
    chunk = online_program(built.domain, built.agent, settings.online)

    def program() -> Program:
        return compiled(lambda s: chunk(keys, keys, s)[0], states, donate=(0,))

    width = settings.risk.hidden[0]
    batch = settings.online.batch_size
    return Case(name, count, ONLINE_STEPS, states, program, (count, batch, width))


def product_case(sizes: tuple[int, int, int]) -> Product:
    """Makes products [count, rows, width] . [count, width, width] that take a while."""
    count, rows, width = sizes
    key = jax.random.key(0)
    left = jax.random.normal(key, (count, rows, width))
    right = jax.random.normal(jax.random.fold_in(key, 1), (count, width, width))
    right /= width**0.5
    flops = 2 * count * rows * width * width
    turns = max(1, round(2e9 / flops))

    def call(left):
        def turn(x, _):
            return jnp.einsum("tbi,tio->tbo", x, right), None

        return jax.lax.scan(turn, left, length=turns)[0]

    return Product(jax.jit(call), left, turns * flops)
