"""PoseTrack18 and PoseTrack21 annotations: one json per video, or mmpose's merged COCO-style files.

What is in them: docs of the datasets, poseval's converter (which joint counts as annotated), mmpose's test files.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from posescale.data.prepared import Split
from posescale.data.video.files import (
    Finite,
    Raw,
    box_around,
    extent,
    frame_number,
    frames_on_disk,
    polygons,
    read_json,
    size_of,
)
from posescale.data.video.prepared import DETECTION, Frame, Video, VideoPart, person_dtype
from posescale.data.video.skeletons import COCO_SLOTS, POSETRACK, STATES, UNKNOWN, Skeleton
from posescale.errors import DataError


class RawImage(Raw):
    """One entry of `images`. `id` is missing in some per-video files, which have `frame_id` instead."""

    file_name: str
    id: int | None = None
    frame_id: int | None = None
    is_labeled: bool = True
    ignore_regions_x: list[list[Finite]] | list[Finite] | None = None
    ignore_regions_y: list[list[Finite]] | list[Finite] | None = None
    width: int | None = None
    height: int | None = None


class RawPerson(Raw):
    """One entry of `annotations`; boxes are x, y, width, height."""

    image_id: int
    keypoints: list[Finite]
    bbox: list[Finite] | None = None
    bbox_head: list[Finite] | None = None
    track_id: int = -1
    scores: list[Finite] | None = None


class RawCategory(Raw):
    """The joint order of the file."""

    keypoints: list[str]


class RawFile(Raw):
    """A whole annotation file."""

    images: list[RawImage]
    annotations: list[RawPerson]
    categories: list[RawCategory]


class RawDetection(Raw):
    """One box of mmpose's detection files."""

    image_id: int
    bbox: list[Finite]
    score: Finite
    category_id: int = 1


def read_file(
    path: Path, root: Path, split: Split, *, skeleton: Skeleton = POSETRACK, flags_occlusion: bool = False,
    need_images: bool = True, need_heads: bool = True,
) -> Iterator[VideoPart]:  # fmt: skip
    """The videos of one annotation file: one for the original layout, many for a merged file.

    Frames are those the file lists and those that lie beside them on disk; a frame that was not annotated serves as a
    neighbour. A joint counts as annotated unless x, y and flag are all 0 (poseval), or in PoseTrack21 when x and y are
    above 0 (its kit); a flag of 0 on an annotated joint means occluded.

    Args:
        path: the json.
        root: folder that its `file_name`s are below.
        split: of its videos.
        skeleton: what its joints are mapped to, by name.
        flags_occlusion: whether a flag of 1 says that the joint is visible (PoseTrack21); else it says nothing.
        need_images: refuse labelled frames whose image is not on disk.
        need_heads: refuse annotated persons without a head box, which PoseTrack's score cannot do without.

    Raises:
        DataError: the file is damaged or contradicts itself or the images; names file, entry and reason.
    """
    raw = read_json(path, RawFile)
    slots = slots_of(raw, path, skeleton)
    people: dict[int, list[tuple[int, RawPerson]]] = {}
    for n, person in enumerate(raw.annotations):
        people.setdefault(person.image_id, []).append((n, person))
    images = [(_id(image, path, n), image) for n, image in enumerate(raw.images)]
    unknown = people.keys() - {id for id, _ in images}
    if unknown:
        raise DataError(
            f"{path}: annotations of image {min(unknown)}, which `images` does not list; get the file again"
        )
    if len({id for id, _ in images}) < len(images):
        raise DataError(f"{path}: an image id is there twice; get the file again")
    by_folder: dict[str, list[tuple[int, RawImage]]] = {}
    for id, image in images:
        by_folder.setdefault(Path(image.file_name).parent.as_posix(), []).append((id, image))
    if not by_folder:
        raise DataError(f"{path}: lists no image at all; get the file again")
    for folder, listed in by_folder.items():
        frames = _frames(folder, listed, root, path, need_images)
        place = {frame.id: n for n, frame in enumerate(frames)}
        rows = [
            _row(person, place[id], slots, skeleton, f"{path}: annotations[{n}]", flags_occlusion, need_heads)
            for id, _ in listed
            for n, person in people.get(id, [])
        ]
        table = np.array(rows, dtype=person_dtype(len(skeleton.joints)))
        size = _size(listed, root, table, f"{path}: {folder}", need_images)
        yield VideoPart(Video(name=Path(folder).name, split=split, width=size[0], height=size[1], start=0,
                              frames=frames), table)  # fmt: skip


