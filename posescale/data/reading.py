"""What a dataset's reader hands over, and the way from a trial in the world to what cameras see of it.

A reader is `posescale/data/<id>/reader.py` with

    Settings                        a pydantic model that refuses unknown keys
    missing(source) -> str          why it cannot be read on this machine; empty when it can
    missing_for(source, settings) -> str    optional: the same, where what is needed depends on the settings
    read(source, settings) -> Reading
    sources(folder) -> [Path]       optional: the files it may read, where they lie deeper than the folder itself
"""

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from posescale.data.camera import named_seed, rig
from posescale.data.detector import DetectorSettings, detect
from posescale.data.prepared import Clip, Space, Split
from posescale.data.skeleton import H36M, LEFT, RIGHT, Skeleton


class ViewSettings(DetectorSettings):
    """Settings of every dataset that is seen through synthetic cameras."""

    seed: int = Field(default=0, ge=0)
    cameras: int = Field(default=4, ge=1, le=32)
    image_size: int = Field(default=1000, ge=100, le=10000)  # pixels, width and height


@dataclass(frozen=True)
class Trial:
    """One recording of one person: joints `(F, 17, 3)` in the world, metres, z up, floor near 0."""

    name: str
    subject: str
    action: str
    split: Split
    joints: np.ndarray


@dataclass(frozen=True)
class Reading:
    """A dataset being read.

    Attributes:
        total: how many clips will come.
        clips: the clips, one at a time, so that memory stays small.
        fps: frames per second; 0 where sequences differ, and each clip says its own.
        acknowledgement: text that must travel with the data.
        skeleton: of its poses.
        space: of its poses (posescale.data.prepared).
        protocol: id of the protocol they are made for; the first on the card when empty.
    """

    total: int
    clips: Iterator[Clip]
    fps: float
    acknowledgement: str = ""
    skeleton: Skeleton = H36M
    space: Space = "camera"
    protocol: str = ""

    def index_fields(self) -> dict[str, Any]:
        """The fields of DatasetIndex that a reader decides, the settings apart."""
        fields = {"fps": self.fps, "acknowledgement": self.acknowledgement, "space": self.space}
        return fields | asdict(self.skeleton) | ({"protocol": self.protocol} if self.protocol else {})


def views(trial: Trial, settings: ViewSettings) -> Iterator[Clip]:
    """A trial as each camera of its rig sees it: camera-space poses, exact 2D and detections.

    The exact 2D is the projection of the poses after these were rounded to float32, so that whoever projects the
    stored poses gets the stored pixels.
    """
    seeds = (settings.seed, trial.subject, trial.name)
    for camera in rig(named_seed("rig", *seeds), trial.joints, settings.cameras, settings.image_size):
        poses = camera.to_camera(trial.joints).astype(np.float32)
        exact = camera.project(poses).astype(np.float32)
        detections = detect(exact, named_seed("detector", *seeds, camera.id), settings, camera.width, LEFT, RIGHT)
        yield Clip(
            name=f"{trial.name}.{camera.id}", subject=trial.subject, action=trial.action, camera=camera.id,
            split=trial.split, width=camera.width, height=camera.height,
            poses=poses, exact=exact, detections=detections, performance=trial.name,
        )  # fmt: skip


def no_folder(folder: Path | None) -> str:
    """Why a source folder cannot be read; empty when it is a folder."""
    if folder is None:
        return "no source folder: set POSESCALE_DATA, or give --source"
    return "" if folder.is_dir() else f"{folder} is not a folder"


def source_folder(id: str, source: Path | None) -> Path | None:
    """Where a dataset's files are: `<root>/<id>` if it exists, else the root (`source`, or POSESCALE_DATA)."""
    root = source or os.environ.get("POSESCALE_DATA")
    if not root:
        return None
    own = Path(root) / id
    return own if own.is_dir() else Path(root)
