"""From settings to bundles of functions."""

import functools
from collections.abc import Callable
from typing import NamedTuple

from mesa_jax import pipeline, replay
from mesa_jax.agents import recovery_policy, recovery_rl, sac
from mesa_jax.domains import DOMAINS
from mesa_jax.meta import finetune, maml, pooled
from mesa_jax.risk import violation_probability
from mesa_jax.runtime.config import Settings
from mesa_jax.types import Agent, Domain, MetaLearner, Policy, RiskMeasure


class Build(NamedTuple):
    """Everything a launch computes with."""

    domain: Domain
    risk: RiskMeasure
    recovery: Policy
    agent: Agent
    learners: dict[str, MetaLearner]  # by what a method's prior is called
    sizes: dict[str, pipeline.Sizes]  # of an outer step
    adapt: dict[str, Callable]  # by prior: (key, prior, support [n, ...]) -> params


def build(settings: Settings) -> Build:
    """Makes the functions of a configuration."""
    domain = DOMAINS[settings.domain].make(settings.tasks)
    risk = violation_probability(settings.risk)
    recovery = recovery_policy(
        domain.spec.action_size,
        risk.estimate,
        settings.recovery.hidden,
        settings.recovery.saturation_penalty,
    )
    parts = pipeline.safety_parts(
        risk, recovery, domain.reference_policy, settings.maml.anchor
    )
    fraction = settings.risk.violation_fraction
    draw = functools.partial(replay.sample_rows, violation_fraction=fraction)
    learners = {
        "maml": maml(parts, settings.maml),
        "pooled": pooled(parts, settings.pooled, settings.multi_task, draw),
    }

    def inner_loop(key, prior, support):
        if fraction:  # the inner loop was trained on balanced support
            support = draw(key, support, settings.maml.support_size)
        return learners["maml"].adapt(key, prior, support, settings.maml.adapt_steps)

    def fine_tuned(key, prior, support):
        return learners["pooled"].adapt(key, prior, support, settings.multi_task.steps)

    def from_scratch(key, prior, support):
        adapt = finetune(parts, settings.recovery_rl, draw)
        return adapt(key, prior, support, settings.recovery_rl.steps)

    maml_sizes = settings.maml.num_tasks, settings.maml.support_size
    return Build(
        domain=domain,
        risk=risk,
        recovery=recovery,
        agent=recovery_rl(
            sac(domain.spec, settings.sac), risk, recovery, settings.recovery
        ),
        learners=learners,
        sizes={
            "maml": pipeline.Sizes(*maml_sizes, settings.maml.query_size),
            "pooled": pipeline.Sizes(
                settings.pooled.num_tasks, 1, settings.pooled.query_size
            ),
        },
        adapt={"maml": inner_loop, "pooled": fine_tuned, "scratch": from_scratch},
    )
