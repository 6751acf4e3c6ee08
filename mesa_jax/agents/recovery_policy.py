"""The recovery policy (Recovery RL, section IV.B): it descends Q_risk."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mesa_jax.networks.encoder import conditioned, conditioned_size
from mesa_jax.networks.mlp import MLP
from mesa_jax.types import Array, Params, Policy

SATURATED = 2.0  # tanh there is 0.96 and its slope 0.07


def recovery_policy(
    action_size: int,
    objective: Callable[[Params, Array, Array], Array],
    hidden: tuple[int, ...] = (64, 64),
    saturation_penalty: float = 0.1,
    encoding_size: int = 0,
    initializer: str = "lecun",
) -> Policy:
    """Makes a deterministic policy pi_rec(s) in [-1, 1]^A that descends Q_risk.

    With u the network's outputs, pi_rec(s) = tanh(u(s)), and Q the critic's estimate or
    the logit of it, it minimises over a batch

        mean Q(s, tanh(u(s))) + penalty mean max(|u(s)| - 2, 0)^2.

    Recovery RL, section IV.B (deterministic as there; the released code samples). The
    second term is ours, not the papers': outputs far into tanh's flat part are pulled
    back. Without it, a policy trained on few transitions ends where no gradient moves
    it, and goes on driving into a wall of which the critic knows.

    Args:
      action_size: A.
      objective: Q, `estimate` or `logit` of the risk measure.
      hidden: widths of the layers.
      saturation_penalty: weight of the second term.
      encoding_size: E, where the policy takes the critic's encoding of the body, which
        `condition` hands over; else 0.
      initializer: a name in `networks.mlp.INITIALIZERS`.
    """
    network = MLP(hidden, action_size, initializer)

    def init(key, statistics):
        size = statistics.observation_mean.shape[-1]
        inputs = jnp.zeros(conditioned_size(size, encoding_size))
        params = {"network": network.init(key, inputs), "statistics": statistics}
        blank = {"encoding": jnp.zeros(encoding_size)} if encoding_size else {}
        return params | blank

    def condition(params, risk_params):
        return params | {"encoding": jax.lax.stop_gradient(risk_params["encoding"])}

    def outputs(params, observation):
        statistics = jax.lax.stop_gradient(params["statistics"])
        centred = observation - statistics.observation_mean
        weights = conditioned(params["network"], params)
        return network.apply(weights, centred / statistics.observation_std)

    def act(params, observation):
        return jnp.tanh(outputs(params, observation))

    def loss(params, risk_params, observation):
        raw = outputs(params, observation)
        risk = jnp.mean(objective(risk_params, observation, jnp.tanh(raw)))
        beyond = jnp.maximum(jnp.abs(raw) - SATURATED, 0.0)
        penalty = saturation_penalty * jnp.mean(beyond**2)
        return risk + penalty, {"recovery/risk": risk}

    return Policy(init, act, loss, condition if encoding_size else None)
