"""What files of recorded bodies say of a launch: domain, sizes and numbers."""

from absl import flags as absl_flags

from mesa_jax.domains.recorded import RECORDED, TASKS, name_of
from mesa_jax.settings import SettingError
from mesa_jax.study.study import Study
from mesa_jax.types import Transition

from . import data_files

FLAGS = absl_flags.FLAGS
HELD_OUT = 4  # of so many bodies one is held out, unless another number is asked for


def resolve() -> dict[str, Transition]:
    """Reads the files of --data, and gives the flags what they say; {}: none is given.

    Raises:
      SettingError: naming a flag that does not go with the files.
    """
    if not FLAGS.data:
        if FLAGS.domain == RECORDED:
            allowed = (
                f"given with --domain={RECORDED}: {data_files.FORMS}, a file a body"
            )
            raise SettingError("data", FLAGS.data, allowed)
        return {}
    sources = data_files.read_all(FLAGS.data)
    bodies = {one.name: data_files.transitions(one) for one in sources}
    first = next(iter(bodies.values()))
    domain = name_of(first.observation.shape[-1], first.action.shape[-1])
    if FLAGS.domain not in (None, RECORDED, domain):
        raise SettingError("domain", FLAGS.domain, f"{RECORDED} where --data is given")
    if len(bodies) < 2:
        allowed = "at least two bodies: one trains, one is held out"
        raise SettingError("data", ",".join(bodies), allowed)
    held = FLAGS.data_heldout_bodies or max(1, len(bodies) // HELD_OUT)
    found = {
        "data_heldout_bodies": held,
        "data_train_bodies": len(bodies) - held,
        "data_transitions": _count(bodies),
    }
    for name, value in found.items():
        if FLAGS[name].value not in (None, value) or value < 1:
            allowed = f"{value}, as there are {len(bodies)} bodies in --data"
            raise SettingError(name, FLAGS[name].value, allowed)
        FLAGS[name].value = value
    FLAGS.domain, FLAGS.tasks = domain, TASKS
    return bodies


def _count(bodies: dict[str, Transition]) -> int:
    """Returns how many transitions of each body are taken; says how many are not."""
    count = min(len(one.cost) for one in bodies.values())
    if FLAGS.data_transitions is not None:
        count = min(count, FLAGS.data_transitions)
    left = {name: len(one.cost) - count for name, one in bodies.items()}
    if any(left.values()):
        told = ", ".join(f"{name} {n}" for name, n in left.items() if n)
        print(f"[data] {count} transitions of each body are taken; left out: {told}")
    return count


def calibrates(study: Study) -> bool:
    """Returns whether a threshold is calibrated on a study's recorded bodies."""
    asked = study.configuration.recovery.false_safe > 0.0
    return asked and not study.system.domain.spec.simulated
