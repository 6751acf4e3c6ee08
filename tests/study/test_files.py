"""Files: whole or as they were before; damage is named."""

import errno
import os
import pickle
import stat
from unittest import mock

import numpy as np
import pytest
from matplotlib.figure import Figure

from mesa_jax.report import layout
from mesa_jax.study import arrays, files

ARRAYS = {
    "estimates": np.linspace(0.0, 1.0, 12, dtype=np.float32).reshape(2, 3, 2),
    "steps": np.array([0, 5, 2000]),
    "told": np.array(True),
    "none": np.zeros((0, 3), np.int32),
}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def read_arrays(path):
    return arrays.read(path, lambda forms: None)


def refusal(path) -> str:
    with pytest.raises(files.DamagedFileError) as refused:
        read_arrays(path)
    return str(refused.value)


def test_arrays_come_back_as_they_were_written(tmp_path):
    path = tmp_path / "truth" / "navigation1" / "flip.npz"  # folders are made
    files.write_arrays(path, ARRAYS)
    assert_same(read_arrays(path), ARRAYS)
    assert [p.name for p in path.parent.iterdir()] == ["flip.npz"]


def test_writing_again_replaces_the_whole_file(tmp_path):
    path = tmp_path / "a.npz"
    files.write_arrays(path, ARRAYS)
    files.write_arrays(path, {"other": np.ones(2)})
    assert_same(read_arrays(path), {"other": np.ones(2)})


@pytest.mark.parametrize("existed", [True, False])
def test_an_interrupted_writing_leaves_what_there_was(tmp_path, monkeypatch, existed):
    path = tmp_path / "a.npz"
    if existed:
        files.write_arrays(path, ARRAYS)

    def half(file, **arrays):
        file.write(b"PK half of a file")
        raise OSError("the disk is full")

    monkeypatch.setattr(np, "savez", half)
    with pytest.raises(OSError, match="the disk is full"):
        files.write_arrays(path, {"other": np.ones(2)})
    assert path.exists() == existed
    if existed:
        assert_same(read_arrays(path), ARRAYS)
    monkeypatch.undo()
    files.write_arrays(path, {"other": np.ones(2)})  # the next one is not in its way
    assert_same(read_arrays(path), {"other": np.ones(2)})


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_named(tmp_path, share):
    path = tmp_path / "a.npz"
    files.write_arrays(path, ARRAYS)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert refusal(path).startswith(f"{path} is damaged: ")


@pytest.mark.parametrize(
    "content", [b"no archive", pickle.dumps([1, 2]), b"PK\x03\x04" + bytes(200)]
)
def test_another_file_is_named(tmp_path, content):
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    assert str(path) in refusal(path)


def test_a_pickled_array_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, objects=np.array([{"a": 1}], dtype=object))
    assert str(path) in refusal(path)


def test_a_flipped_byte_is_refused_or_changes_nothing(tmp_path):
    path = tmp_path / "a.npz"
    written = {"numbers": np.arange(40, dtype=np.float32)}
    files.write_arrays(path, written)
    content, refused = path.read_bytes(), 0
    for at in range(len(content)):
        flipped = bytearray(content)
        flipped[at] ^= 0xFF
        path.write_bytes(flipped)
        try:
            found = read_arrays(path)
        except files.DamagedFileError as error:
            assert str(path) in str(error)
            refused += 1
        else:  # e.g. a time stamp of the archive
            np.testing.assert_array_equal(*found.values(), written["numbers"])
    assert refused >= written["numbers"].nbytes  # at the least, those in the numbers


def test_json_comes_back_as_it_was_written(tmp_path):
    path = tmp_path / "deep" / "a.json"
    value = {"a": [1, 2.5, None], "b": {"c": "text"}}
    files.write_json(path, value)
    assert files.read_json(path) == value
    assert path.read_text().endswith("}\n")


@pytest.mark.parametrize("content", [b"", b'{"a": [1', b"\xff\xfe"])
def test_damaged_json_is_named(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(files.DamagedFileError) as refused:
        files.read_json(path)
    assert str(refused.value).startswith(f"{path} is damaged: ")


WRITERS = {
    "text": lambda path: files.write_atomically(path, "new"),
    "json": lambda path: files.write_json(path, {"new": 1}),
    "arrays": lambda path: files.write_arrays(path, ARRAYS),
    "figure": lambda path: files.write_atomically(path, layout.png(Figure())),
}


@pytest.fixture(params=list(WRITERS))
def write(request):
    return WRITERS[request.param]


def test_a_written_file_is_alone_and_as_readable_as_any(tmp_path, write):
    path = tmp_path / "deep" / "a.file"
    write(path)
    (tmp_path / "other").write_text("")
    modes = [stat.S_IMODE(p.stat().st_mode) for p in (path, tmp_path / "other")]
    assert modes[0] == modes[1]
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    "stop", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt(), ValueError("ours")]
)
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_what_stops_a_writer_leaves_the_old_file_and_nothing_beside(
    tmp_path, monkeypatch, write, stop, call
):
    path = tmp_path / "a.file"
    path.write_text("old")
    monkeypatch.setattr(os, call, mock.Mock(side_effect=stop))
    with pytest.raises(type(stop)) as stopped:
        write(path)
    if isinstance(stop, OSError):
        assert stopped.value.filename == str(path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.file"]
    assert path.read_text() == "old"


def test_two_writers_at_once_do_not_meet(tmp_path, write):
    path = tmp_path / "a.file"
    with files.replacing(path) as mine:
        mine.write_text("mine")
        write(path)  # begins and ends meanwhile
        assert path.read_bytes() != b"mine"
    assert path.read_text() == "mine"  # whole, and of the later one
    assert list(tmp_path.iterdir()) == [path]


def test_text_is_utf_8_and_its_lines_end_alike_everywhere(tmp_path):
    path = tmp_path / "a.txt"
    files.write_atomically(path, "± 日\n")
    assert path.read_bytes() == "± 日\n".encode()


def test_what_can_be_made_again_may_stay_unwritten(tmp_path, monkeypatch, capsys):
    path = tmp_path / "a.json"
    files.write_derived(path, [1])
    assert files.read_json(path) == [1]
    full = OSError(errno.EROFS, os.strerror(errno.EROFS))
    monkeypatch.setattr(os, "replace", mock.Mock(side_effect=full))
    files.write_derived(path, [2])
    said = capsys.readouterr().err
    assert said == f"Warning: {path} is not written: {os.strerror(errno.EROFS)}.\n"


def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    files.write_arrays(path, ARRAYS)
    denied = PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    monkeypatch.setattr(arrays.zipfile, "ZipFile", mock.Mock(side_effect=denied))
    with pytest.raises(PermissionError):
        read_arrays(path)
