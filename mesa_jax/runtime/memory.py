"""What a launch's arrays take, before anything is computed."""

from itertools import pairwise

from mesa_jax.runtime.config import Settings
from mesa_jax.settings import SettingError
from mesa_jax.types import DomainSpec

LIMIT = 2**38  # bytes, 256 GiB: more than one program is given anywhere
FLOAT = 4  # bytes
SLOTS = 2 * FLOAT  # of a replay's row, where the safe and the violating rows lie
RECORD = 7 * FLOAT  # of an episode
COPIES = 4  # of a network: parameters, gradient, two moments of Adam


def require_room(settings: Settings, spec: DomainSpec, runs: int) -> None:
    """Checks that datasets, replays, networks and simulations fit a large machine.

    Args:
      runs: online runs that are one program.

    Raises:
      SettingError: naming the largest that does not.
    """
    data, online, quality = settings.data, settings.online, settings.quality
    row = FLOAT * (2 * spec.observation_size + spec.action_size + 3)
    held = online.rows(spec.horizon)
    limited_by = "online_steps" if 0 < online.steps == held else "online_episodes"
    if max(held + data.adaptation, online.episodes) >= 2**31:  # counted in int32
        allowed = f"so small that a run has fewer than {2**31} transitions"
        raise SettingError(limited_by, getattr(online, limited_by[7:]), allowed)
    bodies = data.train_bodies + data.heldout_bodies
    batch = settings.maml.num_tasks
    widths = (spec.observation_size + spec.action_size, *settings.risk.hidden, 1)
    critic = COPIES * settings.risk.ensemble_size * _weights(widths)
    agents = [settings.sac.hidden, settings.recovery.hidden]
    agent = sum(COPIES * _weights((widths[0], *hidden, 1)) for hidden in agents)
    takes = {
        "data_transitions": (bodies * data.transitions * row, f"{bodies} bodies' data"),
        "data_test_transitions": (data.test_transitions * row, "a test body's data"),
        limited_by: (
            runs * ((2 * held + data.adaptation) * (row + SLOTS))
            + runs * online.episodes * RECORD,
            f"the replays of {runs} runs",
        ),
        "maml_support_size": (
            batch * (settings.maml.support_size + settings.maml.query_size) * row,
            f"a batch of {batch} bodies",
        ),
        "risk_hidden": (max(batch, runs) * critic, f"critics of {runs} runs"),
        "sac_hidden": (runs * agent, f"the policies of {runs} runs"),
        "quality_decision_states": (
            quality.decision_states * quality.rollouts * row,
            "a body's simulations",
        ),
    }
    name = max(takes, key=lambda name: takes[name][0])
    size, what = takes[name]
    if size > LIMIT:
        section, _, field = name.partition("_")
        allowed = (
            f"so small that {what} fit {LIMIT // 2**30} GiB of memory (they take "
            f"{size / 2**30:,.0f})"
        )
        raise SettingError(name, getattr(getattr(settings, section), field), allowed)


def _weights(widths: tuple[int, ...]) -> int:
    """Bytes of a network's weights."""
    return FLOAT * sum(a * b for a, b in pairwise(widths))
