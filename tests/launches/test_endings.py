"""How launches end: one message and an exit code for whatever stops them."""

import errno
import io
import os
import pathlib
import signal
import subprocess
import sys
import threading
import types

import jax
import pytest

from experiments import device, endings
from mesa_jax.settings import SettingError

ROOT = pathlib.Path(__file__).parents[2]
NUMBERS = [getattr(signal, name) for name in endings.SIGNALS if hasattr(signal, name)]
LACKS = [
    *("ENOSPC", "EDQUOT", "EROFS", "EACCES", "EPERM", "EIO", "EMFILE", "ENFILE"),
    *("ENAMETOOLONG", "ENOTDIR", "EISDIR", "EFBIG", "ESTALE", "ENOENT", "ELOOP"),
]


class MistakeError(ValueError):
    """One of the user's."""


def _end(call) -> int:
    with pytest.raises(SystemExit) as ended:
        endings.run(call, (MistakeError, SettingError))
    return ended.value.code


def _raiser(error: BaseException):
    def call():
        raise error

    return call


def _orbax_error(number: int) -> ValueError:
    return ValueError(
        'RESOURCE_EXHAUSTED: Error writing "a/0.0" in OCDBT database at local file '
        f"\"/w/checkpoints/x/0/\": Failed to write 9 bytes [os_error_code='{number}']"
    )


@pytest.mark.parametrize("name", [n for n in LACKS if hasattr(errno, n)])
def test_want_of_room_or_rights_is_one_message_that_names_the_file(capsys, name):
    number = getattr(errno, name)
    for error in (OSError(number, os.strerror(number), "/w/x"), _orbax_error(number)):
        assert _end(_raiser(error)) == 2
        said = capsys.readouterr().err
        assert said.startswith("\nError: /w/") and len(said.splitlines()) == 2
        assert os.strerror(number) in said


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        MemoryError("Unable to allocate 7 TiB"),
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory\nallocating"),
    ],
)
def test_want_of_memory_is_one_message(capsys, error):
    assert _end(_raiser(error)) == 2
    said = capsys.readouterr().err
    assert said.startswith("\nError: out of memory (") and len(said.splitlines()) == 2


def test_a_mistake_is_one_message_and_a_setting_is_named_as_its_flag(capsys):
    assert _end(_raiser(MistakeError("no such thing"))) == 2
    assert capsys.readouterr().err == "\nError: no such thing\n"
    assert _end(_raiser(SettingError("seeds", 0, "more"))) == 2
    assert capsys.readouterr().err == "\nError: --seeds must be more, got 0.\n"


@pytest.mark.parametrize(
    "error", [KeyError("x"), ValueError("x"), AssertionError(), RuntimeError("x")]
)
def test_an_error_of_ours_keeps_its_traceback(error):
    with pytest.raises(type(error)) as raised:
        endings.run(_raiser(error), (MistakeError,))
    assert raised.value is error


def test_writers_that_come_too_late_are_not_heard(monkeypatch):
    theirs, shown = sys.unraisablehook, []
    endings.run(lambda: None, ())
    assert sys.unraisablehook is theirs  # pytest's is left alone
    monkeypatch.setattr(sys, "__unraisablehook__", shown.append)
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)
    endings.run(lambda: None, ())
    late, ours = (
        types.SimpleNamespace(
            exc_type=RuntimeError,
            exc_value=RuntimeError(text),
            exc_traceback=None,
            err_msg=None,
            object=None,
        )
        for text in ("Event loop is closed", "ours")
    )
    sys.unraisablehook(late)
    sys.unraisablehook(ours)
    assert shown == [ours]


def test_what_a_context_notes_ends_the_message(capsys):
    error = OSError(errno.ENOSPC, "No space left", "/w/x")
    error.add_note("Everything else stands.")
    assert _end(_raiser(error)) == 2
    assert capsys.readouterr().err.endswith("left.\nEverything else stands.\n")


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_ends_it_with_its_own_code_and_no_traceback(capsys, number):
    before = signal.getsignal(number)
    assert _end(lambda: signal.raise_signal(number)) == 128 + number
    said = capsys.readouterr().err.strip()
    name = signal.Signals(number).name
    expected = "Interrupted." if number == signal.SIGINT else f"Ended by {name}."
    assert said == expected
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("number", NUMBERS)
def test_a_second_signal_ends_it_at_once(capfd, monkeypatch, number):
    class EndedError(Exception):
        """In place of the process's end."""

    def ended(code):
        raise EndedError(code)

    def call():
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.raise_signal(number)

    monkeypatch.setattr(os, "_exit", ended)
    with pytest.raises(EndedError, match=str(128 + number)):
        endings.run(call, ())
    assert capfd.readouterr().err == endings.AGAIN.decode()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_still_computes_does_not_meet_the_end_of_the_interpreter(number):
    source = (
        "import sys; sys.argv[0] = '-m'\n"  # as `python -m` has it by then
        "import atexit, signal\n"
        "from experiments import endings, processes\n"
        "atexit.register(print, 'taken down')\n"
        "print('said before')\n"
        "with processes.ending():\n"
        f"    endings.run(lambda: signal.raise_signal({int(number)}), ())\n"
    )
    command = [sys.executable, "-c", source]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (128 + number, b"said before\n")


