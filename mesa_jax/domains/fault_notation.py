"""What faults there are, and how they are written: in a flag, and in a caption.

A flag is faults joined by "+", each a kind and its fields:
`dead:part=0/1,onset=5000..15000+delay:severity=2,onset=5000,duration=2000`.
`part` is an actuator or an observation entry (several by "/"; all where absent),
`onset` a step of the run (or a range, ends included, that each run draws from; 0 where
absent), `duration` is in steps (absent: for good), and `severity` a number or one of
`LEVELS`, which a kind that has one needs.
"""

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from mesa_jax.settings import SettingError, whole
from mesa_jax.types import Domain

ACTION, OBSERVATION, BODY = "action", "observation", "body"
LEVELS = ("mild", "moderate", "severe", "held_out")
FIELDS = ("part", "onset", "duration", "severity")
MAX_DELAY = 8  # control steps
LIMIT = 2**30  # of a step of the run; two of them can be added


class Fault(NamedTuple):
    """Holds all that a text says of one fault; static."""

    kind: str
    parts: tuple[int, ...] = ()  # actuators or observation entries; () is all
    onset: tuple[int, int] = (0, 0)  # run steps, the first and last that may be drawn
    duration: int | None = None  # steps; None: for good
    severity: float = 1.0  # 1 where the kind has none


class Kind(NamedTuple):
    """Says what a kind of fault acts on, its words in a caption, and its severities."""

    on: str
    words: str
    levels: Mapping[str, float] = {}  # by name; empty where it has no severity
    low: float = 0.0
    high: float = 1.0
    number: Callable[[str], float] = float


def _levels(*severities: float) -> dict[str, float]:
    """`held_out` is beyond severe, and no training and no tuning may use it."""
    return dict(zip(LEVELS, severities, strict=True))


KINDS = {
    "dead": Kind(ACTION, "{parts} dead"),
    "weak": Kind(
        ACTION, "{parts} weakened by {severity:g}", _levels(0.25, 0.5, 0.75, 0.9)
    ),
    "stuck": Kind(ACTION, "{parts} stuck"),
    "reversed": Kind(ACTION, "{parts} reversed"),
    "delay": Kind(
        ACTION,
        "{parts} delayed by {severity:g} {steps}",
        _levels(1, 2, 4, 6),
        low=1,
        high=MAX_DELAY,
        number=int,
    ),
    "bias": Kind(  # in the observation's own units
        OBSERVATION,
        "{parts} biased by {severity:g}",
        _levels(0.1, 0.3, 1.0, 2.0),
        low=-1e6,
        high=1e6,
    ),
    "freeze": Kind(OBSERVATION, "{parts} frozen"),
    "dropout": Kind(
        OBSERVATION,
        "{parts} dropped with probability {severity:g}",
        _levels(0.1, 0.25, 0.5, 0.75),
    ),
}
CHANGE = Kind(  # any entry of `Domain.changes`: a factor
    BODY, "{kind} times {severity:g}", _levels(1.25, 1.5, 2.0, 3.0), low=0.01, high=100
)


def kind_of(fault: Fault) -> Kind:
    """Returns the kind of a fault; a name not in `KINDS` changes the body."""
    return KINDS.get(fault.kind, CHANGE)


def require_known(text: str, what: str, name: str, names: Iterable[str]) -> None:
    """Raises SettingError for a fault's text, unless `name` is one of `names`."""
    names = tuple(names)
    if name not in names:
        near = difflib.get_close_matches(name, names, 1, 0.0)[0]
        allowed = f"{what} {', '.join(names)} ({name!r} is none; nearest: {near})"
        raise SettingError("fault", text, allowed)


def parse(text: str, changes: Iterable[str] | None = None) -> tuple[Fault, ...]:
    """Reads the faults of a flag; none for "" and "none".

    Args:
      text: as the module says.
      changes: names of what a fault may change of the domain's body. Without them any
        other word is taken for one, and `faults.faulty` finds out.

    Raises:
      SettingError: named `fault`, with what is allowed where the text is wrong.
    """
    if text.strip() in ("", "none"):
        return ()
    return tuple(_fault(item.strip(), changes) for item in text.split("+"))


