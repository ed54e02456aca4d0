"""The npz files made from the original annotations (P-STMO's layout), which most lifting code reads.

    data_train_3dhp.npz   data: "S1 Seq1" -> [{camera "0" -> {"data_2d": (F, 17, 2), "data_3d": (F, 17, 3)}}, fps]
    data_test_3dhp.npz    data: "TS1" -> {"data_2d": (F, 17, 2), "data_3d": (F, 17, 3), "valid": (F,)}

Pixels and mm in camera space, of the universal skeleton. There are no activities.
"""

from collections.abc import Iterator
from pathlib import Path
from re import Pattern
from typing import Any

from posescale.data.mpi_inf_3dhp.recording import CAMERAS, Recording, flags, numbers
from posescale.data.plain_pickle import load_npz
from posescale.errors import DataError

TRAIN, TEST = "data_train_3dhp.npz", "data_test_3dhp.npz"
PLACES = ("", "motion3d", "data/motion3d")


def find(folder: Path, name: str) -> Path | None:
    """One of the files, in the places where the field's code keeps it."""
    return next((path for place in PLACES if (path := folder / place / name).is_file()), None)


def load(path: Path, names: Pattern) -> dict[str, Any]:
    """The sequences of a file, in order.

    Raises:
        DataError: the file is torn, or holds something else.
    """
    content = load_npz(path, "data")
    if not isinstance(content, dict) or not content:
        raise DataError(f"{path}: data must be a dictionary of sequences, found {_described(content)}")
    strange = [str(name) for name in content if not isinstance(name, str) or not names.fullmatch(name)]
    if strange:
        raise DataError(f"{path}: no sequence of MPI-INF-3DHP is called {strange[0]!r}; expected {names.pattern}")
    return {name: content[name] for name in sorted(content)}


def read_train(name: str, entry: Any, cameras: tuple[int, ...], path: Path) -> Iterator[Recording]:
    """One training sequence, as each of the cameras sees it.

    Raises:
        DataError: the entry lacks a camera or an array, or one has another shape; names file and key.
    """
    where = f"{path}: {name}"
    if not isinstance(entry, list | tuple) or len(entry) != 2 or not isinstance(entry[0], dict):
        raise DataError(f"{where}: expected a list of cameras and frame rate, found {_described(entry)}")
    seen = {str(camera): arrays for camera, arrays in entry[0].items()}
    strange = [camera for camera in seen if camera not in map(str, CAMERAS)]
    if strange:
        raise DataError(f"{where}: no camera is called {strange[0]!r}; expected 0 to {len(CAMERAS) - 1}")
    for camera in map(str, cameras):
        if camera not in seen:
            found = ", ".join(seen) or "none"
            raise DataError(f"{where}: has no camera {camera}, found {found}; leave it out with --set cameras=[...]")
        pixels, mm = _arrays(seen[camera], f"{where}, camera {camera}")
        yield Recording(name, camera, pixels, mm, None, None, f"{where}, camera {camera}")


def read_test(name: str, entry: Any, path: Path) -> Recording:
    """One test sequence.

    Raises:
        DataError: the entry lacks an array, or one has another shape; names file and key.
    """
    where = f"{path}: {name}"
    pixels, mm = _arrays(entry, where)
    if "valid" not in entry:
        raise DataError(f"{where}: lacks valid; found {', '.join(map(str, entry))}")
    return Recording(name, "0", pixels, mm, flags(entry["valid"], len(mm), f"{where}, valid"), None, where)


def _arrays(entry: Any, where: str) -> tuple[Any, Any]:
    if not isinstance(entry, dict) or not {"data_2d", "data_3d"} <= set(entry):
        raise DataError(f"{where}: expected data_2d and data_3d, found {_described(entry)}")
    pixels = numbers(entry["data_2d"], (None, 17, 2), f"{where}, data_2d")
    mm = numbers(entry["data_3d"], (None, 17, 3), f"{where}, data_3d")
    if len(pixels) != len(mm):
        raise DataError(f"{where}: data_2d has {len(pixels)} frames and data_3d {len(mm)}; expected as many")
    return pixels, mm


def _described(value: Any) -> str:
    return ", ".join(map(str, value)) or "an empty one" if isinstance(value, dict) else type(value).__name__