def with_detections(parts: Iterable[VideoPart], path: Path) -> Iterator[VideoPart]:
    """Videos with the boxes of an mmpose detection file: a list of image_id, bbox, score.

    Raises:
        DataError: the file is damaged, or (once all videos went by) it names an image none of them has.
    """
    by_image: dict[int, list[RawDetection]] = {}
    for n, found in enumerate(read_json(path, list[RawDetection])):
        if len(found.bbox) != 4 or not (found.bbox[2] > 0 and found.bbox[3] > 0):
            raise DataError(f"{path}: [{n}].bbox is {found.bbox}; expected x, y, width and height above 0")
        by_image.setdefault(found.image_id, []).append(found)
    videos = 0
    for part in parts:
        videos += 1
        rows = [
            (n, found.bbox, found.score)
            for n, frame in enumerate(part.video.frames)
            for found in by_image.pop(frame.id, [])
            if found.category_id == 1
        ]
        yield VideoPart(part.video, part.people, np.array(rows, dtype=DETECTION))
    if by_image:
        raise DataError(
            f"{path}: boxes of image {min(by_image)}, which is in none of the {videos} videos read; take the boxes of "
            "this split, or leave them out (setting detections=none)"
        )


def with_states(
    part: VideoPart, known: Mapping[tuple[int, int], tuple[np.ndarray, np.ndarray]], where: str
) -> VideoPart:
    """A video whose joints' states are known from a side file.

    Args:
        part: as read from its annotations.
        known: (frame's number, track) -> states (K,) and positions (K, 2), also of joints outside the frame.
        where: the side file, for refusals.

    Raises:
        DataError: a person is not in the side file, or the two disagree.
    """
    people = part.people.copy()
    for row in people:
        key = part.video.frames[int(row["frame"])].number, int(row["track"])
        if key not in known or any(len(known[key][n]) != len(row["state"]) for n in (0, 1)):
            raise DataError(f"{where}: no states of all joints for frame {key[0]}, track {key[1]}; render it again")
        state, position = known[key]
        there = row["annotated"] > 0
        if (np.abs(position - row["joints"])[there] > 0.01).any():
            raise DataError(f"{where}: frame {key[0]}, track {key[1]} lies elsewhere than annotated; render it again")
        row["state"], row["joints"] = state, np.where(there[:, None], row["joints"], position)
    return VideoPart(part.video, people, part.detections)


def slots_of(raw: RawFile, path: Path, skeleton: Skeleton) -> list[int]:
    """Slot of each of the skeleton's joints in the file's keypoints, by name.

    Raises:
        DataError: a joint is not in the file's category, or a person's keypoints are not as many as it says.
    """
    if len(raw.categories) != 1:
        raise DataError(f"{path}: {len(raw.categories)} categories, expected the one of persons")
    names = ["neck" if name == "head_bottom" else name for name in raw.categories[0].keypoints]
    lacking = [name for name in skeleton.joints if name not in names]
    if lacking:
        raise DataError(f"{path}: categories[0].keypoints has no {lacking[0]}; expected {', '.join(COCO_SLOTS)}")
    count = len(names)
    for n, person in enumerate(raw.annotations):
        if len(person.keypoints) != 3 * count:
            raise DataError(
                f"{path}: annotations[{n}].keypoints has {len(person.keypoints)} numbers; expected {3 * count}: "
                f"x, y and flag of {count} joints"
            )
    return [names.index(name) for name in skeleton.joints]


