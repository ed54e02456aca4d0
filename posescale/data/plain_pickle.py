"""Pickles of arrays and plain containers, read without running anything else that a pickle may ask for.

A pickle is a small program: it may call any function it can name. The published data files of the field are pickles
(`.pkl`, and `.npz` with dictionaries inside), so they are read here by an unpickler that knows NumPy's array
constructors and nothing more. Numbers, strings, lists, tuples and dictionaries need no function.
"""

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from posescale.errors import DataError


def _array(kind: type, shape: Any, code: Any) -> np.ndarray:
    """An empty array, to be filled by the state that follows in the pickle."""
    if kind is not np.ndarray:
        raise pickle.UnpicklingError(f"an array of class {kind}")
    return np.ndarray.__new__(np.ndarray, shape, code)


def _from_buffer(
    buffer: Any, dtype: np.dtype, shape: tuple[int, ...], order: str, axes: tuple[int, ...] | None = None
) -> np.ndarray:
    """How protocol 5 writes arrays; `axes` where their memory has neither C's nor Fortran's order."""
    if dtype.hasobject:
        raise pickle.UnpicklingError("a buffer of objects")
    array = np.frombuffer(buffer, dtype)
    return array.reshape(shape).transpose(axes) if order == "K" and axes else array.reshape(shape, order=order)


def _scalar(dtype: np.dtype, raw: bytes | str) -> Any:
    if dtype.hasobject:
        raise pickle.UnpicklingError("a scalar of objects")
    return np.frombuffer(raw.encode("latin-1") if isinstance(raw, str) else raw, dtype, count=1)[0]


def _bytes(text: str, encoding: str) -> bytes:
    """Bytes as Python 2 wrote them."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"text in encoding {encoding}")
    return text.encode("latin-1")


def _no_bytes() -> bytes:
    """Empty bytes as protocols 0 to 2 write them."""
    return b""


ADMITTED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "dtype"): np.dtype,
    ("numpy", "ndarray"): np.ndarray,
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _bytes,
    ("builtins", "bytes"): _no_bytes,
    ("__builtin__", "bytes"): _no_bytes,
}
for _core in ("numpy.core", "numpy._core"):
    ADMITTED |= {
        (f"{_core}.multiarray", "_reconstruct"): _array,
        (f"{_core}.multiarray", "scalar"): _scalar,
        (f"{_core}.numeric", "_frombuffer"): _from_buffer,
    }


class _Refused(Exception):
    """The pickle names a function that is not admitted."""


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return ADMITTED[module, name]
        except KeyError:
            raise _Refused(f"{module}.{name}") from None


def load_pickle(path: Path | str) -> Any:
    """The content of a pickle file of arrays and plain containers.

    Raises:
        DataError: the file is missing, torn, no pickle, or asks for anything but arrays and containers (which is not
            run).
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            return _read(stream, str(path))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def load_npz(path: Path | str, key: str) -> Any:
    """One entry of an `.npz` file; a dictionary that NumPy put into a 0-d object array is taken out of it.

    Raises:
        DataError: the file is missing, torn, no `.npz`, lacks the entry, or as `load_pickle`.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            if key not in names:
                raise DataError(f"{path}: has no entry {key!r}; it holds {', '.join(names) or 'nothing'}")
            with archive.open(f"{key}.npy") as stream:
                return _entry(stream, f"{path}, entry {key!r}")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except zipfile.BadZipFile as error:
        raise DataError(f"{path}: torn, or not an .npz file ({error}); get it again") from error


def _entry(stream: Any, where: str) -> Any:
    header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        shape, fortran, dtype = header[np.lib.format.read_magic(stream)](stream)
    except (ValueError, KeyError, EOFError) as error:
        raise DataError(f"{where}: not an array ({error}); get the file again") from error
    if dtype.hasobject:
        found = _read(stream, where)
        return found.item() if isinstance(found, np.ndarray) and found.shape == () else found
    raw = stream.read()
    if len(raw) != dtype.itemsize * int(np.prod(shape)):
        raise DataError(f"{where}: torn: {len(raw)} bytes instead of those of {shape} {dtype}; get the file again")
    return np.frombuffer(raw, dtype).reshape(shape, order="F" if fortran else "C")


def _read(stream: BinaryIO, where: str) -> Any:
    try:
        return _PlainUnpickler(stream, encoding="latin1").load()
    except _Refused as error:
        raise DataError(
            f"{where}: asks for {error}, and only arrays and plain containers are read, because anything else could "
            "run code. Nothing was run; is this the published file?"
        ) from None
    except zipfile.BadZipFile:
        raise
    except Exception as error:  # a torn or foreign file can break the reader in any way
        raise DataError(f"{where}: torn, or not a pickle ({type(error).__name__}: {error}); get it again") from error
