"""An adapted filter as plain arrays, for what runs without this package.

Each of its two networks is layers of products with ReLU between them, over standardised
inputs: the critic's of (observation, action), an ensemble of K, the recovery policy's
of the observation, an ensemble of one. What conditions them (an encoding of the body,
latent vectors) is a constant once the body is known, and in the first layers.
"""

import jax
import jax.numpy as jnp

from mesa_jax.filter import SafetyFilter, outcome
from mesa_jax.networks import latent
from mesa_jax.networks.encoder import conditioned
from mesa_jax.settings import SettingError
from mesa_jax.types import Array, Params

Weights = dict[str, Array]
# threshold [], and of NAME in ("critic", "recovery") and layer n:
# NAME_mean, NAME_std [I]; NAME_kernel_n [K, I, O]; NAME_bias_n [K, 1, O]
KNOWN = {"network", "statistics", "discount", "encoder", "encoding"}


def weights(guard: SafetyFilter) -> Weights:
    """Returns the arrays that a filter of one body decides by.

    Raises:
      SettingError: if it is of several bodies, or made of other networks than ours.
    """
    if jnp.ndim(guard.threshold):
        allowed = "of one body: take the i-th by jax.tree.map(lambda x: x[i], guard)"
        raise SettingError("filter", f"one of {guard.threshold.shape} bodies", allowed)
    found = {"threshold": jnp.asarray(guard.threshold, jnp.float32)}
    for name in ("critic", "recovery"):
        params = getattr(guard, name)
        _require_known(name, params)
        seen = params["statistics"]
        mean, std = [seen.observation_mean], [seen.observation_std]
        if name == "critic":
            mean, std = [*mean, seen.action_mean], [*std, seen.action_std]
        found[f"{name}_mean"] = jnp.concatenate(mean)
        found[f"{name}_std"] = jnp.concatenate(std)
        for n, (kernel, bias) in enumerate(_layers(name, params)):
            found[f"{name}_kernel_{n}"] = kernel
            found[f"{name}_bias_{n}"] = bias[:, None]
    return found


def _require_known(name: str, params: Params) -> None:
    fields = set(params) if isinstance(params, dict) else {type(params).__name__}
    if not {"network", "statistics"} <= fields <= KNOWN:
        allowed = f"a dictionary of {', '.join(sorted(KNOWN))}: only those are exported"
        raise SettingError(f"{name} parameters", sorted(fields), allowed)


def _layers(name: str, params: Params) -> list[tuple[Array, Array]]:
    """Kernels [K, I, O] and biases [K, O] of a network's layers, in their order."""
    network = latent.generate(params["network"])
    names = [f"Dense_{n}" for n in range(len(network.get("params", ())))]
    given = network.get("params", network)
    if not names or set(given) != set(names):
        raise SettingError(f"layers of the {name}", sorted(given), "Dense_0, Dense_1 …")
    layers = conditioned(network, params)["params"]
    lead = 1 if name == "critic" else 0
    for layer in (layers[x] for x in names):
        if set(layer) != {"kernel", "bias"} or layer["kernel"].ndim != 2 + lead:
            allowed = "a kernel and a bias, of an ensemble in the critic alone"
            raise SettingError(f"a layer of the {name}", sorted(layer), allowed)
    found = [(layers[x]["kernel"], layers[x]["bias"]) for x in names]
    if lead and (outputs := found[-1][1].shape[-1]) != 1:
        raise SettingError("outputs of the critic", outputs, "1, a logit of its risk")
    return found if lead else [(kernel[None], bias[None]) for kernel, bias in found]


def decide(weights: Weights, observation: Array, proposed: Array) -> dict[str, Array]:
    """Returns action, risk, recovered and fell_back, as `filter.outcome` does.

    Args:
      weights: of one body.
      observation: [B, D]
      proposed: [B, A] in [-1, 1].
    """
    both = jnp.concatenate([observation, proposed], axis=-1)
    logits = _outputs(weights, "critic", both)[..., 0]
    rescue = jnp.tanh(_outputs(weights, "recovery", observation)[0])
    risk = jax.nn.sigmoid(jnp.max(logits, axis=0))
    return outcome(weights["threshold"], risk, observation, proposed, rescue)


def _outputs(weights: Weights, name: str, inputs: Array) -> Array:
    """Outputs [K, B, O] of a network at inputs [B, I]."""
    values = (inputs - weights[f"{name}_mean"]) / weights[f"{name}_std"]
    count = sum(key.startswith(f"{name}_kernel_") for key in weights)
    for n in range(count):
        values = values @ weights[f"{name}_kernel_{n}"] + weights[f"{name}_bias_{n}"]
        values = jax.nn.relu(values) if n < count - 1 else values
    return values