def _id(image: RawImage, path: Path, n: int) -> int:
    id = image.id if image.id is not None else image.frame_id
    if id is None:
        raise DataError(f"{path}: images[{n}] has neither id nor frame_id; get the file again")
    return id


def _frames(folder: str, listed: list[tuple[int, RawImage]], root: Path, path: Path, need_images: bool) -> list[Frame]:
    disk = frames_on_disk(root / folder)
    frames: dict[int, Frame] = {}
    for id, image in listed:
        number = frame_number(image.file_name, str(path))
        there = disk.pop(number, None) is not None
        if number in frames:
            raise DataError(f"{path}: frame {image.file_name} is there twice")
        if need_images and not there and image.is_labeled:
            raise DataError(
                f"{root / image.file_name}: missing, though {path.name} has annotations of it; complete the images, "
                "or read the annotations alone (setting images=optional)"
            )
        if there or not need_images:
            ignore = polygons(image.ignore_regions_x, image.ignore_regions_y, f"{path}: {image.file_name}")
            frames[number] = Frame(file=image.file_name, number=number, id=id, labelled=image.is_labeled, ignore=ignore)
    offset = listed[0][0] - frame_number(listed[0][1].file_name, str(path))
    taken = {id for id, _ in listed}
    for number, name in disk.items():
        id = offset + number
        frames[number] = Frame(file=f"{folder}/{name}", number=number, id=-1 if id in taken else id, labelled=False)
    return [frames[number] for number in sorted(frames)]


def _size(
    listed: list[tuple[int, RawImage]], root: Path, people: np.ndarray, where: str, need_images: bool
) -> tuple[int, int]:
    """As the file says, else as an image is."""
    sizes = {(i.width, i.height) for _, i in listed if i.width and i.height}
    if len(sizes) > 1:
        raise DataError(f"{where} has frames of different sizes: {sorted(sizes)}")
    if sizes:
        return sizes.pop()
    there = [root / image.file_name for _, image in listed if (root / image.file_name).is_file()]
    if there:
        return size_of(there[0])
    if need_images:
        raise DataError(f"{where} has neither width and height nor an image to measure; add the images")
    return extent(people["joints"].reshape(-1, 2))


def _row(
    person: RawPerson, place: int, slots: list[int], skeleton: Skeleton, where: str, flags: bool, need_heads: bool
) -> tuple:
    points = np.array(person.keypoints).reshape(-1, 3)[slots]
    # PoseTrack21's kit wants x and y above 0; poseval takes all but the placeholder 0, 0, 0.
    annotated = (points[:, :2] > 0).all(1) if flags else (points != 0).any(1)
    box, head = _box(person.bbox, f"{where}.bbox"), _box(person.bbox_head, f"{where}.bbox_head")
    if annotated.any() and head is None and need_heads:
        raise DataError(
            f"{where}: no bbox_head, so its head size and its score are not defined; repair the file, or keep such "
            "persons for training alone (setting heads=optional)"
        )
    if box is None:
        box = box_around(points[annotated, :2]) if annotated.any() else np.zeros(4)
    state = np.where(points[:, 2] > 0, STATES.index("visible") if flags else UNKNOWN, STATES.index("occluded"))
    state = np.where(annotated, state, UNKNOWN)
    return place, person.track_id, box, np.full(4, np.nan) if head is None else head, points[:, :2], annotated, state


def _box(box: list[float] | None, where: str) -> np.ndarray | None:
    if box is None or (len(box) == 4 and box[2] == box[3] == 0):  # some files have 0, 0, 0, 0 for no box
        return None
    if len(box) != 4 or box[2] < 0 or box[3] < 0:
        raise DataError(f"{where} is {box}; expected x, y, width, height")
    return np.array(box)
