"""Networks as pure functions: `init` and `apply` of flax modules."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from mesa_jax.types import Array, Key, Params, Statistics

INITIALIZERS = {  # of kernels; biases are zero at first
    "lecun": nn.initializers.lecun_normal(),
    "xavier": nn.initializers.xavier_uniform(),  # the released code's SAC and baselines
    "torch": nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform"),
}
LOG_STD_RANGE = (-20.0, 2.0)  # SAC, appendix D


class MLP(nn.Module):
    """Maps inputs through layers with ReLU between them.

    `initializer` is a name in `INITIALIZERS`.
    """

    hidden: tuple[int, ...]
    outputs: int
    initializer: str = "lecun"

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        """Maps [..., D] to [..., outputs]."""
        start = INITIALIZERS[self.initializer]
        for width in self.hidden:
            inputs = nn.relu(nn.Dense(width, kernel_init=start)(inputs))
        return nn.Dense(self.outputs, kernel_init=start)(inputs)


def head(params: Params) -> Params:
    """Returns bools like parameters of an `MLP`: whether a tensor is of its last layer.

    Tensors beside its "network" are not.
    """
    layers = params["network"]["params"]
    last = ("network", "params", f"Dense_{len(layers) - 1}")
    return jax.tree_util.tree_map_with_path(
        lambda path, _: tuple(getattr(key, "key", None) for key in path[:3]) == last,
        params,
    )


def standardize(statistics: Statistics, observation: Array, action: Array) -> Array:
    """Returns the network's input [..., D + A]; no gradient reaches the statistics.

    Args:
      statistics: means and standard deviations, [D] and [A].
      observation: [..., D]
      action: [..., A]
    """
    fixed = jax.lax.stop_gradient(statistics)
    return jnp.concatenate(
        [
            (observation - fixed.observation_mean) / fixed.observation_std,
            (action - fixed.action_mean) / fixed.action_std,
        ],
        axis=-1,
    )


def ensemble_init(key: Key, module: nn.Module, size: int, inputs: Array) -> Params:
    """Makes parameters of `size` independent members, stacked on a leading axis K.

    Args:
      key: consumed.
      module: of a member.
      size: K.
      inputs: [D], of which only the shape matters.
    """
    members = jnp.arange(size)
    return jax.vmap(lambda i: module.init(jax.random.fold_in(key, i), inputs))(members)


def ensemble_apply(module: nn.Module, params: Params, inputs: Array) -> Array:
    """Returns every member's outputs at the same inputs, [K, ..., outputs].

    Args:
      module: of a member.
      params: [K, ...]
      inputs: [..., D]
    """
    return jax.vmap(module.apply, in_axes=(0, None))(params, inputs)


def squashed_gaussian(outputs: Array) -> tuple[Array, Array]:
    """Returns mean and standard deviation before tanh, [..., A] each.

    Args:
      outputs: [..., 2 A] of a network: mean, then logarithm of the deviation.
    """
    mean, log_std = jnp.split(outputs, 2, axis=-1)
    return mean, jnp.exp(jnp.clip(log_std, *LOG_STD_RANGE))


def sample_squashed(key: Key, mean: Array, std: Array) -> tuple[Array, Array]:
    """Draws from tanh(N(mean, std)); returns samples [..., A], log-densities [...].

    SAC, appendix C: log pi(a) = log N(u) - sum log(1 - tanh(u)^2), here in the form 2
    (log 2 - u - softplus(-2u)) that does not lose digits for large |u|.

    Args:
      key: consumed.
      mean: [..., A]
      std: [..., A], above 0.
    """
    noise = jax.random.normal(key, mean.shape)
    raw = mean + std * noise
    log_normal = -0.5 * noise**2 - jnp.log(std) - 0.5 * jnp.log(2.0 * jnp.pi)
    log_slope = 2.0 * (jnp.log(2.0) - raw - jax.nn.softplus(-2.0 * raw))
    return jnp.tanh(raw), jnp.sum(log_normal - log_slope, axis=-1)
