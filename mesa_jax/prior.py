"""The safety half as parts of a prior: risk critic, then recovery policy."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mesa_jax.types import (
    Array,
    Key,
    Params,
    Part,
    Policy,
    RiskMeasure,
    Statistics,
    Transition,
    WeightSpace,
)

MIN_STD = 1e-3  # of a standardised input that hardly varies
NEXT_ACTIONS = 8  # drawn a row for the Bellman error's target


def statistics(rows: Transition) -> Statistics:
    """Mean and standard deviation of observations and actions over all leading axes."""

    def moments(values):
        flat = values.reshape(-1, values.shape[-1])
        return jnp.mean(flat, axis=0), jnp.maximum(jnp.std(flat, axis=0), MIN_STD)

    return Statistics(*moments(rows.observation), *moments(rows.action))


def input_statistics(rows: Transition, inputs: str, changes: bool) -> Statistics:
    """What networks standardise by: the rows' statistics, or nothing where "raw".

    `changes` asks for those of the change of state too, which encoders take.
    """
    found = statistics(rows)
    if inputs == "raw":
        means, stds = (found.observation_mean, found.action_mean), found[1:4:2]
        zeros, ones = map(jnp.zeros_like, means), map(jnp.ones_like, stds)
        found = Statistics(*(x for pair in zip(zeros, ones, strict=True) for x in pair))
    if not changes:
        return found
    moved = (rows.next_observation - rows.observation).reshape(
        -1, rows.observation.shape[-1]
    )
    return found._replace(change_std=jnp.maximum(jnp.std(moved, axis=0), MIN_STD))


def safety_parts(
    risk: RiskMeasure,
    recovery: Policy,
    reference_policy: Callable,
    anchor: float,
    outer_target: str = "adapted",
    space: WeightSpace | None = None,
    recovery_beside: bool = False,
) -> tuple[Part, Part]:
    """Risk critic, then recovery policy, as parts of a prior (protocol: inner loop).

    The critic's outer loss is the TD loss of the adapted critic on the query, its
    target from the adapted critic itself (or, `outer_target` "inner", from the inner
    loop's last target), plus `anchor` times the ordinary TD loss of the un-adapted
    critic. The recovery policy's is the risk that the adapted critic, held fixed,
    gives its actions; or (`recovery_beside`, the released code: paper.md 2.4) it is not
    meta-learned at all, and descends beside the critic. Where the measure encodes, the
    critic begins from its encoding of the support and the policy takes it over.
    """

    def critic_inner(key, params, target, batch, given):
        del given
        next_action = reference_policy(key, batch.next_observation)
        return risk.loss(params, target, batch, next_action)

    def critic_outer(key, prior, adapted, target, batch, given):
        adapted_key, prior_key = jax.random.split(key)
        asked = {"adapted": adapted, "inner": target}[outer_target]
        loss, metrics = critic_inner(adapted_key, adapted, asked, batch, given)
        if isinstance(anchor, float) and anchor == 0.0:  # a sweep's is traced
            return loss, metrics
        prior_loss, _ = critic_inner(prior_key, prior, prior, batch, given)
        return loss + anchor * prior_loss, metrics | {"risk/prior_loss": prior_loss}

    def recovery_inner(key, params, target, batch, given):
        del key, target
        return recovery.loss(params, given[0], batch.observation)

    def recovery_outer(key, prior, adapted, target, batch, given):
        return recovery_inner(key, adapted, target, batch, given)

    def critic_begin(params, support, given):
        del given
        return risk.encode(params, support)

    def recovery_begin(params, support, given):
        del support
        return recovery.condition(params, given[0])

    critic = Part(critic_inner, critic_outer, space)
    policy = Part(recovery_inner, recovery_outer, beside=recovery_beside)
    if risk.encode is None:
        return critic, policy
    return critic._replace(begin=critic_begin), policy._replace(begin=recovery_begin)


def init_params(
    key: Key, risk: RiskMeasure, recovery: Policy, inputs: Statistics
) -> tuple[Params, Params]:
    """Fresh parameters of both parts."""
    risk_key, recovery_key = jax.random.split(key)
    return risk.init(risk_key, inputs), recovery.init(recovery_key, inputs)


def bellman_error(
    key: Key,
    risk: RiskMeasure,
    reference_policy: Callable,
    params: Params,
    rows: Transition,
) -> Array:
    """Squared Bellman error of a critic on one body's rows [N, ...], [].

    The target is averaged over several next actions, so that their spread is no error.
    """
    keys = jax.random.split(key, NEXT_ACTIONS)
    actions = jax.vmap(reference_policy, in_axes=(0, None))(keys, rows.next_observation)
    targets = jax.vmap(risk.target, in_axes=(None, None, 0))(params, rows, actions)
    estimates = risk.estimate(params, rows.observation, rows.action)
    return jnp.mean((estimates - jnp.mean(targets, axis=0)) ** 2)
