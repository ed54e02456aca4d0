"""Prepared lifting data: a folder with an index and memory-mapped arrays, the same for every dataset.

    index.json      DatasetIndex: joints, space, one entry per sequence (a trial seen by one camera), arrays declared
    poses.npy       (F, J, 3) float32, not root-relative; by the index's `space`:
                    camera: metres, x right, y down, z forward
                    image: pixels x, y, and depth relative to the root in pixels (2.5D)

Declared by the index where the dataset has them:

    exact.npy       (F, J, 2) float32, pixels: the projection of `poses`, or annotated 2D
    detections.npy  (F, J, 3) float32, pixels x, y and the detector's confidence
    factor.npy      (F,) float32, mm per pixel of `poses` in image space; 0 where the source has none
    valid.npy       (F,) bool, frames that are scored
    activity.npy    (F,) uint8, activity number of each frame

F runs over the frames of all sequences, one after another. The arrays are opened as memory maps, so the size of a
dataset is disk, not RAM.
"""

import hashlib
import json
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from posescale.errors import DataError
from posescale.folders import replaced_folder

Split = Literal["train", "val", "test"]
Space = Literal["camera", "image"]


@dataclass(frozen=True)
class _Kind:
    dtype: str
    channels: int | None = None  # last axis of (F, J, channels); None for one number a frame

    def shape(self, frames: int, joints: int) -> tuple[int, ...]:
        return (frames,) if self.channels is None else (frames, joints, self.channels)


ARRAYS = {
    "poses": _Kind("<f4", 3), "exact": _Kind("<f4", 2), "detections": _Kind("<f4", 3),
    "factor": _Kind("<f4"), "valid": _Kind("|b1"), "activity": _Kind("|u1"),
}  # fmt: skip


class Sequence(BaseModel):
    """One trial seen by one camera: frames `start` to `start + length` of the arrays."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    subject: str
    action: str
    camera: str
    split: Split
    start: int
    length: int
    width: int  # of the image, pixels
    height: int
    performance: str = ""  # the same for all cameras that saw it; empty where the data do not say
    fps: float = 0.0  # its own frames per second; 0 where it has the dataset's, or none is known

    @property
    def rows(self) -> slice:
        """Its rows of the arrays."""
        return slice(self.start, self.start + self.length)


class DatasetIndex(BaseModel):
    """`index.json` of a prepared folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["posescale-lifting-1"] = "posescale-lifting-1"
    dataset: str
    protocol: str  # id of the default protocol (posescale.metrics.protocols)
    settings: dict[str, Any]  # what the reader was asked for
    fps: float  # frames per second; 0 where sequences differ: then they say their own
    space: Space = "camera"
    arrays: list[str] = ["poses", "exact", "detections"]  # files there are, of ARRAYS
    joints: list[str]
    parents: list[int]
    left: list[int]
    right: list[int]
    acknowledgement: str = ""
    digest: str  # over the arrays' bytes
    sequences: list[Sequence]


@dataclass(frozen=True)
class Clip:
    """What a reader yields for one sequence: its labels and its arrays (shapes as in the module's text, F = length).

    All clips of a dataset have the same arrays; None is an array that the dataset does not have.
    """

    name: str
    subject: str
    action: str
    camera: str
    split: Split
    width: int
    height: int
    poses: np.ndarray
    exact: np.ndarray | None = None
    detections: np.ndarray | None = None
    factor: np.ndarray | None = None
    valid: np.ndarray | None = None
    activity: np.ndarray | None = None
    performance: str = ""  # the same for all cameras that saw it
    fps: float = 0.0  # frames per second, where the dataset's sequences differ

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays it has, by name, in the order of ARRAYS."""
        return {name: array for name in ARRAYS if (array := getattr(self, name)) is not None}


class PreparedData:
    """A prepared folder, opened read-only.

    Attributes:
        index: its DatasetIndex.
        poses, exact, detections, factor, valid, activity: memory maps, shapes as in the module's text; None where
            the index does not declare the array.

    Raises:
        DataError: a file is missing, torn, or not of the declared shape.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.index = _read_index(self.folder / "index.json")
        frames = sum(s.length for s in self.index.sequences)
        joints = len(self.index.joints)
        self.arrays = {
            name: _open_array(self.folder / f"{name}.npy", kind.dtype, kind.shape(frames, joints))
            for name, kind in ARRAYS.items()
            if name in self.index.arrays
        }
        self.poses, self.exact, self.detections, self.factor, self.valid, self.activity = map(self.arrays.get, ARRAYS)

    def sequences(self, split: Split) -> list[Sequence]:
        """The sequences of one split, in index order."""
        return [s for s in self.index.sequences if s.split == split]


