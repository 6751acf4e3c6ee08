"""The safety half as parts of a prior: risk critic, then recovery policy.

Its objectives are written in `safety_parts`; the losses that they are made of in
`risk.violation` and `agents.recovery`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mesa_jax.networks.mlp import head
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
NEXT_ACTIONS = 8  # drawn a transition for the Bellman error's target


def statistics(transitions: Transition) -> Statistics:
    """Returns mean and standard deviation of observations and actions.

    Args:
      transitions: [..., D] and [..., A]; all leading axes are averaged over.
    """

    def moments(values):
        flat = values.reshape(-1, values.shape[-1])
        return jnp.mean(flat, axis=0), jnp.maximum(jnp.std(flat, axis=0), MIN_STD)

    observation_mean, observation_std = moments(transitions.observation)
    action_mean, action_std = moments(transitions.action)
    return Statistics(observation_mean, observation_std, action_mean, action_std)


def input_statistics(
    transitions: Transition, inputs: str, changes: bool, rewards: bool = False
) -> Statistics:
    """Returns the statistics that networks standardise their inputs by.

    Args:
      transitions: [..., D] and [..., A].
      inputs: "standardized" by the transitions' own, or "raw": mean 0 and deviation 1.
      changes: whether the change of state is standardised too (encoders, models).
      rewards: whether rewards are (models).
    """
    found = statistics(transitions)
    if inputs == "raw":
        found = Statistics(
            observation_mean=jnp.zeros_like(found.observation_mean),
            observation_std=jnp.ones_like(found.observation_std),
            action_mean=jnp.zeros_like(found.action_mean),
            action_std=jnp.ones_like(found.action_std),
        )
    if changes:
        moved = transitions.next_observation - transitions.observation
        moved = moved.reshape(-1, moved.shape[-1])
        spread = jnp.maximum(jnp.std(moved, axis=0), MIN_STD)
        found = found._replace(change_std=spread)
    if rewards:
        reward, spread = transitions.reward, jnp.std(transitions.reward)
        found = found._replace(
            reward_mean=jnp.mean(reward), reward_std=jnp.maximum(spread, MIN_STD)
        )
    return found


def judged(risk: RiskMeasure, recovery: Policy, reference_policy: Callable) -> Callable:
    """Makes `(key, critic, policies, observations [B, D]) -> next actions [B, A]`.

    They are those of the policy that the risk is the risk *of*: the reference policy,
    or the recovery policy, `policies[0]`, which then knows of its body what the critic
    knows.

    Args:
      risk: says which.
      recovery: the policy that descends the risk.
      reference_policy: (key, observations [B, D]) -> actions [B, A].
    """

    def of_reference(key, critic, policies, observation):
        del critic, policies
        return reference_policy(key, observation)

    def of_recovery(key, critic, policies, observation):
        del key
        (policy,) = policies
        if recovery.condition is not None:
            policy = recovery.condition(policy, critic)
        return recovery.act(policy, observation)

    return of_recovery if risk.of_recovery else of_reference


def safety_parts(
    risk: RiskMeasure,
    recovery: Policy,
    reference_policy: Callable,
    anchor: float,
    outer_target: str = "adapted",
    space: WeightSpace | None = None,
    recovery_beside: bool = False,
) -> tuple[Part, Part]:
    """Returns risk critic and recovery policy, in this order, as parts of a prior.

    With phi the prior's critic, phi' the adapted one, psi' the adapted recovery policy,
    and TD(phi; phi_target) the critic's loss (risk.violation) on a batch, next actions
    those of `judged`, they minimise

        inner, critic:     TD(phi'; target) on the support (protocol: inner loop),
        outer, critic:     TD(phi'; phi') + anchor TD(phi; phi) on the query,
        inner, recovery:   mean Q_risk(s, pi_psi'(s); phi') + penalty on the support,
        outer, recovery:   the same on the query, with phi' held fixed.

    The anchor is ours. A risk of the recovery policy is in the inner loop that of the
    prior's, psi, which adapts later; in the outer loss that of psi'. Where the measure
    encodes, the critic begins from its encoding
    of the support and the policy takes it over.

    Args:
      risk: the critic's measure.
      recovery: the policy that descends it.
      reference_policy: (key, observations [B, D]) -> actions [B, A].
      anchor: weight of the un-adapted critic's own loss.
      outer_target: "adapted", or "inner": the critic that the outer loss bootstraps
        from is the inner loop's last target (the released code).
      space: of the critic's weights; None: plain.
      recovery_beside: whether the recovery policy is not meta-learned, and descends
        beside the un-adapted critic (the released code).
    """

    next_action = judged(risk, recovery, reference_policy)

    def critic_inner(key, params, target, batch, given):
        asked = next_action(key, params, given, batch.next_observation)
        return risk.loss(params, target, batch, asked)

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

    critic = Part(critic_inner, critic_outer, space, head=head)
    policy = Part(recovery_inner, recovery_outer, beside=recovery_beside, head=head)
    if risk.encode is None:
        return critic, policy
    return critic._replace(begin=critic_begin), policy._replace(begin=recovery_begin)


def init_params(
    key: Key, risk: RiskMeasure, recovery: Policy, inputs: Statistics
) -> tuple[Params, Params]:
    """Makes fresh parameters of both parts: risk critic, recovery policy.

    Args:
      key: consumed.
      risk: makes the first.
      recovery: makes the second.
      inputs: what both standardise by, [D] and [A].
    """
    risk_key, recovery_key = jax.random.split(key)
    return risk.init(risk_key, inputs), recovery.init(recovery_key, inputs)


def bellman_error(
    key: Key,
    risk: RiskMeasure,
    policy: Callable,
    params: Params,
    transitions: Transition,
) -> Array:
    """Returns the squared Bellman error of a critic on one body, [].

    mean over transitions of (Q_risk(s, a) - mean over a' of target(s, a, s', a'))^2:
    the target is averaged over `NEXT_ACTIONS` next actions, so that their spread is no
    error.

    Args:
      key: consumed.
      risk: the critic's measure.
      policy: (key, observations [N, D]) -> next actions [N, A]; whose risk it is.
      params: of the critic.
      transitions: [N, ...] of the body.
    """
    keys = jax.random.split(key, NEXT_ACTIONS)
    actions = jax.vmap(policy, in_axes=(0, None))(keys, transitions.next_observation)
    targets = jax.vmap(risk.target, in_axes=(None, None, 0))(
        params, transitions, actions
    )
    estimates = risk.estimate(params, transitions.observation, transitions.action)
    return jnp.mean((estimates - jnp.mean(targets, axis=0)) ** 2)
