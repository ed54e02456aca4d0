"""JHMDB's own files: joint_positions.mat, puppet_mask.mat, split lists, frames counted from 1."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from posescale.data.prepared import Split
from posescale.data.video.files import frames_on_disk, size_of
from posescale.data.video.prepared import Frame, Video, VideoPart, person_dtype
from posescale.data.video.skeletons import JHMDB, UNKNOWN
from posescale.errors import DataError
from posescale.metrics.jhmdb import tight_box

SPLIT_OF: dict[str, Split] = {"1": "train", "2": "test"}


@dataclass(frozen=True)
class Clip:
    """A clip as a split list names it."""

    action: str
    name: str
    split: Split


def read_splits(folder: Path, number: int) -> list[Clip]:
    """The clips of one split, from `<action>_test_split_<number>.txt` with lines `<clip>.avi 1` (train) or `2` (test).

    Raises:
        DataError: there is no list, or a line is not of this form, or a clip is in two.
    """
    lists = sorted(folder.glob(f"*_test_split_{number}.txt"))
    if not lists:
        raise DataError(f"{folder}: no *_test_split_{number}.txt; get sub_splits.zip (splits.zip for all of JHMDB)")
    clips = []
    for path in lists:
        action = path.name.removesuffix(f"_test_split_{number}.txt")
        for n, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            words = line.split()
            if not words or words == ["0"]:
                continue
            if len(words) != 2 or not words[0].endswith(".avi") or words[1] not in {*SPLIT_OF, "0"}:
                raise DataError(f"{path}, line {n}: {line!r}; expected `<clip>.avi 1` (train) or `<clip>.avi 2` (test)")
            if words[1] in SPLIT_OF:
                clips.append(Clip(action, words[0].removesuffix(".avi"), SPLIT_OF[words[1]]))
    names = [clip.name for clip in clips]
    double = {name for name in names if names.count(name) > 1}
    if double or not clips:
        raise DataError(f"{folder}: clip {min(double, default='(none)')} is listed {'twice' if double else 'nowhere'}")
    return clips


def read_clip(folder: Path, clip: Clip, need_images: bool) -> VideoPart:
    """One clip: all 15 joints of every annotated frame, the box of its puppet mask (corner to corner, as LSTM-PM).

    Images beyond the annotated frames serve as neighbours.

    Raises:
        DataError: a file is missing or damaged, or joints, masks and images contradict each other.
    """
    place = Path(clip.action) / clip.name
    positions = folder / "joint_positions" / place / "joint_positions.mat"
    masks = folder / "puppet_mask" / place / "puppet_mask.mat"
    joints = _joints(positions)
    mask = _array(masks, "part_mask")
    if mask.ndim == 2:  # MATLAB drops a last axis of one
        mask = mask[..., None]
    if mask.ndim != 3 or mask.shape[2] != len(joints):
        raise DataError(f"{masks}: part_mask has shape {mask.shape}, but {positions.name} has {len(joints)} frames")
    frames, size = _frames(folder, clip, len(joints), (mask.shape[1], mask.shape[0]), need_images)
    by_number = {frame.number: n for n, frame in enumerate(frames)}
    people = np.zeros(len(joints), person_dtype(len(JHMDB.joints)))
    people["frame"] = [by_number[n + 1] for n in range(len(joints))]
    people["head"], people["joints"], people["annotated"], people["state"] = np.nan, joints, 1, UNKNOWN
    for n in range(len(joints)):
        people["box"][n] = _box(mask[:, :, n], joints[n], f"{masks}: frame {n + 1}")
    width, height = size
    return VideoPart(
        Video(name=clip.name, split=clip.split, action=clip.action, width=width, height=height, start=0, frames=frames),
        people,
    )


def _array(path: Path, key: str) -> np.ndarray:
    if not path.is_file():
        raise DataError(f"{path}: missing; unpack the whole of {path.parts[-4]}.zip")
    try:
        content: dict[str, Any] = scipy.io.loadmat(path)
    except Exception as error:  # scipy raises whatever the torn bytes make it stumble over
        raise DataError(f"{path}: torn, or not a MATLAB file ({error}); get it again") from error
    if key not in content:
        known = ", ".join(name for name in content if not name.startswith("__"))
        raise DataError(f"{path}: has no {key}; it holds {known or 'nothing'}")
    return np.asarray(content[key])


def _joints(path: Path) -> np.ndarray:
    """(F, 15, 2) pixels, counted from 0 (the file counts from 1)."""
    positions = _array(path, "pos_img")
    if positions.ndim == 2:
        positions = positions[..., None]
    if positions.ndim != 3 or positions.shape[:2] != (2, len(JHMDB.joints)):
        raise DataError(f"{path}: pos_img has shape {positions.shape}; expected (2, 15, frames)")
    positions = positions.astype(np.float64)
    if not np.isfinite(positions).all():
        frame = int(np.argwhere(~np.isfinite(positions))[0][2]) + 1
        raise DataError(f"{path}: pos_img holds NaN or infinity, first in frame {frame}; get the file again")
    return positions.transpose(2, 1, 0) - 1


def _box(mask: np.ndarray, joints: np.ndarray, where: str) -> np.ndarray:
    if not mask.any():
        raise DataError(f"{where}: the mask is empty, so the person has no box and its score no scale")
    box = np.array(tight_box(mask))
    low, size, middle = box[:2], box[2:], np.median(joints, axis=0)
    if (np.abs(middle - (low + size / 2)) > np.maximum(size, 20)).any():
        raise DataError(f"{where}: the mask lies around {low + size / 2}, the joints around {middle}; of another clip?")
    return box


def _frames(
    folder: Path, clip: Clip, count: int, mask_size: tuple[int, int], need_images: bool
) -> tuple[list[Frame], tuple[int, int]]:
    images = next((p for p in (Path(clip.action) / clip.name, Path(clip.name))
                   if (folder / "Rename_Images" / p).is_dir()), Path(clip.action) / clip.name)  # fmt: skip
    disk = frames_on_disk(folder / "Rename_Images" / images)
    absent = [n for n in range(1, count + 1) if n not in disk]
    if absent and need_images:
        raise DataError(
            f"{folder / 'Rename_Images' / images}: frame {absent[0]:05d}.png is missing, though joints are annotated; "
            "unpack the whole of Rename_Images.tar.gz, or read the annotations alone (setting images=optional)"
        )
    names = {n: f"{n:05d}.png" for n in range(1, count + 1)} | disk
    frames = [
        Frame(file=(Path("Rename_Images") / images / names[n]).as_posix(), number=n, id=n, labelled=n <= count)
        for n in sorted(names)
    ]
    if disk:
        size = size_of(folder / frames[sorted(names).index(min(disk))].file)
        if size != mask_size:
            raise DataError(f"{folder / frames[0].file}: {size} pixels, but the puppet mask has {mask_size}")
    return frames, mask_size
