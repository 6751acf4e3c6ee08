"""One round in training bodies: a recovery policy is learned, tested, and acts.

Simulation knows its bodies, so the learner is told them: critic and policy are
conditioned on each body's true numbers. What its rounds have seen all methods learn
from, which are told nothing.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from mesa_jax import sharding, training
from mesa_jax.evaluation import filter_test
from mesa_jax.meta import MAMLConfig, maml
from mesa_jax.prior import init_params, input_statistics, safety_parts
from mesa_jax.rounds import EPISODES, disturbed_transitions
from mesa_jax.system import System, safety_half
from mesa_jax.training import Sizes
from mesa_jax.types import Array, Parametrisation, Task


class Rounds(NamedTuple):
    """Bundles what a round is made of; all bodies are one program."""

    learn: Callable  # (key, transitions [T, N, ...], numbers [T, P]) -> params
    act: Callable  # (key, params, bodies, numbers) -> transitions [T, n, ...]
    test: Callable  # (key, params, bodies, numbers, thresholds [K]) -> [T, K, E]


def numbers_of(bodies: Task, trained: int) -> Array:
    """Returns what differs between bodies as numbers [T, P].

    They are standardised by the first `trained` bodies.
    """
    flat = jax.vmap(lambda task: ravel_pytree(task)[0])(bodies)
    mean, spread = flat[:trained].mean(0), flat[:trained].std(0)
    return (flat - mean) / jnp.where(spread > 0.0, spread, 1.0)


def rounds(system: System, bodies: Task) -> Rounds:
    """Makes the programs of the rounds in bodies [T, ...]."""
    settings, domain = system.configuration, system.domain
    config = settings.rounds
    count = numbers_of(bodies, 1).shape[-1]
    told = Parametrisation(
        names=tuple(map(str, range(count))),
        of=lambda task: ravel_pytree(task)[0],
        identify=lambda numbers: numbers,  # a support is the body's numbers
    )
    measured = dataclasses.replace(settings.risk, conditioning="identified")
    risk, recovery = safety_half(
        dataclasses.replace(settings, risk=measured),
        domain._replace(parametrisation=told),
    )
    parts = tuple(  # they take no inner step, and a support is no transitions
        part._replace(inner_loss=lambda *arguments: (jnp.zeros(()), {}))
        for part in safety_parts(risk, recovery, system.offline_policy, 0.0)
    )
    meta = MAMLConfig(steps=config.steps, inner_steps=0, anchor=0.0, outer_lr=config.lr)
    learner = maml(parts, meta)

    def learn(key, transitions, numbers):
        init_key, key = jax.random.split(key)
        sizes = Sizes(min(config.num_tasks, len(numbers)), 1, config.query_size)
        inputs = input_statistics(transitions, settings.risk.inputs, changes=False)

        def step(state, i):
            draw_key, update_key = jax.random.split(jax.random.fold_in(key, i))
            batch, drawn = training.sample_tasks(
                draw_key, transitions, sizes, settings.risk.violation_fraction
            )
            batch = batch._replace(support=numbers[drawn])
            return learner.update(update_key, state, batch)[0], None

        start = learner.init(init_params(init_key, risk, recovery, inputs))
        return jax.lax.scan(step, start, jnp.arange(config.steps))[0].prior.params

    def known(params, numbers):
        return tuple(part | {"encoding": numbers} for part in params)

    def act(key, params, bodies, numbers):
        def of_body(key, task, numbers):
            _, policy = known(params, numbers)
            move = lambda seen: recovery.act(policy, seen)  # noqa: E731
            return disturbed_transitions(key, domain, task, move, config)

        return sharding.vmap(of_body)(
            jax.random.split(key, len(numbers)), bodies, numbers
        )

    def test(key, params, bodies, numbers, thresholds):
        def of_body(key, task, numbers):
            given = domain, risk, recovery, known(params, numbers), task, thresholds
            return filter_test(key, *given, EPISODES, hold=config.hold)

        return sharding.vmap(of_body)(
            jax.random.split(key, len(numbers)), bodies, numbers
        )

    return Rounds(*map(jax.jit, (learn, act, test)))
