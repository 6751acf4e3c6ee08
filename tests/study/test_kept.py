"""What a launch has read is read once, until it changes."""

import os

from mesa_jax.study.artifacts.kept import Kept


def reader(kept, made):
    """Reads a folder's numbers; adds to `made` what was read."""

    def read(folder):
        def found():
            made.append(folder.name)
            return [path.read_text() for path in sorted(folder.iterdir())] or None

        return kept.read(folder, found)

    return read


def folders(place, count):
    found = [place / str(i) for i in range(count)]
    for folder in found:
        folder.mkdir()
        (folder / "a").write_text(f"number {folder.name}")
    return found


def test_a_folder_is_read_once_until_a_file_changes(tmp_path):
    (folder,), made = folders(tmp_path, 1), []
    read = reader(Kept(most=2), made)
    assert read(folder) is read(folder) and made == ["0"]
    (folder / "b").write_text("more")
    assert read(folder) == ["number 0", "more"] and len(made) == 2
    (folder / "b").write_text("less")  # as long
    os.utime(folder / "b", ns=(1, 1))
    assert read(folder) == ["number 0", "less"] and len(made) == 3
    (folder / "b").unlink()
    assert read(folder) == ["number 0"] and len(made) == 4


def test_the_folders_that_were_read_last_are_kept(tmp_path):
    (a, b, c), made = folders(tmp_path, 3), []
    read = reader(Kept(most=2), made)
    for folder in (a, b, a, c, a, c):  # b is the oldest when c comes
        read(folder)
    assert made == ["0", "1", "2"]
    read(b)
    assert made == ["0", "1", "2", "1"]


def test_nothing_is_kept_of_a_folder_that_has_nothing(tmp_path):
    made = []
    read = reader(Kept(most=1), made)
    (tmp_path / "0").mkdir()
    assert read(tmp_path / "0") is None and read(tmp_path / "0") is None
    assert made == ["0", "0"]
