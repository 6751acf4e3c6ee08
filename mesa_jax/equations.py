"""The method's equations, each for one example; callers `vmap`.

Papers: MESA (Luo et al., 2021, arXiv 2112.03575), Recovery RL (Thananjeyan et al.,
2021, arXiv 2010.15920), SAC (Haarnoja et al., 2018, arXiv 1812.05905), MAML (Finn et
al., 2017, arXiv 1703.03400), RCPO (Tessler et al., 2018, arXiv 1805.11074).
"""

import chex
import jax
import jax.numpy as jnp

from mesa_jax.types import Array, Decision, Params


def risk_backup(cost: Array, discount: Array, next_risk: Array) -> Array:
    """Returns the target of Q_risk: 1 at a violation, else the discounted next risk.

    Recovery RL, section IV.A: c + (1 - c) gamma_risk Q_risk(s', a').

    Args:
      cost: [] violation indicator of the state reached, 0 or 1.
      discount: [] gamma_risk times the transition's own (0 where it terminated).
      next_risk: [] estimate at the state reached, in [0, 1].
    """
    chex.assert_rank([cost, discount, next_risk], 0)
    return jax.lax.stop_gradient(cost + (1.0 - cost) * discount * next_risk)


def recovery_switch(
    risk: Array, threshold: float | Array, proposed: Array, rescue: Array
) -> Decision:
    """Returns what is executed, by Recovery RL's switch (section IV).

    a = pi_rec(s) where Q_risk(s, a_task) > epsilon_risk, else a_task.

    Args:
      risk: [...] Q_risk(s, a_task) of the proposed action.
      threshold: [] epsilon_risk.
      proposed: [..., A] a_task.
      rescue: [..., A] pi_rec(s).
    """
    recovered = risk > threshold
    action = jnp.where(recovered[..., None], rescue, proposed)
    return Decision(action, proposed, recovered)


def soft_q_backup(
    reward: Array,
    discount: Array,
    next_q: Array,
    next_log_prob: Array,
    temperature: Array,
) -> Array:
    """Returns SAC's target: r + gamma (min Q(s', a') - alpha log pi(a'|s')) (eq. 3).

    Args:
      reward: [] r.
      discount: [] gamma times the transition's own (0 where it terminated).
      next_q: [K] target critics at the next state and a sampled action; K = 2.
      next_log_prob: [] log pi(a'|s') of that action.
      temperature: [] alpha.
    """
    chex.assert_rank([reward, discount, next_log_prob, next_q], [0, 0, 0, 1])
    soft_value = jnp.min(next_q) - temperature * next_log_prob
    return jax.lax.stop_gradient(reward + discount * soft_value)


def temperature_loss(
    log_temperature: Array, log_prob: Array, target_entropy: float
) -> Array:
    """Returns SAC's temperature objective: -alpha (log pi + target), equation 18.

    Args:
      log_temperature: [] log alpha.
      log_prob: [] log pi(a|s) of a sampled action.
      target_entropy: in nats.
    """
    chex.assert_rank([log_temperature, log_prob], 0)
    excess = jax.lax.stop_gradient(log_prob + target_entropy)
    return -jnp.exp(log_temperature) * excess


def penalised_reward(reward: Array, multiplier: Array, cost: Array) -> Array:
    """Returns a reward less its price of risk: r - lambda c (RCPO, equation 10).

    Args:
      reward: [] r.
      multiplier: [] lambda.
      cost: [] c: a violation, 0 or 1, or Q_risk(s, a) in its place, which then also
        counts violations to come (Recovery RL's comparison).
    """
    chex.assert_rank([reward, multiplier, cost], 0)
    return jax.lax.stop_gradient(reward - multiplier * cost)


def multiplier_loss(log_multiplier: Array, excess: Array) -> Array:
    """Returns the dual objective -log lambda (Q_risk - epsilon_risk), to descend.

    Recovery RL's released code: its gradient in log lambda is that of dual ascent
    without the factor lambda. lambda grows while the constraint is violated.

    Args:
      log_multiplier: [] log lambda.
      excess: [] mean Q_risk(s, a) - epsilon_risk; above 0 where it is violated.
    """
    chex.assert_rank([log_multiplier, excess], 0)
    return -log_multiplier * jax.lax.stop_gradient(excess)


def polyak(target: Params, online: Params, rate: float | Array) -> Params:
    """Moves targets a share of the way to the online parameters.

    target + rate (online - target): a `rate` of 0 leaves them, 1 copies `online`.

    Args:
      target: parameters of the target network.
      online: like them.
      rate: [] tau, in [0, 1].
    """
    return jax.tree.map(lambda t, o: t + rate * (o - t), target, online)


def sgd(params: Params, gradients: Params, rates: Params) -> Params:
    """Takes MAML's inner step: params - alpha gradient, one alpha a tensor."""
    return jax.tree.map(lambda p, g, a: p - a * g, params, gradients, rates)


def inverse_softplus(value: float | Array) -> Array:
    """Returns rho with softplus(rho) = value; learned rates are softplus(rho).

    Args:
      value: [] above 0.
    """
    return value + jnp.log(-jnp.expm1(-value))


def select(condition: Array, new: Params, old: Params) -> Params:
    """Returns `new` where a condition holds, else `old`; for small trees, no replay.

    Args:
      condition: [] bool.
      new: any tree.
      old: like it.
    """
    return jax.tree.map(lambda n, o: jnp.where(condition, n, o), new, old)
