"""PoseTrack17 annotations: MPII's `annolist`, in which every number is a list of one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from posescale.data.prepared import Split
from posescale.data.video.files import Finite, Raw, box_around, extent, frame_number, frames_on_disk, read_json, size_of
from posescale.data.video.prepared import Frame, Video, VideoPart, person_dtype
from posescale.data.video.skeletons import POSETRACK, STATES, UNKNOWN
from posescale.errors import DataError

One = Annotated[list[Finite], Field(min_length=1, max_length=1)]
OneInt = Annotated[list[int], Field(min_length=1, max_length=1)]
IMAGE_FOLDERS = ("", "images", "images_renamed")  # where the named images may be; the last is DCPose's copy


class RawPoint(Raw):
    """A joint, or a corner of an ignore region (which has no id)."""

    x: One
    y: One
    id: OneInt | None = None
    is_visible: One | None = None


class RawPoints(Raw):
    """Points wrapped once more."""

    point: list[RawPoint]


class RawPerson(Raw):
    """One person: corners of the head's box, track, joints."""

    track_id: OneInt
    x1: One | None = None
    y1: One | None = None
    x2: One | None = None
    y2: One | None = None
    annopoints: list[RawPoints] = []


class RawName(Raw):
    """The image's name."""

    name: str


class RawFrame(Raw):
    """One frame."""

    image: Annotated[list[RawName], Field(min_length=1)]
    annorect: list[RawPerson] = []
    is_labeled: OneInt | None = None
    ignore_regions: list[RawPoints] = []


class RawFile(Raw):
    """A whole annotation file."""

    annolist: Annotated[list[RawFrame], Field(min_length=1)]


def read_file(
    path: Path, root: Path, split: Split, *, flags_occlusion: bool = True, need_images: bool = True,
    need_heads: bool = True,
) -> Iterator[VideoPart]:  # fmt: skip
    """The video of one annotation file.

    A frame counts as labelled when `is_labeled` says so or, where that is missing, when it has people (poseval). A
    person's box is the extent of its joints times 1.3 (poseval): the format has none. The parameters are those of
    `posetrack18.read_file`.

    Raises:
        DataError: the file is damaged or contradicts itself or the images; names file, entry and reason.
    """
    raw = read_json(path, RawFile)
    folders = {Path(frame.image[0].name).parent for frame in raw.annolist}
    if len(folders) > 1:
        raise DataError(f"{path}: frames of {len(folders)} folders, expected one video; get the file again")
    folder = _image_folder(root, folders.pop())
    frames = _frames(raw, path, root, folder, need_images)
    place = {frame.number: n for n, frame in enumerate(frames)}
    rows = []
    for n, frame in enumerate(raw.annolist):
        number = frame_number(frame.image[0].name, str(path))
        for k, person in enumerate(frame.annorect):
            where = f"{path}: annolist[{n}].annorect[{k}]"
            if number in place:
                rows.append(_row(person, place[number], where, flags_occlusion, need_heads))
    people = np.array(rows, dtype=person_dtype(len(POSETRACK.joints)))
    width, height = _size(root, frames, people, path, need_images)
    video = Video(name=path.stem, split=split, width=width, height=height, start=0, frames=frames)
    yield VideoPart(video, people)


def _image_folder(root: Path, named: Path) -> Path:
    """The folder below `root` that holds the images, in the layout at hand; the named one where there is none."""
    short = Path(*named.parts[1:]) if named.parts[:1] == ("images",) else named
    for candidate in (named, *(Path(first) / short for first in IMAGE_FOLDERS)):
        if (root / candidate).is_dir():
            return candidate
    return named


def _frames(raw: RawFile, path: Path, root: Path, folder: Path, need_images: bool) -> list[Frame]:
    disk = frames_on_disk(root / folder)
    frames: dict[int, Frame] = {}
    for n, frame in enumerate(raw.annolist):
        name = Path(frame.image[0].name).name
        number = frame_number(name, f"{path}: annolist[{n}]")
        labelled = bool(frame.annorect) if frame.is_labeled is None else bool(frame.is_labeled[0])
        if number in frames:
            raise DataError(f"{path}: frame {name} is there twice")
        there = disk.pop(number, None)
        if there is None and need_images and labelled:
            raise DataError(
                f"{root / folder / name}: missing, though {path.name} has annotations of it; complete the images, or "
                "read the annotations alone (setting images=optional)"
            )
        if there is not None or not need_images:
            ignore = [[(p.x[0], p.y[0]) for p in region.point] for region in frame.ignore_regions]
            file = (folder / (there or name)).as_posix()
            frames[number] = Frame(file=file, number=number, id=number, labelled=labelled, ignore=ignore)
    for number, name in disk.items():
        frames[number] = Frame(file=(folder / name).as_posix(), number=number, id=number, labelled=False)
    return [frames[number] for number in sorted(frames)]


def _size(root: Path, frames: list[Frame], people: np.ndarray, path: Path, need_images: bool) -> tuple[int, int]:
    """The format does not say it: it is measured."""
    for frame in frames:
        if (root / frame.file).is_file():
            return size_of(root / frame.file)
    if need_images:
        raise DataError(f"{path}: none of its images is there, and the format does not say their size; add the images")
    return extent(people["joints"].reshape(-1, 2))


def _row(person: RawPerson, place: int, where: str, flags: bool, need_heads: bool) -> tuple:
    count = len(POSETRACK.joints)
    joints, annotated, state = np.zeros((count, 2)), np.zeros(count, np.uint8), np.full(count, UNKNOWN)
    for point in (p for points in person.annopoints for p in points.point):
        if point.id is None or not 0 <= point.id[0] < count:
            raise DataError(f"{where}: a joint of id {point.id}; expected 0 to {count - 1}")
        k = point.id[0]
        if annotated[k]:
            raise DataError(f"{where}: joint {k} ({POSETRACK.joints[k]}) is there twice")
        joints[k], annotated[k] = (point.x[0], point.y[0]), 1
        if flags and point.is_visible is not None:
            state[k] = STATES.index("visible" if point.is_visible[0] else "occluded")
    corners = [person.x1, person.y1, person.x2, person.y2]
    if any(corner is None for corner in corners):
        if annotated.any() and need_heads:
            raise DataError(f"{where}: no head box (x1, y1, x2, y2), so its score is not defined; repair the file, or "
                            "keep such persons for training alone (setting heads=optional)")  # fmt: skip
        head = np.full(4, np.nan)
    else:
        x1, y1, x2, y2 = (corner[0] for corner in corners)
        head = np.array([min(x1, x2), min(y1, y2), abs(x2 - x1), abs(y2 - y1)])
    box = box_around(joints[annotated > 0]) if annotated.any() else np.zeros(4)
    return place, person.track_id[0], box, head, joints, annotated, state
