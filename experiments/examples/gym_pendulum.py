"""A Gymnasium pendulum under a speed limit (extra gymnasium), 3 minutes on 2 cores.

python -m experiments.examples.gym_pendulum

Bodies differ in mass and in how the motor is wired. SAC learns to swing up on test
bodies; |speed| > 5 rad/s violates. With the filter, and without.
"""

import time

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

import mesa_jax as mesa
from mesa_jax.bridges import gymnasium_bodies as bodies
from mesa_jax.bridges import gymnasium_online as online

SPEED = 5.0  # rad/s


def make(body: dict) -> gymnasium.Env:
    env = gymnasium.make("Pendulum-v1")
    env.unwrapped.m = body["mass"]
    wired = gymnasium.wrappers.TransformAction(
        env, lambda torque: body["sign"] * torque, env.action_space
    )  # rewards become positive, so that to end an episode does not pay
    return gymnasium.wrappers.TransformReward(wired, lambda reward: 1 + reward / 17)


def drawn(seed: int, count: int) -> dict:
    random = np.random.default_rng(seed)
    mass, sign = random.uniform(0.5, 0.8, count), random.choice([-1.0, 1.0], count)
    return {"mass": mass, "sign": sign}


FAMILY = bodies.Family(
    make=make,
    train=drawn(0, 24),
    test=drawn(1, 6),
    violates=lambda seen, action, reached, info: abs(reached[2]) > SPEED,
)
maker = bodies.maker(FAMILY, horizon=200)
SETTINGS = {
    "data": {"train_bodies": 20, "transitions": 1000},  # the other 4 are held out
    "collect": {"collector": "sticky", "hold": 5},
    "risk": {"discount": 0.95, "violation_fraction": 0.3},
    "maml": {"steps": 600, "num_tasks": 8},
    "online": {"steps": 800, "episodes": 1000, "chunk_steps": 400},
}


def measure(
    family: bodies.Family, name: str, settings: dict, few: int, **smaller: dict
) -> None:
    """Prints what the filter is worth: on held-out transitions, then online.

    Args:
      name: of the domain, "module:maker".
      settings: by section.
      few: transitions of a test body to adapt on.
      smaller: settings over those.
    """
    keys = jax.random.split(jax.random.key(0), 8)
    config = mesa.configure(name, method="context")
    system = mesa.build(config.override(**settings).override(**smaller))
    count = system.configuration.data.transitions

    data = bodies.collect(keys[0], system, family, family.train, count)
    print(f"data: {100 * data.cost.mean():.1f} % of transitions violate")
    prior = mesa.meta_train(keys[1], system, data, method="context")

    mine = bodies.collect(keys[2], system, family, family.test, few)
    guard = mesa.adapt(keys[3], system, prior, mine, method="context")
    heldout = bodies.collect(keys[4], system, family, family.test, count)
    for name, found in mesa.heldout_metrics(keys[5], system, guard, heldout).items():
        print(f"  {name}: {jnp.nanmean(found):.3f}")

    bare = guard.replace(
        threshold=jnp.full_like(guard.threshold, jnp.inf), method="unconstrained"
    )
    both = bare, guard
    runs = online.init_runs(keys[6], system, both, family, family.test, mine)
    program = online.online_program(system, prior, method="context")
    run_keys = jax.random.split(keys[7], len(runs.bodies))
    runs, _ = program(jax.random.clone(run_keys), runs)  # compiles
    before, begun = int(runs.state.env_steps.sum()), time.perf_counter()
    runs, _ = program(run_keys, runs)
    seconds, steps = time.perf_counter() - begun, int(runs.state.env_steps.sum())
    speed = (steps - before) / seconds
    print(f"online: {steps} steps, the second half at {speed:.0f} a second")
    for name, half in zip(("SAC alone", "SAC, filter"), (0, 1), strict=True):
        states = jax.tree.map(lambda x: jnp.split(x, 2)[half], runs.state)  # noqa: B023
        hits, episodes = states.records.violation.sum(1), states.episode
        print(f"{name}: violations {hits.tolist()} in {episodes.tolist()} episodes")


def main(few: int = 50, **smaller: dict) -> None:
    """Prints what the filter is worth; `smaller` are settings over those above."""
    measure(FAMILY, f"{__name__}:maker", SETTINGS, few, **smaller)


if __name__ == "__main__":
    main()
