"""What the sources do not do, read from them: so that they run everywhere alike."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent
FILES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for folder in ("mesa_jax", "experiments")
    for path in sorted(ROOT.glob(f"{folder}/**/*.py"))
}
POSIX_ONLY = {  # modules; names of os, signal and socket
    *("fcntl", "grp", "posix", "pty", "pwd", "resource", "termios", "uvloop"),
    *("fork", "getuid", "geteuid", "getgid", "getpgid", "setsid", "killpg", "nice"),
    *("sched_getaffinity", "sysconf", "uname", "statvfs", "mkfifo", "pread", "wait4"),
    *("SIGKILL", "SIGHUP", "SIGALRM", "SIGUSR1", "SIGUSR2", "alarm", "AF_UNIX"),
    *("getloadavg", "process_cpu_count", "chown", "fchmod", "O_DIRECTORY"),
}
MODE = re.compile("[rwax+]?b[rwax+]*|[rwax+]+b")  # of bytes
OF_BYTES = ("os.open", "archive.open", "Image.open")  # a zipfile's, a picture
TEXT_CALLS = ("open", "read_text", "write_text", "fdopen", "TextIOWrapper")


def _name(call: ast.Call) -> str:
    function = call.func
    return getattr(function, "attr", None) or getattr(function, "id", "")


def _calls(source: str) -> list[ast.Call]:
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]


def _without_encoding(source: str) -> list[int]:
    """Lines that read or write text in the locale's encoding."""
    return [call.lineno for call in _calls(source) if _of_the_locale(call)]


def _of_the_locale(call: ast.Call) -> bool:
    named = {keyword.arg: keyword.value for keyword in call.keywords}
    if "encoding" in named or ast.unparse(call.func) in OF_BYTES:
        return False
    name = _name(call)
    if name == "read_text":
        return not call.args
    words = [w for w in (*call.args, *named.values()) if isinstance(w, ast.Constant)]
    binary = any(isinstance(w.value, str) and MODE.fullmatch(w.value) for w in words)
    return (name in TEXT_CALLS and not binary) or "text" in named


def test_every_text_file_is_opened_in_an_encoding():
    found = {name: _without_encoding(source) for name, source in FILES.items()}
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "line",
    [
        "open(path)",
        "open(path, 'a')",
        "open(path, mode='w', newline='')",
        "path.open('r')",
        "path.read_text()",
        "path.write_text(text, newline='')",
        "io.TextIOWrapper(file)",
        "subprocess.run(command, text=True)",
    ],
)
def test_text_in_the_encoding_of_a_locale_is_seen(line):
    assert _without_encoding(line) == [1]


@pytest.mark.parametrize(
    "line",
    [
        "open(path, 'rb')",
        "open(path, mode='wb')",
        "open(path, 'a', encoding='utf-8')",
        "path.read_text('utf-8')",
        "path.read_text(encoding='utf-8')",
        "path.read_bytes()",
        "subprocess.run(command, capture_output=True)",
    ],
)
def test_other_text_and_bytes_are_let_pass(line):
    assert _without_encoding(line) == []


def _used(source: str) -> set[str]:
    """Modules, imported names and attributes; without those that are asked for."""
    used = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            used |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = (node.module or "").split(".")[0]
            used |= {module, *(alias.name for alias in node.names)}
        elif isinstance(node, ast.Attribute):
            used.add(node.attr)
    asked = [call.args[1] for call in _calls(source) if _name(call) == "hasattr"]
    return used - {name.value for name in asked if isinstance(name, ast.Constant)}


def test_nothing_is_used_that_only_some_systems_have():
    found = {name: _used(text) & POSIX_ONLY for name, text in FILES.items()}
    assert {name: used for name, used in found.items() if used} == {}
    assert _used("import fcntl; os.fork()") & POSIX_ONLY == {"fcntl", "fork"}
    assert _used("if hasattr(os, 'fork'): os.fork()") & POSIX_ONLY == set()


def _holding(*words: str) -> set[str]:
    """The files that hold one of some words."""
    return {name for name, text in FILES.items() if any(w in text for w in words)}


def test_figures_are_drawn_and_saved_in_one_look():
    """The user's matplotlibrc has no say, and no backend is asked for a window."""
    place = "mesa_jax/report/"
    assert _holding("pyplot") == set()
    assert _holding("rc_context", "rcParams") == {place + "layout.py"}
    saving = {place + "layout.py", place + "films.py"}
    assert _holding("savefig", ".saving(") == saving


NO_FLAG = {  # their paths are of no flag
    *("experiments/doctor.py", "experiments/__main__.py", "experiments/device.py"),
    "experiments/flags.py",
}


def test_a_launch_makes_no_path_of_a_flag_by_itself():
    """`flags.path` expands ~ and refuses addresses."""
    made = [
        (name, ast.unparse(call))
        for name, text in FILES.items()
        for call in _calls(text)
        if name.startswith("experiments/") and _name(call) == "Path" and call.args
        if name not in NO_FLAG
    ]
    assert [one for one in made if one[1].startswith("pathlib")] == []
