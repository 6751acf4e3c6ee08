"""Rows of one program: settings that differ in numbers only are one vmapped axis."""

import json
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mesa_jax import configuration
from mesa_jax.configuration import Configuration

Row = dict[str, dict[str, Any]]  # by section and field, as `config.override` takes it


class Group(NamedTuple):
    """Holds rows that differ from each other in floats only."""

    at: list[int]  # their places among all rows
    static: Row
    traced: dict[str, dict[str, jax.Array]]  # [rows]


def grouped(rows: Iterable[Row]) -> list[Group]:
    """Splits rows into groups that can be one program each."""
    groups: dict[str, tuple[list[int], Row, list[Row]]] = {}
    for i, row in enumerate(rows):
        static, traced = ({s: {} for s in row} for _ in range(2))
        for section, fields in row.items():
            for name, value in fields.items():
                kind = traced if isinstance(value, float) else static
                kind[section][name] = value
        names = [(s, sorted(fields)) for s, fields in sorted(traced.items())]
        key = json.dumps([names, static], sort_keys=True)
        at, _, numbers = groups.setdefault(key, ([], static, []))
        at.append(i)
        numbers.append(traced)
    return [
        Group(at, static, jax.tree.map(lambda *x: jnp.array(x), *numbers))
        for at, static, numbers in groups.values()
    ]


def rows_of(tree: Any, at: list[int]) -> Any:
    """Returns the rows `at` of every leaf."""
    return jax.tree.map(lambda x: x[jnp.array(at)], tree)


def over(
    group: Group,
    settings: Configuration,
    function: Callable,
    in_axes: tuple,
    out_axes: Any = 0,
) -> Callable:
    """Makes `function(settings, *arguments)` a function of the arguments [rows, ...].

    Args:
      in_axes: 0 for an argument with one entry a row, None for one that all share; or
        such a tree.
      out_axes: alike, of the result.
    """
    base = configuration.override(settings, group.static)

    def one(traced, *arguments):
        return function(configuration.override(base, traced), *arguments)

    program = jax.vmap(one, (0, *in_axes), out_axes)
    return lambda *arguments: program(group.traced, *arguments)