def test_a_signal_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        endings.run(lambda: signal.raise_signal(signal.SIGTERM), ())
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_thread_leaves_signals_to_the_main_one():
    before, done = signal.getsignal(signal.SIGTERM), []
    thread = threading.Thread(target=lambda: endings.run(lambda: done.append(1), ()))
    thread.start()
    thread.join()
    assert done == [1] and signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_imports_ends_the_process_without_a_word(number):
    source = (
        "import sys; sys.argv[0] = '-m'\n"  # as `python -m` has it by then
        "import experiments, signal\n"
        f"signal.raise_signal({int(number)})\n"
        "print('went on')\n"
    )
    command = [sys.executable, "-c", source]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, b"", b"")


def test_an_import_of_the_launches_takes_no_signal_and_no_backend():
    source = (
        "import os, signal\n"
        "before = signal.getsignal(2), signal.getsignal(15), dict(os.environ)\n"
        "import experiments\n"
        "assert before == (signal.getsignal(2), signal.getsignal(15), os.environ)\n"
    )
    subprocess.run([sys.executable, "-c", source], cwd=ROOT, check=True)


def test_a_notebooks_backend_is_not_imported_by_a_launch():
    source = (
        "import sys; sys.argv[0] = '-m'\n"
        "import experiments\n"
        "from matplotlib.figure import Figure\n"
        "import matplotlib; print(matplotlib.get_backend())\n"
    )
    environment = os.environ | {"MPLBACKEND": "module://not_installed_here"}
    command = [sys.executable, "-c", source]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, check=False
    )
    assert done.stdout == b"agg\n", done.stderr.decode()


# Output


class _Full(io.RawIOBase):
    """A file on a full disk."""

    full = True

    def writable(self):
        return True

    def write(self, content):
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return len(content)


@pytest.fixture
def full_disk():
    file = _Full()
    yield io.TextIOWrapper(io.BufferedWriter(file))
    file.full = False


@pytest.fixture
def closed_pipes():
    """Two, which nobody reads."""
    made = []
    for _ in range(2):
        read, write = os.pipe()
        os.close(read)
        made.append(os.fdopen(write, "w", encoding="utf-8"))
    yield made
    for stream in made:
        stream.close()  # which could not be if a pipe still held something


SIZES = (1, 100_000)  # below and beyond what is buffered


def _printing(size: int):
    def call():
        print("x" * size)
        sys.exit(0)

    return call


@pytest.mark.parametrize("size", SIZES)
def test_a_closed_pipe_is_told_once(capsys, monkeypatch, closed_pipes, size):
    monkeypatch.setattr(sys, "stdout", closed_pipes[0])
    assert _end(_printing(size)) == 2
    said = capsys.readouterr().err
    assert said == "\nError: what read the output is gone (closed pipe).\n"


@pytest.mark.parametrize("size", SIZES)
def test_output_to_a_full_disk_is_told_once(capsys, monkeypatch, full_disk, size):
    monkeypatch.setattr(sys, "stdout", full_disk)
    assert _end(_printing(size)) == 2
    said = capsys.readouterr().err
    assert said == f"\nError: {os.strerror(errno.ENOSPC)}.\n"


def test_messages_that_nobody_takes_leave_the_exit_code(monkeypatch, closed_pipes):
    monkeypatch.setattr(sys, "stdout", closed_pipes[0])
    monkeypatch.setattr(sys, "stderr", closed_pipes[1])
    assert _end(_raiser(MistakeError("x"))) == 2
    assert _end(lambda: signal.raise_signal(signal.SIGTERM)) == 143


@pytest.mark.parametrize("absent", ["stdout", "stderr"])
def test_a_closed_stream_is_no_reason_to_end(monkeypatch, absent):
    monkeypatch.setattr(sys, absent, None)
    assert _end(lambda: sys.exit(0)) == 0


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
@pytest.mark.parametrize("text", ["± 0.1", "日", "\udcff"])  # the last: no UTF-8
def test_what_the_output_can_not_encode_is_written_otherwise(
    monkeypatch, encoding, text
):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))

    def call():
        print(text)
        sys.exit(0)

    assert _end(call) == 0
    expected = text.encode(encoding, errors="backslashreplace")
    assert written.getvalue().strip() == expected.strip()


# Devices and the cache


@pytest.mark.parametrize(
    "error", [AssertionError(), RuntimeError("Unable to initialize backend 'cuda'")]
)
def test_a_device_that_is_not_there_is_told(monkeypatch, error):
    monkeypatch.setattr(jax, "devices", _raiser(error))
    with pytest.raises(device.DeviceError, match="JAX_PLATFORMS") as refused:
        device.require_device()
    assert str(error) in str(refused.value)


@pytest.mark.parametrize("home", ["none", "unwritable", "a file"])
def test_no_place_for_compiled_programs_is_no_reason_to_end(
    monkeypatch, tmp_path, home
):
    before = jax.config.jax_compilation_cache_dir
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if home == "none":
        unknown = RuntimeError("Could not determine home directory.")
        monkeypatch.setattr(pathlib.Path, "expanduser", lambda _: _raiser(unknown)())
    elif home == "a file":
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("HOME", str(tmp_path / "file"))
    else:  # of another user; rights are none of root's
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setattr(os, "access", lambda *_: False)
    try:
        jax.config.update("jax_compilation_cache_dir", None)
        device.keep_compiled()
        assert jax.config.jax_compilation_cache_dir is None
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
