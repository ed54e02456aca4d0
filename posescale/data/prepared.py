"""Prepared lifting data: a folder with an index and memory-mapped arrays, the same for every dataset.

    index.json      DatasetIndex: joints, camera sizes, one entry per sequence (a trial seen by one camera)
    poses.npy       (F, J, 3) float32, metres, camera space (x right, y down, z forward), not root-relative
    exact.npy       (F, J, 2) float32, pixels: the projection of `poses`
    detections.npy  (F, J, 3) float32, pixels x, y and the detector's confidence in 0..1

F runs over the frames of all sequences, one after another. The arrays are opened as memory maps, so the size of a
dataset is disk, not RAM.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from posescale.data.folders import replaced_folder
from posescale.errors import DataError

Split = Literal["train", "val", "test"]
SHAPES = {"poses": 3, "exact": 2, "detections": 3}  # array -> last axis


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


class DatasetIndex(BaseModel):
    """`index.json` of a prepared folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["posescale-lifting-1"] = "posescale-lifting-1"
    dataset: str
    protocol: str  # id of the default protocol (posescale.metrics.protocols)
    settings: dict[str, Any]  # what the reader was asked for
    fps: float
    joints: list[str]
    parents: list[int]
    left: list[int]
    right: list[int]
    acknowledgement: str = ""
    digest: str  # over the arrays' bytes
    sequences: list[Sequence]


@dataclass(frozen=True)
class Clip:
    """What a reader yields for one sequence: its labels and its arrays (shapes as in the module's text, F = length)."""

    name: str
    subject: str
    action: str
    camera: str
    split: Split
    width: int
    height: int
    poses: np.ndarray
    exact: np.ndarray
    detections: np.ndarray


class PreparedData:
    """A prepared folder, opened read-only.

    Attributes:
        index: its DatasetIndex.
        poses, exact, detections: memory maps, shapes as in the module's text.

    Raises:
        DataError: a file is missing, torn, or not of the declared shape.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.index = _read_index(self.folder / "index.json")
        frames = sum(s.length for s in self.index.sequences)
        joints = len(self.index.joints)
        arrays = {n: _open_array(self.folder / f"{n}.npy", (frames, joints, c)) for n, c in SHAPES.items()}
        self.poses, self.exact, self.detections = arrays["poses"], arrays["exact"], arrays["detections"]

    def sequences(self, split: Split) -> list[Sequence]:
        """The sequences of one split, in index order."""
        return [s for s in self.index.sequences if s.split == split]


def write_prepared(folder: Path, clips: Iterable[Clip], **index_fields: Any) -> DatasetIndex:
    """Write a prepared folder atomically: beside its final place, then moved; an earlier one is replaced.

    Args:
        folder: the final place.
        clips: sequences in order; each is checked (shape, finite numbers) before it is written.
        **index_fields: the fields of DatasetIndex other than `digest` and `sequences`.

    Raises:
        DataError: a clip is mis-shaped or holds NaN or infinity, or there is none; `folder` holds something else
            than prepared data, or cannot be written. Nothing is left behind and an earlier folder stays as it was.
    """
    with replaced_folder(Path(folder), {"index.json", *(f"{name}.npy" for name in SHAPES)}) as partial:
        index = _write_parts(partial, clips, index_fields)
        (partial / "index.json").write_text(index.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return index


def _write_parts(partial: Path, clips: Iterable[Clip], index_fields: dict[str, Any]) -> DatasetIndex:
    joints = len(index_fields["joints"])
    sequences: list[Sequence] = []
    start = 0
    raw = {name: (partial / f"{name}.raw").open("wb") for name in SHAPES}
    try:
        for clip in clips:
            length = _check_clip(clip, joints)
            for name, stream in raw.items():
                stream.write(np.ascontiguousarray(getattr(clip, name), dtype="<f4").tobytes())
            sequences.append(
                Sequence(
                    name=clip.name, subject=clip.subject, action=clip.action, camera=clip.camera, split=clip.split,
                    start=start, length=length, width=clip.width, height=clip.height,
                )
            )  # fmt: skip
            start += length
    finally:
        for stream in raw.values():
            stream.close()
    if not sequences:
        raise DataError(f"{index_fields['dataset']}: the reader gave no sequence at all; is the source folder empty?")
    digest = hashlib.sha256()
    for name, channels in SHAPES.items():
        _raw_to_npy(partial / f"{name}.raw", (start, joints, channels), digest)
    return DatasetIndex(digest=digest.hexdigest()[:12], sequences=sequences, **index_fields)


def _raw_to_npy(raw: Path, shape: tuple[int, ...], digest: Any) -> None:
    """Put the `.npy` header before raw little-endian float32 bytes, adding them to the digest on the way."""
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    with raw.with_suffix(".npy").open("wb") as target, raw.open("rb") as source:
        np.lib.format.write_array_header_1_0(target, header)
        while block := source.read(1 << 22):
            digest.update(block)
            target.write(block)
    raw.unlink()


def _check_clip(clip: Clip, joints: int) -> int:
    length = len(clip.poses)
    for name, channels in SHAPES.items():
        array = getattr(clip, name)
        expected = (length, joints, channels)
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


def _open_array(path: Path, expected: tuple[int, ...]) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise DataError(f"{path}: missing although index.json is there; prepare the dataset again") from error
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path}: torn or not an array ({error}); prepare the dataset again") from error
    if array.shape != expected or array.dtype != np.float32:
        found = f"{array.dtype} {array.shape}"
        raise DataError(f"{path}: found {found}, index.json declares float32 {expected}; prepare the dataset again")
    return array
