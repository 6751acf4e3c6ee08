"""A filter in every form that leaves this package, each checked against JAX."""

import io
import json
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mesa_jax import dense
from mesa_jax.bridges import (
    MissingExtraError,
    numpy_check,
    numpy_filter,
    onnx,
    stablehlo,
)
from mesa_jax.bridges.numpy_check import TOLERANCE, difference, latencies, singly
from mesa_jax.study.errors import ExportError
from mesa_jax.study.fitted import Fitted

ROWS = 256  # stored decisions; the last four ask about what is not finite
INFO = ("risk", "recovered", "fell_back")
DECIDED = ("action", *INFO)
REFERENCE = "JAX, this package"  # what every form is compared with
CALLS, ADAPTATIONS = 5000, 100  # timed
NEAR = 0.3  # standard deviations of the observations that are stored beside the set's
ADAPT = "adapt.jaxexport"


class Form(NamedTuple):
    """Holds one form of a filter: its files, and how it decides."""

    files: dict[str, bytes]
    call: Callable  # (observation [B, D] or [D], proposed) -> action, info


class Line(NamedTuple):
    """Holds what is said of a form."""

    name: str
    files: tuple[str, ...]
    size: int  # bytes
    difference: float  # from JAX, the largest
    p50: float  # microseconds of one decision
    p99: float


class Export(NamedTuple):
    """Holds files by name, and what is said of them."""

    files: dict[str, bytes]
    lines: list[Line]
    notes: list[str]  # on what is left out


def export(fitted: Fitted, about: dict[str, Any]) -> Export:
    """Makes every form of a filter, checks it and measures it.

    Args:
      fitted: the filter of one body.
      about: what stands in `export.json`.

    Raises:
      ExportError: if a form decides otherwise than JAX does.
      SettingError: if the filter is made of other networks than ours.
    """
    weights = {k: np.asarray(x) for k, x in dense.weights(fitted.guard).items()}
    reference = over_rows(jax.jit(stablehlo.decides(fitted.guard)))
    stored = decisions(fitted, reference)
    forms, notes = forms_of(fitted, weights)
    asked = singly(stored)
    lines = [Line(REFERENCE, (), 0, 0.0, *latencies(reference, asked, CALLS))]
    for name, form in forms.items():
        found = checked(name, form.call, stored)
        times = latencies(form.call, asked, CALLS)
        size = sum(map(len, form.files.values()))
        lines.append(Line(name, tuple(form.files), size, found, *times))
    files = {k: x for form in forms.values() for k, x in form.files.items()}
    if fitted.adapt is None:
        notes.append("the adaptation is left out: it reads the body's own parameters")
    else:
        program, line, any_count = adaptation(fitted)
        if line.difference <= TOLERANCE:
            files[ADAPT] = program
            lines.append(line)
            count = len(fitted.transitions.cost)
            about = about | {"adapts_to": "any number" if any_count else count}
        else:
            notes.append(
                "the adaptation is left out: as exported its weights differ by "
                f"{line.difference:.1e} from those here, allowed is {TOLERANCE:g}"
            )
    files["check.npz"] = npz(stored)
    files["export.json"] = (json.dumps(about, indent=1) + "\n").encode()
    return Export(files, lines, notes)


def forms_of(fitted: Fitted, weights: dict) -> tuple[dict[str, Form], list[str]]:
    """Returns the forms that can be made here by name, and lines on the others."""
    program = stablehlo.decision(fitted.guard)
    given = stablehlo.decision_by_weights(weights)
    by_weights = stablehlo.loaded(given)
    found = {
        "StableHLO": Form(
            {"decide.jaxexport": program}, over_rows(stablehlo.loaded(program))
        ),
        "StableHLO, of weights": Form(
            {"decide_by_weights.jaxexport": given},
            over_rows(lambda *inputs: by_weights(weights, *inputs)),
        ),
        "NumPy": _numpy(weights),
    }
    try:
        model = onnx.model(weights)
        found["ONNX"] = Form({"filter.onnx": model}, over_rows(onnx.loaded(model)))
    except MissingExtraError as error:
        return found, [f"ONNX is left out: {error}"]
    return found, []


def _numpy(weights: dict[str, np.ndarray]) -> Form:
    packed = npz(weights)
    files = {"filter.py": _source(numpy_filter), "check.py": _source(numpy_check)}
    read = dict(np.load(io.BytesIO(packed), allow_pickle=False))
    filtering = numpy_filter.Filter(read)
    return Form(files | {"weights.npz": packed}, filtering.decide)