def write_prepared(folder: Path, clips: Iterable[Clip], **index_fields: Any) -> DatasetIndex:
    """Write a prepared folder atomically: beside its final place, then moved; an earlier one is replaced.

    Args:
        folder: the final place.
        clips: sequences in order; each is checked (shape, finite numbers) before it is written.
        **index_fields: the fields of DatasetIndex other than `digest`, `arrays` and `sequences`.

    Raises:
        DataError: a clip is mis-shaped, has other arrays than the first, holds NaN or infinity, or there is none;
            `folder` holds something else than prepared data, or cannot be written. Nothing is left behind and an
            earlier folder stays as it was.
    """
    with replaced_folder(Path(folder), {"index.json", *(f"{name}.npy" for name in ARRAYS)}) as partial:
        index = _write_parts(partial, clips, index_fields)
        (partial / "index.json").write_text(index.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return index


def _write_parts(partial: Path, clips: Iterable[Clip], index_fields: dict[str, Any]) -> DatasetIndex:
    joints = len(index_fields["joints"])
    sequences: list[Sequence] = []
    start = 0
    raw: dict[str, Any] = {}
    with ExitStack() as files:
        for clip in clips:
            if not sequences:
                raw = {name: files.enter_context((partial / f"{name}.raw").open("wb")) for name in clip.arrays}
            length = check_clip(clip, joints, list(raw))
            for name, array in clip.arrays.items():
                raw[name].write(np.ascontiguousarray(array, dtype=ARRAYS[name].dtype).tobytes())
            sequences.append(
                Sequence(
                    name=clip.name, subject=clip.subject, action=clip.action, camera=clip.camera, split=clip.split,
                    start=start, length=length, width=clip.width, height=clip.height, performance=clip.performance,
                    fps=clip.fps,
                )
            )  # fmt: skip
            start += length
    if not sequences:
        raise DataError(f"{index_fields['dataset']}: the reader gave no sequence at all; is the source folder empty?")
    digest = hashlib.sha256()
    for name in raw:
        kind = ARRAYS[name]
        _raw_to_npy(partial / f"{name}.raw", kind.dtype, kind.shape(start, joints), digest)
    return DatasetIndex(digest=digest.hexdigest()[:12], sequences=sequences, arrays=list(raw), **index_fields)


def _raw_to_npy(raw: Path, dtype: str, shape: tuple[int, ...], digest: Any) -> None:
    """Put the `.npy` header before raw bytes, adding them to the digest on the way."""
    header = {"descr": dtype, "fortran_order": False, "shape": shape}
    with raw.with_suffix(".npy").open("wb") as target, raw.open("rb") as source:
        np.lib.format.write_array_header_1_0(target, header)
        while block := source.read(1 << 22):
            digest.update(block)
            target.write(block)
    raw.unlink()


def check_clip(clip: Clip, joints: int, declared: list[str]) -> int:
    """The number of frames of a clip.

    Args:
        clip: as a reader yields it.
        joints: J.
        declared: names of the arrays that it must have.

    Raises:
        DataError: it has other arrays, or of other shapes, or they hold NaN or infinity.
    """
    length, arrays = len(clip.poses), clip.arrays
    if list(arrays) != declared:
        raise DataError(f"{clip.name}: has arrays {', '.join(arrays)}; earlier sequences have {', '.join(declared)}")
    for name, array in arrays.items():
        expected = ARRAYS[name].shape(length, joints)
        if array.shape != expected or length == 0:
            raise DataError(f"{clip.name}: {name} has shape {array.shape}, expected {expected} with at least one frame")
        if not np.isfinite(array).all():
            frame = int(np.argwhere(~np.isfinite(array))[0][0])
            raise DataError(f"{clip.name}: {name} holds NaN or infinity, first in frame {frame}; repair the source")
    return length


def _read_index(path: Path) -> DatasetIndex:
    if not path.exists():
        how = f"`posescale data prepare NAME --out {path.parent}`"
        raise DataError(f"{path}: missing; prepare the dataset first ({how})")
    try:
        return DatasetIndex.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, ValidationError) as error:
        raise DataError(f"{path}: not an index of prepared data: {error}. Prepare the dataset again") from error


def _open_array(path: Path, dtype: str, expected: tuple[int, ...]) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise DataError(f"{path}: missing although index.json is there; prepare the dataset again") from error
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path}: torn or not an array ({error}); prepare the dataset again") from error
    if array.shape != expected or array.dtype != np.dtype(dtype):
        found, declared = f"{array.dtype} {array.shape}", f"{np.dtype(dtype)} {expected}"
        raise DataError(f"{path}: found {found}, index.json declares {declared}; prepare the dataset again")
    return array
