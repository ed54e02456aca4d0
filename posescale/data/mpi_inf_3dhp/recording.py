"""What a file of MPI-INF-3DHP gives for one sequence seen by one camera, and what must hold of it."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from posescale.data.plausible import check_bones
from posescale.data.skeleton import MPI_INF_3DHP
from posescale.errors import DataError

CAMERAS = range(14)
USUAL_CAMERAS = (0, 1, 2, 4, 5, 6, 7, 8)  # at the height of a chest; what every lifting paper trains on
SIDE, OUTDOOR = (2048, 2048), (1920, 1080)  # image sizes: the studio's, and that of TS5 and TS6
TRAIN_NAME, TEST_NAME = re.compile(r"S([1-8]) Seq([12])"), re.compile(r"TS([1-6])")
SETTINGS = {  # of the test sequences
    "TS1": "Green screen", "TS2": "Green screen", "TS3": "No green screen", "TS4": "No green screen",
    "TS5": "Outdoor", "TS6": "Outdoor",
}  # fmt: skip
ACTIVITIES = (  # numbered from 1
    "Standing/Walking", "Exercising", "Sitting", "Reaching/Crouching", "On The Floor", "Sports", "Miscellaneous",
)  # fmt: skip
# Frames that the lifting papers use of each training sequence, whose annotations may be longer.
FRAMES = {
    "S1 Seq1": 6416, "S1 Seq2": 12430, "S2 Seq1": 6502, "S2 Seq2": 6081, "S3 Seq1": 12488, "S3 Seq2": 12283,
    "S4 Seq1": 6171, "S4 Seq2": 6675, "S5 Seq1": 12820, "S5 Seq2": 12312, "S6 Seq1": 6188, "S6 Seq2": 6145,
    "S7 Seq1": 6239, "S7 Seq2": 6320, "S8 Seq1": 6468, "S8 Seq2": 6054,
}  # fmt: skip
FAST = ("S1 Seq2", "S3 Seq1", "S3 Seq2", "S5 Seq1", "S5 Seq2")  # 50 frames per second; other training sequences have 25
# A projection cannot be computed without the lens, but pixels must follow x/z and y/z but for scale and offset.
ASTRAY = 0.15  # of the image's width: median distance from there
STRANGER = 0.05  # of the width: how much nearer another joint may be than the joint itself


@dataclass(frozen=True)
class Recording:
    """One sequence of one camera.

    Attributes:
        name: `S1 Seq1` or `TS1`.
        camera: its number, as text; 0 for the test set.
        pixels: (F, 17, 2).
        mm: (F, 17, 3), camera space.
        valid: (F,) bool; None in training.
        activity: (F,) numbers 1..7; None where the file has none.
        where: file and key, for messages.
    """

    name: str
    camera: str
    pixels: np.ndarray
    mm: np.ndarray
    valid: np.ndarray | None
    activity: np.ndarray | None
    where: str

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of its image in pixels."""
        return OUTDOOR if self.name in ("TS5", "TS6") else SIDE

    @property
    def fps(self) -> float:
        """Frames per second; 0 in the test set, whose files do not say."""
        if TEST_NAME.fullmatch(self.name):
            return 0.0
        return 50.0 if self.name in FAST else 25.0


def numbers(value: Any, shape: tuple[int | None, ...], where: str) -> np.ndarray:
    """A float64 array of a shape (None: any length above 0), all finite.

    Raises:
        DataError: it is not.
    """
    array = np.asarray(value)
    expected = "(" + ", ".join("F" if n is None else str(n) for n in shape) + ")"
    fits = array.ndim == len(shape) and all(n in (None, m) for n, m in zip(shape, array.shape, strict=False))
    if array.dtype.kind not in "fiub" or not fits:
        raise DataError(f"{where}: expected numbers of shape {expected}, found {array.dtype} {array.shape}")
    if not array.size:
        raise DataError(f"{where}: holds no frame; expected {expected} with at least one")
    if not np.isfinite(array).all():
        raise DataError(f"{where}: NaN or infinity, first in frame {int(np.argwhere(~np.isfinite(array))[0][0])}")
    return array.astype(np.float64)


