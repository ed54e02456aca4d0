"""Pickles read without running what they ask for: numpy arrays, plain containers and numbers, nothing else.

The field's files (VideoPose3D's and P-STMO's npz, MotionBERT's pkl) hold dictionaries of arrays as pickles, which may
name any function. Here the few names that such files need stand for functions of our own; any other name is refused.
"""

import pickle
import zipfile
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from posescale.errors import DataError

NUMBERS = tuple({type(np.dtype(code)) for code in np.typecodes["AllFloat"] + np.typecodes["AllInteger"] + "?"})
_TORN = (OSError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError, ImportError, MemoryError,
         OverflowError, UnicodeError, zipfile.BadZipFile, zlib.error, NotImplementedError, RecursionError)  # fmt: skip


def number(dtype: np.dtype, raw: bytes) -> np.generic:
    """A numpy number from its bytes; stands in for numpy's own function, which would build objects too."""
    if type(dtype) not in NUMBERS:
        raise pickle.UnpicklingError(f"numpy scalar of type {dtype}")
    return np.frombuffer(raw, dtype, count=1)[0]


def _empty_array(kind: type, shape: tuple[int, ...], _code: Any) -> np.ndarray:
    """The empty array that a pickled one begins as; its content comes with its state."""
    if kind is not np.ndarray or tuple(shape) != (0,):
        raise pickle.UnpicklingError(f"array of kind {kind} and shape {shape}")
    return np.empty(0, np.int8)


def _latin1(text: str, encoding: str) -> bytes:
    """How protocols 0 to 2 write bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes encoded as {encoding}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """How protocols 0 to 2 write empty bytes."""
    return b""


def _from_buffer(
    raw: bytes, dtype: np.dtype, shape: tuple[int, ...], order: str, axes: tuple[int, ...] | None = None
) -> np.ndarray:
    """How protocol 5 writes arrays; `axes` where their memory has neither C's nor Fortran's order."""
    if dtype.hasobject:
        raise pickle.UnpicklingError("objects in a buffer")
    array = np.frombuffer(raw, dtype)
    return array.reshape(shape).transpose(axes) if order == "K" and axes else array.reshape(shape, order=order)


_KNOWN: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _latin1,
    ("collections", "OrderedDict"): OrderedDict,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _empty_array for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): number for core in ("core", "_core")},
    **{(module, "bytes"): _no_bytes for module in ("builtins", "__builtin__")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
}


class _Refused(Exception):
    """A pickle names something that is not read."""


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise _Refused(f"{module}.{name}")
        return _KNOWN[module, name]


def load_pickle(path: Path | str) -> Any:
    """The content of a `.pkl` file, of numpy 1 or 2, of Python 2 or 3.

    Raises:
        DataError: there is no such file, it is torn, or it names something that could run code (nothing was run).
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            return _unpickle(stream, path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def load_npz(path: Path | str, *names: str) -> dict[str, Any]:
    """Entries of an `.npz` file by name; an array of objects of shape () is given as the object itself.

    Args:
        path: the file.
        *names: the entries to read, which must be there; others are left unread.

    Raises:
        DataError: there is no such file, it is torn or no npz, an entry is missing, or it names something that could
            run code (nothing was run).
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            found = [name.removesuffix(".npy") for name in archive.namelist()]
            lacking = [name for name in names if name not in found]
            if lacking:
                raise DataError(f"{path}: expected the key {', '.join(lacking)}, found {', '.join(found) or 'none'}")
            return {name: _entry(archive, name, path) for name in names}
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except _TORN as error:
        raise DataError(f"{path}: torn or no npz file ({error}); get it again") from error


def _entry(archive: zipfile.ZipFile, name: str, path: Path) -> Any:
    with archive.open(f"{name}.npy") as stream:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
        if not dtype.hasobject:
            stream.seek(0)
            return np.lib.format.read_array(stream, allow_pickle=False)
        value = _unpickle(stream, path)
        while stream.read(1 << 20):  # to the end, where the checksum is compared
            pass
    if not isinstance(value, np.ndarray) or value.shape != shape:
        raise DataError(f"{path}: {name} is not the array of shape {shape} that its header declares; get it again")
    return value.item() if shape == () else value


def _unpickle(stream: BinaryIO, path: Path) -> Any:
    try:
        return _Reader(stream, encoding="latin1").load()
    except _Refused as refusal:
        raise DataError(
            f"{path}: holds {refusal}, and only numpy arrays, numbers and plain containers are read, because loading "
            "anything else could run code. Nothing was run; get the original file"
        ) from refusal
    except (pickle.UnpicklingError, *_TORN) as error:
        raise DataError(
            f"{path}: torn or no pickle of arrays ({type(error).__name__}: {error}); get it again"
        ) from error
