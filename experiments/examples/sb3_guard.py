"""SAC of Stable-Baselines3, bare and guarded; extras gymnasium and sb3, 4 minutes.

python -m experiments.examples.sb3_guard --workdir=DIR

It learns navigation in bodies that it does not know, and half-way a motor reverses. Its
code is the same in both runs; the environment's `step` is guarded in one of them. The
prior is read from the workdir; a new one is made with a small prior of its own.
"""

import time

import jax
import numpy as np
from absl import flags as absl_flags

import mesa_jax as mesa
from mesa_jax.bridges import gymnasium as bridge
from mesa_jax.bridges import needed
from mesa_jax.filter import METHOD
from mesa_jax.report import tables
from mesa_jax.report.curves import STEPS_TAKEN, counts
from mesa_jax.report.statistics import Curve
from mesa_jax.study import files, resolve, store
from mesa_jax.study.artifacts.priors import trained_prior

from .. import flags
from ..figures import save_figures

gymnasium = bridge.gymnasium
SMALL = {"maml": {"steps": 1000}, "data": {"adaptation": 50}}
COUNTED = ("cost", "is_success", "recovered")
HEAD = ("violations before", "after the fault", "successes", "interventions")


class Timed:
    """Keeps the seconds that each decision of a guard takes."""

    def __init__(self, guard):
        self.guard, self.seconds = guard, []

    def __call__(self, *given):
        start = time.perf_counter()
        action = self.guard(*given)
        self.seconds.append(time.perf_counter() - start)
        return action

    def __getattr__(self, name):
        return getattr(self.guard, name)


class Recorder(gymnasium.Wrapper):
    """Keeps what `info` says of every step."""

    def __init__(self, env):
        super().__init__(env)
        self.rows = []

    def step(self, action):
        *found, info = self.env.step(action)
        self.rows.append([float(info.get(name, 0.0)) for name in COUNTED])
        return *found, info


def learned(env, steps: int, seed: int) -> np.ndarray:
    """Lets SAC learn in an environment; returns what was counted, [steps, 3]."""
    sac = needed("stable_baselines3", "sb3").SAC
    recorder = Recorder(env)
    sac("MlpPolicy", recorder, seed=seed, device="cpu").learn(steps)
    return np.array(recorder.rows)


def prior_of(workdir) -> mesa.TrainedPrior:
    """Reads the prior; in a new workdir meta-trains a small one."""
    if not store.stored_settings(workdir):
        settings = resolve.resolve("navigation1", "flip", "quick", SMALL)
        with store.opened(workdir, settings):
            trained_prior(mesa.Study(workdir, settings).of(METHOD), "maml")
    return mesa.load(workdir)


def totals(run: np.ndarray, onset: int) -> list[float]:
    """Returns what `HEAD` names of a run, [steps, 3] as `learned` gives it."""
    cost, success, recovered = run.T
    return [cost[:onset].sum(), cost[onset:].sum(), success.sum(), recovered.sum()]


def kept(workdir, found: dict[str, list[np.ndarray]], onset: int) -> str:
    """Writes what was counted of each body (sb3_guard.csv); returns the means."""
    lines, means = [",".join(("agent", "body", *HEAD))], [["agent", *HEAD]]
    for name, runs in found.items():
        rows = np.array([totals(run, onset) for run in runs])
        for body, row in enumerate(rows):
            lines.append(",".join(map(str, (name.replace(",", ""), body, *row))))
        means.append([name, *(f"{x:.1f}" for x in rows.mean(axis=0))])
    files.write_atomically(workdir / "sb3_guard.csv", "\n".join(lines) + "\n")
    return tables.markdown(means)


def main() -> None:
    given, workdir = absl_flags.FLAGS, flags.workdir()
    needed("torch", "sb3").set_num_threads(1)
    prior, onset = prior_of(workdir), given.steps // 2
    domain, fault = prior.system.domain, f"reversed:part=1,onset={onset}"
    found, seconds = {"SAC": [], "SAC, guarded": []}, []
    for seed in range(given.bodies):
        keys = jax.random.split(jax.random.key(seed), 3)
        bodies = domain.test_tasks(keys[0], 1)
        body = jax.tree.map(lambda x: x[0], bodies)
        few = mesa.collect(keys[1], prior.system, bodies, count=50, among=500)
        few = jax.tree.map(lambda x: x[0], few)
        guard = Timed(prior.guard(few, keys[2]))
        bare = bridge.DomainEnv(domain, body, fault)
        guarded = bridge.GuardedEnv(bridge.DomainEnv(domain, body, fault), guard)
        found["SAC"].append(learned(bare, given.steps, seed))
        found["SAC, guarded"].append(learned(guarded, given.steps, seed))
        seconds += guard.seconds
    print(kept(workdir, found, onset))
    half, most = 1e3 * np.percentile(seconds, [50, 99])
    print(f"a decision: p50 {half:.2f} ms, p99 {most:.2f} ms ({len(seconds)} of them)")

    def curves(column):
        runs = {n: np.cumsum(np.array(r)[..., column], 1) for n, r in found.items()}
        x = np.arange(1, given.steps + 1)
        means = ((n, r.mean(0), r) for n, r in runs.items())
        return {name: Curve(x, mean, mean, mean, runs) for name, mean, runs in means}

    title = f"SAC of Stable-Baselines3 in {given.bodies} bodies; a motor reverses"
    figure = counts(
        title, curves(0), curves(1), ["SAC, guarded"], struck=onset, axis=STEPS_TAKEN
    )
    save_figures("sb3_guard", workdir, {"sb3_guard.png": figure})


if __name__ == "__main__":
    flags.define_workdir()
    absl_flags.DEFINE_integer("steps", 3000, "of each run", 200, 1_000_000)
    absl_flags.DEFINE_integer("bodies", 2, "bodies to learn in", 1, 100)
    flags.run(main)