def flags(value: Any, frames: int, where: str) -> np.ndarray:
    """Valid flags (F,) as bool, at least one of them set.

    Raises:
        DataError: they are not one 0 or 1 for each frame, or all 0.
    """
    array = numbers(np.ravel(value), (None,), where)
    if len(array) != frames:
        raise DataError(f"{where}: {len(array)} valid flags for {frames} frames; expected one a frame")
    if not np.isin(array, (0, 1)).all():
        raise DataError(f"{where}: valid flags must be 0 or 1, found {array[~np.isin(array, (0, 1))][0]:g}")
    if not array.any():
        raise DataError(f"{where}: no frame is valid, so nothing can be scored")
    return array.astype(bool)


def activities(value: Any, valid: np.ndarray, where: str) -> np.ndarray:
    """Activity numbers (F,) as uint8; 1..7 in every valid frame.

    Raises:
        DataError: another number of frames, or another number in a valid frame.
    """
    array = numbers(np.ravel(value), (None,), where)
    known = range(1, len(ACTIVITIES) + 1)
    if len(array) != len(valid):
        raise DataError(f"{where}: {len(array)} activities for {len(valid)} frames; expected one a frame")
    if not np.isin(array[valid], known).all():
        wrong = array[valid][~np.isin(array[valid], known)][0]
        raise DataError(f"{where}: activities are numbered 1 to {len(known)}, found {wrong:g} in a valid frame")
    return np.where(np.isin(array, known), array, 0).astype(np.uint8)


def check(recording: Recording) -> None:
    """Refuse a recording that cannot be a person seen by a camera; frames that are not valid may be anything.

    Raises:
        DataError: wrong units, another joint order, 2D that does not belong to the 3D.
    """
    scored = slice(None) if recording.valid is None else recording.valid
    pixels, mm = recording.pixels[scored], recording.mm[scored]
    check_bones(mm, MPI_INF_3DHP, recording.where, 1.0)
    if not (mm[..., 2] > 0).all():
        frame = int(np.argwhere(mm[..., 2] <= 0)[0][0])
        raise DataError(f"{recording.where}: a joint lies behind the camera (frame {frame} of the scored ones); "
                        "expected camera space in mm, z forward")  # fmt: skip
    if np.abs(pixels).max() < 10:
        raise DataError(f"{recording.where}: 2D joints reach {np.abs(pixels).max():.3g} only; expected pixels of an "
                        f"image {recording.size[0]} wide")  # fmt: skip
    _check_projection(pixels, mm, recording)


def _check_projection(pixels: np.ndarray, mm: np.ndarray, recording: Recording) -> None:
    width = recording.size[0]
    rays = mm[..., :2] / mm[..., 2:]
    (x, across), (y, down) = (_fitted(rays[..., axis], pixels[..., axis]) for axis in (0, 1))
    if min(across, down) <= 0:
        raise DataError(f"{recording.where}: 2D joints move against the 3D ones; are both of the same sequence and "
                        "camera, x to the right and y down?")  # fmt: skip
    expected = np.stack([x, y], axis=-1)
    step = slice(None, None, max(1, len(pixels) // 200))
    distance = np.linalg.norm(pixels[step, :, None] - expected[step, None], axis=-1)
    distance = np.median(distance, axis=0)  # (joint found, joint expected)
    own, names = np.diag(distance), MPI_INF_3DHP.joints
    strangers = np.flatnonzero(own - distance.min(axis=1) > STRANGER * width)
    if len(strangers):
        nearest = distance.argmin(axis=1)
        told = ", ".join(f"{names[j]} at {names[nearest[j]]}" for j in strangers)
        raise DataError(f"{recording.where}: 2D joints lie where the 3D poses have other ones ({told}); are they in "
                        "another order?")  # fmt: skip
    if np.median(own) > ASTRAY * width:
        raise DataError(f"{recording.where}: 2D joints lie {np.median(own):.0f} pixels from where any pinhole camera "
                        "would see the 3D ones; are both of the same sequence and camera?")  # fmt: skip


def _fitted(ray: np.ndarray, pixel: np.ndarray) -> tuple[np.ndarray, float]:
    """The line focal * ray + centre, by least squares over all frames and joints; and the focal length."""
    design = np.stack([ray.ravel(), np.ones(ray.size)], axis=1)
    line = np.linalg.lstsq(design, pixel.ravel(), rcond=None)[0]
    return (design @ line).reshape(ray.shape), float(line[0])
