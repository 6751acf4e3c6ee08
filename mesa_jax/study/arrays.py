"""Arrays in .npz files: headers are read before arrays, contents are held by a hash.

A header may claim any size and any type. What it claims is compared with the file's own
size and with what is expected, before memory is taken or a value is read.
"""

import hashlib
import math
import pathlib
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from mesa_jax.study import files
from mesa_jax.study.files import DamagedFileError

SEAL = "sha256"  # array of a sealed file: the hash of the others
LARGER = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: 1032}  # times, at most
HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
UNREADABLE = (
    *(ValueError, TypeError, KeyError, OverflowError, MemoryError),
    *(OSError, EOFError, RuntimeError),
    *(struct.error, zlib.error, zipfile.BadZipFile),
)


class Form(NamedTuple):
    """Describes an array as its header says."""

    shape: tuple[int, ...]
    dtype: np.dtype


Check = Callable[[dict[str, Form]], None]  # raises where the forms are not as they must


def read(path: pathlib.Path, check: Check) -> dict[str, np.ndarray]:
    """Returns the arrays of a file whose forms pass a check; never unpickles.

    Raises:
      DamagedFileError: naming the file, if it is no whole .npz.
      FileNotFoundError, PermissionError: if there is none that may be read.
    """
    found = forms(path)
    check(found)
    try:
        with zipfile.ZipFile(path) as archive:
            return {name: _array(archive, name) for name in found}
    except UNREADABLE as error:
        raise DamagedFileError(f"{path} is damaged: {error}.") from None


def forms(path: pathlib.Path) -> dict[str, Form]:
    """Returns the forms of a file's arrays, from their headers alone.

    Raises:
      DamagedFileError: naming the file, if it is no whole .npz.
      FileNotFoundError, PermissionError: if there is none that may be read.
    """
    try:
        with open(path, "rb") as file:
            _require_zip(file)
            archive = zipfile.ZipFile(file)
            return _forms(archive, path.stat().st_size)
    except (FileNotFoundError, PermissionError):
        raise
    except UNREADABLE as error:
        raise DamagedFileError(f"{path} is damaged: {error}.") from None


def write_sealed(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays with their hash; the file is either the old one or the new one."""
    held = {name: np.asarray(values) for name, values in arrays.items()}
    files.write_arrays(path, held | {SEAL: np.array(content_hash(held))})


def read_sealed(path: pathlib.Path, check: Check) -> dict[str, np.ndarray]:
    """Returns what `write_sealed` wrote.

    Raises:
      DamagedFileError: naming the file, if it is another, or a value is not finite.
    """

    def check_others(forms):
        if SEAL not in forms or forms[SEAL] != ((), np.dtype("<U64")):
            raise DamagedFileError(f"{path} has no hash: another program wrote it.")
        check({name: form for name, form in forms.items() if name != SEAL})

    found = read(path, check_others)
    if str(found.pop(SEAL)) != content_hash(found):
        raise DamagedFileError(f"{path} is not what was written: the hash differs.")
    for name, values in found.items():
        if not np.isfinite(values).all():
            raise DamagedFileError(f"{path}: {name} is not finite.")
    return found


def require_shapes(
    path: pathlib.Path, forms: dict[str, Form], shapes: dict[str, tuple[int, ...]]
) -> None:
    """Checks that a file holds just these arrays, of float32.

    Raises:
      DamagedFileError: naming the first that is missing, unknown or another.
    """
    for name in sorted(shapes.keys() ^ forms.keys()):
        what = "lacks" if name in shapes else "has an unknown array"
        raise DamagedFileError(f"{path} {what} {name}.")
    for name, shape in shapes.items():
        wanted = Form(shape, np.dtype(np.float32))
        if forms[name] != wanted:
            raise DamagedFileError(
                f"{path}: {name} is {told(forms[name])}, expected {told(wanted)}."
            )


def told(form: Form) -> str:
    """Returns a form in words, as "float32 of shape (3, 2)"."""
    kind = "structured" if form.dtype.names else str(form.dtype)
    return f"{kind} of shape {form.shape}"


def content_hash(arrays: Mapping[str, np.ndarray]) -> str:
    """Returns the hash of names, types, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        values = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {values.dtype} {values.shape}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def _require_zip(file) -> None:
    start = file.read(6)
    if start == b"\x93NUMPY":
        raise ValueError("it is one array (.npy), not an archive of arrays (.npz)")


def _forms(archive: zipfile.ZipFile, size: int) -> dict[str, Form]:
    forms = {}
    for member in archive.infolist():
        name = member.filename.removesuffix(".npy")
        if name == member.filename or name in forms:
            raise ValueError(f"{member.filename!r} is no array, or not the only one")
        if member.compress_type not in LARGER:
            raise ValueError(f"{name} is compressed in another way than NumPy does")
        if member.file_size > LARGER[member.compress_type] * size:
            raise ValueError(f"{name} claims {member.file_size} bytes")
        with archive.open(member) as stream:
            version = np.lib.format.read_magic(stream)
            if version not in HEADERS:
                raise ValueError(f"{name} has format {version}")
            shape, _, dtype = HEADERS[version](stream)
            held = member.file_size - stream.tell()
        if dtype.hasobject:
            raise ValueError(f"{name} holds Python objects, which are not unpickled")
        if math.prod(shape) * dtype.itemsize != held:
            raise ValueError(f"{name} claims shape {shape} and holds {held} bytes")
        forms[name] = Form(shape, dtype)
    return forms


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(f"{name}.npy") as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)
