"""Summary table and figures of a workdir.

python -m experiments.plot --workdir=DIR
"""

import pathlib

from mesa_jax.runtime import flags, results


def plot(place: pathlib.Path) -> None:
    """Writes summary.json and the figures; prints the table and where they lie."""
    summary = results.summarize(place)
    print(results.table(summary))


def main() -> None:
    plot(flags.workdir())


if __name__ == "__main__":
    flags.define_workdir()
    flags.run(main)
