"""Soft actor-critic (Haarnoja et al., 2018, arXiv 1812.05905): the task policy."""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from mesa_jax import equations
from mesa_jax.networks.mlp import (
    INITIALIZERS,
    MLP,
    ensemble_apply,
    ensemble_init,
    sample_squashed,
    squashed_gaussian,
)
from mesa_jax.settings import setting, validate
from mesa_jax.types import Array, DomainSpec, Key, Metrics, Params, State


@dataclasses.dataclass(frozen=True)
class SACConfig:
    """Configures the task policy's learner."""

    hidden: tuple[int, ...] = setting((64, 64), "widths of the layers", "[1, 10_000]")
    initializer: str = setting(  # experiments/results/sac_initializers.md
        "xavier", "of the networks' kernels", choices=tuple(INITIALIZERS)
    )
    lr: float = setting(3e-4, "Adam, actor and critics", "(0, inf)")
    discount: float = setting(0.99, "gamma, a step", "[0, 1]")
    target_rate: float = setting(0.005, "tau of the target critics", "[0, 1]")
    temperature: float = setting(
        0.2, "alpha (at the start, if it is learned)", "(0, inf)"
    )
    temperature_lr: float = setting(
        0.0, "Adam on log alpha, to an entropy of -A nats; 0 keeps alpha", "[0, inf)"
    )

    def __post_init__(self):
        validate(self)


class SACState(NamedTuple):
    """Holds the task policy: actor, twin critics with targets, temperature."""

    actor: Params
    critic: Params  # [2, ...] twin critics
    target_critic: Params
    log_temperature: Array  # []
    optimizers: tuple[State, State, State]  # actor, critic, temperature


# observations [B, D] and sampled actions [B, A] -> costs [B], metrics
ActorCost = Callable[[Array, Array], tuple[Array, Metrics]]


class SAC(NamedTuple):
    """Bundles the task policy's functions."""

    init: Callable[[Key], SACState]
    sample: Callable[[Key, SACState, Array], Array]  # observations [..., D]
    mode: Callable[[SACState, Array], Array]
    # key, state, batch, and what the actor pays besides (an ActorCost), if anything
    update: Callable[..., tuple[SACState, Metrics]]


class Losses(NamedTuple):
    """Bundles SAC's objectives; each but `targets` is minimised."""

    targets: Callable  # key, state, batch -> [B]
    critic: Callable
    actor: Callable
    temperature: Callable


def _losses(action_size: int, discount: float, q_values, distribution) -> Losses:
    """Makes the objectives of a batch (Haarnoja et al., 2018, equations 5, 7 and 18).

    critics:      mean over the batch of sum over i of (Q_i(s, a) - target)^2
    actor:        mean of alpha log pi(a'|s) - min over i of Q_i(s, a'),  a' ~ pi(s);
                  plus the mean of its costs at a', where it has any
    temperature:  mean of -alpha (log pi(a'|s) - A)
    """

    def critic_loss(params, targets, batch):
        values = q_values(params, batch.observation, batch.action)
        return jnp.mean(jnp.sum((values - targets[None]) ** 2, axis=0)), values

    def actor_loss(params, critic_params, temperature, key, observation, cost=None):
        action, log_prob = sample_squashed(key, *distribution(params, observation))
        first, second = q_values(critic_params, observation, action)
        value = jnp.minimum(first, second)  # jnp.min's gradient can be 0 / 0 in XLA
        losses = temperature * log_prob - value
        if cost is None:
            return jnp.mean(losses), (log_prob, {})
        costs, metrics = cost(observation, action)
        return jnp.mean(losses + costs), (log_prob, metrics)

    def temperature_loss(log_temperature, log_prob):
        losses = jax.vmap(equations.temperature_loss, in_axes=(None, 0, None))(
            log_temperature, log_prob, -float(action_size)
        )
        return jnp.mean(losses)

    def targets(key, state, batch):
        action, log_prob = sample_squashed(
            key, *distribution(state.actor, batch.next_observation)
        )
        next_q = q_values(state.target_critic, batch.next_observation, action)
        backup = jax.vmap(equations.soft_q_backup, in_axes=(0, 0, 1, 0, None))
        temperature = jnp.exp(state.log_temperature)
        discounts = discount * batch.discount
        return backup(batch.reward, discounts, next_q, log_prob, temperature)

    return Losses(targets, critic_loss, actor_loss, temperature_loss)


