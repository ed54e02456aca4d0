"""What the reader of a video dataset hands over.

The module is `posescale/data/<id>/reader.py` with

Settings                        a pydantic model that refuses unknown keys
missing(source) -> str          why it cannot be read on this machine; empty when it can
read(source, settings) -> VideoReading
render(folder, settings)        only where the dataset is generated: write what `read(folder, ...)` then reads
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from posescale.data.prepared import Split
from posescale.data.video.prepared import VideoPart
from posescale.data.video.skeletons import Skeleton


class VideoSettings(BaseModel):
    """Base of the settings: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class VideoReading:
    """A dataset being read.

    Attributes:
        total: how many videos will come, for the progress bar.
        videos: the videos, one at a time.
        root: folder that the frames' names are below.
        skeleton: of the joints.
        reported: the split that papers report.
        fps: frames per second; 0 where the dataset does not say.
        checks: what the reader measured of its own data, by name.
        acknowledgement: text that must travel with the data.
    """

    total: int
    videos: Iterator[VideoPart]
    root: Path
    skeleton: Skeleton
    reported: Split
    fps: float = 0.0
    checks: dict[str, float] = field(default_factory=dict)
    acknowledgement: str = ""

    def index_fields(self) -> dict[str, Any]:
        """The fields of VideoIndex that the reading decides."""
        return {
            "root": str(self.root), "skeleton": self.skeleton.id, "reported": self.reported, "fps": self.fps,
            "checks": self.checks, "acknowledgement": self.acknowledgement,
        }  # fmt: skip
