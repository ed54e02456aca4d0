"""Where PoseTrack18 and PoseTrack21 keep things, and reading all of a dataset's splits."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from posescale.data.prepared import Split
from posescale.data.reading import no_folder
from posescale.data.video.posetrack18 import read_file, with_detections
from posescale.data.video.prepared import VideoPart
from posescale.data.video.reading import VideoReading, VideoSettings
from posescale.data.video.skeletons import POSETRACK
from posescale.errors import DataError


class PoseTrackSettings(VideoSettings):
    """How strictly to read.

    Attributes:
        images: `optional` reads annotations whose images are not on disk (to score predictions).
        heads: `optional` keeps annotated persons without a head box (to train).
        detections: `auto` takes the detector's boxes where their file is, `none` leaves them out.
    """

    images: Literal["required", "optional"] = "required"
    heads: Literal["required", "optional"] = "required"
    detections: Literal["auto", "none"] = "auto"


@dataclass(frozen=True)
class Layout:
    """Names of one dataset: `<annotations>/<split>/*.json`, or a merged file, below the source folder.

    Attributes:
        id: of the dataset.
        annotations: folder of the annotations.
        merged: name of a merged file in it, with {} for the split; empty where there is none.
        detections: name of a detection file in it, with {} for the split; empty where there is none.
        flags_occlusion: whether a joint's flag says that it is visible.
        read: the reader of one annotation file.
    """

    id: str
    annotations: str
    merged: str = ""
    detections: str = ""
    flags_occlusion: bool = False
    read: Callable[..., Iterator[VideoPart]] = read_file

    def files(self, folder: Path) -> dict[Split, list[Path]]:
        """Annotation files by split; the original per-video files go before a merged one."""
        found: dict[Split, list[Path]] = {}
        for split in get_args(Split):
            files = sorted((folder / self.annotations / split).glob("*.json"))
            merged = folder / self.annotations / self.merged.format(split)
            if not files and self.merged and merged.is_file():
                files = [merged]
            if files:
                found[split] = files
        return found


def missing_of(layout: Layout, folder: Path | None) -> str:
    """What keeps a dataset from being read; empty when at least one annotation file is there."""
    if lacking := no_folder(folder):
        return lacking
    if layout.files(folder):
        return ""
    merged = f", nor {layout.annotations}/{layout.merged.format('SPLIT')}" if layout.merged else ""
    return f"{folder} holds no {layout.annotations}/SPLIT/*.json{merged}"


def read_splits(layout: Layout, folder: Path | None, settings: PoseTrackSettings) -> VideoReading:
    """Read every split there is.

    Raises:
        DataError: nothing to read, or a damaged file; names file, entry and reason.
    """
    lacking = missing_of(layout, folder)
    if lacking or folder is None:
        raise DataError(f"{layout.id}: {lacking}; `posescale datasets` says how to get it")
    files = layout.files(folder)
    return VideoReading(
        total=sum(map(len, files.values())), videos=_videos(layout, folder, files, settings), root=folder.resolve(),
        skeleton=POSETRACK, reported="val" if "val" in files else "test",
    )  # fmt: skip


def _videos(
    layout: Layout, folder: Path, files: dict[Split, list[Path]], settings: PoseTrackSettings
) -> Iterator[VideoPart]:
    for split, paths in files.items():
        parts = (part for path in paths for part in _of_file(layout, path, folder, split, settings))
        boxes = folder / layout.annotations / layout.detections.format(split)
        if layout.detections and settings.detections == "auto" and boxes.is_file():
            parts = with_detections(parts, boxes)
        yield from parts


def _of_file(
    layout: Layout, path: Path, folder: Path, split: Split, settings: PoseTrackSettings
) -> Iterator[VideoPart]:
    return layout.read(
        path, folder, split, flags_occlusion=layout.flags_occlusion,
        need_images=settings.images == "required", need_heads=settings.heads == "required",
    )  # fmt: skip
