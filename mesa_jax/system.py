"""From settings to bundles of functions."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax

from mesa_jax import replay
from mesa_jax.agents import recovery_policy, recovery_rl, sac
from mesa_jax.agents.sac import SAC
from mesa_jax.configuration import Configuration
from mesa_jax.domains import DOMAINS
from mesa_jax.domains.fault_notation import parse
from mesa_jax.domains.faults import faulty
from mesa_jax.keys import Stage, stage_key
from mesa_jax.meta import META_LEARNERS, InnerLoopConfig, finetune, pooled
from mesa_jax.networks.latent import LOW_RANK
from mesa_jax.prior import bellman_error, safety_parts
from mesa_jax.risk import violation_probability
from mesa_jax.training import Sizes
from mesa_jax.types import (
    Agent,
    Domain,
    MetaLearner,
    Part,
    Policy,
    Prior,
    RiskMeasure,
)

Adapt = Callable  # (key, prior, support [n, ...], steps) -> adapted params
Encode = Callable  # (key, critic, support [n, ...]) -> encoding [E]


class Build(NamedTuple):
    """Everything a launch computes with."""

    domain: Domain
    online_domain: Domain  # the same, with the faults of the settings
    task_policy: SAC
    risk: RiskMeasure
    recovery: Policy
    agent: Agent
    parts: tuple[Part, ...]  # risk critic, recovery policy
    learners: dict[str, MetaLearner]  # by what a method's prior is called
    sizes: dict[str, Sizes]  # of an outer step
    adapt: dict[str, Adapt]  # by section of the settings
    adapt_critic: dict[str, Adapt]  # the same of the critic alone (`critic_only`)
    encode: Encode | None  # as `adapt` does before its first step; None: nothing reads


def build(settings: Configuration) -> Build:
    """Makes the functions of a configuration."""
    domain = DOMAINS[settings.domain].make(settings.tasks, settings.physics)
    faults = parse(settings.fault)
    task_policy = sac(domain.spec, settings.sac)
    risk = violation_probability(settings.risk, domain.parametrisation)
    recovery = recovery_policy(
        domain.spec.action_size,
        risk.estimate,
        settings.recovery.hidden,
        settings.recovery.saturation_penalty,
        risk.encoding_size,
        settings.recovery.initializer,
    )
    offline = offline_policy(settings, domain, task_policy)
    parts = safety_parts(
        risk,
        recovery,
        offline,
        settings.maml.anchor,
        settings.maml.outer_target,
        LOW_RANK if settings.risk.weights == "latent" else None,
        settings.maml.recovery == "beside",
    )
    return Build(
        domain=domain,
        online_domain=faulty(domain, faults) if faults else domain,
        task_policy=task_policy,
        risk=risk,
        recovery=recovery,
        agent=recovery_rl(task_policy, risk, recovery, settings.recovery),
        parts=parts,
        learners=learners(settings, parts),
        sizes=sizes(settings),
        adapt=adaptations(settings, parts),
        adapt_critic=adaptations(settings, parts[:1]),
        encode=encoding(settings, risk),
    )


def offline_policy(
    settings: Configuration, domain: Domain, task_policy: SAC
) -> Callable:
    """Whose next actions (key, observations) offline targets take."""
    if settings.risk.next_action == "reference":
        return domain.reference_policy
    start = _untrained(domain.spec, settings.sac)
    return lambda key, observation: task_policy.sample(key, start, observation)


@functools.cache
def _untrained(spec, config):
    return sac(spec, config).init(stage_key(0, Stage.AGENT_INIT))


def heldout_error(settings: Configuration, kind: str) -> Callable:
    """What a kind of prior is kept by: (key, prior, body's rows [N, ...]) -> [].

    The Bellman error of its critic: of a "maml" prior after the inner loop that most of
    its outer steps take, on `support_size` of the rows; of a "pooled" one as it is.
    """
    built, meta = build(settings), settings.maml
    adaptation = InnerLoopConfig(target_rate=meta.target_rate)
    learner = META_LEARNERS[meta.learner](built.parts[:1], meta, adaptation)
    draw = _draw(settings)
    steps = meta.inner_steps if meta.inner_every == 1 else 0
    reference = offline_policy(settings, built.domain, built.task_policy)

    def adapted(key, prior, rows):
        support_key, adapt_key = jax.random.split(key)
        support = draw(support_key, rows, meta.support_size)
        return learner.adapt(adapt_key, critic_only(prior), support, steps)

    def as_it_is(key, prior, rows):
        return prior.params

    become = {"maml": adapted, "pooled": as_it_is}[kind]

    def error(key, prior, rows):
        adapt_key, error_key = jax.random.split(key)
        critic = become(adapt_key, prior, rows)[0]
        return bellman_error(error_key, built.risk, reference, critic, rows)

    return error


def choose_from(settings: Configuration, kind: str) -> int:
    """Returns the outer step after which a kind of prior may be kept."""
    section = getattr(settings, kind)
    first = {"best": -1, "best_of_second_half": section.steps // 2}
    return first.get(section.keep, section.steps - 1)


def critic_only(prior: Prior) -> Prior:
    """The critic's share of a prior: `Build.adapt_critic` takes it."""
    return Prior(prior.params[:1], prior.rates[:1])


def _draw(settings: Configuration, replacement: str = "with") -> Callable:
    if replacement == "without":
        return replay.sample_distinct
    fraction = settings.risk.violation_fraction
    return functools.partial(replay.sample_rows, violation_fraction=fraction)


def learners(
    settings: Configuration, parts: tuple[Part, ...]
) -> dict[str, MetaLearner]:
    """What learns each kind of prior."""
    make = META_LEARNERS[settings.maml.learner]
    draw = _draw(settings)
    return {
        "maml": make(parts, settings.maml, settings.inner_loop),
        "pooled": pooled(parts, settings.pooled, settings.finetune, draw),
    }


def _as_trained(settings: Configuration) -> Callable:
    """Makes `(key, adaptation set) -> support`, balanced where meta-training's is."""
    if settings.risk.violation_fraction == 0.0:
        return lambda key, rows: rows
    draw = _draw(settings)
    return lambda key, rows: draw(key, rows, settings.maml.support_size)


def encoding(settings: Configuration, risk: RiskMeasure) -> Encode | None:
    """How an adaptation set is read: what it is conditioned on, and judged by."""
    if risk.encode is None:
        return None
    support = _as_trained(settings)
    return lambda key, critic, rows: risk.encode(critic, support(key, rows))["encoding"]


def adaptations(settings: Configuration, parts: tuple[Part, ...]) -> dict[str, Adapt]:
    """How a prior becomes a body's own parameters, by section of the settings."""
    learner = learners(settings, parts)["maml"]
    support = _as_trained(settings)

    def inner_loop(key, prior, rows, steps):
        return learner.adapt(key, prior, support(key, rows), steps)

    def tuned(section):
        tuning = getattr(settings, section)
        return finetune(parts, tuning, _draw(settings, tuning.replacement))

    sections = ("finetune_scratch", "finetune", "finetune_few")
    return {"inner_loop": inner_loop} | {
        section: tuned(section) for section in sections
    }


def sizes(settings: Configuration) -> dict[str, Sizes]:
    """What an outer step of each kind of prior samples."""
    meta, together = settings.maml, settings.pooled
    bodies = 1 if together.bodies == "mixed" else together.num_tasks
    return {
        "maml": Sizes(
            meta.num_tasks,
            meta.support_size,
            meta.query_size,
            meta.support_least,
        ),
        "pooled": Sizes(bodies, 1, together.query_size),
    }


def training_transitions(settings: Configuration, kind: str) -> int:
    """Transitions that the training of a kind of prior draws; 0 of "scratch"."""
    if kind == "scratch":
        return 0
    size, steps = sizes(settings)[kind], getattr(settings, kind).steps
    support = size.support if kind == "maml" else 0
    return steps * size.num_tasks * (support + size.query)
