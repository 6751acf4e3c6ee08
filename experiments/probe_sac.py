"""How fast does SAC learn from each initial distribution of its kernels?

python -m experiments.probe_sac --output=DIR/sac_initializers.csv

A probe problem: a point on a line, x' = x + 0.1 a, from U(-1, 1), reward -x^2, in
episodes of 30 steps, seen as `scale` times x (navigation's observations are up to 50).
Prints the mean return of the last 20 of `--steps` steps' episodes over seeds.
"""

import csv
import io
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags as absl_flags

from mesa_jax.agents import SACConfig, sac
from mesa_jax.collector import collect_steps, init_collect
from mesa_jax.data import CollectConfig
from mesa_jax.networks.mlp import INITIALIZERS
from mesa_jax.report.tables import markdown
from mesa_jax.study import files
from mesa_jax.types import Domain, DomainSpec, Transition

from . import flags
from .whole import define_integer

HORIZON, EPISODES = 30, 20
SCALES = (1.0, 10.0, 50.0)
COLLECT = CollectConfig(environments=1, updates=1, start_steps=300, batch_size=64)
COLUMNS = ("initializer", "scale", "seed", "steps", "return")


def line(scale: float) -> Domain:
    """The probe problem."""

    def observe(state):
        return scale * state[None]

    def step(key, state, action, task):
        del key, task
        reached = state + 0.1 * action[0]
        return reached, Transition(
            observation=observe(state),
            action=action,
            reward=-(state**2),
            cost=jnp.zeros(()),
            discount=jnp.ones(()),
            next_observation=observe(reached),
        )

    return Domain(
        spec=DomainSpec("line", observation_size=1, action_size=1, horizon=HORIZON),
        train_tasks=None,
        test_tasks=None,
        reset=lambda key, task: jax.random.uniform(key, minval=-1.0),
        observe=observe,
        step=step,
        success=None,
        solvable=None,
        reference_policy=None,
        episode=None,
        decision_states=None,
    )


def returns(initializer: str, scale: float, steps: int, seeds: int) -> np.ndarray:
    """Mean return of the last episodes, [seeds]."""
    domain = line(scale)
    parts = domain, sac(domain.spec, SACConfig(initializer=initializer)), COLLECT

    def one(seed):
        key, run_key = jax.random.split(jax.random.fold_in(jax.random.key(0), seed))
        state = init_collect(key, *parts, (), steps)
        rewards = collect_steps(*parts, steps)(run_key, state).replay.rows.reward
        whole = rewards[: steps // HORIZON * HORIZON].reshape(-1, HORIZON)
        return jnp.mean(jnp.sum(whole, axis=1)[-EPISODES:])

    return np.asarray(jax.jit(jax.vmap(one))(jnp.arange(seeds)))


def main() -> None:
    given = absl_flags.FLAGS
    output = flags.path("output") if given.output else None
    lines = [["kernels", "scale", "return, mean", "least", "most"]]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for name, scale in itertools.product(INITIALIZERS, SCALES):
        found = returns(name, scale, given.steps, given.seeds)
        numbers = found.mean(), found.min(), found.max()
        lines.append([name, f"{scale:g}", *(f"{number:.2f}" for number in numbers)])
        about = name, scale
        table.writerows(
            (*about, i, given.steps, f"{x:.4f}") for i, x in enumerate(found)
        )
    print(markdown(lines))
    if output is not None:
        files.write_atomically(output, text.getvalue())


if __name__ == "__main__":
    define_integer("steps", 2500, "environment steps, an update each", 600)
    define_integer("seeds", 16, "runs of each", 2)
    absl_flags.DEFINE_string("output", None, "a CSV file to write")
    flags.run(main)
