"""absl flags of the launches: one a hyper-parameter, made from the settings' fields."""

import contextlib
import math
import pathlib
import re
import sys
from collections.abc import Callable

from absl import app, flags, logging

from mesa_jax import configuration
from mesa_jax.configuration import Configuration
from mesa_jax.domains import DOMAINS, entry_of
from mesa_jax.errors import UserError
from mesa_jax.keys import SEED_LIMIT
from mesa_jax.methods import METHODS
from mesa_jax.risk import RISKS
from mesa_jax.settings import SettingError
from mesa_jax.study import copies, memory, resolve, switches, together
from mesa_jax.study.presets import PRESETS
from mesa_jax.study.store import stored_settings
from mesa_jax.study.study import Asked, Study
from mesa_jax.types import Domain

from . import device, endings, helping, mesh, processes, setting_flags, tracking
from .whole import define_integer, parse_seeds

flags.disclaim_key_flags()  # they belong to the experiment that asks for them
FLAGS = flags.FLAGS
HELD = contextlib.ExitStack()  # what a launch ends with
OTHERS = "flags, as --name=value"
ADDRESS = re.compile(r"[A-Za-z][\w+.-]+:/")  # gs://bucket, host:/folder; not C:/


class YardstickError(UserError, RuntimeError):
    """What is timed beside us did not run; holds what it said."""


def define_workdir() -> None:
    flags.DEFINE_string("workdir", None, "folder of the launch's files (required)")


def define_launch(methods: str = "", seeds: str = "3", replays: bool = False) -> None:
    """Defines the flags of a launch.

    Args:
      methods, seeds: the defaults, as a user writes them; "" for no such flag.
      replays: whether it makes online runs whose data may be kept.
    """
    define_workdir()
    distributions = {t for entry in DOMAINS.values() for t in entry.task_distributions}
    flags.DEFINE_string(
        "domain",
        None,
        f"one of {', '.join(DOMAINS)}, module:maker of your own, or recorded, of files "
        "(meta_train --data=FILES; default navigation1)",
    )
    flags.DEFINE_string(
        "tasks",
        None,
        f"bodies: {', '.join(sorted(distributions))} (default published)",
    )
    mesh.define()
    flags.DEFINE_string("preset", None, f"one of {', '.join(PRESETS)} (default quick)")
    flags.DEFINE_string(
        "fault",
        None,
        "what strikes online runs, e.g. dead:part=2,onset=5000; joined by +",
    )
    if replays:
        flags.DEFINE_bool("save_replay", False, "keep each online run's data")
    flags.DEFINE_string(
        "track", None, f"metrics also to one of {', '.join(tracking.TRACKERS)}"
    )
    flags.DEFINE_bool("plan", False, "only say what would be made, and what is there")
    define_integer("meta_seed", 0, "seed of training bodies, datasets and priors")
    if seeds:
        flags.DEFINE_string(
            "seeds",
            seeds,
            "a count (3 is 0, 1, 2), or ranges and seeds (0:3,7)",
        )
    if methods:
        known = f"of {', '.join(METHODS)}"
        flags.DEFINE_list("methods", methods.split(","), f"comma-separated, {known}")
    setting_flags.define()


def paths(flag: str) -> list[pathlib.Path]:
    """The paths of a flag, with `~` expanded.

    Raises:
      SettingError: if one is empty, of an unknown home, or no path of this machine's.
    """
    given = FLAGS[flag].value or ""
    texts = [given] if isinstance(given, str) else given
    return [place_of(flag, text.strip()) for text in texts]


def path(flag: str) -> pathlib.Path:
    """The path of a flag, with `~` expanded.

    Raises:
      SettingError: if it was not given, or as `paths` does.
    """
    return paths(flag)[0]


