"""Q_risk: the discounted probability of a violation (Recovery RL, section IV.A)."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import optax

from mesa_jax import equations
from mesa_jax.networks import latent
from mesa_jax.networks.encoder import (
    HEADS,
    Encoder,
    conditioned,
    conditioned_size,
    identifier,
    set_encoder,
)
from mesa_jax.networks.mlp import (
    INITIALIZERS,
    MLP,
    ensemble_apply,
    ensemble_init,
    standardize,
)
from mesa_jax.settings import SettingError, setting, validate
from mesa_jax.types import Array, Parametrisation, Params, RiskMeasure


@dataclasses.dataclass(frozen=True)
class RiskConfig:
    """Configures the risk critic."""

    measure: str = setting(
        "violation_probability",
        "what offline targets are of: the risk of the reference policy, of the "
        "recovery policy itself (avoid), or of one step by a model of the body "
        "(dynamics)",
        choices=("violation_probability", "avoid", "dynamics"),
        flag="risk",
    )
    hidden: tuple[int, ...] = setting(
        (64, 64), "widths of the critic's layers", "[1, 10_000]"
    )
    initializer: str = setting(
        "lecun", "of the critics' kernels", choices=tuple(INITIALIZERS)
    )
    ensemble_size: int = setting(
        1, "critics; the estimate is their maximum", "[1, 100]"
    )
    error: str = setting(
        "squared",
        "of an estimate to its target: squared, or cross-entropy, which has a gradient "
        "where estimates saturate",
        choices=("squared", "entropy"),
    )
    weights: str = setting(
        "plain",
        "the critic's own, or made by latent layers (the released code)",
        choices=("plain", "latent"),
    )
    latent_size: int = setting(100, "numbers a latent layer is made of", "[1, 10_000]")
    inputs: str = setting(
        "standardized",
        "of the critic and the recovery policy",
        choices=("standardized", "raw"),
    )
    next_action: str = setting(
        "reference",
        "policy whose next action offline targets use: the reference policy, or a task "
        "policy that has learned nothing (the released code)",
        choices=("reference", "untrained"),
    )
    conditioning: str = setting(
        "none",
        "critic and recovery policy take nothing of the adaptation set, a learned "
        "encoding of it, or the body's parameters that least squares finds in it",
        choices=("none", "encoded", "identified"),
    )
    encoder: tuple[int, ...] = setting(
        (64, 64, 64),
        "widths of the encoder's layers over a transition; 8 divides the last",
        "[1, 10_000]",
    )
    encoding_size: int = setting(16, "numbers of an encoding", "[1, 10_000]")
    discount: float = setting(0.8, "gamma_risk, a step", "(0, 1)")
    horizon: float = setting(
        0.0,
        "seconds (steps in navigation) that the risk looks ahead, in place of the "
        "discount, which becomes 1 - seconds of a step / horizon; 0: as the discount "
        "says",
        "[0, 1_000_000]",
    )
    violation_fraction: float = setting(
        0.0, "share of violating rows in an offline batch; 0 draws uniformly", "[0, 1)"
    )

    def __post_init__(self):
        validate(self)
        if self.conditioning != "none" and self.weights == "latent":
            allowed = "'none' where the critic's weights are latent"
            raise SettingError("conditioning", self.conditioning, allowed)
        if self.encoder[-1] % HEADS:
            allowed = f"with a last width that {HEADS} divides"
            raise SettingError("encoder", self.encoder, allowed)


def _encoder(config: RiskConfig, bodies: Parametrisation | None) -> Encoder | None:
    if config.conditioning == "encoded":
        return set_encoder(config.encoder, config.encoding_size)
    if config.conditioning == "none":
        return None
    if bodies is None or bodies.identify is None:
        allowed = "'none' or 'encoded' where bodies' parameters are not identified"
        raise SettingError("risk_conditioning", config.conditioning, allowed)
    return identifier(bodies)


def violation_probability(
    config: RiskConfig, bodies: Parametrisation | None = None
) -> RiskMeasure:
    """Makes Q_risk(s, a) in (0, 1), learned by temporal differences.

    Of K critics Q_1, ..., Q_K the estimate is max over i of Q_i(s, a), and on a batch
    with next actions a' they minimise (Recovery RL, section IV.A)

        mean over the batch of sum over i of (Q_i(s, a) - y)^2,
        y = c + (1 - c) gamma_risk Q_risk(s', a'; target)  (`equations.risk_backup`),

    c the violation of the state *reached*: the estimate is 1 where the action violates.
    Or, with the same least, the sum of their cross-entropies
    -y log Q_i - (1 - y) log(1 - Q_i), ours: where the discount is long and all are near
    1, they bootstrap each other, and squared errors leave them there.

    Its logit is max over i of the networks' own outputs, so that its gradient does not
    vanish where Q is near 0 or 1.

    Parameters are `{"network": ..., "statistics": Statistics, "discount": gamma}`, so
    that critics of several horizons are rows of one program. With latent layers every
    function takes those and the weights made of them alike. A conditioned critic has an
    `"encoder"` and carries an `"encoding"` [E] of its body's transitions, zero until
    `encode` fills it.

    Args:
      config: networks, discount, conditioning.
      bodies: the parameters that "identified" conditioning finds of a body.

    Raises:
      SettingError: if it is asked for and there are none.
    """
    network = MLP(config.hidden, 1, config.initializer)
    encoder = _encoder(config, bodies)
    encoding_size = encoder.size if encoder else 0
    blank = {"encoding": jnp.zeros(encoding_size)} if encoder else {}

    def init(key, statistics):
        sizes = statistics.observation_mean.shape[-1], statistics.action_mean.shape[-1]
        inputs = jnp.zeros(conditioned_size(sum(sizes), encoding_size))
        members = ensemble_init(key, network, config.ensemble_size, inputs)
        if config.weights == "latent":
            latent_key = jax.random.fold_in(key, config.ensemble_size)
            members = latent.init(latent_key, members, config.latent_size)
        discount = jnp.asarray(config.discount, float)
        params = {"network": members, "statistics": statistics, "discount": discount}
        params |= blank
        if encoder:
            encoder_key = jax.random.fold_in(key, config.ensemble_size)
            params["encoder"] = encoder.init(encoder_key, statistics)
        return params

    def encode(params, rows):
        found = encoder.encode(params["encoder"], params["statistics"], rows)
        return params | {"encoding": found}

    def member_logits(params: Params, observation: Array, action: Array) -> Array:
        inputs = standardize(params["statistics"], observation, action)
        weights = conditioned(latent.generate(params["network"]), params)
        return jnp.squeeze(ensemble_apply(network, weights, inputs), -1)

    def member_risks(params: Params, observation: Array, action: Array) -> Array:
        return jax.nn.sigmoid(member_logits(params, observation, action))

    def estimate(params, observation, action):
        risks = member_risks(params, observation, action)
        return functools.reduce(jnp.maximum, risks)  # jnp.max's gradient can be 0 / 0

    def logit(params, observation, action):
        logits = member_logits(params, observation, action)
        return functools.reduce(jnp.maximum, logits)

    def target(target_params, batch, next_action):
        next_risk = estimate(target_params, batch.next_observation, next_action)
        discount = target_params["discount"] * batch.discount
        return jax.vmap(equations.risk_backup)(batch.cost, discount, next_risk)

    def loss(params, target_params, batch, next_action):
        targets = target(target_params, batch, next_action)
        logits = member_logits(params, batch.observation, batch.action)  # [K, B]
        risks = jax.nn.sigmoid(logits)
        if config.error == "entropy":
            errors = optax.sigmoid_binary_cross_entropy(logits, targets[None])
        else:
            errors = (risks - targets[None]) ** 2
        error = jnp.mean(jnp.sum(errors, axis=0))
        return error, {"risk/loss": error, "risk/mean": jnp.mean(risks)}

    reads = encode if encoder else None
    return RiskMeasure(init, estimate, target, loss, reads, encoding_size, logit)
