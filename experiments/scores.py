"""Which score tells best that a body lies outside what a prior was trained on?

python -m experiments.scores --workdir=DIR --others=wind,rotation

Navigation. Prints the AUROC of scores of an adaptation set for bodies that are unlike
the training ones (the workdir's test bodies, and training bodies of other
distributions) against new bodies drawn like them:

  distance  of its encoding from the training sets' (`mesa_jax.support`)
  nearest   Euclidean distance to the nearest of the training sets' encodings
  bellman   squared Bellman error of the encoded critic on the set
  spread    of an ensemble's members on it (`--risk_ensemble_size` above 1)

and the share of either kind that `distance` calls outside.
"""

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags as absl_flags
from tqdm import tqdm

from experiments.build import build
from experiments.collect import by_policy
from experiments.meta_train import prior
from experiments.support import sets_of, training_encodings
from mesa_jax import quality, safety
from mesa_jax.agents import METHODS
from mesa_jax.domains import DOMAINS
from mesa_jax.domains.bodies import DISTRIBUTIONS
from mesa_jax.pipeline import Stage, stage_key
from mesa_jax.runtime import flags, workdir
from mesa_jax.runtime.tables import markdown
from mesa_jax.settings import SettingError
from mesa_jax.support import distance, support_of
from mesa_jax.types import Domain, Transition

BODIES = 60  # of either kind
STREAM = 1_000_003  # of new bodies; splits of the key are small folds


def rows_of(launch: flags.Launch, domain: Domain, draw, stream: int) -> Transition:
    """Random rows [BODIES, N, ...] of new bodies of a distribution."""
    key = jax.random.fold_in(
        stage_key(launch.meta_seed, Stage.SUPPORT), STREAM + stream
    )
    built = build(launch.settings)._replace(domain=domain)
    count = max(launch.settings.quality.rows)
    body_key, rows_key, sets_key = jax.random.split(key, 3)
    tasks = draw(body_key, BODIES)
    rows, _ = by_policy(built, launch.settings, rows_key, tasks, 4 * count)
    keys = jax.random.split(sets_key, BODIES)
    return jax.vmap(lambda key, one: sets_of(key, one, count))(keys, rows)


def scores(launch: flags.Launch, method: str, count: int):
    """A function from sets [B, n, ...] to scores [B] by name, for sets of n = count."""
    built = build(launch.settings)
    risk, reference = built.risk, built.domain.reference_policy
    critic = prior(launch, METHODS[method].prior).params[0]
    encoding = jax.vmap(lambda rows: built.encode(jax.random.key(2), critic, rows))
    seen = training_encodings(launch, method, count)
    support, seen = support_of(seen), seen.reshape(-1, seen.shape[-1])

    def nearest(found):
        gaps = jnp.linalg.norm(found[:, None] - seen, axis=-1)
        return jnp.min(gaps, axis=1)

    def bellman(rows):
        encoded = risk.encode(critic, rows)
        key = jax.random.key(1)  # the same next actions for every body
        return safety.bellman_error(key, risk, reference, encoded, rows)

    def spread(rows):
        encoded = risk.encode(critic, rows)

        def member(network):
            one = encoded | {"network": jax.tree.map(lambda x: x[None], network)}
            return risk.estimate(one, rows.observation, rows.action)

        return jnp.mean(jnp.std(jax.vmap(member)(encoded["network"]), axis=0))

    @jax.jit
    def of(rows):
        found = encoding(rows)
        values = {"distance": distance(support, found), "nearest": nearest(found)}
        values["bellman"] = jax.vmap(bellman)(rows)
        if launch.settings.risk.ensemble_size > 1:
            values["spread"] = jax.vmap(spread)(rows)
        return values

    return of


def compare(launch: flags.Launch, method: str, others: list[str]) -> str:
    """A table of the AUROC of every score, a line a distribution and size of set."""
    domain = build(launch.settings).domain
    inside = rows_of(launch, domain, domain.train_tasks, 0)
    outside = {"test bodies": rows_of(launch, domain, domain.test_tasks, 1)}
    for i, name in enumerate(others, 2):
        other = DOMAINS[launch.settings.domain].make(name, launch.settings.physics)
        outside[name] = rows_of(launch, other, other.train_tasks, i)
    lines = []
    for count in tqdm(launch.settings.quality.rows, desc="[scores]", unit="size"):
        of = scores(launch, method, count)
        found = {
            name: of(jax.tree.map(lambda x: x[:, 0, :count], rows))  # noqa: B023
            for name, rows in {"": inside, **outside}.items()
        }
        ours = found.pop("")
        for name, theirs in found.items():
            told_apart = [
                quality.auroc(
                    jnp.concatenate([ours[score], theirs[score]]),
                    jnp.arange(2 * BODIES) >= BODIES,
                )
                for score in ours
            ]
            called = [100 * np.mean(x["distance"] > 1.0) for x in (ours, theirs)]
            cells = [f"{np.asarray(x):.3f}" for x in told_apart]
            cells += [f"{share:.0f}" for share in called]
            lines.append([name, str(count), *cells])
    heads = ["unlike", "transitions", *ours, "like: outside %", "unlike: outside %"]
    return markdown([heads, *lines])


def main() -> None:
    launch, others = flags.launch(), absl_flags.FLAGS.others
    for name in others:
        if name not in DISTRIBUTIONS:
            raise SettingError("others", name, "among " + ", ".join(DISTRIBUTIONS))
    (method,) = launch.methods
    mine = launch.of(method)
    built = build(mine.settings)
    if built.risk.encode is None:
        raise SettingError("method", method, "one that encodes, as context")
    if built.domain.episode is None:
        raise SettingError("domain", mine.settings.domain, "a navigation domain")
    with workdir.opened(launch.workdir, launch.settings):
        print(compare(mine, method, others))


if __name__ == "__main__":
    flags.define_launch(seeds="")
    absl_flags.DEFINE_string("method", "context", "a row of METHODS that encodes")
    absl_flags.DEFINE_list("others", "", "distributions of bodies to tell apart too")
    flags.run(main)
