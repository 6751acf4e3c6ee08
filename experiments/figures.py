"""Saves the figures of a launch below its workdir, and says where."""

import pathlib
from collections.abc import Mapping

from matplotlib.figure import Figure

from mesa_jax.report import layout
from mesa_jax.study import files


def save_figures(
    launch: str, place: pathlib.Path, figures: Mapping[str, Figure | None]
) -> None:
    """Saves figures by file name in a workdir's report and prints their paths.

    Args:
      launch: its name, printed before each path.
      figures: PNG files; None for one that is not drawn.
    """
    for name, figure in figures.items():
        if figure is not None:
            path = place / "report" / name
            print(f"[{launch}] {files.write_atomically(path, layout.png(figure))}")
