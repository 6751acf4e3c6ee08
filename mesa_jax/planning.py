"""Planning in a learned model: the cross-entropy method over sampled trajectories."""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from mesa_jax.settings import SettingError, setting, validate
from mesa_jax.types import Array, Key, Params, Predict

START_STD = (
    0.5  # of each action before the first iteration (PETS: a quarter of [-1, 1])
)


@dataclasses.dataclass(frozen=True)
class PlannerConfig:
    """Configures the planner of agents that have a model."""

    horizon: int = setting(10, "steps of a plan", "[1, 1_000]")
    candidates: int = setting(64, "plans an iteration", "[1, 100_000]")
    elites: int = setting(
        8, "best plans, that the next iteration is fitted to", "[1, 100_000]"
    )
    iterations: int = setting(3, "of the cross-entropy method", "[1, 1_000]")
    smoothing: float = setting(
        0.1, "weight of the last iteration's mean and variance", "[0, 1)"
    )
    particles: int = setting(
        5, "trajectories a plan, as many of each member of the model", "[1, 10_000]"
    )
    worst: float = setting(
        1.0,
        "share of a plan's particles, the costliest, that it is judged by",
        "(0, 1]",
    )
    price: float = setting(
        10_000.0,
        "of a predicted step whose probability of a violation exceeds the risk "
        "threshold",
        "[0, inf)",
    )

    def __post_init__(self):
        validate(self)
        if self.elites > self.candidates:
            allowed = f"at most planner_candidates ({self.candidates})"
            raise SettingError("elites", self.elites, allowed)


def cross_entropy(
    key: Key, cost: Callable[[Key, Array], Array], config: PlannerConfig, size: int
) -> Array:
    """Returns the plan [H, A] in [-1, 1] that the cross-entropy method ends with.

    As PETS has it: plans are drawn from a Gaussian cut at two standard deviations, each
    at most half-way to a bound; mean and variance of the elites, smoothed, are the next
    one's. It begins anew at every step, with no action.

    Args:
      key: consumed.
      cost: (key, plans [N, H, A]) -> [N]; what is not finite is never an elite before
        what is.
      config: of the search.
      size: A.
    """
    shape = config.horizon, size

    def iteration(carry, i):
        mean, variance = carry
        draw_key, cost_key = jax.random.split(jax.random.fold_in(key, i))
        room = jnp.minimum(mean + 1.0, 1.0 - mean) / 2.0
        std = jnp.minimum(jnp.sqrt(variance), room)
        drawn = (config.candidates, *shape)
        noise = jax.random.truncated_normal(draw_key, -2.0, 2.0, drawn)
        plans = mean + std * noise
        costs = cost(cost_key, plans)
        costs = jnp.where(jnp.isfinite(costs), costs, jnp.inf)
        elites = plans[jax.lax.top_k(-costs, config.elites)[1]]
        keep = config.smoothing
        mean = keep * mean + (1.0 - keep) * jnp.mean(elites, axis=0)
        variance = keep * variance + (1.0 - keep) * jnp.var(elites, axis=0)
        return (mean, variance), None

    start = jnp.zeros(shape), jnp.full(shape, START_STD**2)
    return jax.lax.scan(iteration, start, jnp.arange(config.iterations))[0][0]


def imagined_cost(
    key: Key,
    predict: Predict,
    params: Params,
    observation: Array,
    plans: Array,
    threshold: Array,
    config: PlannerConfig,
    members: int,
) -> Array:
    """Returns what each plan costs by a model, [N].

    Of each member a particle follows the plan, noise drawn at each step ("TS-infinity",
    Chua et al., 2018); it costs

        sum over steps of -reward + price [probability of a violation > threshold],

    and a plan the mean of its costliest `worst` particles: of all, or those that a
    careful agent looks at (CARL-Reward; Zhang et al., 2020).

    Args:
      key: consumed.
      predict: the model's.
      params: of its members.
      observation: [D]
      plans: [N, H, A]
      threshold: [] above which a step counts as a violation; inf: none does.
      config: of the planner.
      members: K, of the model.
    """
    count, size = len(plans), observation.shape[-1]
    lead = members, count, config.particles // members

    def step(states, now):
        i, actions = now  # actions [N, A]
        each = jnp.broadcast_to(actions[:, None], (*lead, actions.shape[-1]))
        expected = predict(params, states, each)
        mean, std = expected.mean[..., :size], expected.std[..., :size]
        noise = jax.random.normal(jax.random.fold_in(key, i), mean.shape)
        states = mean + std * noise
        caught = expected.violation > threshold
        return states, config.price * caught - expected.mean[..., size]

    steps = jnp.arange(plans.shape[1]), jnp.swapaxes(plans, 0, 1)
    start = jnp.broadcast_to(observation, (*lead, size))
    costs = jax.lax.scan(step, start, steps)[1].sum(0)
    costs = jnp.moveaxis(costs, 1, 0).reshape(count, -1)  # [N, P]
    judged = math.ceil(config.worst * costs.shape[1] - 1e-6)
    return jnp.mean(jax.lax.top_k(costs, judged)[0], axis=-1)
