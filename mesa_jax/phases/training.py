"""Meta-training of a system: its first state, its outer steps, which prior is kept."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mesa_jax.configuration import Configuration
from mesa_jax.evaluation.filtering import THRESHOLDS, best_threshold, filter_test
from mesa_jax.meta import META_LEARNERS, InnerLoopConfig
from mesa_jax.prior import bellman_error
from mesa_jax.rounds import EPISODES
from mesa_jax.system import System, draw, sizes
from mesa_jax.training import MetaTrainingState, init_meta_training, meta_training
from mesa_jax.types import Key, Transition


def start(
    system: System, kind: str, key: Key, transitions: Transition
) -> tuple[MetaTrainingState, Transition]:
    """Returns the state before the first outer step, and what outer steps sample from.

    Args:
      transitions: [T, N, ...] of training bodies; [1, T * N, ...] come back where
        batches do not tell them apart.
    """
    params = system.init(key, transitions)
    if kind == "pooled" and system.configuration.pooled.bodies == "mixed":
        join = lambda x: x.reshape(1, -1, *x.shape[2:])  # noqa: E731
        transitions = jax.tree.map(join, transitions)
    return init_meta_training(system.learners[kind], params), transitions


def outer_steps(
    system: System, kind: str, steps: int, simulated: bool = False
) -> Callable:
    """Makes the chunk of `training.meta_training` that trains a kind of prior.

    Args:
      simulated: whether held-out bodies are simulated: `filter_error` selects the
        prior, and the chunk takes (transitions, bodies) of them.
    """
    return meta_training(
        system.learners[kind],
        (filter_error if simulated else heldout_error)(system, kind),
        system.sizes[kind],
        system.configuration.risk.violation_fraction,
        steps,
        choose_from(system.configuration, kind),
    )


def _become(system: System, kind: str, parts: int) -> Callable:
    """Makes `(key, prior, transitions [N, ...]) -> parameters` of one held-out body.

    A "maml" prior's first parts take the inner steps that most outer steps take, on
    `support_size` of the transitions; the others, and a "pooled" prior, are as they
    are.
    """
    meta = system.configuration.maml
    inner_loop = InnerLoopConfig(target_rate=meta.target_rate)
    learner = META_LEARNERS[meta.learner](system.parts[:parts], meta, inner_loop)
    draw_support = draw(system.configuration)
    steps = meta.inner_steps if meta.inner_every == 1 else 0

    def adapted(key, prior, transitions):
        support_key, adapt_key = jax.random.split(key)
        support = draw_support(support_key, transitions, meta.support_size)
        params = learner.adapt(adapt_key, prior, support, steps)
        return params + prior.params[len(params) :]

    def as_it_is(key, prior, transitions):
        return prior.params

    return {"maml": adapted, "pooled": as_it_is}[kind]


def filter_error(system: System, kind: str) -> Callable:
    """Makes `(key, prior, (transitions [N, ...], body)) -> []`: does its filter fall?

    It is the price of a filter test at the best of the thresholds (`Best`). Where the
    risk is the recovery policy's own its Bellman error says little: that of a policy
    which always falls is small.
    """
    settings, become = system.configuration, _become(system, kind, 2)
    half = system.risk, system.recovery
    thresholds = jnp.array(THRESHOLDS)

    def error(key, prior, heldout):
        transitions, task = heldout
        adapt_key, test_key = jax.random.split(key)
        params = become(adapt_key, prior, transitions)
        given = system.domain, *half, params, task, thresholds
        found = filter_test(test_key, *given, EPISODES, hold=settings.rounds.hold)
        return best_threshold(found, thresholds).price

    return error


def heldout_error(system: System, kind: str) -> Callable:
    """Makes the error that selects a prior: (key, prior, transitions [N, ...]) -> [].

    It is the Bellman error of its critic on one held-out body: of a "maml" prior after
    the inner loop that most of its outer steps take, on `support_size` of the
    transitions; of a "pooled" one as it is. Where the risk is the recovery policy's, it
    adapts too.
    """
    become = _become(system, kind, 2 if system.risk.of_recovery else 1)

    def error(key, prior, transitions):
        adapt_key, error_key = jax.random.split(key)
        critic, *policies = become(adapt_key, prior, transitions)
        policy = lambda key, seen: system.next_action(key, critic, policies, seen)  # noqa: E731
        return bellman_error(error_key, system.risk, policy, critic, transitions)

    return error


def choose_from(settings: Configuration, kind: str) -> int:
    """Returns the outer step after which a kind of prior may be kept."""
    section = getattr(settings, kind)
    first = {"best": -1, "best_of_second_half": section.steps // 2}
    return first.get(section.keep, section.steps - 1)


def training_transitions(settings: Configuration, kind: str) -> int:
    """Counts the transitions that training a kind of prior draws; 0 of "scratch"."""
    if kind == "scratch":
        return 0
    size, steps = sizes(settings)[kind], getattr(settings, kind).steps
    support = size.support if kind == "maml" else 0
    return steps * size.num_tasks * (support + size.query)
