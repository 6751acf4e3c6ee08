"""From a configuration to bundles of functions: where a program is put together."""

import functools
from collections.abc import Callable
from typing import NamedTuple

from mesa_jax import replay
from mesa_jax.agents import AGENTS, recovery_policy, sac
from mesa_jax.agents.sac import SAC
from mesa_jax.configuration import Configuration
from mesa_jax.domains import entry_of
from mesa_jax.domains.fault_notation import parse
from mesa_jax.domains.faults import faulty
from mesa_jax.keys import Stage, stage_key
from mesa_jax.meta import META_LEARNERS, pooled
from mesa_jax.networks.latent import LOW_RANK
from mesa_jax.prior import init_params, input_statistics, judged, safety_parts
from mesa_jax.risk import RISKS
from mesa_jax.training import Sizes
from mesa_jax.types import (
    Agent,
    Domain,
    MetaLearner,
    Part,
    Policy,
    RiskMeasure,
)

PROGRAMS = 4  # that a maker keeps: each takes mappings, and a process has so many
Init = Callable  # (key, transitions [..., D]) -> fresh (critic, recovery policy)
Encode = Callable  # (key, critic, support [n, ...]) -> encoding [E]


class System(NamedTuple):
    """Bundles everything that a configuration computes with."""

    configuration: Configuration
    domain: Domain
    online_domain: Domain  # the same, with the faults of the configuration
    task_policy: SAC
    risk: RiskMeasure
    recovery: Policy
    agent: Agent
    offline_policy: Callable  # (key, observations) -> actions; whose risk is learned
    next_action: Callable  # of offline targets: its, or the recovery policy's
    parts: tuple[Part, ...]  # risk critic, recovery policy
    init: Init  # inputs standardised by the transitions' statistics
    learners: dict[str, MetaLearner]  # by what a method's prior is called
    sizes: dict[str, Sizes]  # of an outer step
    encode: Encode | None  # as adaptation does before its first step; None: none reads


@functools.lru_cache(maxsize=32)
def build(settings: Configuration) -> System:
    """Makes the functions of a configuration; the same ones for the same one."""
    return assemble(settings)


def assemble(settings: Configuration) -> System:
    """Makes the functions of a configuration, whose numbers may be traced (a sweep)."""
    domain = entry_of(settings.domain).make(settings.tasks, settings.physics)
    faults = parse(settings.fault)
    task_policy = sac(domain.spec, settings.sac)
    risk, recovery = safety_half(settings, domain)
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

    def init(key, transitions):
        predicts = risk.predict is not None
        changes = predicts or risk.encode is not None
        inputs = input_statistics(transitions, settings.risk.inputs, changes, predicts)
        return init_params(key, risk, recovery, inputs)

    return System(
        configuration=settings,
        domain=domain,
        online_domain=faulty(domain, faults) if faults else domain,
        task_policy=task_policy,
        risk=risk,
        recovery=recovery,
        agent=AGENTS[settings.constraint.kind](task_policy, risk, recovery, settings),
        offline_policy=offline,
        next_action=judged(risk, recovery, offline),
        parts=parts,
        init=init,
        learners=learners(settings, parts),
        sizes=sizes(settings),
        encode=encoding(settings, risk),
    )


def compiled_once(make: Callable) -> Callable:
    """Returns the maker of a program, `make(system, *hashables)`, that keeps some.

    The same configuration gets the same program, so what is called again and again is
    traced once in a process. A system that is not its configuration's own (`build`)
    gets a new one each time: one that was changed, or whose numbers are traced.

    Args:
      make: jits.
    """
    kept = functools.lru_cache(maxsize=PROGRAMS)(
        lambda settings, *names: make(build(settings), *names)
    )

    @functools.wraps(make)
    def made(system: System, *names):
        if not _is_its_own(system):
            return make(system, *names)
        return kept(system.configuration, *names)

    return made


def _is_its_own(system: System) -> bool:
    """Returns whether nothing but its configuration says what a system computes."""
    try:
        return build(system.configuration) is system
    except TypeError:  # numbers of a sweep are traced, and have no hash
        return False


def safety_half(settings: Configuration, domain: Domain) -> tuple[RiskMeasure, Policy]:
    """Makes the risk measure, and the policy that descends it."""
    config = settings.recovery
    risk = RISKS[settings.risk.measure](settings.risk, domain.parametrisation)
    recovery = recovery_policy(
        domain.spec.action_size,
        {"risk": risk.estimate, "logit": risk.logit}[config.objective],
        config.hidden,
        config.saturation_penalty,
        risk.encoding_size,
        config.initializer,
    )
    return risk, recovery


def offline_policy(
    settings: Configuration, domain: Domain, task_policy: SAC
) -> Callable:
    """Returns the policy, (key, observations) -> actions, whose risk is learned.

    Not where the risk is the recovery policy's own.
    """
    if settings.risk.next_action == "reference":
        return domain.reference_policy
    start = _untrained(domain.spec, settings.sac)
    return lambda key, observation: task_policy.sample(key, start, observation)


@functools.cache
def _untrained(spec, config):
    return sac(spec, config).init(stage_key(0, Stage.AGENT_INIT))


def draw(settings: Configuration, replacement: str = "with") -> Callable:
    """Makes the draw of a batch: (key, transitions [N, ...], count) -> [count, ...]."""
    if replacement == "without":
        return replay.sample_distinct
    fraction = settings.risk.violation_fraction
    return functools.partial(replay.sample_rows, violation_fraction=fraction)


def learners(
    settings: Configuration, parts: tuple[Part, ...]
) -> dict[str, MetaLearner]:
    """Makes the learner of each kind of prior."""
    make = META_LEARNERS[settings.maml.learner]
    return {
        "maml": make(parts, settings.maml, settings.inner_loop),
        "pooled": pooled(parts, settings.pooled, settings.finetune, draw(settings)),
    }


def support_of(settings: Configuration) -> Callable:
    """Makes `(key, adaptation set) -> support`, balanced where meta-training's is."""
    if settings.risk.violation_fraction == 0.0:
        return lambda key, transitions: transitions
    draw_support = draw(settings)
    size = settings.maml.support_size
    return lambda key, transitions: draw_support(key, transitions, size)


def encoding(settings: Configuration, risk: RiskMeasure) -> Encode | None:
    """Makes the encoder of an adaptation set: what is conditioned on, and judged."""
    if risk.encode is None:
        return None
    support = support_of(settings)
    return lambda key, critic, transitions: risk.encode(
        critic, support(key, transitions)
    )["encoding"]


def sizes(settings: Configuration) -> dict[str, Sizes]:
    """Returns what an outer step of each kind of prior samples."""
    meta, together = settings.maml, settings.pooled
    bodies = 1 if together.bodies == "mixed" else together.num_tasks
    return {
        "maml": Sizes(
            meta.num_tasks,
            meta.support_size,
            meta.query_size,
            meta.support_least,
            meta.support_windows,
        ),
        "pooled": Sizes(bodies, 1, together.query_size),
    }
