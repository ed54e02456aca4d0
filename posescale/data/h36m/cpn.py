"""The cpn family: VideoPose3D's `data_3d_h36m.npz` and `data_2d_h36m_<detector>.npz`, with the dataset's cameras.

    positions_3d   subject -> action -> (F, 32, 3) world, metres, z up
    positions_2d   subject -> action -> [four cameras] (F or more, 17, 2) pixels
    metadata       layout_name, num_joints, keypoints_symmetry of the 2D file

The exact 2D is the projection of the poses with the lens's distortion, which is how the published `gt` file was made.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from posescale.data.camera import Camera
from posescale.data.h36m.cameras import FILES, IDS, read_cameras
from posescale.data.plain_pickle import load_npz
from posescale.data.plausible import check_bones, check_tracks
from posescale.data.prepared import Clip, Split
from posescale.data.skeleton import H36M
from posescale.errors import DataError

POSES = "data_3d_h36m.npz"
KEPT = [0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27]  # of the 32 joints of Human3.6M
SUBJECTS = ("S1", "S5", "S6", "S7", "S8", "S9", "S11")

Nested = dict[str, dict[str, Any]]


def lacking(folder: Path, detections: str | None = "cpn_ft_h36m_dbb") -> str:
    """The files that are not there, in words; empty when all are."""
    needed = [POSES] + ([_track_file(detections)] if detections != "gt" else [])
    absent = [name for name in needed if not (folder / name).is_file()]
    if not any((folder / name).is_file() for name in FILES):
        absent.append("the cameras (" + " or ".join(FILES) + ")")
    return ", ".join(absent)


def _track_file(detections: str | None) -> str:
    return f"data_2d_h36m_{detections}.npz"


def read(
    folder: Path, detections: str, split_of: Callable[[str], Split], plausible: bool
) -> tuple[int, Iterator[Clip]]:
    """All sequences: how many, and one after another, by subject, action and camera in the files' order.

    Raises:
        DataError: a file is damaged or does not fit the others: names file, subject, action, camera and frame.
    """
    path = folder / POSES
    poses = _nested(load_npz(path, "positions_3d"), path, "positions_3d")
    cameras_file = next(folder / name for name in FILES if (folder / name).is_file())
    rig = read_cameras(cameras_file)
    tracks = None if detections == "gt" else _tracks(folder / _track_file(detections))
    for subject in poses:
        if subject not in SUBJECTS:
            raise DataError(f"{path}: subject {subject!r}; expected {', '.join(SUBJECTS)}")
        if subject not in rig:
            raise DataError(f"{cameras_file}: has no cameras of {subject}, whose poses are in {POSES}")

    def clips() -> Iterator[Clip]:
        for subject, actions in poses.items():
            for action, world in actions.items():
                where = f"{path}, {subject} {action}"
                joints = _world(world, where, plausible)
                found = None if tracks is None else _found(tracks, folder / _track_file(detections), subject, action)
                for number, camera in enumerate(rig[subject]):
                    track = None if found is None else found[number]
                    yield _clip(subject, action, camera, joints, track, split_of(subject), plausible, where)

    return len(IDS) * sum(map(len, poses.values())), clips()


def _nested(value: Any, path: Path, key: str) -> Nested:
    if not isinstance(value, dict) or not value or not all(isinstance(actions, dict) for actions in value.values()):
        raise DataError(f"{path}: {key} is not a dictionary of subjects with dictionaries of actions")
    if empty := [subject for subject, actions in value.items() if not actions]:
        raise DataError(f"{path}: {key} of {empty[0]} holds no action")
    return value


def _tracks(path: Path) -> Nested:
    metadata = load_npz(path, "metadata")
    symmetry = metadata.get("keypoints_symmetry") if isinstance(metadata, dict) else None
    pairs = [list(map(int, side)) for side in symmetry] if symmetry is not None else None
    if pairs != [H36M.left, H36M.right] or metadata.get("num_joints") != len(H36M.joints):
        layout = metadata.get("layout_name") if isinstance(metadata, dict) else metadata
        raise DataError(
            f"{path}: its 2D joints are laid out as {layout!r} with left and right {pairs}; expected Human3.6M's 17, "
            f"{[H36M.left, H36M.right]}"
        )
    return _nested(load_npz(path, "positions_2d"), path, "positions_2d")


def _world(value: Any, where: str, plausible: bool) -> np.ndarray:
    """World joints (F, 17, 3) float64, metres."""
    world = np.asarray(value, dtype=np.float64) if np.asarray(value).dtype.kind in "fiu" else np.zeros(0)
    if world.ndim != 3 or world.shape[1] not in (17, 32) or world.shape[2] != 3 or not len(world):
        raise DataError(f"{where}: positions have shape {np.shape(value)}, expected (F, 32, 3) with a frame at least")
    if not np.isfinite(world).all():
        frame = int(np.argwhere(~np.isfinite(world))[0][0])
        raise DataError(f"{where}: positions hold NaN or infinity, first in frame {frame}")
    joints = world[:, KEPT] if world.shape[1] == 32 else world
    if plausible:
        check_bones(joints, H36M, where, 1000.0)
    return joints


def _found(tracks: Nested, path: Path, subject: str, action: str) -> list[np.ndarray]:
    if action not in tracks.get(subject, {}):
        raise DataError(f"{path}: has no {subject} {action}, whose poses are in {POSES}")
    found = tracks[subject][action]
    if len(found) != len(IDS):
        raise DataError(f"{path}: {subject} {action} has {len(found)} cameras, expected {len(IDS)}")
    return [np.asarray(track) for track in found]


def _clip(
    subject: str, action: str, camera: Camera, joints: np.ndarray, track: np.ndarray | None, split: Split,
    plausible: bool, where: str,
) -> Clip:  # fmt: skip
    poses = camera.to_camera(joints).astype(np.float32)
    where = f"{where}, camera {camera.id}"
    if not (poses[..., 2] > 0).all():
        raise DataError(f"{where}: a joint lies behind the camera; are poses and cameras of one world, in metres?")
    exact = camera.project(poses).astype(np.float32)
    detections = None
    if track is not None:
        detections = np.ones((len(poses), 17, 3), np.float32)
        detections[..., :2] = _checked(track, len(poses), where)
        if plausible:
            check_tracks(detections[..., :2], exact, camera.width, where)
    return Clip(
        name=f"{subject} {action}.{camera.id}", subject=subject, action=action.split(" ")[0], camera=camera.id,
        split=split, width=camera.width, height=camera.height, poses=poses, exact=exact, detections=detections,
        performance=f"{subject} {action}",
    )  # fmt: skip


def _checked(track: np.ndarray, frames: int, where: str) -> np.ndarray:
    """A 2D track cut to the length of the poses; published tracks are a few frames longer."""
    if track.ndim != 3 or track.shape[1:] != (17, 2) or track.dtype.kind not in "fiu":
        raise DataError(f"{where}: 2D joints have shape {track.shape} ({track.dtype}), expected (F, 17, 2) numbers")
    if len(track) < frames:
        raise DataError(f"{where}: 2D joints of {len(track)} frames, but poses of {frames}; 2D may be longer only")
    track = track[:frames].astype(np.float32)
    if not np.isfinite(track).all():
        raise DataError(f"{where}: 2D joints hold NaN or infinity, first in frame "
                        f"{int(np.argwhere(~np.isfinite(track))[0][0])}")  # fmt: skip
    return track