def _fault(text: str, changes: Iterable[str] | None) -> Fault:
    name, colon, rest = (word.strip() for word in text.partition(":"))
    if changes is not None or not name.isidentifier():
        require_known(text, "of the kinds", name, (*KINDS, *(changes or ())))
    fields = _fields(text, rest) if colon else {}
    kind = KINDS.get(name, CHANGE)
    if kind.on == BODY and ("part" in fields or "severity" not in fields):
        what = "a change of the body with a severity and no part, or of the kinds"
        require_known(text, what, name, KINDS)
    if ("severity" in fields) != bool(kind.levels):
        allowed = _severities(name, kind) if kind.levels else f"{name} has none"
        which = "with" if kind.levels else "without"
        raise SettingError("fault", text, f"{which} a severity: {allowed}")
    fault = Fault(name)
    if "part" in fields:
        parts = {_step(text, "part", part) for part in fields["part"].split("/")}
        fault = fault._replace(parts=tuple(sorted(parts)))
    if "onset" in fields:
        low, dots, high = fields["onset"].partition("..")
        onset = _step(text, "onset", low), _step(text, "onset", high if dots else low)
        if onset[0] > onset[1]:
            raise SettingError("fault", text, "of an onset low..high that rises")
        fault = fault._replace(onset=onset)
    if "duration" in fields:
        duration = _step(text, "duration", fields["duration"], 1)
        fault = fault._replace(duration=duration)
    if "severity" in fields:
        severity = _severity(text, name, kind, fields["severity"])
        fault = fault._replace(severity=severity)
    return fault


def _fields(text: str, rest: str) -> dict[str, str]:
    fields = {}
    for pair in rest.split(","):
        name, equals, value = (word.strip() for word in pair.partition("="))
        require_known(text, "of the fields", name, FIELDS)
        if not equals or name in fields:
            raise SettingError("fault", text, f"of fields name=value, with one {name}")
        fields[name] = value
    return fields


def _step(text: str, name: str, value: str, low: int = 0) -> int:
    number = whole(value, LIMIT - 1)
    if number is None or number < low:
        allowed = f"of a {name} that is a whole number from {low} to {LIMIT - 1}"
        raise SettingError("fault", text, allowed)
    return number


def _severities(name: str, kind: Kind) -> str:
    whole = "a whole number" if kind.number is int else "a number"
    levels = ", ".join(f"{level} ({x:g})" for level, x in kind.levels.items())
    return f"{name} takes {whole} in [{kind.low:g}, {kind.high:g}], or {levels}"


def _severity(text: str, name: str, kind: Kind, value: str) -> float:
    try:
        severity = float(kind.levels.get(value) or kind.number(value)) + 0.0
        inside = kind.low <= severity <= kind.high
    except (ValueError, OverflowError):
        inside = False
    if not inside:
        allowed = f"of a severity that it has: {_severities(name, kind)}"
        raise SettingError("fault", text, allowed)
    return severity


def text_of(faults: tuple[Fault, ...]) -> str:
    """Returns the shortest text that `parse` makes these faults of."""

    def item(fault):
        low, high = fault.onset
        fields = {
            "part": "/".join(str(part) for part in fault.parts),
            "onset": f"{low}..{high}" if low < high else str(low or ""),
            "duration": str(fault.duration or ""),
            "severity": f"{fault.severity}" if kind_of(fault).levels else "",
        }
        if kind_of(fault).number is int:
            fields["severity"] = f"{fault.severity:.0f}"
        pairs = ",".join(f"{name}={value}" for name, value in fields.items() if value)
        return f"{fault.kind}:{pairs}" if pairs else fault.kind

    return "+".join(item(fault) for fault in faults) or "none"


def require_faults_of(domain: Domain, faults: tuple[Fault, ...]) -> None:
    """Raises SettingError on a kind or a part that a domain does not have."""
    spec = domain.spec
    sizes = {ACTION: spec.action_size, OBSERVATION: spec.observation_size, BODY: 0}
    for fault in faults:
        text, on = text_of((fault,)), kind_of(fault).on
        what = f"of the kinds of {spec.name},"
        require_known(text, what, fault.kind, (*KINDS, *domain.changes))
        if any(not 0 <= part < sizes[on] for part in fault.parts):
            allowed = f"of {on} parts below {sizes[on]} in {spec.name}"
            raise SettingError("fault", text, allowed)


def _in_words(fault: Fault) -> str:
    kind, (low, high) = kind_of(fault), fault.onset
    signal = "actuator" if kind.on == ACTION else "observation"
    many = len(fault.parts) != 1
    which = " and ".join(str(part) for part in fault.parts)
    parts = f"{signal}{'s' * many} {which}" if which else f"all {signal}s"
    what = kind.words.format(
        parts=parts,
        kind=fault.kind.replace("_", " "),
        severity=fault.severity,
        steps="step" if fault.severity == 1 else "steps",
    )
    drawn = f"a step drawn from {low:,} to {high:,}"
    when = drawn if low < high else f"step {low:,}"
    lasting = "on" if fault.duration is None else f"for {fault.duration:,} steps"
    return f"{what} from {when} {lasting}"


def describe(faults: tuple[Fault, ...]) -> str:
    """Returns faults in words, for a caption."""
    return "; ".join(_in_words(fault) for fault in faults) or "no fault"