def _step(optimizer, gradient, params, state):
    updates, state = optimizer.update(gradient, state)
    return optax.apply_updates(params, updates), state


def sac(spec: DomainSpec, config: SACConfig) -> SAC:
    """Makes soft actor-critic with twin critics and a tanh-Gaussian actor.

    On raw observations, as published; objectives: `_losses`.

    Args:
      spec: of the domain, for its sizes.
      config: networks and rates.
    """
    actor = MLP(config.hidden, 2 * spec.action_size, config.initializer)
    critic = MLP(config.hidden, 1, config.initializer)
    adam, temperature_adam = optax.adam(config.lr), optax.adam(config.temperature_lr)

    def q_values(params, observation, action):  # [2, ...]
        inputs = jnp.concatenate([observation, action], axis=-1)
        return jnp.squeeze(ensemble_apply(critic, params, inputs), -1)

    def distribution(params, observation):
        return squashed_gaussian(actor.apply(params, observation))

    losses = _losses(spec.action_size, config.discount, q_values, distribution)

    def init(key):
        actor_key, critic_key = jax.random.split(key)
        inputs = jnp.zeros(spec.observation_size + spec.action_size)
        actor_params = actor.init(actor_key, jnp.zeros(spec.observation_size))
        critic_params = ensemble_init(critic_key, critic, 2, inputs)
        log_temperature = jnp.log(jnp.full((), config.temperature, inputs.dtype))
        optimizers = (
            adam.init(actor_params),
            adam.init(critic_params),
            temperature_adam.init(log_temperature),
        )
        return SACState(
            actor_params, critic_params, critic_params, log_temperature, optimizers
        )

    def sample(key, state, observation):
        return sample_squashed(key, *distribution(state.actor, observation))[0]

    def mode(state, observation):
        return jnp.tanh(distribution(state.actor, observation)[0])

    def update(key, state, batch, cost=None):
        mine = losses
        if cost is not None:
            mine = losses._replace(actor=functools.partial(losses.actor, cost=cost))
        return _update(key, state, batch, mine, adam, temperature_adam, config)

    return SAC(init, sample, mode, update)


def _update(key, state, batch, losses, adam, temperature_adam, config):
    """Takes a step of critics, actor against them, temperature and targets."""
    target_key, actor_key = jax.random.split(key)
    actor_state, critic_state, temperature_state = state.optimizers
    (critic_loss, values), gradient = jax.value_and_grad(losses.critic, has_aux=True)(
        state.critic, losses.targets(target_key, state, batch), batch
    )
    critic, critic_state = _step(adam, gradient, state.critic, critic_state)

    temperature = jnp.exp(state.log_temperature)
    (actor_loss, (log_prob, costs)), gradient = jax.value_and_grad(
        losses.actor, has_aux=True
    )(state.actor, critic, temperature, actor_key, batch.observation)
    actor, actor_state = _step(adam, gradient, state.actor, actor_state)

    gradient = jax.grad(losses.temperature)(state.log_temperature, log_prob)
    log_temperature, temperature_state = _step(
        temperature_adam, gradient, state.log_temperature, temperature_state
    )
    new_state = SACState(
        actor=actor,
        critic=critic,
        target_critic=equations.polyak(state.target_critic, critic, config.target_rate),
        log_temperature=log_temperature,
        optimizers=(actor_state, critic_state, temperature_state),
    )
    metrics = {
        "sac/critic_loss": critic_loss,
        "sac/actor_loss": actor_loss,
        "sac/q_mean": jnp.mean(values),
        "sac/entropy": -jnp.mean(log_prob),
    }
    return new_state, metrics | costs
