"""Checks of a prepared folder against what its index declares and what geometry allows."""

import hashlib
from pathlib import Path

import numpy as np

from posescale.data.prepared import ARRAYS, DatasetIndex, PreparedData
from posescale.errors import DataError

BLOCK = 1 << 16  # frames checked at a time, so that memory stays small


def verify(folder: Path | str) -> PreparedData:
    """Read a prepared folder from end to end.

    Raises:
        DataError: the bytes are not those of the digest, sequences overlap or leave gaps, a subject is in two splits,
            a number is not finite, a joint is not in front of its camera, or a confidence is no confidence.
    """
    data = PreparedData(folder)
    _check_index(data.folder, data.index)
    _check_digest(data)
    for start in range(0, len(data.poses), BLOCK):
        _check_values(data, slice(start, start + BLOCK))
    return data


def _check_index(folder: Path, index: DatasetIndex) -> None:
    path, start = folder / "index.json", 0
    for s in index.sequences:
        if s.start != start or s.length < 1:
            raise DataError(f"{path}: sequence {s.name} starts at {s.start} with {s.length} frames; expected {start}")
        start += s.length
    names = [s.name for s in index.sequences]
    if len(set(names)) != len(names):
        raise DataError(f"{path}: a sequence is listed twice; prepare the dataset again")
    splits = {(s.subject, s.split) for s in index.sequences}
    if len(splits) != len({subject for subject, _ in splits}):
        raise DataError(f"{path}: a subject is in two splits; prepare the dataset again")


def _check_digest(data: PreparedData) -> None:
    digest = hashlib.sha256()
    for name, array in data.arrays.items():
        for start in range(0, len(array), BLOCK):
            digest.update(np.ascontiguousarray(array[start : start + BLOCK], dtype=ARRAYS[name].dtype).tobytes())
    found = digest.hexdigest()[:12]
    if found != data.index.digest:
        raise DataError(
            f"{data.folder}: the arrays' digest is {found}, index.json declares {data.index.digest}; "
            "a file was changed or mixed up: prepare the dataset again"
        )


def _check_values(data: PreparedData, rows: slice) -> None:
    for name, array in data.arrays.items():
        if not np.isfinite(array[rows]).all():
            raise DataError(f"{data.folder}/{name}.npy: NaN or infinity; prepare the dataset again")
    scored = slice(None) if data.valid is None else data.valid[rows]
    if data.index.space == "camera" and not (data.poses[rows][scored][..., 2] > 0).all():
        raise DataError(f"{data.folder}/poses.npy: a joint lies behind its camera; prepare the dataset again")
    if data.factor is not None and not (data.factor[rows] >= 0).all():
        raise DataError(f"{data.folder}/factor.npy: a factor is negative; prepare the dataset again")
    if data.detections is not None:
        confidence = data.detections[rows, :, 2]  # peaks of real heat maps may lie a little above 1
        if not ((confidence >= 0) & (confidence < 2)).all():
            raise DataError(f"{data.folder}/detections.npy: a confidence is outside 0..1; prepare the dataset again")
