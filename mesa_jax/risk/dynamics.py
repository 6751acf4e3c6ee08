"""A model of the body: an ensemble that predicts steps, and whether they violate."""

import jax
import jax.numpy as jnp
import optax

from mesa_jax.networks.mlp import MLP, ensemble_apply, ensemble_init, standardize
from mesa_jax.risk.violation import RiskConfig
from mesa_jax.settings import SettingError
from mesa_jax.types import Array, Parametrisation, Params, Prediction, RiskMeasure

LOG_VARIANCE = (-10.0, 0.5)  # of a standardised prediction; approached, never passed


def dynamics(config: RiskConfig, bodies: Parametrisation | None = None) -> RiskMeasure:
    """Makes the probability that the next state violates, from a model of the body.

    A probabilistic ensemble (Chua et al., 2018, arXiv 1805.12114, "PETS") with a head
    for violations (Zhang et al., 2020, arXiv 2008.06622, "CARL"). Member i maps (s, a)
    to mean m_i and variance v_i of y, the change of state and the reward, each in its
    standard deviations over the data, and to the logit l_i of a violation c. They
    minimise

        mean over the batch of sum over i of
            mean over y of ((y - m_i)^2 / v_i + log v_i) / 2
            - w c log sigmoid(l_i) - (1 - c) log(1 - sigmoid(l_i)),

    w the batch's rows without a violation over those with one. So the estimate,
    sigmoid(mean over i of l_i), is the probability where both are equally frequent, and
    of one step: it looks no further, and has no bootstrap target. What lies ahead a
    planner asks `predict`.

    Args:
      config: networks and members; its discount and targets play no part.
      bodies: unused.

    Raises:
      SettingError: where the configuration conditions it, or makes its weights.
    """
    del bodies
    for name, value, allowed in (
        ("conditioning", config.conditioning, "none"),
        ("weights", config.weights, "plain"),
    ):
        if value != allowed:
            raise SettingError(f"risk_{name}", value, f"{allowed} (--risk=dynamics)")

    def network(observation_size: int) -> MLP:
        return MLP(config.hidden, 2 * (observation_size + 1) + 1, config.initializer)

    def init(key, statistics):
        sizes = statistics.observation_mean.shape[-1], statistics.action_mean.shape[-1]
        inputs = jnp.zeros(sum(sizes))
        members = ensemble_init(key, network(sizes[0]), config.ensemble_size, inputs)
        return {"network": members, "statistics": statistics}

    def parted(outputs: Array) -> tuple[Array, Array, Array]:
        """Means and log-variances [..., D + 1], and logits of a violation [...]."""
        mean, log_variance = jnp.split(outputs[..., :-1], 2, axis=-1)
        low, high = LOG_VARIANCE
        log_variance = high - jax.nn.softplus(high - log_variance)
        log_variance = low + jax.nn.softplus(log_variance - low)
        return mean, log_variance, outputs[..., -1]

    def members(params: Params, observation: Array, action: Array):
        inputs = standardize(params["statistics"], observation, action)
        module = network(observation.shape[-1])
        return parted(ensemble_apply(module, params["network"], inputs))

    def predict(params, observation, action):
        fixed = jax.lax.stop_gradient(params["statistics"])
        inputs = standardize(params["statistics"], observation, action)
        module = network(observation.shape[-1])
        outputs = jax.vmap(module.apply)(params["network"], inputs)
        mean, log_variance, logits = parted(outputs)
        scale = jnp.append(fixed.change_std, fixed.reward_std)
        reward = jnp.broadcast_to(fixed.reward_mean, (*observation.shape[:-1], 1))
        start = jnp.concatenate([observation, reward], axis=-1)
        spread = scale * jnp.exp(0.5 * log_variance)
        return Prediction(start + scale * mean, spread, jax.nn.sigmoid(logits))

    def logit(params, observation, action):
        return jnp.mean(members(params, observation, action)[-1], axis=0)

    def estimate(params, observation, action):
        return jax.nn.sigmoid(logit(params, observation, action))

    def target(target_params, batch, next_action):
        del target_params, next_action
        return batch.cost

    def loss(params, target_params, batch, next_action):
        del target_params, next_action
        mean, log_variance, logits = members(params, batch.observation, batch.action)
        fixed = jax.lax.stop_gradient(params["statistics"])
        moved = (batch.next_observation - batch.observation) / fixed.change_std
        earned = (batch.reward - fixed.reward_mean) / fixed.reward_std
        asked = jnp.concatenate([moved, earned[..., None]], axis=-1)
        squares = (asked[None] - mean) ** 2 * jnp.exp(-log_variance)
        likelihood = jnp.mean(0.5 * (squares + log_variance), axis=-1)  # [K, B]
        violating = jnp.sum(batch.cost)
        weight = (batch.cost.size - violating) / jnp.maximum(violating, 1.0)
        weights = jnp.where(batch.cost > 0.5, weight, 1.0)
        entropy = optax.sigmoid_binary_cross_entropy(logits, batch.cost[None])
        errors = likelihood + weights[None] * entropy
        error = jnp.mean(jnp.sum(errors, axis=0))
        return error, {
            "risk/loss": error,
            "risk/mean": jnp.mean(jax.nn.sigmoid(logits)),
            "risk/prediction": jnp.mean(likelihood),
        }

    return RiskMeasure(init, estimate, target, loss, logit=logit, predict=predict)
