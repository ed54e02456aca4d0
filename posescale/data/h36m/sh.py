"""The sh family: `h36m_sh_conf_cam_source_final.pkl`, `{"train": {...}, "test": {...}}`, N frames in each.

joint_2d (N, 17, 2)            Stacked-Hourglass detections, pixels
confidence (N, 17[, 1])        of the detector; 1 where the file has none
joint3d_image (N, 17, 3)       x, y and depth relative to the root, pixels
camera_name (N,)               one of four ids, which gives the image's size
source (N,)                    s_09_act_05_subact_02_ca_01; one video is one run of equal strings
action (N,)                    needed for test only, as are
2.5d_factor (N,)               mm per pixel, and
joints_2.5d_image (N, 17, 3)   joint3d_image times that, mm
"""

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from posescale.data.h36m.cameras import SIZES
from posescale.data.plain_pickle import load_pickle
from posescale.data.plausible import check_bones, check_tracks
from posescale.data.prepared import Clip, Split
from posescale.data.skeleton import H36M
from posescale.errors import DataError

log = logging.getLogger(__name__)

FILE = "h36m_sh_conf_cam_source_final.pkl"
PLACES = ("", "motion3d", "MB3D_f243s81", "motion3d/MB3D_f243s81", "data/motion3d", "data/motion3d/MB3D_f243s81")
SOURCE = re.compile(r"s_(\d\d)_act_(\d\d)_subact_(\d\d)_ca_(\d\d)")
FRAME_SHAPES = {  # key -> shape of one frame
    "joint_2d": (17, 2), "joint3d_image": (17, 3), "camera_name": (), "source": (), "action": (), "2.5d_factor": (),
    "joints_2.5d_image": (17, 3),
}  # fmt: skip
NEEDED = {"train": ("joint_2d", "joint3d_image", "camera_name", "source"), "test": tuple(FRAME_SHAPES)}
AGREE_MM = 1.0  # how far the file's two labels of a test frame may lie apart

SplitOf = Callable[[str, Split], Split]


def find(folder: Path) -> Path | None:
    """The pickle in the places where the field's code keeps it."""
    return next((path for place in PLACES if (path := folder / place / FILE).is_file()), None)


@dataclass(frozen=True)
class _Video:
    """Frames `start` to `stop` of a part of the file."""

    name: str
    subject: str
    start: int
    stop: int

    @property
    def rows(self) -> slice:
        return slice(self.start, self.stop)


def read(path: Path, split_of: SplitOf, plausible: bool) -> tuple[int, Iterator[Clip]]:
    """The pickle's videos: how many, and one after another, train before test, in the file's order.

    Raises:
        DataError: the file is damaged: names key, video and frame, what was expected and what was found.
    """
    log.info("reading %s (%.1f GB) into memory", path, path.stat().st_size / 1e9)
    content = load_pickle(path)
    if not isinstance(content, dict) or not {"train", "test"} <= content.keys():
        found = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise DataError(f"{path}: expected a dictionary with train and test, found {found or 'an empty one'}")
    parts = {name: _part(content[name], name, path) for name in ("train", "test")}
    videos = {name: _videos(part, f"{path}, {name}") for name, part in parts.items()}
    both = {v.subject for v in videos["train"]} & {v.subject for v in videos["test"]}
    if both:
        raise DataError(f"{path}: subjects {', '.join(sorted(both))} are in train and in test; splits are by subject")

    def clips() -> Iterator[Clip]:
        for name, part in parts.items():
            for video in videos[name]:
                yield _clip(part, video, split_of(video.subject, name), plausible, f"{path}, {name}, {video.name}")

    return sum(map(len, videos.values())), clips()


def _part(part: Any, name: str, path: Path) -> dict[str, np.ndarray]:
    """The arrays of one part, checked for keys and shapes."""
    where = f"{path}, {name}"
    if not isinstance(part, dict):
        raise DataError(f"{where}: expected a dictionary of arrays, found {type(part).__name__}")
    if lacking := [key for key in NEEDED[name] if key not in part]:
        raise DataError(f"{where}: lacks {', '.join(lacking)}; it holds {', '.join(map(str, part)) or 'nothing'}")
    frames = len(part["source"]) if hasattr(part["source"], "__len__") else 0
    if not frames:
        raise DataError(f"{where}: holds no frame")
    arrays = {key: np.asarray(part[key]) for key in FRAME_SHAPES if key in part}
    confidence = part.get("confidence")
    arrays["confidence"] = np.ones((frames, 17)) if confidence is None else np.asarray(confidence)
    if arrays["confidence"].shape == (frames, 17, 1):
        arrays["confidence"] = arrays["confidence"][..., 0]
    for key, array in arrays.items():
        expected = (frames, *FRAME_SHAPES.get(key, (17,)))
        if array.shape != expected:
            raise DataError(f"{where}: {key} has shape {array.shape}, expected {expected}")
        kinds = "U" if key in ("camera_name", "source", "action") else "fiu"
        if array.dtype.kind not in kinds:
            raise DataError(
                f"{where}: {key} is of type {array.dtype}, expected {'text' if kinds == 'U' else 'numbers'}"
            )
    return arrays


