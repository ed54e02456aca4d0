"""PoseTrack17: one `annolist` json per video."""

from pathlib import Path

from posescale.data.reading import source_folder
from posescale.data.video.posetrack17 import read_file
from posescale.data.video.posetrack_layout import Layout, PoseTrackSettings, missing_of, read_splits
from posescale.data.video.reading import VideoReading

LAYOUT = Layout("posetrack17", "annotations", read=read_file)
Settings = PoseTrackSettings


def missing(source: Path | None) -> str:
    """What is missing; empty when there is at least one annotation file."""
    return missing_of(LAYOUT, source_folder(LAYOUT.id, source))


def read(source: Path | None, settings: PoseTrackSettings) -> VideoReading:
    """Read every split there is."""
    return read_splits(LAYOUT, source_folder(LAYOUT.id, source), settings)
