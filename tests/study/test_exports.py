"""A folder of exports is whole: the old one, or the new one."""

import pytest

from mesa_jax.study import exports, files
from mesa_jax.study.study import Study


def test_a_new_export_takes_the_place_of_the_old_one(tmp_path):
    place = tmp_path / "export" / "mesa-body0"
    exports.write(place, {"a": b"1", "b": b"2"})
    exports.write(place, {"a": b"3"})
    assert {path.name: path.read_bytes() for path in place.iterdir()} == {"a": b"3"}
    assert list(place.parent.iterdir()) == [place]


def test_what_stops_the_writing_leaves_the_old_one(tmp_path, monkeypatch):
    place = tmp_path / "mesa-body0"
    exports.write(place, {"a": b"1"})
    write = files.write_atomically

    def full(path, content):
        if path.name == "b":
            raise OSError(28, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(files, "write_atomically", full)
    with pytest.raises(OSError, match="No space"):
        exports.write(place, {"a": b"3", "b": b"2"})
    assert {path.name: path.read_bytes() for path in place.iterdir()} == {"a": b"1"}
    assert list(tmp_path.iterdir()) == [place]


def test_what_a_kill_left_is_removed(tmp_path):
    left = tmp_path / "mesa-body0.12ab34cd.partial"
    left.mkdir()
    (left / "a").write_bytes(b"half")
    exports.write(tmp_path / "mesa-body0", {"a": b"1"})
    assert [path.name for path in tmp_path.iterdir()] == ["mesa-body0"]


def test_each_prior_method_and_body_has_a_folder(tmp_path):
    study = Study(tmp_path, None)
    assert exports.folder(study, "mesa", 3) == tmp_path / "export" / "mesa-body3"
    other = exports.folder(study._replace(meta_seed=2), "mesa", 3)
    assert other.name == "mesa-body3-meta2"