def place_of(flag: str, text: str) -> pathlib.Path:
    """The path that a text of a flag is, with `~` expanded.

    Raises:
      SettingError: as `paths` does.
    """
    if not text:
        raise SettingError(flag, text, "given")
    if ADDRESS.match(text):
        allowed = "a path of this machine's file system (mount a bucket first)"
        raise SettingError(flag, text, allowed)
    try:
        return pathlib.Path(text).expanduser()
    except RuntimeError:
        allowed = "a path without ~, since that home is not known"
        raise SettingError(flag, text, allowed) from None


def workdir() -> pathlib.Path:
    """The --workdir.

    Raises:
      SettingError: if it was not given, or is no path of this machine's.
    """
    return path("workdir")


def launch() -> tuple[Study, Asked]:
    """Resolves the flags: the workdir's own configuration, or a preset, and overrides.

    From here on rows lie over the devices of --mesh.

    Raises:
      SettingError, WorkdirError: before anything is computed.
    """
    place = HELD.enter_context(copies.own(workdir()))
    given = FLAGS.flag_values_dict()
    stored = stored_settings(place)
    names = resolve.named(given, stored)
    same = stored and all(getattr(stored, name) == names[name] for name in names)
    if not 0 <= given["meta_seed"] < SEED_LIMIT:
        allowed = f"at least 0 and below {SEED_LIMIT}"
        raise SettingError("meta_seed", given["meta_seed"], allowed)
    methods = given.get("methods", given.get("method"))
    values = setting_flags.asked(given)
    settings = (
        configuration.override(stored, values)
        if same
        else resolve.resolve(**names, asked=values)
    )
    domain = entry_of(settings.domain).make(settings.tasks, settings.physics)
    if given["fault"] is not None:
        settings = resolve.struck(settings, domain, given["fault"])
    asked = _methods(methods, settings, domain)
    seeds = parse_seeds(given["seeds"]) if "seeds" in given else ()
    running = () if methods is None else asked
    memory.require_room_of_methods(settings, domain.spec, running, len(seeds))
    mesh.use()  # what is wrong has been said
    study = Study(place, settings, given["meta_seed"])
    if given["track"] and together.is_first():
        HELD.enter_context(tracking.tracked(given["track"], study))
    return study, Asked(asked, seeds, given.get("save_replay", False), given["plan"])


def _methods(asked, settings: Configuration, domain: Domain) -> tuple[str, ...]:
    """Returns the methods asked for, or all; each checked with its own settings."""
    if asked is None:
        return tuple(METHODS)
    found = resolve.known_methods([asked] if isinstance(asked, str) else asked)
    for method in found:
        risk = resolve.of_method(settings, method).risk
        RISKS[risk.measure](risk, domain.parametrisation)
    return found


def run(main: Callable[..., None], *words: str, paths: bool = True) -> None:
    """Runs a launch: what stops it becomes one message and an exit code.

    Args:
      main: takes what stands beside the flags.
      words: what that is called; one in brackets may be missing, and "..." stands for
        more. A launch that takes any looks at files and needs no device.
      paths: whether these are paths; else `main` takes the texts.
    """
    if __package__ != "experiments":  # not a clone: --help names the other command
        launched = sys.modules["__main__"]
        said = launched.__doc__ or ""
        launched.__doc__ = said.replace("python -m experiments.", "mesa-jax ")
    least = sum(word[0] not in "[." for word in words)
    most = math.inf if "..." in words else len(words)

    def guarded(argv):
        logging.set_verbosity(logging.FATAL)  # what orbax logs it also raises
        given = argv[1:]
        if not least <= len(given) <= most:
            allowed = " ".join([*words, "and", OTHERS]) if words else OTHERS
            raise SettingError("arguments", " ".join(given), allowed)
        if not words:
            device.keep_compiled()
            switches.fix()
            switches.make_room()
            processes.join()
        with processes.heard(), HELD:
            main(*(place_of("arguments", text) if paths else text for text in given))

    if helping.asked():
        helps = lambda: print(helping.text(path))  # noqa: E731
        endings.run(helps, (UserError, flags.Error))
        sys.exit(0)
    with processes.ending():
        endings.run(lambda: app.run(guarded), UserError)