def _source(module) -> bytes:
    return pathlib.Path(module.__file__).read_bytes()


def checked(name: str, call: Callable, stored: dict[str, np.ndarray]) -> float:
    """Returns the largest difference of a form from the stored decisions.

    It is asked about all at once, and about the first and the last ones singly.

    Raises:
      ExportError: if the difference exceeds TOLERANCE.
    """
    asked = "observation", "proposed"
    gaps = [difference(stored, *call(*(stored[x] for x in asked)))]
    for at in (*range(8), *range(-8, 0)):
        one = {k: stored[k][at] for k in (*asked, *DECIDED)}
        action, info = call(*(one[x] for x in asked))
        many = {k: x[None] for k, x in one.items()} | {"threshold": stored["threshold"]}
        single = {k: np.asarray(x)[None] for k, x in info.items()}
        gaps.append(difference(many, action[None], single))
    return _within(name, float(np.max(gaps)))


def _within(name: str, gap: float) -> float:
    if gap <= TOLERANCE:
        return gap
    raise ExportError(
        f"{name} decides otherwise than JAX: actions or risks differ by {gap:.1e}, "
        f"allowed is {TOLERANCE:g} (inf: another flag). Nothing was written."
    )


def adaptation(fitted: Fitted) -> tuple[bytes, Line, bool]:
    """Returns the exported adaptation, its line, and whether its set may be any size.

    Its difference is that of all weights. Thousands of steps from scratch need not come
    out alike in two compilations.
    """

    def adapt(root, transitions):
        critic, recovery = fitted.adapt(root, transitions)
        return dense.weights(fitted.guard.replace(critic=critic, recovery=recovery))

    program, any_count = stablehlo.adaptation(adapt, fitted.transitions)
    run, given = stablehlo.loaded(program), (fitted.root, fitted.transitions)
    expected, found = jax.jit(adapt)(*given), run(*given)
    del expected["threshold"]  # may be infinite, and is not adapted
    gaps = [jnp.max(jnp.abs(x - found[k])) for k, x in expected.items()]
    gap = float(np.max(gaps))
    call = lambda *inputs: jax.block_until_ready(run(*inputs))  # noqa: E731
    times = latencies(call, [given], ADAPTATIONS)
    return program, Line("adaptation", (ADAPT,), len(program), gap, *times), any_count


def over_rows(function: Callable) -> Callable:
    """Makes a call of one row or of a batch from one of a batch.

    Args:
      function: (observation [B, D], proposed [B, A]) -> `filter.outcome`.
    """

    def call(observation, proposed):
        single = np.ndim(observation) == 1
        if single:
            observation, proposed = observation[None], proposed[None]
        found = function(observation, proposed)
        found = {
            k: np.asarray(x)[0] if single else np.asarray(x) for k, x in found.items()
        }
        return found["action"], {name: found[name] for name in INFO}

    return call


def decisions(fitted: Fitted, reference: Callable) -> dict[str, np.ndarray]:
    """Returns what forms are asked, what JAX decides, and what the filter was made of.

    Half of it are the adaptation set's own steps, half are random proposals near them;
    the last four are not finite.
    """
    rows, keys = fitted.transitions, jax.random.split(jax.random.key(0), 2)
    at = jnp.arange(ROWS) % len(rows.cost)
    observation, proposed = rows.observation[at], rows.action[at]
    new = (jnp.arange(ROWS) >= ROWS // 2)[:, None]
    noise = jax.random.normal(keys[0], observation.shape)
    near = observation + NEAR * jnp.std(rows.observation, axis=0) * noise
    drawn = jax.random.uniform(keys[1], proposed.shape, minval=-1.0)
    observation = np.array(jnp.where(new, near, observation))
    proposed = np.array(jnp.where(new, drawn, proposed))
    observation[-4, 0], proposed[-3, -1], proposed[-2] = np.nan, np.inf, np.nan
    observation[-1], proposed[-1] = -np.inf, np.nan
    action, info = reference(observation, proposed)
    stored = {"observation": observation, "proposed": proposed, "action": action}
    stored |= info | {"threshold": np.asarray(fitted.guard.threshold)}
    given = {f"transition_{k}": np.asarray(x) for k, x in rows._asdict().items()}
    return stored | given | {"root": np.asarray(fitted.root)}


def npz(arrays: dict[str, np.ndarray]) -> bytes:
    """Returns arrays as the content of an .npz file."""
    held = io.BytesIO()
    np.savez(held, **arrays)
    return held.getvalue()
