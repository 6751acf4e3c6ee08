"""What a launch's arrays take, before anything is computed."""

from itertools import pairwise
from typing import NamedTuple

from mesa_jax.configuration import Configuration
from mesa_jax.data import RANDOM_LENGTH
from mesa_jax.methods import program_of
from mesa_jax.settings import SettingError
from mesa_jax.study import resolve
from mesa_jax.types import DomainSpec

LIMIT = 2**38  # bytes, 256 GiB: more than one program is given anywhere
FLOAT = 4  # bytes
SLOTS = 2 * FLOAT  # of a replay's row, where the safe and the violating rows lie
RECORD = 7 * FLOAT  # of an episode
COPIES = 4  # of a network: parameters, gradient, two moments of Adam


class Need(NamedTuple):
    """Describes some arrays of a launch, and the setting that makes them smaller."""

    flag: str
    value: int | tuple[int, ...]
    size: int  # bytes
    what: str


def require_room(settings: Configuration, spec: DomainSpec, runs: int) -> None:
    """Checks that datasets, replays, networks and simulations fit a large machine.

    Args:
      runs: online runs that are one program.

    Raises:
      SettingError: naming what makes the largest smaller.
    """
    rows = settings.online.rows(spec.horizon) + settings.data.adaptation
    limit = _limits_runs(settings, spec)
    if max(rows, settings.online.episodes) >= 2**31:  # counted in int32
        allowed = f"so small that a run has fewer than {2**31} transitions"
        raise SettingError(*limit, allowed)
    need = max(
        (*_of_data(settings, spec), *_of_runs(settings, spec, runs, limit)),
        key=lambda need: need.size,
    )
    if need.size > LIMIT:
        allowed = (
            f"so small that {need.what} fit {LIMIT // 2**30} GiB of memory (they take "
            f"{need.size / 2**30:,.0f})"
        )
        raise SettingError(need.flag, need.value, allowed)


def require_room_of_methods(
    settings: Configuration, spec: DomainSpec, methods: tuple[str, ...], seeds: int
) -> None:
    """Checks memory of what is collected, and of each program's runs.

    Raises:
      SettingError: as `require_room`.
    """
    require_room(settings, spec, 0)
    programs = [program_of(method) for method in methods]
    for program in dict.fromkeys(programs):
        runs = programs.count(program) * seeds
        require_room(resolve.of_method(settings, program), spec, runs)


def _limits_runs(settings: Configuration, spec: DomainSpec) -> tuple[str, int]:
    """The setting that ends a run, and its value."""
    online = settings.online
    if online.steps == online.rows(spec.horizon):
        return "online_steps", online.steps
    return "online_episodes", online.episodes


def _row(spec: DomainSpec) -> int:
    """Bytes of a transition."""
    return FLOAT * (2 * spec.observation_size + spec.action_size + 3)


def _of_data(settings: Configuration, spec: DomainSpec) -> list[Need]:
    data, maml, quality, row = (
        settings.data,
        settings.maml,
        settings.quality,
        _row(spec),
    )
    bodies = data.train_bodies + data.heldout_bodies
    needs = [
        Need(
            "data_transitions",
            data.transitions,
            bodies * data.transitions * row,
            f"the transitions of {bodies} bodies",
        ),
        Need(
            "data_test_transitions",
            data.test_transitions,
            data.test_transitions * row,
            "a test body's transitions",
        ),
        Need(
            "maml_support_size",
            maml.support_size,
            maml.num_tasks * (maml.support_size + maml.query_size) * row,
            f"a batch of {maml.num_tasks} bodies",
        ),
        Need(
            "quality_decision_states",
            quality.decision_states,
            quality.decision_states * quality.rollouts * row,
            "a body's simulations",
        ),
    ]
    rounds = settings.rounds
    if rounds.count:
        needs.append(
            Need(
                "rounds_transitions",
                rounds.transitions,
                bodies * rounds.count * rounds.transitions * row,
                f"the transitions of {rounds.count} rounds",
            )
        )
    if not settings.collect.learns:
        episodes = data.transitions // min(RANDOM_LENGTH, spec.horizon) + 1
        padded = bodies * episodes * spec.horizon * row
        most = ("data_transitions", data.transitions), ("horizon", spec.horizon)
        larger = max(most, key=lambda setting: setting[1])
        needs.append(Need(*larger, padded, "the episodes, padded to the horizon,"))
    return needs


def _of_runs(
    settings: Configuration, spec: DomainSpec, runs: int, limit: tuple[str, int]
) -> list[Need]:
    rows, online = settings.online.rows(spec.horizon), settings.online
    replays = (2 * rows + settings.data.adaptation) * (_row(spec) + SLOTS)
    ends = spec.observation_size + spec.action_size, 1
    critic = COPIES * settings.risk.ensemble_size * _weights(settings.risk.hidden, ends)
    hidden = settings.sac.hidden, settings.recovery.hidden
    policies = COPIES * sum(_weights(widths, ends) for widths in hidden)
    learners = max(runs, settings.maml.num_tasks)
    return [
        Need(
            *limit,
            runs * (replays + online.episodes * RECORD),
            f"the replays of {runs} runs",
        ),
        Need(
            "risk_hidden",
            settings.risk.hidden,
            learners * critic,
            f"the critics of {learners} runs or bodies",
        ),
        Need(
            "sac_hidden",
            settings.sac.hidden,
            runs * policies,
            f"the policies of {runs} runs",
        ),
    ]


def _weights(hidden: tuple[int, ...], ends: tuple[int, int]) -> int:
    """Bytes of a network's weights between its inputs and outputs."""
    widths = ends[0], *hidden, ends[1]
    return FLOAT * sum(a * b for a, b in pairwise(widths))
