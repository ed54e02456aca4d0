"""The original annotations: MATLAB v5 for training, v7.3 (HDF5) for the test set."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io

from posescale.data.mpi_inf_3dhp.recording import (
    CAMERAS,
    FRAMES,
    TEST_NAME,
    TRAIN_NAME,
    Recording,
    activities,
    flags,
    numbers,
)  # fmt: skip
from posescale.errors import DataError

# The 17 joints among the 28 of the training annotations.
KEPT = [7, 5, 14, 15, 16, 9, 10, 11, 23, 24, 25, 18, 19, 20, 4, 3, 6]
TEST_PLACES = ("", "mpi_inf_3dhp_test_set", "mpi_inf_3dhp_test_set/mpi_inf_3dhp_test_set")
POSES = {"univ": "univ_annot3", "metric": "annot3"}


def train_files(folder: Path) -> dict[str, Path]:
    """Sequence -> annot.mat, in order."""
    found = {f"{path.parts[-3]} {path.parts[-2]}": path for path in folder.glob("S*/Seq*/annot.mat")}
    return {name: found[name] for name in sorted(found) if TRAIN_NAME.fullmatch(name)}


def test_files(folder: Path) -> dict[str, Path]:
    """Sequence -> annot_data.mat, in order, of the first place that has any."""
    for place in TEST_PLACES:
        found = {path.parent.name: path for path in (folder / place).glob("TS*/annot_data.mat")}
        if found:
            return {name: found[name] for name in sorted(found) if TEST_NAME.fullmatch(name)}
    return {}


def read_train(name: str, path: Path, cameras: tuple[int, ...], annotation: str) -> Iterator[Recording]:
    """One training sequence, as each of the cameras sees it.

    Raises:
        DataError: the file is torn, lacks a variable or a camera, or one has another shape; names file and variable.
    """
    poses = POSES[annotation]
    content = _matlab_v5(path, ("annot2", poses))
    cells = {key: _cells(content[key], f"{path}: {key}") for key in ("annot2", poses)}
    for camera in cameras:
        where = f"{path}, camera {camera}"
        pixels = _joints(cells["annot2"][camera], 2, f"{where}, annot2")
        mm = _joints(cells[poses][camera], 3, f"{where}, {poses}")
        if len(pixels) != len(mm):
            raise DataError(f"{where}: annot2 has {len(pixels)} frames and {poses} {len(mm)}; expected as many")
        used = FRAMES[name]
        yield Recording(name, str(camera), pixels[:used], mm[:used], None, None, where)


def _matlab_v5(path: Path, names: tuple[str, ...]) -> dict[str, Any]:
    if h5py.is_hdf5(path):
        raise DataError(f"{path}: a MATLAB v7.3 file; the original annot.mat is v5. Get the original")
    try:
        content = scipy.io.loadmat(path, variable_names=names)
    except Exception as error:  # a torn file can break the parser in any way
        raise DataError(f"{path}: torn or no MATLAB v5 file ({type(error).__name__}: {error}); get it again") from error
    lacking = [name for name in names if name not in content]
    if lacking:
        found = ", ".join(name for name, *_ in _variables(path)) or "none"
        raise DataError(f"{path}: expected the variables {', '.join(names)}, found {found}")
    return content


def _variables(path: Path) -> list[tuple]:
    try:
        return scipy.io.whosmat(path)
    except Exception:  # only to say what else there is
        return []


def _cells(value: np.ndarray, where: str) -> list[np.ndarray]:
    """The content of a cell array with one cell a camera."""
    cells = list(np.ravel(value)) if value.dtype == object else []
    if len(cells) != len(CAMERAS):
        found = f"{len(cells)} cells" if cells else f"{value.dtype} {value.shape}"
        raise DataError(f"{where}: expected a cell array of {len(CAMERAS)} cameras, found {found}")
    return cells


def _joints(cell: np.ndarray, axes: int, where: str) -> np.ndarray:
    """The 17 joints (F, 17, axes) of one camera's cell (F, 28 * axes)."""
    return numbers(cell, (None, 28 * axes), where).reshape(-1, 28, axes)[:, KEPT]


def read_test(name: str, path: Path, annotation: str) -> Recording:
    """One test sequence.

    Raises:
        DataError: the file is torn, lacks a variable, or one has another shape; names file and variable.
    """
    poses = POSES[annotation]
    content = _hdf5(path, ("annot2", poses, "valid_frame", "activity_annotation"))
    pixels = numbers(content["annot2"], (None, 1, 17, 2), f"{path}: annot2")[:, 0]
    mm = numbers(content[poses], (None, 1, 17, 3), f"{path}: {poses}")[:, 0]
    if len(pixels) != len(mm):
        raise DataError(f"{path}: annot2 has {len(pixels)} frames and {poses} {len(mm)}; expected as many")
    valid = flags(content["valid_frame"], len(mm), f"{path}: valid_frame")
    activity = activities(content["activity_annotation"], valid, f"{path}: activity_annotation")
    return Recording(name, "0", pixels, mm, valid, activity, str(path))


def _hdf5(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    try:
        with h5py.File(path) as opened:
            lacking = [name for name in names if not isinstance(opened.get(name), h5py.Dataset)]
            if lacking:
                found = ", ".join(opened) or "none"
                raise DataError(f"{path}: lacks the variable {', '.join(lacking)}; found {found}")
            return {name: opened[name][()] for name in names}
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise DataError(f"{path}: torn or no MATLAB v7.3 file ({error}); get it again") from error
