"""PoseTrack21: PoseTrack18's format with person ids and flags that mark occlusion."""

from pathlib import Path

from posescale.data.reading import source_folder
from posescale.data.video.posetrack_layout import Layout, PoseTrackSettings, missing_of, read_splits
from posescale.data.video.reading import VideoReading

LAYOUT = Layout(
    "posetrack21", "posetrack_data", detections="posetrack21_{}_human_detections.json", flags_occlusion=True
)
Settings = PoseTrackSettings


def missing(source: Path | None) -> str:
    """What is missing; empty when there is at least one annotation file."""
    return missing_of(LAYOUT, source_folder(LAYOUT.id, source))


def read(source: Path | None, settings: PoseTrackSettings) -> VideoReading:
    """Read every split there is."""
    return read_splits(LAYOUT, source_folder(LAYOUT.id, source), settings)
