"""What to generate, and the slot of one video in it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from posescale.data.camera import named_seed
from posescale.data.prepared import Split
from posescale.data.video.reading import VideoSettings

FIRST: dict[Split, int] = {"train": 1, "val": 300_001, "test": 600_001}  # video numbers, as in PoseTrack's names


class Settings(VideoSettings):
    """What to generate. A video is the same however many others are asked for beside it.

    Rates are per frame; docs/video-data.md says what each stands for.
    """

    seed: int = Field(default=0, ge=0)
    train: int = Field(default=60, ge=0, le=9999)
    val: int = Field(default=12, ge=0, le=9999)
    test: int = Field(default=20, ge=0, le=9999)
    frames: int = Field(default=40, ge=2, le=9999)
    width: int = Field(default=320, ge=64, le=4096)
    height: int = Field(default=240, ge=64, le=4096)
    fps: float = Field(default=25.0, gt=0, le=240)
    label_every: int = Field(default=1, ge=1)  # 4 in validation videos of PoseTrack
    motion: Literal["synthetic", "cmu_mocap"] = "synthetic"
    motion_source: str = ""  # folder of the CMU files; else POSESCALE_DATA
    second_person: float = Field(default=0.33, ge=0, le=1)  # share of videos
    hiders: float = Field(default=0.17, ge=0, le=2)  # things that hide a joint, per frame
    long_share: float = Field(default=0.03, ge=0, le=1)  # of them hide it longer than a window of five frames bridges
    jerks: float = Field(default=0.07, ge=0, le=1)
    defocus: float = Field(default=0.04, ge=0, le=1)
    dropped: float = Field(default=0.01, ge=0, le=1)  # blank frames, and as many repeated ones
    workers: int = Field(default=0, ge=0, le=256)  # processes; 0 takes one per core

    @property
    def source(self) -> Path | None:
        """Folder of captured motion, or None for the synthetic twin."""
        if self.motion == "synthetic":
            return None
        import os

        return Path(self.motion_source or os.environ.get("POSESCALE_DATA", "."))

    def slots(self) -> list["Slot"]:
        """All videos, in order."""
        counts: dict[Split, int] = {"train": self.train, "val": self.val, "test": self.test}
        return [Slot(split, FIRST[split] + n) for split, count in counts.items() for n in range(count)]


@dataclass(frozen=True)
class Slot:
    """One video to be made: its split, and its number over all splits."""

    split: Split
    number: int

    @property
    def name(self) -> str:
        """As PoseTrack18 names a video."""
        return f"{self.number:06d}_synthetic_{self.split}"

    def image_id(self, frame: int) -> int:
        """As PoseTrack18 numbers images: source * 10^10 + sequence * 10^4 + frame; 9 is our source."""
        return 9 * 10**10 + self.number * 10**4 + frame

    def rng(self, seed: int, purpose: str) -> np.random.Generator:
        """Random numbers of this video alone."""
        return np.random.Generator(
            np.random.PCG64(named_seed("synthetic_video", seed, self.split, self.number, purpose))
        )
