"""JHMDB and sub-JHMDB: the original MATLAB files, or mmpose's COCO-style annotations, whichever is there."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from posescale.data.jhmdb.original import read_clip, read_splits
from posescale.data.prepared import Split
from posescale.data.reading import no_folder, source_folder
from posescale.data.video.posetrack18 import read_file
from posescale.data.video.prepared import VideoPart
from posescale.data.video.reading import VideoReading, VideoSettings
from posescale.data.video.skeletons import JHMDB
from posescale.errors import DataError

IMAGES = "Rename_Images"
SPLIT_FOLDERS = {"sub": "sub_splits", "full": "splits"}


class Settings(VideoSettings):
    """Which part of JHMDB.

    Attributes:
        split: of the three published ones.
        subset: `sub` are the 316 clips that show whole bodies.
        images: `optional` reads annotations whose images are not on disk.
    """

    split: int = Field(default=1, ge=1, le=3)
    subset: Literal["sub", "full"] = "sub"
    images: Literal["required", "optional"] = "required"


def missing(source: Path | None) -> str:
    """What is missing; empty when either kind of annotation is there."""
    folder = source_folder("jhmdb", source)
    if lacking := no_folder(folder):
        return lacking
    if (folder / "joint_positions").is_dir() or any((folder / "annotations").glob("Sub?_*.json")):
        return ""
    return f"{folder} holds neither joint_positions/ nor annotations/Sub1_train.json"


def read(source: Path | None, settings: Settings) -> VideoReading:
    """Read one of the three splits.

    Raises:
        DataError: nothing to read, a damaged file, or joints, masks and images that contradict each other.
    """
    lacking = missing(source)
    folder = source_folder("jhmdb", source)
    if lacking or folder is None:
        raise DataError(f"jhmdb: {lacking}; `posescale datasets` says how to get it")
    folder = folder.resolve()
    original = (folder / "joint_positions").is_dir()
    total, videos = (_original if original else _converted)(folder, settings)
    root = folder if original else folder / IMAGES
    return VideoReading(total, videos, root, JHMDB, reported="test", fps=25.0)


def _original(folder: Path, settings: Settings) -> tuple[int, Iterator[VideoPart]]:
    clips = read_splits(folder / SPLIT_FOLDERS[settings.subset], settings.split)
    need_images = settings.images == "required"
    return len(clips), (read_clip(folder, clip, need_images) for clip in clips)


def _converted(folder: Path, settings: Settings) -> tuple[int, Iterator[VideoPart]]:
    if settings.subset != "sub":
        raise DataError(f"{folder}: mmpose's files hold sub-JHMDB alone; choose subset=sub, or get the original files")
    splits: tuple[Split, ...] = ("train", "test")
    files = {s: folder / "annotations" / f"Sub{settings.split}_{s}.json" for s in splits}
    found = {split: path for split, path in files.items() if path.is_file()}
    if not found:
        raise DataError(f"{folder}: there is no annotations/Sub{settings.split}_train.json or _test.json")

    def videos() -> Iterator[VideoPart]:
        for split, path in found.items():
            parts = read_file(
                path, folder / IMAGES, split, skeleton=JHMDB,
                need_images=settings.images == "required", need_heads=False,
            )  # fmt: skip
            yield from (_from_one(part) for part in parts)

    return len(found), videos()


def _from_one(part: VideoPart) -> VideoPart:
    """MATLAB counts pixels from 1; here they count from 0. All joints are annotated, whatever their flag."""
    people = part.people.copy()
    people["joints"] -= 1
    people["box"][:, :2] -= 1
    return VideoPart(part.video, people, part.detections)