def _videos(part: dict[str, np.ndarray], where: str) -> list[_Video]:
    """The runs of equal `source`."""
    source = part["source"]
    starts = [0, *(np.flatnonzero(source[1:] != source[:-1]) + 1).tolist()]
    videos, seen = [], set()
    for start, stop in zip(starts, [*starts[1:], len(source)], strict=True):
        name = str(source[start])
        match = SOURCE.fullmatch(name)
        if not match:
            raise DataError(f"{where}: frame {start} has source {name!r}, expected such as s_09_act_05_subact_02_ca_01")
        if name in seen:
            raise DataError(f"{where}: video {name} comes twice, again from frame {start} on; is the file two in one?")
        seen.add(name)
        videos.append(_Video(name, f"S{int(match[1])}", start, stop))
    return videos


def _clip(part: dict[str, np.ndarray], video: _Video, split: Split, plausible: bool, where: str) -> Clip:
    camera = _same(part, "camera_name", video, where)
    if camera not in SIZES:
        raise DataError(f"{where}: camera_name is {camera!r}; expected {', '.join(SIZES)}")
    action = _same(part, "action", video, where) if "action" in part else f"act_{SOURCE.fullmatch(video.name)[2]}"
    poses, pixels, confidence = (
        _numbers(part, key, video, where) for key in ("joint3d_image", "joint_2d", "confidence")
    )
    if not ((confidence >= 0) & (confidence < 2)).all():
        raise DataError(
            f"{where}: confidence reaches {confidence.min():.3g} to {confidence.max():.3g}, expected 0 to 1"
        )
    factor = np.zeros(len(poses), np.float32)
    if "2.5d_factor" in part:
        factor = _factor(part, poses, video, where)
    width, height = SIZES[camera]
    if plausible:
        check_tracks(pixels, poses[..., :2], width, where)
        scaled = poses * factor[:, None, None] if factor.any() else poses
        check_bones(scaled, H36M, where, 1.0 if factor.any() else None)
    return Clip(
        name=video.name, subject=video.subject, action=action, camera=camera, split=split, width=width, height=height,
        poses=poses, detections=np.concatenate([pixels, confidence[..., None]], axis=-1), factor=factor,
        performance=video.name.rpartition("_ca_")[0],
    )  # fmt: skip


def _same(part: dict[str, np.ndarray], key: str, video: _Video, where: str) -> str:
    values = part[key][video.rows]
    if (values != values[0]).any():
        frame = int(np.flatnonzero(values != values[0])[0])
        raise DataError(f"{where}: {key} changes from {values[0]!r} to {values[frame]!r} in frame {frame} of the video")
    return str(values[0])


def _numbers(part: dict[str, np.ndarray], key: str, video: _Video, where: str) -> np.ndarray:
    values = part[key][video.rows].astype(np.float32)
    bad = ~np.isfinite(values)
    if bad.any():
        raise DataError(f"{where}: {key} holds NaN or infinity, first in frame {int(np.argwhere(bad)[0][0])}")
    return values


def _factor(part: dict[str, np.ndarray], poses: np.ndarray, video: _Video, where: str) -> np.ndarray:
    """The factor of each frame, checked against the file's own product of factor and pose."""
    factor = _numbers(part, "2.5d_factor", video, where)
    if not (factor > 0).all():
        frame = int(np.flatnonzero(~(factor > 0))[0])
        raise DataError(f"{where}: 2.5d_factor is {factor[frame]:g} in frame {frame}; expected mm per pixel, above 0")
    if "joints_2.5d_image" not in part:
        return factor
    given = _numbers(part, "joints_2.5d_image", video, where).astype(np.float64)
    made = poses.astype(np.float64) * factor[:, None, None]
    apart = np.linalg.norm((made - made[:, :1]) - (given - given[:, :1]), axis=-1)
    if apart.max() > AGREE_MM:
        frame, joint = np.unravel_index(apart.argmax(), apart.shape)
        ratio = np.median(np.linalg.norm(made - made[:, :1], axis=-1)) / max(
            1e-12, np.median(np.linalg.norm(given - given[:, :1], axis=-1))
        )
        hint = " It seems to be in metres; millimetres are expected." if 900 < ratio < 1100 else ""
        raise DataError(
            f"{where}: joints_2.5d_image and joint3d_image times 2.5d_factor lie {apart.max():.4g} mm apart (frame "
            f"{frame}, joint {joint}); expected the same pose.{hint}"
        )
    return factor
